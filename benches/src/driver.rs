//! Starting workers, and printing what they measured.
//!
//! A worker is this program with the arguments `worker NAME JSON` in a folder of its own; the last
//! line of its standard output is its result.

use crate::measure::{self, Figures, Watch};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use superduper::{Error, Result, ResultExt};

/// The options of `run` and `compare`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) n: Option<usize>,
    pub(crate) mib: Option<Vec<u64>>,
    pub(crate) reps: Option<usize>,
    pub(crate) work: Option<PathBuf>,
    pub(crate) limit: Option<u64>,
    pub(crate) peer: Option<PathBuf>,
}

impl Options {
    /// Options apart from names of cases.
    pub(crate) fn parse(args: Vec<String>) -> Result<(Vec<String>, Self)> {
        let mut names = Vec::new();
        let mut options = Options::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if !arg.starts_with("--") {
                names.push(arg);
                continue;
            }
            let value = args
                .next()
                .ok_or_else(|| Error::invalid(format!("option `{arg}` needs a value")))?;
            match arg.as_str() {
                "--n" => options.n = Some(number(&arg, &value)? as usize),
                "--mib" => {
                    options.mib = Some(
                        value.split(',').map(|part| number(&arg, part)).collect::<Result<_>>()?,
                    )
                }
                "--reps" => options.reps = Some(number(&arg, &value)? as usize),
                "--work" => options.work = Some(value.into()),
                "--limit" => options.limit = Some(number(&arg, &value)?),
                "--peer" => options.peer = Some(value.into()),
                _ => {
                    return Err(
                        Error::invalid(format!("unknown option `{arg}`")).with_hint("see `--help`")
                    );
                }
            }
        }
        Ok((names, options))
    }
}

fn number(option: &str, text: &str) -> Result<u64> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
        Error::invalid(format!("option `{option}` takes numbers from 1, not `{text}`"))
    })
}

/// A line of output so far: what tells it from others comes first.
pub(crate) type Parameters = Vec<(&'static str, Value)>;

/// Runs the workers of cases.
pub(crate) struct Driver {
    pub(crate) options: Options,
    scratch: tempfile::TempDir,
    /// Lines are kept here instead of printed, where somebody asked for it.
    kept: Option<RefCell<Vec<String>>>,
}

impl Driver {
    pub(crate) fn new(options: Options) -> Result<Self> {
        let work = options.work.clone().unwrap_or_else(std::env::temp_dir);
        fs::create_dir_all(&work)?;
        let scratch = tempfile::Builder::new().prefix("superduper-bench-").tempdir_in(work)?;
        Ok(Driver { options, scratch, kept: None })
    }

    /// Keep the lines instead of printing them.
    pub(crate) fn keeping(options: Options) -> Result<Self> {
        Ok(Driver { kept: Some(RefCell::default()), ..Driver::new(options)? })
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        self.kept.as_ref().map(|lines| lines.take()).unwrap_or_default()
    }

    pub(crate) fn n(&self, default: usize) -> usize {
        self.options.n.unwrap_or(default)
    }

    pub(crate) fn reps(&self, default: usize) -> usize {
        self.options.reps.unwrap_or(default)
    }

    /// A folder that goes away when it is dropped.
    pub(crate) fn folder(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(self.scratch.path())?)
    }

    /// Start a worker.
    pub(crate) fn start(&self, folder: &Path, name: &str, parameters: &Value) -> Result<Started> {
        self.start_with(folder, name, parameters, &[])
    }

    /// Start a worker with more variables in its environment.
    pub(crate) fn start_with(
        &self,
        folder: &Path,
        name: &str,
        parameters: &Value,
        environment: &[(&str, &str)],
    ) -> Result<Started> {
        let program = std::env::current_exe()?;
        let output = tempfile::NamedTempFile::new_in(self.scratch.path())?;
        let begun = Instant::now();
        let child = Command::new(program)
            .args(["worker", name, &parameters.to_string()])
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::options().append(true).open(output.path())?)
            .spawn()
            .context(format_args!("worker `{name}` could not be started"))?;
        Ok(Started { name: name.to_owned(), child, output, begun })
    }

    /// Run a worker to its end.
    pub(crate) fn go(&self, folder: &Path, name: &str, parameters: Value) -> Result<Value> {
        self.start(folder, name, &parameters)?.wait()
    }

    /// Run a worker to its end in a folder of its own.
    pub(crate) fn go_alone(&self, name: &str, parameters: Value) -> Result<Value> {
        let folder = self.folder()?;
        self.go(folder.path(), name, parameters)
    }

    /// Print one measurement.
    pub(crate) fn emit(&self, case: &str, parameters: &Parameters, figures: &Value) {
        let mut line = format!("{{\"case\":{}", json!(case));
        for (name, value) in parameters {
            line += &format!(",{}:{value}", json!(name));
        }
        // Times and memory first, then whatever else was counted.
        let first = ["cpu_ms", "wall_ms", "rss_mib"];
        let found: Figures = figures.as_object().cloned().unwrap_or_default();
        let leading = first.iter().filter_map(|name| found.get_key_value(*name));
        for (name, value) in
            leading.chain(found.iter().filter(|(name, _)| !first.contains(&name.as_str())))
        {
            line += &format!(",{}:{value}", json!(name));
        }
        line.push('}');
        match &self.kept {
            Some(lines) => lines.borrow_mut().push(line),
            None => println!("{line}"),
        }
    }

    /// Print each operation that a worker measured, with the worker's peak memory.
    pub(crate) fn emit_operations(&self, case: &str, parameters: &Parameters, result: &Value) {
        for operation in result["operations"].as_array().into_iter().flatten() {
            let mut parameters = parameters.clone();
            parameters.push(("what", operation["what"].clone()));
            let mut figures = operation["figures"].clone();
            if let (Some(figures), rss @ Value::Number(_)) =
                (figures.as_object_mut(), &result["rss_mib"])
            {
                figures.entry("rss_mib").or_insert_with(|| rss.clone());
            }
            self.emit(case, &parameters, &figures);
        }
    }
}

