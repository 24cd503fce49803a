//! What the tests train; shared by the tests and the worker program.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use superduper::{Inline, prelude::*};
use superduper_train::{Arg, Predict, Rng, predictors, prelude::*};

/// Trains as its arguments say, and becomes the model.
#[derive(Component, Clone, Debug)]
#[component(kind = "test.Walk")]
pub(crate) struct Walk {
    pub(crate) identifier: String,
    /// What to do.
    pub(crate) what: String,
    #[component(default)]
    pub(crate) steps: u64,
    #[component(default)]
    pub(crate) weights: Option<Artifact<Bytes>>,
    /// Bits, so that equal means equal.
    #[component(default)]
    pub(crate) trace: Vec<u64>,
    pub(crate) client: Runtime<String>,
}

impl Walk {
    pub(crate) fn new(what: &str, steps: u64) -> Self {
        let identifier = "walk".to_owned();
        Walk {
            identifier,
            what: what.to_owned(),
            steps,
            weights: None,
            trace: Vec::new(),
            client: Runtime::default(),
        }
    }
}

impl Lifecycle for Walk {
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        self.client.set("set up".to_owned());
        Ok(())
    }
}

/// The whole state of the loop, apart from position and random state.
#[derive(Serialize, Deserialize)]
struct State {
    position: f64,
    velocity: f32,
    trace: Vec<u64>,
    weights: Option<Artifact<Bytes>>,
    stopping: EarlyStopping,
}

impl State {
    fn new() -> Self {
        let stopping = EarlyStopping::new(Direction::Higher, u64::MAX);
        State { position: 0.0, velocity: 0.0, trace: Vec::new(), weights: None, stopping }
    }
}

/// Wait for the file that the test makes, as long as a test may take.
fn go(ctx: &TrainContext) -> Result<PathBuf> {
    ctx.arg("go")
}

fn fail() -> Result<Trained> {
    let cause = std::io::Error::other("the sampler has 12 rows");
    Err(Error::msg("Batch size of 999 is not allowed!").with_source(cause))
}

