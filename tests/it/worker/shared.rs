//! What processes that share a database do; used by the tests in `sharing.rs` and by the worker
//! program.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use superduper::{Outcome, prelude::*};

/// The file that gated jobs of a process wait for.
pub(crate) const GATE: &str = "SUPERDUPER_TEST_GATE";

/// Several processes apply it with different values.
#[derive(Component, Debug)]
#[component(kind = "test.Contended")]
pub(crate) struct Contended {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) value: String,
    pub(crate) speaks: Option<bool>,
}

#[triggers]
impl Contended {
    #[trigger("apply", requires = "speaks")]
    async fn say(&self) -> Result<String> {
        Ok(self.value.clone())
    }
}

/// Many jobs in one run: a line in a file for each start, and the process as the result.
#[derive(Component, Debug)]
#[component(kind = "test.Many")]
pub(crate) struct Many {
    pub(crate) identifier: String,
    pub(crate) lines: Vec<Line>,
}

#[derive(Component, Clone, Debug)]
#[component(kind = "test.Line")]
pub(crate) struct Line {
    pub(crate) identifier: String,
    pub(crate) file: String,
    pub(crate) pause_ms: u64,
    /// Whether its job waits for the gate of its process.
    pub(crate) gated: bool,
}

impl Many {
    pub(crate) fn new(folder: &Path, count: usize, pause_ms: u64, gated: bool) -> Self {
        let file = folder.join("lines").display().to_string();
        let line =
            |n| Line { identifier: format!("line{n:04}"), file: file.clone(), pause_ms, gated };
        Many { identifier: "many".into(), lines: (0..count).map(line).collect() }
    }
}

#[triggers]
impl Line {
    #[trigger("apply")]
    fn write(&self, ctx: &JobContext) -> Result<u32> {
        let pid = std::process::id();
        let mut file = fs::File::options().create(true).append(true).open(&self.file)?;
        file.write_all(format!("{} {} {pid}\n", self.identifier, ctx.attempt()).as_bytes())?;
        std::thread::sleep(Duration::from_millis(self.pause_ms));
        if let Some(gate) = std::env::var_os(GATE).filter(|_| self.gated) {
            // Deaf to cancellation, as code is that computes.
            while !Path::new(&gate).exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(pid)
    }

    #[trigger("apply")]
    fn after(&self, write: u32) -> Result<u32> {
        Ok(write)
    }
}

/// What a process of the tests is asked to do.
pub(crate) struct Request {
    pub(crate) folder: PathBuf,
    pub(crate) what: String,
    pub(crate) number: usize,
    pub(crate) executor: String,
}

/// Do what was asked for; the answer goes to standard output, a line for each result.
pub(crate) async fn obey(request: Request) -> Result<()> {
    let Request { folder, what, number, executor } = request;
    let db = Db::builder().at(folder.join("shared.db"))?;
    let db = db.lease(Duration::from_secs(1)).executor(executor).parallelism(2).build().await?;
    match what.as_str() {
        "contend" => contend(&db, &folder, number).await,
        "many" => {
            let pause = if std::env::var_os(GATE).is_some() { 0 } else { 5 };
            let applied = db.apply(Many::new(&folder, number, pause, pause == 0)).await?;
            tell(applied.outcome.as_ref())
        }
        "mixed" => {
            let mut many = Many::new(&folder, number, 0, false);
            many.lines.extend(Many::new(&folder, number + 5, 0, true).lines.drain(number..));
            let applied = db.apply(many).await?;
            tell(applied.outcome.as_ref())
        }
        "resume" => {
            let outcomes = db.resume().await?;
            tell(outcomes.first())
        }
        other => Err(Error::msg(format!("no command `{other}`"))),
    }
}

/// Apply the same few components as the others do, as fast as possible.
async fn contend(db: &Db, folder: &Path, me: usize) -> Result<()> {
    let applies: usize = std::env::var("SUPERDUPER_TEST_APPLIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    fs::write(folder.join(format!("ready{me}")), "")?;
    while !folder.join("go").exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut said = String::new();
    for n in 0..applies {
        // Half of the time all want the same one; every fourth apply has a job.
        let (name, value) =
            (format!("c{}", if n < applies / 2 { 0 } else { n % 5 }), format!("{me}/{n}"));
        let component = Contended {
            identifier: name.clone(),
            value: value.clone(),
            speaks: (n % 4 == 3).then_some(true),
        };
        let applied = db.apply(component).await?;
        let result = applied
            .outcome
            .as_ref()
            .map_or(Ok(value.clone()), |outcome| outcome.result::<String>("say"))?;
        said.push_str(&format!("{name} {} {value} {result}\n", applied.version()));
    }
    std::io::stdout().write_all(said.as_bytes())?;
    Ok(())
}

fn tell(outcome: Option<&Outcome>) -> Result<()> {
    let mut said = String::new();
    if let Some(outcome) = outcome {
        said.push_str(&format!("{}\n", outcome.run.state.name()));
        for job in &outcome.jobs {
            let result = job.result.clone().unwrap_or_default();
            said.push_str(&format!(
                "{} {} {} {} {result}\n",
                job.id, job.state, job.attempt, job.lost
            ));
        }
    }
    std::io::stdout().write_all(said.as_bytes())?;
    Ok(())
}
