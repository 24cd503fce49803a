//! The updates of one round, in an order that does not depend on their arrival.

use crate::{
    numeric::{Format, compute, vectorized, with_whole},
    update::{GLOBAL, Update},
};
use superduper::{Bytes, Error, Result, TensorData, TensorInfo, Tensors};

/// Updates sorted by site, whose tensors fit the global model.
#[derive(Clone)]
pub(crate) struct Round<'a> {
    pub(crate) global: &'a Tensors,
    pub(crate) updates: Vec<&'a Update>,
}

impl<'a> Round<'a> {
    /// Sort the updates and check them.
    pub(crate) fn new(global: &'a Tensors, updates: &'a [Update]) -> Result<Self> {
        Round::like(global, GLOBAL, updates)
    }

    /// Sort updates and compare them with other tensors, which `others` names.
    pub(crate) fn like(global: &'a Tensors, others: &str, updates: &'a [Update]) -> Result<Self> {
        if updates.is_empty() {
            return Err(Error::invalid("there are no updates to aggregate"));
        }
        let mut updates: Vec<&Update> = updates.iter().collect();
        updates.sort_by(|one, other| one.site.cmp(&other.site));
        if let Some(pair) = updates.windows(2).find(|pair| pair[0].site == pair[1].site) {
            return Err(Error::invalid(format!("site `{}` has two updates", pair[0].site)));
        }
        updates.iter().try_for_each(|update| update.check_layout(global, others))?;
        Ok(Round { global, updates })
    }

    /// The tensors of the global model.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&'a str, &'a TensorInfo)> {
        let global = self.global;
        global.names().filter_map(move |name| Some((name, global.info(name)?)))
    }

    /// No tensors yet; with the texts in the header of the global model.
    pub(crate) fn empty(&self) -> Tensors {
        let texts = self.global.metadata().iter();
        texts.fold(Tensors::new(), |tensors, (key, text)| tensors.with_metadata(key, text))
    }

    /// The bytes of a tensor of one site.
    pub(crate) async fn read(&self, update: &Update, name: &str) -> Result<Bytes> {
        let tensor = update.tensors.get(name).await.map_err(|error| update.at(name, error))?;
        Ok(tensor.bytes)
    }

    /// The bytes of a tensor of all sites, in their order.
    pub(crate) async fn read_all(&self, name: &str) -> Result<Vec<Bytes>> {
        let mut all = Vec::with_capacity(self.updates.len());
        for update in &self.updates {
            all.push(self.read(update, name).await?);
        }
        Ok(all)
    }

    /// The largest value of the sites of each element, for a tensor of integers or booleans.
    pub(crate) async fn largest(&self, name: &str, info: &TensorInfo) -> Result<TensorData> {
        let mut largest: Option<Vec<u8>> = None;
        for update in &self.updates {
            let bytes = self.read(update, name).await?;
            let Some(mut so_far) = largest.take() else {
                largest = Some(bytes.to_vec());
                continue;
            };
            let dtype = info.dtype;
            let work = move || {
                with_whole!(dtype, Format => max::<Format>(&mut so_far, &bytes), else return None);
                Some(so_far)
            };
            let size = info.size().unwrap_or_default();
            largest = Some(compute(size, work).await?.ok_or_else(|| unsupported(name, info))?);
        }
        let bytes = largest.unwrap_or_default().into();
        Ok(TensorData { info: info.clone(), bytes })
    }
}

/// Keep the larger one of each two elements.
fn max<F: Format>(largest: &mut [u8], other: &[u8]) {
    vectorized(
        #[inline(always)]
        || {
            for (largest, other) in F::raw_mut(largest).iter_mut().zip(F::raw(other)) {
                *largest = F::of_key(F::key(*largest).max(F::key(*other)));
            }
        },
    );
}

/// A tensor of a type that cannot be aggregated.
pub(crate) fn unsupported(name: &str, info: &TensorInfo) -> Error {
    let text = format!("tensor `{name}` of type {} cannot be aggregated", info.dtype);
    Error::invalid(text).with_hint("F64, F32, F16, BF16, integers and BOOL can be aggregated")
}
