//! The simulator in the form that continuous integration runs.

use superduper_core::simulate::Fault;
use superduper_simulator::{
    Choices, Failure, SHAPES, Shape, Size, Summary, enumerate, one, random,
};

const SIX_JOBS: Size = Size { jobs: 6, processes: 2 };

#[track_caller]
fn clean(result: Result<Summary, Box<Failure>>) -> Summary {
    match result {
        Ok(summary) => summary,
        Err(failure) => panic!(
            "world {}: {}\nshrunk to {:?}: {}",
            failure.seed, failure.error, failure.numbers, failure.shrunk
        ),
    }
}

/// How many seeds: `SIMULATOR_SEEDS`, or so many.
fn seeds(usual: u64) -> u64 {
    std::env::var("SIMULATOR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

#[test]
fn random_worlds_are_clean() {
    let mut all = Summary::default();
    for (share, size) in [
        (8, SIX_JOBS),
        (1, Size { jobs: 3, processes: 1 }),
        (1, Size { jobs: 8, processes: 3 }),
        (1, Size { jobs: 6, processes: 4 }),
    ] {
        let summary = clean(random(
            0..seeds(if cfg!(debug_assertions) { 6_600 } else { 50_000 }) * share / 11,
            size,
            Fault::None,
        ));
        all.coverage.add(&summary.coverage);
        all.worlds += summary.worlds;
    }
    // A few pairs need very many worlds; the campaign prints which were never met.
    let (met, legal) = all.coverage.met();
    assert!(met + 12 >= legal, "{met} of {legal} pairs; never met: {:?}", all.coverage.empty());
}

#[test]
fn all_worlds_with_few_deviations_are_clean() {
    let most = if cfg!(debug_assertions) { 1 } else { 2 };
    for shape in 0..SHAPES {
        clean(enumerate(&Shape::of(shape, 3, 2), most, Fault::None));
    }
}

/// The simulator must be able to fail: each fault that is put in is found, replays, and is shrunk
/// to few decisions.
#[test]
fn every_fault_is_found() {
    for fault in Fault::ALL {
        let Err(failure) = random(0..40_000, SIX_JOBS, fault) else {
            panic!("{fault:?} is not found")
        };
        let shape = Shape::of(failure.seed, SIX_JOBS.jobs, SIX_JOBS.processes);
        let (again, _) = one(Choices::random(failure.seed), &shape, fault);
        assert_eq!(
            again.as_ref().err(),
            Some(&failure.error),
            "{fault:?}: the same seed fails in the same way"
        );
        let (shrunk, _) = one(Choices::given(failure.numbers.clone()), &shape, fault);
        assert_eq!(shrunk.err(), Some(failure.shrunk), "{fault:?}: the shrunk decisions replay");
    }
}

#[test]
fn the_same_seed_gives_the_same_record() {
    for seed in 0..50 {
        let shape = Shape::of(seed, 6, 2);
        let digest = || one(Choices::random(seed), &shape, Fault::None).1.digest();
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}
