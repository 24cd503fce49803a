//! Strategies that wrong sites cannot mislead.

use crate::support::*;
use superduper::Tensors;
use superduper_federated::{
    CoordinateMedian, FedAvg, Krum, MultiKrum, Strategy, TrimmedMean, Update,
};
use superduper_train::Rng;

fn robust(malicious: usize) -> [Box<dyn Strategy>; 4] {
    [
        Box::new(CoordinateMedian {}),
        Box::new(TrimmedMean { beta: 0.2 }),
        Box::new(Krum { malicious }),
        Box::new(MultiKrum { malicious, keep: 4 }),
    ]
}

/// A site with a counter beside its weights.
fn site(name: &str, samples: u64, values: &[f64], steps: i64) -> Update {
    Update::new(name, samples, model(values).with("steps", &[], &[steps]).unwrap())
}

#[tokio::test]
async fn g19_colluding_outliers_move_robust_strategies_by_a_bounded_amount() {
    let mut rng = Rng::new(19);
    for outlier in [1e9, -1e9] {
        let mut updates: Vec<Update> = (0..8_i32)
            .map(|at| {
                let values: Vec<f64> = (0..300).map(|_| rng.next_f64()).collect();
                site(&format!("right-{at}"), 10, &values, 100 + i64::from(at))
            })
            .collect();
        // They name many samples, and one more than all others have counted.
        updates.push(site("wrong-1", 1_000_000, &[outlier; 300], i64::MAX));
        updates.push(site("a-wrong-2", 1_000_000, &[outlier; 300], i64::MAX));
        let global = updates[0].tensors.clone();
        for strategy in robust(2) {
            strategy.check(10, 10).unwrap();
            let next = aggregate(&*strategy, &global, &updates).await.unwrap().weights;
            let found = next.to_vec::<f64>("w").await.unwrap();
            let inside = found.iter().all(|value| (0.0..=1.0).contains(value));
            assert!(inside, "{strategy:?}: {found:?}");
            let steps = next.to_vec::<i64>("steps").await.unwrap()[0];
            assert!((100..108).contains(&steps), "{strategy:?}: {steps}");
        }
        let next = aggregate(&FedAvg {}, &global, &updates).await.unwrap().weights;
        let found = next.to_vec::<f64>("w").await.unwrap();
        assert!(found.iter().all(|value| value.abs() > 1e8), "{found:?}");
    }
}

#[tokio::test]
async fn g19_the_median_of_few_sites() {
    let median = async |all: &[f64]| {
        let sites: Vec<Update> = all
            .iter()
            .enumerate()
            .map(|(at, value)| update(&format!("{at}"), at as u64, &[*value]))
            .collect();
        values(&CoordinateMedian {}, &sites).await[0]
    };
    assert_eq!(median(&[7.0]).await, 7.0);
    assert_eq!(median(&[7.0, 2.0]).await, 4.5);
    assert_eq!(median(&[7.0, -2.0, 3.0]).await, 3.0);
    assert_eq!(median(&[9.0, 1.0, 4.0, 2.0]).await, 3.0);
}

#[tokio::test]
async fn g19_median_and_trimmed_mean_are_those_of_a_naive_oracle() {
    let mut rng = Rng::new(20);
    for sites in 1..=17_usize {
        let lengths = [1 + rng.below(300), rng.below(300), rng.below(300), rng.below(300)];
        let lengths = lengths.map(|length| length as usize);
        let updates = random_updates(&mut rng, sites, lengths);
        let global = random_model(&mut rng, lengths);
        let cuts: [(Box<dyn Strategy>, usize); 3] = [
            (Box::new(CoordinateMedian {}), (sites - 1) / 2),
            (Box::new(TrimmedMean { beta: 0.2 }), sites / 5),
            (Box::new(TrimmedMean { beta: 0.0 }), 0),
        ];
        for (strategy, cut) in cuts {
            let next = aggregate(&*strategy, &global, &updates).await.unwrap().weights;
            for (dtype, precision) in FLOATS.into_iter().zip([1e-15, 6e-8, 5e-4, 4e-3]) {
                let name = dtype.name();
                let found = numbers(dtype, &next.get(name).await.unwrap().bytes);
                let mut columns = vec![Vec::new(); found.len()];
                for update in &updates {
                    let tensor = update.tensors.get(name).await.unwrap();
                    let values = numbers(dtype, &tensor.bytes);
                    columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
                }
                for (found, mut column) in found.into_iter().zip(columns) {
                    column.sort_by(f64::total_cmp);
                    let left = &column[cut..sites - cut];
                    let wanted = left.iter().sum::<f64>() / left.len() as f64;
                    let near = precision * wanted.abs() + 32.0 * precision * 1e-3 + 1e-14;
                    assert!((found - wanted).abs() <= near, "{dtype} {sites}: {found} {wanted}");
                }
            }
        }
    }
}

