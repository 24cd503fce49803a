//! What job processes of the tests do; shared by the test and the worker program.

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
                let go =
                    std::path::Path::new(&ctx.db()?.metadata().location()).with_file_name("go");
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
                let runs =
                    std::path::Path::new(&ctx.db()?.metadata().location()).with_file_name("runs");
                std::io::Write::write_all(
                    &mut std::fs::OpenOptions::new().create(true).append(true).open(runs)?,
                    b"run\n",
                )?;
                let output = std::process::Command::new(std::env::current_exe()?)
                    .args(["identities", "1"])
                    .output()?;
                if !output.status.success() || output.stdout.is_empty() {
                    return Err(Error::msg(format!("{output:?}")));
                }
            }
            "detach" => {
                let other =
                    Task { identifier: "other".into(), what: "slow".into(), made: Output::empty() };
                tokio::runtime::Handle::current()
                    .block_on(ctx.db()?.apply(other).detach().into_future())?;
            }
            "slow" => std::thread::sleep(Duration::from_millis(700)),
            "flood" => flood()?,
            what if what.starts_with("leave") => leave(what, ctx)?,
            _ => {}
        }
        let made = if self.what == "same" {
            "always the same".to_owned()
        } else {
            format!("made by {pid}")
        };
        ctx.set(&self.made, Artifact::new(Bytes::from(made)))?;
        Ok(pid)
    }

    #[trigger("apply")]
    async fn after(&self, work: u32) -> Result<String> {
        let made = self.made.get()?.get().await?;
        Ok(format!("after {work}, {}", String::from_utf8_lossy(&made)))
    }
}

/// Megabytes of lines, and a line that is as long.
pub(crate) const FLOOD: usize = 32;

/// Print much more than the log keeps.
fn flood() -> Result<()> {
    use std::io::Write;
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    out.write_all(b"first line\nhalf a ")?;
    out.flush()?;
    err.write_all(b"first complaint\nno text: \xff\xfe.\n")?;
    std::thread::sleep(Duration::from_millis(50));
    out.write_all(b"line\n")?;
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    for part in [line.repeat(1024), vec![b'y'; 1 << 20]] {
        for _ in 0..FLOOD {
            out.write_all(&part)?;
        }
    }
    out.write_all(b"\nlast line")?;
    Ok(out.flush()?)
}

/// Leave a process behind that is in no group of this one, without a parent and, if wanted, without
/// variables; then end as told.
fn leave(what: &str, ctx: &JobContext) -> Result<()> {
    let script = match what.contains("bare") {
        true => "env -i setsid sleep 600 >/dev/null 2>&1 & echo $!",
        false => "setsid sleep 600 >/dev/null 2>&1 & echo $!",
    };
    let output = std::process::Command::new("sh").args(["-c", script]).output()?;
    let database = ctx.db()?.metadata().location();
    let name = |name: &str| std::path::Path::new(&database).with_file_name(name);
    std::fs::write(name("leaving"), &output.stdout)?;
    std::fs::rename(name("leaving"), name("left"))?;
    if what.contains("abort") {
        std::process::abort();
    }
    while what.contains("wait") {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Has to give signs of life.
#[derive(Component)]
#[component(kind = "test.Watched")]
pub(crate) struct Watched {
    pub(crate) identifier: String,
    pub(crate) what: String,
}

#[triggers]
impl Watched {
    fn policy(&self) -> JobPolicy {
        JobPolicy {
            executor: Some("process".to_owned()),
            stall: Some(Duration::from_secs(1)),
            ..JobPolicy::default()
        }
    }

    #[trigger("apply", policy = "policy")]
    fn work(&self, ctx: &JobContext) -> Result<()> {
        for step in 0..150 {
            ctx.beat();
            if step == 10 && self.what == "stop" {
                let _ = std::process::Command::new("kill")
                    .args(["-STOP", &std::process::id().to_string()])
                    .status();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Computes in an `async fn`, without an await, until a file is there.
#[derive(Component)]
#[component(kind = "test.Computes")]
pub(crate) struct Computes {
    pub(crate) identifier: String,
    pub(crate) until: String,
}

#[triggers]
impl Computes {
    #[trigger("apply")]
    async fn compute(&self, ctx: &JobContext) -> Result<()> {
        ctx.log("half way");
        ctx.metric("loss", 1, 0.5);
        ctx.progress(5, 10);
        let begun = std::time::Instant::now();
        while !std::path::Path::new(&self.until).exists() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(Error::msg("no process saw it"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
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
        tokio::runtime::Handle::current()
            .block_on(ctx.db()?.apply(other).detach().into_future())?;
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
        let (span, count) =
            if self.longest { (Duration::MAX, u64::MAX) } else { (Duration::ZERO, 0) };
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
