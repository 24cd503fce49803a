//! Crashes for real: a program that applies, updates and removes in a process that meets a fault at
//! a chosen write point, then looks at what is left and goes on. `tests/it/crash.rs` runs a sample.
//!
//! `crash run --full` tries every write point; `crash run --fault kill --at 17` repeats one case.

mod campaign;
mod components;
mod inspect;
mod scenario;
mod shim;

use std::process::ExitCode;
use superduper::Error;

const USAGE: &str = "usage: crash run [--full | --sample N] [--kills N] [--fault KIND,…] [--at N] [--seed N] [--jobs N] [--keep]
  --full      every write point, then random ones until `--kills` (1000) processes were killed
  --sample N  N random write points of each fault (the default, 12)
  --fault     kill, torn, power, power-part, twice, kill-power, inside, full, io, broken, denied
  --at N      this write point only
  --seed N    begin of the random numbers
  --jobs N    cases at the same time (1)
  --keep      leave the folders of broken cases behind";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", folder] => child(folder, scenario::STEPS).map(|()| true),
        ["child", folder, steps] => child(folder, steps.parse().unwrap_or(0)).map(|()| true),
        ["run", ..] => campaign::Options::parse(&args[1..]).and_then(campaign::run),
        _ => Err(Error::invalid(USAGE)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(2)
        }
    }
}

fn child(folder: &str, steps: usize) -> superduper::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(scenario::child(&scenario::Place::new(folder), steps))
}