#[tokio::test]
async fn g19_krum_takes_the_site_with_the_nearest_neighbours() {
    let mut rng = Rng::new(21);
    for (sites, malicious) in [(3, 0), (5, 1), (7, 2), (9, 1), (12, 4)] {
        let models: Vec<Vec<f64>> =
            (0..sites).map(|_| (0..200).map(|_| rng.normal()).collect()).collect();
        let square =
            |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let score = |site: usize| {
            let mut all: Vec<f64> = (0..sites)
                .filter(|&other| other != site)
                .map(|other| square(&models[site], &models[other]))
                .collect();
            all.sort_by(f64::total_cmp);
            all[..sites - malicious - 2].iter().sum::<f64>()
        };
        let mut order: Vec<usize> = (0..sites).collect();
        order.sort_by(|&a, &b| score(a).total_cmp(&score(b)));
        let mut updates: Vec<Update> = models
            .iter()
            .enumerate()
            .map(|(at, values)| update(&format!("{at:02}"), at as u64, values))
            .collect();
        rng.shuffle(&mut updates);
        assert_eq!(values(&Krum { malicious }, &updates).await, models[order[0]]);
        let keep = sites - malicious;
        let found = values(&MultiKrum { malicious, keep }, &updates).await;
        for (place, found) in found.into_iter().enumerate() {
            let sum: f64 = order[..keep].iter().map(|&site| models[site][place]).sum();
            assert!((found - sum / keep as f64).abs() < 1e-12);
        }
    }
}

#[tokio::test]
async fn g19_settings_that_cannot_work_are_refused() {
    let refused = |strategy: &dyn Strategy, replies: usize, text: &str| {
        let error = strategy.check(replies, replies).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    for beta in [0.5, -0.1, f64::NAN, f64::INFINITY] {
        refused(&TrimmedMean { beta }, 9, "`beta` must be at least 0 and below 0.5");
    }
    TrimmedMean { beta: 0.49 }.check(9, 9).unwrap();
    for malicious in [0, 1, 2, 5] {
        let needed = 2 * malicious + 3;
        refused(&Krum { malicious }, needed - 1, &format!("needs {needed} replies"));
        Krum { malicious }.check(needed, needed).unwrap();
        let keep = needed - malicious;
        MultiKrum { malicious, keep }.check(needed, needed).unwrap();
        refused(&MultiKrum { malicious, keep: keep + 1 }, needed, "`keep` must be from 1 to");
        refused(&MultiKrum { malicious, keep: 0 }, needed, "`keep` must be from 1 to");
    }
    refused(&Krum { malicious: usize::MAX }, 9, "Krum");
    // It is the replies that count, not the sites; and a round with fewer is refused as well.
    assert!(Krum { malicious: 1 }.check(9, 4).is_err());
    let updates = ["a", "b", "c", "d"].map(|site| update(site, 1, &[1.0]));
    let error = aggregate(&Krum { malicious: 1 }, &model(&[0.0]), &updates).await.unwrap_err();
    assert!(error.to_string().contains("needs 5 replies, not 4"), "{error}");
}

#[tokio::test]
async fn g19_infinite_distances_do_not_choose() {
    // The squares are infinite, and what is right is chosen nevertheless.
    let mut updates: Vec<Update> =
        (0..5).map(|at| update(&format!("b{at}"), 1, &[f64::from(at)])).collect();
    updates.push(update("a", 1, &[1e200]));
    updates.push(update("c", 1, &[-1e200]));
    assert_eq!(values(&Krum { malicious: 2 }, &updates).await, [1.0]);
    let empty = Tensors::new().with("none", &[0, 3], &[0.0_f32; 0]).unwrap();
    let updates: Vec<Update> =
        (0..7).map(|at| Update::new(format!("{at}"), 1, empty.clone())).collect();
    for strategy in strategies() {
        let next = aggregate(&*strategy, &empty, &updates).await.unwrap();
        assert_eq!(content(&next.weights).await, content(&empty).await);
    }
}
