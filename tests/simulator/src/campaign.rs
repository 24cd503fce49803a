//! Many worlds: random ones, all with few deviations, and ones with a fault put in.

use crate::{
    choices::{Choices, shrink},
    coverage::Coverage,
    shape::Shape,
    world::World,
};
use superduper_core::simulate::Fault;

/// What worlds are made of.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Jobs of a world.
    pub jobs: usize,
    /// Processes of a world.
    pub processes: usize,
}

/// What many clean worlds were.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many worlds.
    pub worlds: u64,
    /// How many events.
    pub steps: u64,
    /// How many faults.
    pub faults: u64,
    /// Which inputs met which phases.
    pub coverage: Coverage,
}

/// A world in which something does not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its seed, or how many worlds were enumerated before it.
    pub seed: u64,
    /// What does not hold.
    pub error: String,
    /// Fewer decisions with which it does not hold either, and what does not hold then.
    pub numbers: Vec<u32>,
    /// The same for those.
    pub shrunk: String,
}

/// One world of a shape; what does not hold, with the world.
pub fn one(choices: Choices, shape: &Shape, fault: Fault) -> (Result<(), String>, World) {
    let mut world = World::new(choices, shape, fault);
    (world.run(), world)
}

/// What happens in the world of these decisions, line by line.
pub fn trace(numbers: Vec<u32>, shape: &Shape, fault: Fault) -> Vec<String> {
    let mut world = World::new(Choices::given(numbers), shape, fault);
    world.trace = Some(Vec::new());
    let result = world.run();
    let mut lines = world.trace.unwrap_or_default();
    lines.push(format!("{result:?}"));
    lines
}

/// Random worlds of seeds.
///
/// # Errors
/// The first world in which something does not hold.
pub fn random(
    seeds: std::ops::Range<u64>,
    size: Size,
    fault: Fault,
) -> Result<Summary, Box<Failure>> {
    let mut summary = Summary::default();
    for seed in seeds {
        let shape = Shape::of(seed, size.jobs, size.processes);
        let (result, world) = one(Choices::random(seed), &shape, fault);
        if let Err(error) = result {
            let fails =
                |numbers: &[u32]| one(Choices::given(numbers.to_vec()), &shape, fault).0.is_err();
            let numbers = shrink(world.choices.numbers(), &fails);
            let shrunk =
                one(Choices::given(numbers.clone()), &shape, fault).0.err().unwrap_or_default();
            return Err(Box::new(Failure { seed, error, numbers, shrunk }));
        }
        summary.worlds += 1;
        summary.steps += world.steps;
        summary.faults += world.faults;
        summary.coverage.add(&world.coverage);
    }
    Ok(summary)
}

/// All worlds of a shape that deviate from the plain one in at most so many decisions.
///
/// # Errors
/// The first world in which something does not hold.
pub fn enumerate(shape: &Shape, most: usize, fault: Fault) -> Result<Summary, Box<Failure>> {
    let mut summary = Summary::default();
    let mut left = vec![Vec::new()];
    while let Some(given) = left.pop() {
        let (result, world) = one(Choices::given(given.clone()), shape, fault);
        if let Err(error) = result {
            let shrunk = error.clone();
            return Err(Box::new(Failure { seed: summary.worlds, error, numbers: given, shrunk }));
        }
        summary.worlds += 1;
        summary.steps += world.steps;
        summary.faults += world.faults;
        summary.coverage.add(&world.coverage);
        if given.iter().filter(|value| **value > 0).count() == most {
            continue;
        }
        for place in (given.len()..world.choices.taken.len()).rev() {
            for value in 1..world.choices.taken[place].1 {
                let mut next = given.clone();
                next.resize(place, 0);
                next.push(value);
                left.push(next);
            }
        }
    }
    Ok(summary)
}
