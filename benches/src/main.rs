//! Benchmarks of superduper, alone or beside the Python framework of the same purpose.
//!
//! `list` names the cases, `run` measures them, `compare` measures them here and there in turn.
//! Every measurement runs in a worker process of its own, this program again, so that processor
//! time and peak memory are its own.

mod cases;
mod compare;
mod components;
mod database;
mod driver;
mod measure;

use driver::{Driver, Options};
use std::process::ExitCode;
use superduper::{Error, Result};

const USAGE: &str = "\
usage: superduper-bench list
       superduper-bench run CASE… [options]
       superduper-bench compare CASE… [options]

CASE is a name from `list`, or `all`.

  --n N           size of the cases that have one
  --mib N[,N…]    sizes of the artifact cases, in MiB
  --reps N        repetitions, where a case has them
  --work DIR      folder for scratch databases; the system's folder for temporary files by default
  --limit N       compare: processor seconds that one measurement of the peer may take; 60 by default
  --peer SCRIPT   compare: the peer's script; peers/superduper.sh beside this package by default";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "worker") {
        return finish(driver::worker(&args[1..]));
    }
    if args.is_empty() || args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let command = args.remove(0);
    finish(dispatch(&command, args))
}

fn dispatch(command: &str, args: Vec<String>) -> Result<()> {
    let (names, options) = Options::parse(args)?;
    match command {
        "list" => {
            cases::CASES.iter().for_each(|case| println!("{}", case.name));
            Ok(())
        }
        "run" => {
            let driver = Driver::new(options)?;
            for case in cases::choose(&names)? {
                let taken = std::time::Instant::now();
                (case.run)(&driver)?;
                eprintln!("# {} took {:.1} s", case.name, taken.elapsed().as_secs_f64());
            }
            Ok(())
        }
        "compare" => compare::compare(&cases::choose(&names)?, options),
        other => Err(Error::invalid(format!("unknown command `{other}`"))
            .with_hint("commands are `list`, `run` and `compare`")),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
