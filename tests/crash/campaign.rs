//! Many cases: a fault each, what is left after it, and the comparison with the run that met none.
//!
//! Invariant: a case is a pure function of its fault, up to the order of threads; a broken one is
//! printed with the command that repeats it.

use crate::{
    inspect::{Found, look},
    scenario::{Place, STEPS},
    shim::{Ended, Fault, INSIDE, Kind, Shim, report},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use superduper::{Error, Result};

/// What to run.
pub(crate) struct Options {
    full: bool,
    sample: usize,
    kills: usize,
    kinds: Vec<Kind>,
    at: Option<usize>,
    seed: u64,
    jobs: usize,
    keep: bool,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            full: false,
            sample: 12,
            kills: 1000,
            kinds: Kind::ALL.to_vec(),
            at: None,
            seed: 1,
            jobs: 1,
            keep: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || {
                args.next()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| Error::invalid(format!("`{arg}` needs a number")))
            };
            match arg.as_str() {
                "--full" => options.full = true,
                "--keep" => options.keep = true,
                "--sample" => options.sample = number()?,
                "--kills" => options.kills = number()?,
                "--at" => options.at = Some(number()?),
                "--seed" => options.seed = number()? as u64,
                "--jobs" => options.jobs = number()?.max(1),
                "--fault" => {
                    let names = args.next().map(String::as_str).unwrap_or_default();
                    let find = |name: &str| {
                        Kind::of(name)
                            .ok_or_else(|| Error::invalid(format!("unknown fault `{name}`")))
                    };
                    options.kinds = names.split(',').map(find).collect::<Result<_>>()?;
                }
                other => return Err(Error::invalid(format!("unknown option `{other}`"))),
            }
        }
        Ok(options)
    }
}

/// The run that met no fault: after each step, and at the end.
struct Reference {
    points: usize,
    /// What is declared after so many steps.
    declared: Vec<String>,
    end: Found,
}

/// What came of one case.
#[derive(Default)]
struct Case {
    killed: usize,
    recovered: bool,
    lost_jobs: usize,
    ended_twice: usize,
    errors: Vec<String>,
    problems: Vec<String>,
}

#[derive(Default)]
struct Sum {
    runs: usize,
    kills: usize,
    recovered: usize,
    errors: usize,
    broken: usize,
    lost_jobs: usize,
    ended_twice: usize,
}

/// Run the cases; whether all invariants held.
pub(crate) fn run(options: Options) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let shim = match Shim::build(scratch.path()) {
        Ok(shim) => shim,
        Err(why) => {
            println!("skipped: crash tests: {why}");
            return Ok(true);
        }
    };
    let reference = reference(&shim, scratch.path())?;
    println!("{} write points in {STEPS} steps, seed {}", reference.points, options.seed);
    let sums: Mutex<BTreeMap<Kind, Sum>> = Mutex::default();
    let mut faults = faults(&options, reference.points);
    let mut random = Random(options.seed ^ 0x5eed);
    let (mut serial, mut all_well) = (0, true);
    while !faults.is_empty() {
        all_well &=
            run_all(&options, &shim, &reference, scratch.path(), &faults, &mut serial, &sums)?;
        let kills: usize = lock(&sums).values().map(|sum| sum.kills).sum();
        faults.clear();
        if options.full && options.at.is_none() && kills < options.kills {
            let kinds: Vec<Kind> =
                options.kinds.iter().copied().filter(|kind| kind.kills()).collect();
            let missing = if kinds.is_empty() { 0 } else { options.kills - kills };
            faults = (0..missing)
                .map(|index| random.fault(kinds[index % kinds.len()], reference.points))
                .collect();
        }
    }
    print(&lock(&sums), reference.points);
    if !all_well {
        // The folders of broken cases are below it.
        println!(
            "folder: {}",
            if options.keep { scratch.keep() } else { scratch.path().to_owned() }.display()
        );
    }
    Ok(all_well)
}

fn faults(options: &Options, points: usize) -> Vec<Fault> {
    let mut random = Random(options.seed);
    let mut faults = Vec::new();
    for kind in &options.kinds {
        let points = if *kind == Kind::Inside { INSIDE.len() } else { points };
        match options.at {
            Some(at) => faults.push(Fault { kind: *kind, at, seed: options.seed }),
            // A process that loses power after its last write point loses what it never
            // synchronized.
            None if options.full => faults.extend((0..=points).map(|at| Fault {
                seed: random.next() | 1,
                kind: *kind,
                at,
            })),
            None if *kind == Kind::Inside => {
                faults.extend((0..points).map(|at| Fault { kind: *kind, at, seed: 1 }))
            }
            None => faults.extend((0..options.sample).map(|_| random.fault(*kind, points))),
        }
    }
    faults
}

