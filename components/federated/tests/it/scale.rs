//! What many rounds cost.

use crate::{
    crash::{Worker, check_record},
    support::*,
    trainings,
};
use std::{collections::BTreeSet, time::Duration};
use superduper::Digest;
use superduper_federated::ModelTrainer;

#[tokio::test(flavor = "multi_thread")]
async fn g28_many_rounds_cost_no_more_than_few_and_leave_nothing() {
    let mut place = Place::new();
    // In a process of its own. What other programs do at the same time changes what a round costs,
    // so a training that costs more at its end is looked at twice.
    Worker::train(&place, "scale").ended().await;
    if growth(&place) > MOST_GROWTH {
        place = Place::new();
        Worker::train(&place, "scale").ended().await;
        assert!(growth(&place) <= MOST_GROWTH, "later rounds cost more");
    }
    let builder = trainings::builder(&place.path()).expect("the stores open");
    let db = builder.gc_grace(Duration::ZERO).build().await.expect("the database opens");
    check_record(&db, "scale").await;
    let swept = db.gc(false).await.expect("it is swept");
    println!("swept: {} blobs with {} bytes", swept.blobs.len(), swept.bytes);
    let trainer = ModelTrainer::open(&db, "scale").await.expect("a trainer");
    let global = trainer.global().await.expect("a model");
    let kept: Vec<u64> = global.kept.iter().map(|model| model.round).collect();
    let rounds = trainings::rounds();
    assert_eq!(kept, [rounds - 3, rounds - 2, rounds - 1], "as `keep` asks");
    let models = global.kept.iter().map(|model| &model.weights).chain([&global.weights]);
    let wanted: BTreeSet<Digest> = models.filter_map(|model| model.digest()).collect();
    assert_eq!(wanted.len(), 4, "no two models are equal");
    assert_eq!(blobs(&place), wanted, "the global models that are kept and nothing else");
}

/// The blobs of a database.
fn blobs(place: &Place) -> BTreeSet<Digest> {
    let mut folders = vec![place.path().join("artifacts")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if let Some(digest) =
                entry.file_name().to_str().and_then(|name| name.parse().ok())
            {
                found.insert(digest);
            }
        }
    }
    found
}

/// By this factor may a round of the last quarter cost more than one of the first.
const MOST_GROWTH: f64 = 1.5;

/// The processor time of a round of the last quarter, as a multiple of that of the first quarter.
fn growth(place: &Place) -> f64 {
    let text = std::fs::read_to_string(place.folder.path().join("meter")).expect("the meter");
    let times: Vec<f64> = text.lines().map(|line| line.parse().expect("a number")).collect();
    let quarter = times.len() / 4;
    let each: Vec<f64> = (0..4)
        .map(|part| {
            let last = ((part + 1) * quarter).min(times.len() - 1);
            (times[last] - times[part * quarter]) / (last - part * quarter) as f64
        })
        .collect();
    let of_site: Vec<String> = each.iter().map(|each| format!("{:.2}", each / 5.0)).collect();
    println!("CPU of a round, by quarters of {} rounds: {each:.1?} ms", times.len());
    println!("of a round and site: {} ms", of_site.join(", "));
    each[3] / each[0]
}
