//! A component whose jobs do what a test asks for.

use std::time::Duration;
use superduper_core::{Error, ErrorKind, Result, Spawn, prelude::*};

/// A component whose jobs do what [`Probe::what`] says.
#[derive(Component, Clone)]
#[component(kind = "conformance.Probe")]
pub struct Probe {
    /// Its name.
    pub identifier: String,
    /// What its jobs do.
    pub what: String,
    /// The executor of a job that its jobs spawn; without it, the default of the database.
    pub executor: Option<String>,
    /// What its first job leaves behind.
    pub made: Output<Artifact<Bytes>>,
}

impl Probe {
    /// A probe whose name says what it does.
    pub fn new(what: &str) -> Self {
        Probe {
            identifier: what.to_owned(),
            what: what.to_owned(),
            executor: None,
            made: Output::empty(),
        }
    }
}

#[triggers]
impl Probe {
    #[trigger("apply", retries = 2, backoff = "1ms", timeout = "20s")]
    async fn work(&self, ctx: &JobContext) -> Result<u32> {
        ctx.log(format!("{} begins", self.what));
        match &*self.what {
            "fatal" => return Err(Error::msg("a fatal error").fatal()),
            "panics" if ctx.attempt() == 1 => panic!("boom"),
            "retries" if ctx.attempt() < 3 => return Err(Error::msg("not yet").retryable()),
            "spawns" => {
                let child = ctx.address();
                ctx.spawn_with(Spawn::new("a", child, "child").input(20_u32))?;
                // A job process does not know the executors of its parent, and must not refuse one.
                let policy = superduper_core::JobPolicy {
                    executor: self.executor.clone(),
                    ..Default::default()
                };
                ctx.spawn_with(
                    Spawn::new("b", child, "child").input(22_u32).after(["a"]).policy(policy),
                )?;
            }
            "waits" if ctx.attempt() == 1 => return Err(ctx.block("an answer").into()),
            "aborts" if ctx.attempt() == 1 => std::process::abort(),
            _ => {}
        }
        for step in 1..=3 {
            ctx.progress(step, 3);
            ctx.metric("step", step, f64::from(u32::try_from(step).unwrap_or(0)));
        }
        ctx.set(&self.made, Artifact::new(Bytes::from(self.what.clone().into_bytes())))?;
        Ok(std::process::id())
    }

    #[trigger("call")]
    fn child(&self, ctx: &JobContext) -> Result<u32> {
        ctx.input()
    }

    #[trigger("apply", depends_on = "work")]
    fn after(&self, work: u32) -> Result<String> {
        Ok(format!("{} after {work}", self.what))
    }
}

/// A component whose only job runs until it is cancelled, at most for a minute.
#[derive(Component, Clone)]
#[component(kind = "conformance.Endless")]
pub(super) struct Endless {
    /// Its name.
    pub identifier: String,
    /// Whether the job ends by itself when it is cancelled.
    pub listens: bool,
}

#[triggers]
impl Endless {
    #[trigger("apply", policy = "policy")]
    async fn run(&self, ctx: &JobContext) -> Result<()> {
        if self.listens {
            ctx.until_cancelled().await;
            return Err(Error::new(ErrorKind::Cancelled, "as asked"));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    }

    fn policy(&self) -> superduper_core::JobPolicy {
        let timeout = (self.identifier == "late").then_some(Duration::from_millis(500));
        superduper_core::JobPolicy {
            timeout,
            grace: Some(Duration::from_millis(300)),
            ..Default::default()
        }
    }
}
