//! The components that are measured; those of the peer's script, field by field.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use superduper::prelude::*;

/// How often each hook and trigger ran in this process.
static CALLS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// The triggers of `Chain` in the order in which they ran.
pub(crate) static ORDER: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// Whether `Slow` hangs in its first trigger.
pub(crate) static HANG: AtomicBool = AtomicBool::new(false);

/// Whether `Boom` fails in its first trigger.
pub(crate) static FAIL: AtomicBool = AtomicBool::new(false);

fn called(name: &'static str) {
    *CALLS.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
}

/// The counts so far; they start again.
pub(crate) fn take_calls() -> Value {
    json!(std::mem::take(&mut *CALLS.lock().unwrap_or_else(PoisonError::into_inner)))
}

#[callable]
fn noop_callback(a: i64, b: String, c: BTreeMap<String, i64>) -> Result<()> {
    let _ = (a, b, c);
    called("d");
    Ok(())
}

#[derive(Component)]
pub(crate) struct Trig {
    identifier: String,
    a: i64,
    b: String,
    c: BTreeMap<String, i64>,
    d: Option<Callable>,
}

#[triggers]
impl Trig {
    #[trigger("apply")]
    async fn start(&self) -> Result<()> {
        called("start");
        Ok(())
    }

    #[trigger("apply", depends_on = "start", requires = "d")]
    async fn go(&self) -> Result<()> {
        called("go");
        match &self.d {
            Some(d) => d.call::<()>(json!({"a": self.a, "b": self.b, "c": self.c})).await,
            None => Ok(()),
        }
    }
}

/// The component with two triggers.
pub(crate) fn trig(identifier: &str, a: i64) -> Result<Trig> {
    Trig::builder(identifier)
        .a(a)
        .b("text")
        .c(BTreeMap::from([("k".to_owned(), 1)]))
        .d(Callable::of::<noop_callback>())
        .build()
}

#[derive(Component)]
pub(crate) struct Node {
    identifier: String,
    x: i64,
    sub: Option<Box<Node>>,
    subs: Vec<Node>,
}

/// A root with `n` children.
pub(crate) fn flat(root: &str, child: &str, n: usize) -> Node {
    let subs = (0..n).map(|i| Node {
        identifier: format!("{child}{i:05}"),
        x: i as i64,
        sub: None,
        subs: Vec::new(),
    });
    Node { identifier: root.to_owned(), x: 0, sub: None, subs: subs.collect() }
}

/// `n` components, each the child of the next.
pub(crate) fn chain(n: usize) -> Node {
    let first = Node { identifier: "n00000".to_owned(), x: 0, sub: None, subs: Vec::new() };
    (1..n).fold(first, |below, i| Node {
        identifier: format!("n{i:05}"),
        x: i as i64,
        sub: Some(Box::new(below)),
        subs: Vec::new(),
    })
}

#[derive(Component)]
pub(crate) struct Root {
    pub(crate) identifier: String,
    pub(crate) x: i64,
}

#[triggers]
impl Root {
    #[trigger("apply")]
    async fn begin(&self) -> Result<()> {
        called("begin");
        Ok(())
    }
}

#[derive(Component)]
pub(crate) struct Leaf {
    identifier: String,
    x: i64,
    after: Option<Arc<Root>>,
}

#[triggers]
impl Leaf {
    #[trigger("apply")]
    async fn work(&self) -> Result<()> {
        called("work");
        Ok(())
    }
}

#[derive(Component)]
pub(crate) struct Bundle {
    identifier: String,
    subs: Vec<Leaf>,
}

/// `n` components with a trigger each, which all hold the same component with a trigger.
pub(crate) fn fanout(identifier: &str, n: usize) -> Bundle {
    let root = Arc::new(Root { identifier: format!("{identifier}root"), x: 1 });
    let leaf = |i: usize| Leaf {
        identifier: format!("{identifier}leaf{i:03}"),
        x: i as i64,
        after: Some(root.clone()),
    };
    Bundle { identifier: identifier.to_owned(), subs: (0..n).map(leaf).collect() }
}