impl Train for Walk {
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        if self.client.get().is_ok_and(|client| *client != "set up") {
            return Err(Error::msg("a runtime field crossed"));
        }
        match self.what.as_str() {
            "fail" => return fail(),
            "fail once" if ctx.job().attempt() == 1 => {
                self.loop_over(ctx, Some(self.steps / 2))?;
                return fail();
            }
            "panic" => panic!("training boom"),
            "refuse" => return Err(Error::invalid("999 rows do not fit into batches of 7")),
            "complain" => {
                for line in 0..100 {
                    eprintln!("complaint {line} of the library below");
                }
                std::process::abort();
            }
            "exit" => std::process::exit(0),
            "code" => std::process::exit(3),
            "signal" => {
                let _ = rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                );
                std::thread::sleep(Duration::from_secs(20));
            }
            "long" => return Err(Error::msg("x".repeat(1 << 20))),
            "wait" => {
                let go = go(ctx)?;
                for step in 0..4000 {
                    if ctx.step(step, 4000)?.is_stop() || go.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "deaf" => {
                ctx.job().progress(1, 2);
                let go = go(ctx)?;
                for _ in 0..1000 {
                    if go.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            "memory" => {
                // Whoever else the kernel could end, it is this one.
                let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
                let mut held = Vec::new();
                for round in 0..64_u8 {
                    held.push(vec![round; 64 << 20]);
                }
                self.trace = held.iter().map(|chunk| u64::from(chunk[7])).collect();
            }
            "cpu" => {
                let mut rng = Rng::new(1);
                let mut sum = 0_u64;
                loop {
                    sum = sum.wrapping_add(rng.next_u64());
                    if sum == 42 {
                        break;
                    }
                }
            }
            "big" => {
                self.weights =
                    Some(Artifact::new(Bytes::from(vec![ctx.arg("byte").unwrap_or(7); 16 << 20])))
            }
            "scores" => self.score(ctx)?,
            "base" => {
                let named = ctx.model::<Walk>("base")?;
                let nested = ctx.model::<Walk>("list.1.inner")?;
                let placed = ctx.model::<Walk>("0")?;
                if !std::sync::Arc::ptr_eq(&named, &nested)
                    || !std::sync::Arc::ptr_eq(&named, &placed)
                {
                    return Err(Error::msg("one model was decoded twice in one worker"));
                }
                if named.client.get().is_ok() {
                    return Err(Error::msg("a runtime field crossed"));
                }
                let weights =
                    named.weights.as_ref().ok_or_else(|| Error::msg("the base has no weights"))?;
                let bytes = ctx.block_on(weights.get())?;
                self.trace = bytes.iter().map(|byte| u64::from(*byte)).collect();
                self.weights = named.weights.clone();
                let rate: f64 = ctx.arg("rate")?;
                self.trace.push(rate.to_bits());
            }
            _ => self.loop_over(ctx, None)?,
        }
        Ok(Trained::model(self.clone()))
    }
}

impl Walk {
    /// Measures what it is told, step by step: a number, `null` for nothing, `"nan"`, or `"fail"`
    /// until the gate is open. Becomes the step of the best checkpoint.
    fn score(&mut self, ctx: &mut TrainContext) -> Result<()> {
        let scores: Vec<serde_json::Value> = ctx.arg("scores")?;
        let _: Option<u64> = ctx.resume()?;
        for step in ctx.position()..scores.len() as u64 {
            if ctx.step(step, scores.len() as u64)?.is_stop() {
                break;
            }
            match &scores[step as usize] {
                serde_json::Value::Number(score) => ctx.metric("score", score.as_f64().unwrap()),
                serde_json::Value::String(text) if text == "nan" => ctx.metric("score", f64::NAN),
                serde_json::Value::String(_) if !go(ctx)?.exists() => {
                    return Err(Error::msg("as told"));
                }
                _ => {}
            }
            ctx.checkpoint(&step)?;
        }
        self.trace = ctx.best::<u64>()?.into_iter().collect();
        Ok(())
    }

    /// A random walk with momentum: each step depends on all before it and on the random numbers.
    fn loop_over(&mut self, ctx: &mut TrainContext, until: Option<u64>) -> Result<()> {
        let pause: u64 = ctx.arg("pause_ms").unwrap_or(0);
        let mut state: State = ctx.resume()?.unwrap_or_else(State::new);
        for step in ctx.position()..until.unwrap_or(self.steps) {
            if ctx.step(step, self.steps)?.is_stop() {
                break;
            }
            let kick = ctx.rng().normal();
            state.velocity = 0.9 * state.velocity + kick as f32;
            state.position += f64::from(state.velocity) / 3.0;
            if state.stopping.update(state.position) {
                break;
            }
            state.trace.push(state.position.to_bits() ^ state.stopping.since_best());
            state.weights =
                Some(Artifact::new(Bytes::from(state.position.to_le_bytes().repeat(64))));
            ctx.metric("position", state.position);
            ctx.checkpoint(&state)?;
            if pause > 0 {
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
        self.trace = state.trace;
        self.weights = state.weights;
        Ok(())
    }
}

impl Predict for Walk {
    fn predict(&mut self, ctx: &mut TrainContext) -> Result<Bytes> {
        match self.what.as_str() {
            // Row by row, with what is done kept; killed, or failed, once in the middle.
            "rows" => {
                let rows: Vec<u64> = ctx.arg("0")?;
                let mut done: Vec<u64> = ctx.resume()?.unwrap_or_default();
                let begun_at = done.len();
                for row in &rows[begun_at..] {
                    let _ = ctx.step(done.len() as u64, rows.len() as u64)?;
                    done.push(row * 2);
                    ctx.checkpoint(&done)?;
                    if done.len() == rows.len() / 2 && ctx.job().attempt() == 1 {
                        ctx.flush()?;
                        match ctx.arg::<String>("trouble").as_deref() {
                            Ok("kill") => {
                                let _ = rustix::process::kill_process(
                                    rustix::process::getpid(),
                                    rustix::process::Signal::KILL,
                                );
                                std::thread::sleep(Duration::from_secs(20));
                            }
                            Ok("fail") => return Err(Error::msg("half-way")),
                            _ => {}
                        }
                    }
                }
                Ok(Bytes::from(format!("{begun_at}: {done:?}")))
            }
            "fail" => Err(Error::msg("Batch size of 999 is not allowed!")),
            "wait" => {
                let go = go(ctx)?;
                for step in 0..4000 {
                    if ctx.step(step, 4000)?.is_stop() || go.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Bytes::from("waited"))
            }
            _ => {
                let rows: Vec<u64> = ctx.arg("rows")?;
                let doubled: Vec<String> = rows.iter().map(|row| (row * 2).to_string()).collect();
                Ok(Bytes::from(doubled.join("\n")))
            }
        }
    }
}

trains!(Walk, Gauge, Bowl);

/// Measures how far its field and its argument are from 3 and -1, less each step.
#[derive(Component, Clone, Debug)]
#[component(kind = "test.Bowl")]
pub(crate) struct Bowl {
    pub(crate) identifier: String,
    pub(crate) x: i64,
}

impl Train for Bowl {
    fn check(&self, _args: &superduper_train::Args) -> Result<()> {
        if self.x == 13 { Err(Error::invalid("13 is refused")) } else { Ok(()) }
    }

    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        let y: f64 = ctx.arg("y")?;
        let _: Option<u64> = ctx.resume()?;
        for step in ctx.position()..10 {
            if ctx.step(step, 10)?.is_stop() {
                break;
            }
            if y == 7.0 && step == 5 {
                return Err(Error::msg("7 breaks it").fatal());
            }
            let loss = (self.x as f64 - 3.0).powi(2) + (y + 1.0).powi(2) + 1.0 / (step + 1) as f64;
            // At the end it gets worse again.
            ctx.metric("loss", if step == 9 { loss + 100.0 } else { loss });
            ctx.checkpoint(&step)?;
            std::thread::sleep(Duration::from_millis(ctx.arg_or("pause_ms", 0)?));
        }
        Ok(Trained::model(self.clone()))
    }
}

/// The search of the tests over bowls.
#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
pub(crate) async fn search_bowls(
    trainer: &Trainer,
    id: &str,
    pause_ms: u64,
) -> Result<superduper_train::SearchRun> {
    superduper_train::Search::grid()
        .id(id)
        .over("x", [1, 3, 5])
        .over("y", [-1.0, 0.5, 7.0])
        .by("loss", Direction::Lower)
        .start(trainer, |candidate| {
            let module = Bowl { identifier: "bowl".into(), x: candidate.get("x")? };
            let spec = TrainSpec::new().arg("y", candidate.get::<f64>("y")?);
            Ok((module, spec.arg("pause_ms", pause_ms)))
        })
        .await
}

/// Keeps a state, fails or is killed, and goes on from the state.
#[derive(Component, Clone, Debug)]
#[component(kind = "test.Gauge")]
pub(crate) struct Gauge {
    pub(crate) identifier: String,
    pub(crate) lowest: f64,
    pub(crate) any: Value,
    /// The bits of the state that it went on from.
    pub(crate) bits: Vec<u64>,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Gauge { identifier: "gauge".to_owned(), lowest: 0.0, any: Value::Null, bits: Vec::new() }
    }
}

/// Arrays in arrays around a number.
pub(crate) fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Reading {
    Number(f64),
    Text(String),
}

/// A state with numbers that JSON has no text for.
#[derive(Serialize, Deserialize)]
pub(crate) struct Odd {
    best: f64,
    pairs: Vec<(f32, Option<f64>)>,
    by_name: BTreeMap<String, Reading>,
    gauge: Inline<Arc<Gauge>>,
    deep: Value,
}

impl Odd {
    pub(crate) fn new(levels: usize) -> Self {
        let odd = f64::from_bits(0xfff0_0000_0000_0001);
        Odd {
            best: f64::INFINITY,
            pairs: vec![
                (f32::NAN, Some(f64::NAN)),
                (f32::from_bits(0xff80_0001), None),
                (f32::NEG_INFINITY, Some(-0.0)),
            ],
            by_name: [
                ("$f64".to_owned(), Reading::Number(odd)),
                ("half".to_owned(), Reading::Number(0.5)),
                ("text".to_owned(), Reading::Text("NaN".to_owned())),
            ]
            .into(),
            gauge: Inline(Arc::new(Gauge { lowest: -f64::NAN, ..Gauge::new() })),
            deep: nested(levels),
        }
    }

    pub(crate) fn bits(&self) -> Vec<u64> {
        let mut bits = vec![self.best.to_bits(), self.gauge.0.lowest.to_bits()];
        for (single, double) in &self.pairs {
            bits.extend([u64::from(single.to_bits()), double.map_or(1, f64::to_bits)]);
        }
        for reading in self.by_name.values() {
            bits.push(match reading {
                Reading::Number(number) => number.to_bits(),
                Reading::Text(text) => text.len() as u64,
            });
        }
        bits
    }
}

impl Train for Gauge {
    fn train(&mut self, ctx: &mut TrainContext) -> Result<Trained> {
        let levels: usize = ctx.arg("state").unwrap_or(1);
        match ctx.resume::<Odd>()? {
            Some(odd) if odd.deep != nested(levels) => {
                return Err(Error::msg("the state is another one").fatal());
            }
            Some(odd) => self.bits = odd.bits(),
            None => {
                let _ = ctx.step(0, 2)?;
                ctx.checkpoint(&Odd::new(levels))?;
                ctx.flush()?;
                if ctx.arg::<bool>("kill").unwrap_or(false) {
                    let _ = rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::KILL,
                    );
                    std::thread::sleep(Duration::from_secs(20));
                }
                return Err(Error::msg("once"));
            }
        }
        self.any = nested(ctx.arg("model").unwrap_or(1));
        if ctx.arg::<bool>("nan").unwrap_or(false) {
            self.lowest = f64::NAN;
        }
        Ok(Trained::model(self.clone()))
    }
}
predictors!(Walk);

/// Can be trained, but nobody was told.
#[derive(Component, Clone, Debug)]
#[component(kind = "test.Unknown")]
pub(crate) struct Unknown {
    pub(crate) identifier: String,
}

impl Train for Unknown {
    fn train(&mut self, _ctx: &mut TrainContext) -> Result<Trained> {
        Ok(Trained::model(self.clone()))
    }
}

/// The spec of a walk in a storm.
#[allow(dead_code, reason = "the worker program and the tests use different parts of this file")]
pub(crate) fn storm_spec(number: usize) -> TrainSpec {
    TrainSpec::new()
        .id(format!("storm-{number}"))
        .seed(number as u64)
        .arg("pause_ms", Arg::from(4_u64))
}