fn run_all(
    options: &Options,
    shim: &Shim,
    reference: &Reference,
    scratch: &Path,
    faults: &[Fault],
    serial: &mut usize,
    sums: &Mutex<BTreeMap<Kind, Sum>>,
) -> Result<bool> {
    let first = *serial;
    *serial += faults.len();
    let (next, broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worker = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(fault) = faults.get(index) else { return Ok(()) };
            let place = Place::new(scratch.join((first + index).to_string()));
            let case = runtime.block_on(case(shim, reference, &place, fault))?;
            let mut sums = lock(sums);
            let sum = sums.entry(fault.kind).or_default();
            sum.runs += 1;
            sum.kills += case.killed;
            sum.recovered += usize::from(case.recovered);
            sum.errors += case.errors.len();
            sum.lost_jobs += case.lost_jobs;
            sum.ended_twice += case.ended_twice;
            if case.problems.is_empty() {
                // Many thousand folders would fill a disk.
                let _ = std::fs::remove_dir_all(place.root());
                continue;
            }
            sum.broken += 1;
            broken.fetch_add(1, Ordering::Relaxed);
            let met = report(&place).1.unwrap_or_default();
            println!("BROKEN {} ({met}), folder {}", fault.kind.name(), place.root().display());
            case.problems.iter().for_each(|problem| println!("  {problem}"));
            case.errors.iter().for_each(|error| println!("  a caller saw: {error}"));
            println!(
                "  again: crash run --fault {} --at {} --seed {}",
                fault.kind.name(),
                fault.at,
                fault.seed
            );
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::msg("a case panicked")))
        })
    })?;
    Ok(broken.into_inner() == 0)
}

/// Run the scenario without a fault, twice; with a look after each step the second time.
fn reference(shim: &Shim, scratch: &Path) -> Result<Reference> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let place = Place::new(scratch.join("counted"));
    well(&shim.count(&place)?)?;
    let end = runtime.block_on(look(&place))?;
    let stepped = Place::new(scratch.join("stepped"));
    let mut declared = vec![runtime.block_on(look(&stepped))?.declared];
    for steps in 1..=STEPS {
        well(&shim.steps(&stepped, steps)?)?;
        declared.push(runtime.block_on(look(&stepped))?.declared);
    }
    let again = runtime.block_on(look(&stepped))?;
    if let Some(problem) = end.problems.iter().chain(&again.problems).next() {
        return Err(Error::msg(format!("the run without a fault breaks an invariant: {problem}")));
    }
    for (what, one, other) in
        [("state", &end.state, &again.state), ("history", &end.history, &again.history)]
    {
        if let Some(difference) = difference(one, other) {
            return Err(Error::msg(format!(
                "two runs without a fault differ in their {what}: {difference}"
            )));
        }
    }
    Ok(Reference { points: report(&place).0, declared, end })
}

fn well(ended: &Ended) -> Result<()> {
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::msg(format!("the run without a fault ended with {}: {}", ended.status, ended.said)))
}

async fn case(shim: &Shim, reference: &Reference, place: &Place, fault: &Fault) -> Result<Case> {
    let mut case = Case::default();
    let mut ended = shim.run(place, Some(fault))?;
    let mut before: Option<Found> = None;
    let second = match fault.kind {
        Kind::Twice => Some(Kind::Kill),
        Kind::KillPower => Some(Kind::Power),
        _ => None,
    };
    // What a killed process left is put on disk early in the next one: the power fails around that
    // time.
    let range = if fault.kind == Kind::KillPower { 50 } else { 150 };
    let mut faults = second
        .map(|kind| Fault { kind, at: 1 + (fault.seed % range) as usize, seed: 0 })
        .into_iter();
    while fault.kind.kills() && ended.was_killed() {
        case.killed += 1;
        let next = faults.next();
        // Looking would synchronize what the power is to take.
        if next.is_none() || fault.kind != Kind::KillPower {
            let found = after_kill(reference, place, &mut case).await?;
            before.iter().for_each(|earlier| same_ends(earlier, &found, &mut case));
            before = Some(found);
        }
        ended = shim.run(place, next.as_ref())?;
    }
    case.errors = place.errors();
    if !ended.status.success() {
        case.problems.push(format!(
            "the process that goes on ended with {}: {}",
            ended.status,
            ended.said.trim()
        ));
        return Ok(case);
    }
    let found = look(place).await?;
    if fault.kind == Kind::Inside && case.killed > 0 && !ran_again(place, fault) {
        case.problems.push(format!(
            "what was killed in `{}` was not called again as a repeated call",
            INSIDE[fault.at % INSIDE.len()]
        ));
    }
    case.problems.extend(found.problems.iter().map(|problem| format!("at the end: {problem}")));
    case.ended_twice += found.ended_twice;
    case.lost_jobs += found.open;
    before.iter().for_each(|before| same_ends(before, &found, &mut case));
    if found.open > 0 {
        case.problems.push(format!("at the end: {} jobs and runs are not final", found.open));
    }
    let end = &reference.end;
    let mut compared = vec![("state", &end.state, &found.state)];
    // Where calls fail, jobs may fail and be tried again in another run.
    if fault.kind.kills() {
        compared.push(("history", &end.history, &found.history));
        if !case.errors.is_empty() {
            case.problems.push("a caller saw an error after a kill".to_owned());
        }
    }
    for (what, one, other) in compared {
        if let Some(difference) = difference(one, other) {
            case.problems.push(format!(
                "at the end: the {what} differs from that of the run without a fault: {difference}"
            ));
        }
    }
    for error in case
        .errors
        .iter()
        .filter(|error| !error.contains(": Store: ") && !error.contains(": JobFailed: "))
    {
        case.problems.push(format!("a failing call became another error than `Store`: {error}"));
    }
    case.recovered = case.problems.is_empty();
    Ok(case)
}