#[derive(Component)]
pub(crate) struct Weights {
    pub(crate) identifier: String,
    pub(crate) w: Artifact<Tensors>,
}

#[derive(Component)]
pub(crate) struct Blobs {
    identifier: String,
    all: Vec<Artifact<superduper::Bytes>>,
}

/// A component with many small artifacts.
pub(crate) fn blobs(identifier: &str, all: Vec<superduper::Bytes>) -> Blobs {
    Blobs { identifier: identifier.to_owned(), all: all.into_iter().map(Into::into).collect() }
}

#[derive(Component)]
pub(crate) struct WeightsFile {
    pub(crate) identifier: String,
    pub(crate) w: Artifact<File>,
}

#[derive(Component)]
pub(crate) struct Holder {
    pub(crate) identifier: String,
    pub(crate) thing: Callable,
}

/// A component that asks for `n` jobs while its first one runs.
#[derive(Component)]
pub(crate) struct Spawner {
    pub(crate) identifier: String,
    pub(crate) n: usize,
    pub(crate) what: String,
}

#[triggers]
impl Spawner {
    #[trigger("apply")]
    async fn start(&self, ctx: &JobContext) -> Result<()> {
        (0..self.n)
            .try_for_each(|i| ctx.spawn(format!("{i:06}"), ctx.address(), self.what.as_str(), &[]))
    }

    #[trigger("call")]
    async fn noop_async(&self) -> Result<()> {
        Ok(())
    }

    #[trigger("call")]
    fn noop_sync(&self) -> Result<()> {
        Ok(())
    }
}

/// A component that asks for `n` jobs, which wait to be killed or do nothing.
#[derive(Component)]
pub(crate) struct Waiter {
    pub(crate) identifier: String,
    pub(crate) n: usize,
}

#[triggers]
impl Waiter {
    #[trigger("apply")]
    async fn start(&self, ctx: &JobContext) -> Result<()> {
        (0..self.n).try_for_each(|i| ctx.spawn(format!("{i:06}"), ctx.address(), "part", &[]))
    }

    #[trigger("call")]
    async fn part(&self) -> Result<()> {
        if HANG.load(Ordering::Relaxed) {
            std::fs::write("marker", "")?;
            tokio::time::sleep(Duration::from_secs(300)).await;
        }
        Ok(())
    }
}

#[derive(Component)]
pub(crate) struct Slow {
    pub(crate) identifier: String,
    pub(crate) a: i64,
}

#[triggers]
impl Slow {
    #[trigger("apply")]
    async fn start(&self) -> Result<()> {
        called("start");
        if HANG.load(Ordering::Relaxed) {
            std::fs::write("marker", "")?;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(())
    }

    #[trigger("apply", depends_on = "start")]
    async fn go(&self) -> Result<()> {
        called("go");
        Ok(())
    }
}

#[derive(Component)]
pub(crate) struct Boom {
    pub(crate) identifier: String,
    pub(crate) a: i64,
}

#[triggers]
impl Boom {
    #[trigger("apply")]
    async fn start(&self) -> Result<()> {
        called("start");
        if FAIL.load(Ordering::Relaxed) {
            Err(Error::msg("trigger failed on purpose"))
        } else {
            Ok(())
        }
    }

    #[trigger("apply", depends_on = "start")]
    async fn go(&self) -> Result<()> {
        called("go");
        Ok(())
    }
}

#[derive(Component)]
pub(crate) struct Hooks {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) a: i64,
}

impl Lifecycle for Hooks {
    fn postinit(&mut self) -> Result<()> {
        called("postinit");
        Ok(())
    }
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        called("setup");
        Ok(())
    }
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        called("on_create");
        Ok(())
    }
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        called("cleanup");
        Ok(())
    }
}

#[triggers]
impl Hooks {
    #[trigger("apply")]
    async fn start(&self) -> Result<()> {
        called("start");
        Ok(())
    }
}
