//! Runs many worlds and prints what they were. `campaign <seeds>` for random ones,
//! `campaign all <deviations>` for all of three jobs in two processes, `campaign faults <seeds>`
//! for how soon each fault is found, `campaign seed <n>` for one.

use std::time::Instant;
use superduper_core::simulate::Fault;
use superduper_simulator::{Failure, SHAPES, Shape, Size, Summary, enumerate, random, trace};

const SIX_JOBS: Size = Size { jobs: 6, processes: 2 };

fn print(begun: Instant, result: Result<Summary, Box<Failure>>) {
    let seconds = begun.elapsed().as_secs_f64();
    match result {
        Ok(summary) => {
            let (met, legal) = summary.coverage.met();
            let per_second = summary.worlds as f64 / seconds;
            println!(
                "{} worlds are clean: {} steps, {} faults, {per_second:.0} worlds a second, {met} of {legal} pairs of phase and input met",
                summary.worlds, summary.steps, summary.faults
            );
            summary.coverage.empty().iter().for_each(|pair| println!("    never met: {pair}"));
        }
        Err(failure) => {
            println!("world {} after {seconds:.2} s: {}", failure.seed, failure.error);
            let deviations: Vec<_> =
                failure.numbers.iter().enumerate().filter(|(_, number)| **number > 0).collect();
            println!("    shrunk to {deviations:?}: {}", failure.shrunk);
            if std::env::var_os("TRACE").is_some() {
                let shape = Shape::of(failure.seed, SIX_JOBS.jobs, SIX_JOBS.processes);
                trace(failure.numbers, &shape, Fault::None)
                    .iter()
                    .for_each(|line| println!("{line}"));
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, usual: u64| {
        arguments.get(place).and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let begun = Instant::now();
    match arguments.first().map(String::as_str) {
        Some("all") => {
            let most = usize::try_from(number(1, 2)).unwrap_or(2);
            for shape in 0..SHAPES {
                println!("shape {shape}:");
                print(Instant::now(), enumerate(&Shape::of(shape, 3, 2), most, Fault::None));
            }
        }
        Some("faults") => {
            for fault in Fault::ALL {
                print!("{fault:?}: ");
                print(Instant::now(), random(0..number(1, 100_000), SIX_JOBS, fault));
            }
        }
        Some("seed") => print(begun, random(number(1, 0)..number(1, 0) + 1, SIX_JOBS, Fault::None)),
        _ => print(begun, random(0..number(0, 10_000), SIX_JOBS, Fault::None)),
    }
}
