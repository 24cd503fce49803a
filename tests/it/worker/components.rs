//! What worker processes of the tests do; shared by the test and the worker program.

use std::time::Duration;
use superduper::{JobPolicy, prelude::*};

/// Works as it is told.
#[derive(Component)]
#[component(kind = "test.Task")]
pub(crate) struct Task {
    pub(crate) identifier: String,
    pub(crate) what: String,
    pub(crate) made: Output<Artifact<Bytes>>,
}

impl Lifecycle for Task {
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[triggers]
impl Task {
    #[trigger("apply")]
    fn work(&self, ctx: &JobContext) -> Result<u32> {
        let pid = std::process::id();
        ctx.log("a line of the worker");
        tracing::info!("an event of the worker");
        match self.what.as_str() {
            "error" => return Err(Error::msg("went wrong").context("in the worker")),
            "panic" => panic!("worker boom"),
            "signal" => {
                let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
                std::thread::sleep(Duration::from_secs(20));
            }
            "exit" => std::process::exit(0),
            "code" => std::process::exit(3),
            "long" => return Err(Error::msg("x".repeat(1 << 20))),
            "listen" | "ignore" | "wait" => {
                ctx.progress(pid.into(), 0);
                let go = std::path::Path::new(&ctx.db()?.metadata().location()).with_file_name("go");
                for _ in 0..2000 {
                    if self.what == "listen" {
                        ctx.check_cancelled()?;
                    }
                    if self.what == "wait" && go.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            "program" => {
                let runs = std::path::Path::new(&ctx.db()?.metadata().location()).with_file_name("runs");
                std::io::Write::write_all(&mut std::fs::OpenOptions::new().create(true).append(true).open(runs)?, b"run\n")?;
                let output = std::process::Command::new(std::env::current_exe()?).args(["identities", "1"]).output()?;
                if !output.status.success() || output.stdout.is_empty() {
                    return Err(Error::msg(format!("{output:?}")));
                }
            }
            "detach" => {
                let other = Task { identifier: "other".into(), what: "slow".into(), made: Output::empty() };
                tokio::runtime::Handle::current().block_on(ctx.db()?.apply(other).detach().into_future())?;
            }
            "slow" => std::thread::sleep(Duration::from_millis(700)),
            _ => {}
        }
        let made = if self.what == "same" { "always the same".to_owned() } else { format!("made by {pid}") };
        ctx.set(&self.made, Artifact::new(Bytes::from(made)))?;
        Ok(pid)
    }

    #[trigger("apply")]
    async fn after(&self, work: u32) -> Result<String> {
        let made = self.made.get()?.get().await?;
        Ok(format!("after {work}, {}", String::from_utf8_lossy(&made)))
    }
}

/// One trigger here, one in a process, and one here that needs what that one made.
#[derive(Component)]
#[component(kind = "test.Isolated")]
pub(crate) struct Isolated {
    pub(crate) identifier: String,
    pub(crate) made: Output<u32>,
}

#[triggers]
impl Isolated {
    #[trigger("apply")]
    fn here(&self) -> Result<u32> {
        Ok(std::process::id())
    }
    #[trigger("apply", executor = "process")]
    async fn there(&self, ctx: &JobContext) -> Result<u32> {
        ctx.set(&self.made, std::process::id())?;
        Ok(std::process::id())
    }
    #[trigger("apply", depends_on = "there")]
    fn reads(&self) -> Result<u32> {
        Ok(*self.made.get()?)
    }
}

/// Never ends by itself.
#[derive(Component)]
#[component(kind = "test.Endless")]
pub(crate) struct Endless {
    pub(crate) identifier: String,
}

#[triggers]
impl Endless {
    #[trigger("apply", executor = "process", timeout = "400ms")]
    fn forever(&self) -> Result<()> {
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// One job fails once, with its worker living on for what it started; another one runs beside it.
#[derive(Component)]
#[component(kind = "test.Again")]
pub(crate) struct Again {
    pub(crate) identifier: String,
}

#[triggers]
impl Again {
    #[trigger("apply", executor = "process", retries = 1, backoff = "1ms")]
    fn stumbles(&self, ctx: &JobContext) -> Result<u32> {
        if ctx.is_retry() {
            return Ok(ctx.attempt());
        }
        let other = Task { identifier: "other".into(), what: "slow".into(), made: Output::empty() };
        tokio::runtime::Handle::current().block_on(ctx.db()?.apply(other).detach().into_future())?;
        Err(Error::msg("once"))
    }
    #[trigger("apply", executor = "process")]
    fn beside(&self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(150));
        Ok(())
    }
}

/// Reads a blob and makes two of it, in a process or not.
#[derive(Component)]
#[component(kind = "test.Blobs")]
pub(crate) struct Blobs {
    pub(crate) identifier: String,
    pub(crate) isolated: bool,
    pub(crate) input: Artifact<Bytes>,
    pub(crate) made: Output<Artifact<Bytes>>,
}

#[triggers]
impl Blobs {
    fn place(&self) -> JobPolicy {
        JobPolicy { executor: self.isolated.then(|| "process".to_owned()), ..JobPolicy::default() }
    }

    #[trigger("apply", policy = "place")]
    async fn make(&self, ctx: &JobContext) -> Result<(u32, Artifact<Bytes>)> {
        let input = self.input.get().await?;
        ctx.set(&self.made, Artifact::new(Bytes::from([&input[..], b" as output"].concat())))?;
        Ok((std::process::id(), Artifact::new(Bytes::from([&input[..], b" as result"].concat()))))
    }
}

/// Runs in a process with limits at their ends.
#[derive(Component)]
#[component(kind = "test.AtTheEnds")]
pub(crate) struct AtTheEnds {
    pub(crate) identifier: String,
    pub(crate) longest: bool,
}

#[triggers]
impl AtTheEnds {
    fn limits(&self) -> JobPolicy {
        let (span, count) = if self.longest { (Duration::MAX, u64::MAX) } else { (Duration::ZERO, 0) };
        JobPolicy {
            executor: Some("process".to_owned()),
            pool: Some(("limited".to_owned(), if self.longest { usize::MAX } else { 0 })),
            retries: Some(if self.longest { u32::MAX } else { 0 }),
            backoff: Some(span),
            timeout: Some(span),
            grace: Some(span),
            stall: Some(span),
            memory: Some(count),
            cpu: Some(span),
        }
    }

    #[trigger("apply", policy = "limits")]
    fn run(&self) -> Result<u32> {
        Ok(std::process::id())
    }
}