/// Whether the method in which the process was killed ran in a later attempt.
fn ran_again(place: &Place, fault: &Fault) -> bool {
    let method = INSIDE[fault.at % INSIDE.len()].split(':').next().unwrap_or_default();
    let effects = std::fs::read_to_string(place.effects()).unwrap_or_default();
    effects.lines().any(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        words[2] == method && words[1] != "1"
    })
}

/// What must hold after a kill, before anything is resumed.
async fn after_kill(reference: &Reference, place: &Place, case: &mut Case) -> Result<Found> {
    let found = look(place).await?;
    case.problems.extend(found.problems.iter().map(|problem| format!("after the kill: {problem}")));
    case.ended_twice += found.ended_twice;
    // What a caller was told is there; what is under way is there whole or not at all.
    let done = place.done();
    let next = (done + 1).min(STEPS);
    if !(done..=next).any(|steps| reference.declared[steps] == found.declared) {
        let difference = difference(&reference.declared[done], &found.declared).unwrap_or_default();
        case.problems.push(format!("after the kill: the components are neither those after {done} steps nor after {next}: {difference}"));
    }
    for (index, (planned, expected)) in found.planned.iter().zip(&reference.end.planned).enumerate()
    {
        let lost = expected.difference(planned).count();
        case.lost_jobs += lost;
        if planned != expected {
            case.problems
                .push(format!("after the kill: run {index} has lost {lost} jobs: {planned:?}"));
        }
    }
    Ok(found)
}

/// What was final stays as it was.
fn same_ends(before: &Found, after: &Found, case: &mut Case) {
    for (job, end) in &before.terminal {
        if after.terminal.get(job) != Some(end) {
            case.problems.push(format!(
                "job {job} was final and changed: {end} became {:?}",
                after.terminal.get(job)
            ));
        }
    }
}

/// The first line in which two texts differ.
fn difference(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let mut lines = one.lines().zip(other.lines()).filter(|(one, other)| one != other);
    Some(lines.next().map_or_else(
        || format!("{} lines and {} lines", one.lines().count(), other.lines().count()),
        |(one, other)| format!("`{one}` and `{other}`"),
    ))
}

fn print(sums: &BTreeMap<Kind, Sum>, points: usize) {
    println!(
        "| fault | write points | runs | kills | recovered | errors seen | invariant breaks | lost jobs | jobs ended twice |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut total = Sum::default();
    for (kind, sum) in sums {
        let points = if *kind == Kind::Inside { INSIDE.len() } else { points };
        line(kind.name(), &points.to_string(), sum);
        total.runs += sum.runs;
        total.kills += sum.kills;
        total.recovered += sum.recovered;
        total.errors += sum.errors;
        total.broken += sum.broken;
        total.lost_jobs += sum.lost_jobs;
        total.ended_twice += sum.ended_twice;
    }
    line("all", "", &total);
}

fn line(name: &str, points: &str, sum: &Sum) {
    let Sum { runs, kills, recovered, errors, broken, lost_jobs, ended_twice } = sum;
    println!(
        "| {name} | {points} | {runs} | {kills} | {recovered} | {errors} | {broken} | {lost_jobs} | {ended_twice} |"
    );
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn fault(&mut self, kind: Kind, points: usize) -> Fault {
        let at = 1 + (self.next() % points.max(1) as u64) as usize;
        Fault { kind, at, seed: self.next() | 1 }
    }
}
