//! What the training cases train.

use crate::measure::Watch;
use std::time::{Duration, Instant};
use superduper::{Result, prelude::*};
use superduper_train::prelude::*;

/// Makes steps in which nothing happens, or what its action says, and is the model.
#[derive(Component, Clone)]
#[component(kind = "bench.Trivial")]
pub(crate) struct Trivial {
    pub(crate) identifier: String,
    /// Steps, seconds, bytes or MiB, as the action says.
    pub(crate) amount: u64,
    pub(crate) action: String,
    /// Processor time of a step.
    pub(crate) nanoseconds: f64,
    pub(crate) blob: Option<Artifact<Bytes>>,
}

impl Trivial {
    pub(crate) fn new(steps: u64) -> Self {
        Trivial {
            identifier: "trivial".to_owned(),
            amount: steps,
            action: String::new(),
            nanoseconds: 0.0,
            blob: None,
        }
    }

    pub(crate) fn doing(action: &str, amount: u64) -> Self {
        Trivial { action: action.to_owned(), ..Trivial::new(amount) }
    }
}

impl Train for Trivial {
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        let amount = self.amount;
        let end = Instant::now() + Duration::from_secs(amount);
        match self.action.as_str() {
            "" => {
                let watch = Watch::start();
                for step in 0..amount {
                    if ctx.step(step, amount)?.is_stop() {
                        break;
                    }
                }
                self.nanoseconds = watch.split().0 * 1e6 / amount.max(1) as f64;
            }
            "loop" => {
                let mut step = 0;
                while Instant::now() < end {
                    if ctx.step(step, 1_000_000)?.is_stop() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    step += 1;
                }
            }
            "sleep" => {
                ctx.job().progress(0, 1);
                std::thread::sleep(Duration::from_secs(amount));
            }
            "blob" => {
                let mut bytes = vec![0; (amount as usize) << 20];
                bytes
                    .chunks_exact_mut(8)
                    .for_each(|word| word.copy_from_slice(&ctx.rng().next_u64().to_le_bytes()));
                self.blob = Some(Artifact::new(Bytes::from(bytes)));
            }
            "fail" => return Err(Error::msg("x".repeat(amount as usize)).fatal()),
            "exit" => std::process::exit(i32::try_from(amount).unwrap_or(1)),
            other => return Err(Error::invalid(format!("unknown action `{other}`"))),
        }
        Ok(Trained::model(self.clone()))
    }
}

trains!(Trivial);