/// A worker that runs.
pub(crate) struct Started {
    name: String,
    child: Child,
    output: tempfile::NamedTempFile,
    begun: Instant,
}

impl Started {
    /// Wait for its end and read its result; `process_wall_ms` is added, from before its start to
    /// after its end.
    pub(crate) fn wait(mut self) -> Result<Value> {
        let status = self.child.wait()?;
        let wall = self.begun.elapsed().as_secs_f64() * 1e3;
        let text = fs::read_to_string(self.output.path())?;
        let result = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let Some(mut result) = result.filter(|_| status.success()) else {
            return Err(Error::msg(format!(
                "worker `{}` ended with {status} and without a result",
                self.name
            )));
        };
        result["process_wall_ms"] = measure::round(wall);
        Ok(result)
    }

    /// Kill it, as a crash would, once a condition holds or time is up; says whether the condition
    /// held.
    pub(crate) fn kill_when(
        mut self,
        condition: impl Fn() -> bool,
        limit: Duration,
    ) -> Result<bool> {
        let end = self.begun + limit;
        while !condition() && Instant::now() < end && self.child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let held = condition();
        self.child.kill()?;
        self.child.wait()?;
        Ok(held)
    }
}

/// The worker's side: `NAME JSON`.
pub(crate) fn worker(args: &[String]) -> Result<()> {
    let [name, parameters] = args else {
        return Err(Error::invalid("a worker takes a name and parameters"));
    };
    let parameters: Value =
        serde_json::from_str(parameters).context("the parameters of a worker")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = async {
        // A measurement's own job processes are this program too.
        superduper::job_process().await?;
        crate::cases::work(name, &parameters).await
    };
    let mut result = runtime.block_on(work)?;
    let whole = measure::cpu_time();
    result["process_cpu_ms"] = measure::round(whole.as_secs_f64() * 1e3);
    if let Some(peak) = measure::peak_rss_mib() {
        result
            .as_object_mut()
            .map(|result| result.entry("rss_mib").or_insert_with(|| measure::round(peak)));
    }
    println!("{result}");
    Ok(())
}

/// What a worker hands back: its operations, each with its figures.
#[derive(Default)]
pub(crate) struct Report(Vec<Value>);

impl Report {
    pub(crate) fn add(&mut self, what: &str, figures: Figures) {
        self.0.push(json!({"what": what, "figures": figures}));
    }

    /// Add figures with what they are of the floor's processor time.
    pub(crate) fn add_above(&mut self, what: &str, mut figures: Figures, floor: &Figures) {
        let cpu = |figures: &Figures| figures.get("cpu_ms").and_then(Value::as_f64).unwrap_or(0.0);
        if cpu(floor) > 0.0 {
            figures.insert(
                "times_copy_and_hash".to_owned(),
                measure::round(cpu(&figures) / cpu(floor)),
            );
        }
        self.add(what, figures);
    }

    pub(crate) fn done(self) -> Value {
        json!({ "operations": self.0 })
    }

    /// Measure one operation.
    pub(crate) async fn time<T>(
        &mut self,
        what: &str,
        operation: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let watch = Watch::start();
        let done = operation.await?;
        self.add(what, watch.stop());
        Ok(done)
    }
}
