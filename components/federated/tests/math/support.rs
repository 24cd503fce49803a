//! What the tests share.

use superduper::{Dtype, Result, Tensors};
use superduper_federated::{
    Aggregated, CoordinateMedian, FedAdam, FedAvg, FedAvgM, FedDC, FedProx, FedYogi, Krum,
    MultiKrum, Strategy, TrimmedMean, Update,
};
use superduper_train::Rng;

/// A model of one tensor `w` of 64-bit floats.
pub(crate) fn model(values: &[f64]) -> Tensors {
    Tensors::new().with("w", &[values.len()], values).unwrap()
}

/// The answer of a site with such a model.
pub(crate) fn update(site: &str, samples: u64, values: &[f64]) -> Update {
    Update::new(site, samples, model(values))
}

/// What a strategy makes of updates in round 0.
pub(crate) async fn aggregate(
    strategy: &dyn Strategy,
    global: &Tensors,
    updates: &[Update],
) -> Result<Aggregated> {
    strategy.aggregate(0, global, &Tensors::new(), updates).await
}

/// The values that a strategy makes of updates of `model`s.
pub(crate) async fn values(strategy: &dyn Strategy, updates: &[Update]) -> Vec<f64> {
    let global = model(&vec![0.0; updates[0].tensors.info("w").unwrap().shape[0]]);
    let next = aggregate(strategy, &global, updates).await.unwrap();
    next.weights.to_vec("w").await.unwrap()
}

/// All strategies, with settings that seven sites allow.
pub(crate) fn strategies() -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(FedAvg::default()),
        Box::new(FedAvgM::default()),
        Box::new(FedProx { mu: 0.1 }),
        Box::new(FedAdam::default()),
        Box::new(FedYogi::default()),
        Box::new(FedDC { daisy_chain_period: 4 }),
        Box::new(CoordinateMedian::default()),
        Box::new(TrimmedMean::default()),
        Box::new(Krum { malicious: 2 }),
        Box::new(MultiKrum { malicious: 2, keep: 3 }),
    ]
}

/// The types of floats.
pub(crate) const FLOATS: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16];

/// The bytes of numbers in a type of floats. Written without the crate under test, for numbers that
/// all these types have: whole ones from -256 to 256, and quarters of those up to 64.
pub(crate) fn bytes(dtype: Dtype, values: &[f64]) -> Vec<u8> {
    let f16 = |value: f64| {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
        let rest = ((bits >> 42) & 0x3ff) as u16;
        let sign = ((bits >> 48) & 0x8000) as u16;
        if value == 0.0 { sign } else { sign | (((exponent + 15) as u16) << 10) | rest }
    };
    let each = values.iter().flat_map(|&value| match dtype {
        Dtype::F64 => value.to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::F16 => f16(value).to_le_bytes().to_vec(),
        _ => (((value as f32).to_bits() >> 16) as u16).to_le_bytes().to_vec(),
    });
    each.collect()
}

/// The numbers of bytes.
pub(crate) fn numbers(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let f16 = |bits: u16| {
        let (exponent, rest) = (i32::from((bits >> 10) & 31), f64::from(bits & 0x3ff));
        let size = match exponent {
            0 => rest * 2_f64.powi(-24),
            _ => (1.0 + rest / 1024.0) * 2_f64.powi(exponent - 15),
        };
        if bits & 0x8000 == 0 { size } else { -size }
    };
    let size = dtype.bits() / 8;
    let each = bytes.chunks_exact(size).map(|raw| match dtype {
        Dtype::F64 => f64::from_le_bytes(raw.try_into().unwrap()),
        Dtype::F32 => f64::from(f32::from_le_bytes(raw.try_into().unwrap())),
        Dtype::F16 => f16(u16::from_le_bytes(raw.try_into().unwrap())),
        _ => {
            f64::from(f32::from_bits(u32::from(u16::from_le_bytes(raw.try_into().unwrap())) << 16))
        }
    });
    each.collect()
}

/// A random model: a tensor of each type of floats, some of an odd length, and a counter.
pub(crate) fn random_model(rng: &mut Rng, lengths: [usize; 4]) -> Tensors {
    let mut tensors = Tensors::new().with("steps", &[], &[rng.below(100) as i64]).unwrap();
    for (dtype, length) in FLOATS.into_iter().zip(lengths) {
        let values: Vec<f64> = (0..length).map(|_| rng.below(257) as f64 / 4.0 - 32.0).collect();
        let bytes = bytes(dtype, &values);
        tensors = tensors.with_bytes(dtype.name(), dtype, &[length], bytes).unwrap();
    }
    tensors
}

/// Random updates of so many sites, whose names are not in the order of the updates.
pub(crate) fn random_updates(rng: &mut Rng, sites: usize, lengths: [usize; 4]) -> Vec<Update> {
    let mut updates: Vec<Update> = (0..sites)
        .map(|site| {
            let tensors = random_model(rng, lengths);
            Update::new(format!("site-{site:02}"), 1 + rng.below(1000), tensors)
        })
        .collect();
    rng.shuffle(&mut updates);
    updates
}

/// All bytes of tensors, by name.
pub(crate) async fn content(tensors: &Tensors) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in tensors.names() {
        let tensor = tensors.get(name).await.unwrap();
        all.push((format!("{name} {}", tensor.info), tensor.bytes.to_vec()));
    }
    all
}
