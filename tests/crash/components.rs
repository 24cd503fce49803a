//! What the scenario applies: a tree with blobs, hooks, triggers, outputs, spawned jobs and
//! messages.
//!
//! Invariant: each call of a hook or trigger appends one line to the effects file,
//! `job attempt method address`, before it returns. Results depend on the declared fields alone, so
//! that every run of the scenario ends in the same state.

use std::{fs::OpenOptions, io::Write, path::PathBuf};
use superduper::prelude::*;

/// Where the effects go; outside of the folder in which write points are counted.
pub(crate) const EFFECTS: &str = "CRASH_EFFECTS";
/// `method:before` or `method:after`: kill this process inside that method's first attempt, before
/// or after its effect.
pub(crate) const INSIDE: &str = "CRASH_INSIDE";

fn effect(ctx: &JobContext, method: &str) -> Result<()> {
    let inside = std::env::var(INSIDE).unwrap_or_default();
    let dies = |when: &str| inside == format!("{method}:{when}") && !ctx.is_retry();
    if dies("before") {
        kill_this_process();
    }
    if let Some(path) = std::env::var_os(EFFECTS).map(PathBuf::from) {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let job = ctx.job_id().map_or(0, |job| job.0);
        file.write_all(format!("{job} {} {method} {}\n", ctx.attempt(), ctx.address()).as_bytes())?;
    }
    if dies("after") {
        kill_this_process();
    }
    Ok(())
}

fn kill_this_process() -> ! {
    let mut kill = std::process::Command::new("kill");
    // A killer with the shim in it would count its own calls.
    let _ = kill.args(["-9", &std::process::id().to_string()]).env_remove("LD_PRELOAD").status();
    loop {
        std::thread::park();
    }
}

/// The bytes of a blob.
pub(crate) fn bytes(name: &str, size: usize) -> Bytes {
    Bytes::from(name.bytes().cycle().take(size).collect::<Vec<u8>>())
}

/// A leaf of the tree: a blob, an output with a blob, a result with a blob.
#[derive(Component, Clone)]
#[component(kind = "crash.Leaf")]
pub(crate) struct Leaf {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) size: i64,
    pub(crate) note: String,
    pub(crate) weights: Artifact<Bytes>,
    pub(crate) trained: Output<Artifact<Bytes>>,
}

impl Lifecycle for Leaf {
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "on_create")
    }
    async fn cleanup(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "cleanup")
    }
}

#[triggers]
impl Leaf {
    #[trigger("apply", watch = "note")]
    fn train(&self, ctx: &JobContext) -> Result<i64> {
        effect(ctx, "train")?;
        ctx.progress(1, 2);
        ctx.log("training");
        ctx.set(
            &self.trained,
            Artifact::new(bytes(&format!("trained {} {}", self.size, self.note), 6000)),
        )?;
        Ok(self.size * 10)
    }

    #[trigger("apply", watch = "note")]
    async fn check(&self, ctx: &JobContext, train: i64) -> Result<Artifact<Bytes>> {
        effect(ctx, "check")?;
        let trained = self.trained.get()?.get().await?;
        Ok(Artifact::new(bytes(&format!("checked {train} {}", trained.len()), 300)))
    }
}

/// A tree with children, one of which it shares with other trees.
#[derive(Component, Clone)]
#[component(kind = "crash.Tree")]
pub(crate) struct Tree {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) width: i64,
    pub(crate) note: String,
    pub(crate) shared: Leaf,
    pub(crate) own: Vec<Leaf>,
    pub(crate) atlas: Artifact<Bytes>,
    pub(crate) seen: Output<i64>,
}

impl Lifecycle for Tree {
    async fn setup(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "setup")
    }
    async fn on_create(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "on_create")
    }
    async fn cleanup(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "cleanup")
    }
}

#[triggers]
impl Tree {
    #[trigger("apply")]
    async fn start(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "start")?;
        for part in 0..2 {
            ctx.spawn(format!("part-{part}"), ctx.address(), "part", &[])?;
        }
        Ok(())
    }

    #[trigger("call")]
    fn part(&self, ctx: &JobContext) -> Result<String> {
        effect(ctx, "part")?;
        Ok(format!("{} of {}", ctx.key().unwrap_or_default(), self.width))
    }

    #[trigger("apply", watch = "note", depends_on = "start", retries = 2)]
    fn notice(&self, ctx: &JobContext) -> Result<String> {
        effect(ctx, "notice")?;
        ctx.set(&self.seen, self.note.len() as i64)?;
        ctx.emit("noticed", &self.note)?;
        Ok(self.note.clone())
    }

    #[trigger("apply")]
    async fn report(&self, ctx: &JobContext, notice: Option<String>) -> Result<Option<String>> {
        effect(ctx, "report")?;
        Ok(notice)
    }
}

/// A trigger that fails for good, and one that is skipped for it: final states that are no success.
#[derive(Component, Clone)]
#[component(kind = "crash.Broken")]
pub(crate) struct Broken {
    pub(crate) identifier: String,
    pub(crate) weights: Artifact<Bytes>,
}

#[triggers]
impl Broken {
    #[trigger("apply")]
    fn fails(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "fails")?;
        Err(Error::msg("fails for good").fatal())
    }

    #[trigger("apply", depends_on = "fails")]
    fn never(&self, ctx: &JobContext) -> Result<()> {
        effect(ctx, "never")
    }
}
