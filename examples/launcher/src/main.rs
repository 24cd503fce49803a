//! A program whose jobs run under `nice`. `cargo run -p superduper-launcher` prints by which
//! process each job was run.

use std::{io::Write, sync::Arc};
use superduper::prelude::*;
use superduper_launcher::{Launcher, run_if_asked};

#[derive(Component, Clone)]
struct Square {
    identifier: String,
    number: f64,
}

#[triggers]
impl Square {
    #[trigger("apply", executor = "launcher")]
    fn compute(&self) -> Result<(f64, u32)> {
        Ok((self.number * self.number, std::process::id()))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    run_if_asked().await?;
    let launcher = Launcher::new(["nice", "-n", "19"])?;
    let db = Db::builder().at("launcher.db")?.with_executor(Arc::new(launcher)).build().await?;
    for number in [2.0, 3.0] {
        let applied =
            db.apply(Square { identifier: format!("square of {number}"), number }).await?;
        if applied.outcome.is_some() {
            let (square, process) = applied.result::<(f64, u32)>("compute")?;
            writeln!(
                std::io::stdout(),
                "{number} squared is {square}, computed by process {process}, not by {}",
                std::process::id()
            )?;
        }
    }
    Ok(())
}
