//! The engine of all guests of a process: compiled modules, and the clock of their deadlines.

use crate::{declared::Declared, limits::Limits};
use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use superduper::{Digest, Error, ErrorKind, Result};
use wasmtime::{Config, Engine, Module};

/// The time between two looks at the deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// A module that was checked and compiled.
pub(crate) struct Compiled {
    pub(crate) declared: Declared,
    pub(crate) module: Module,
}

/// How many compiled modules a process keeps.
const KEPT: usize = 32;

struct Shared {
    engine: Engine,
    /// Compiled modules by digest, and the limits that they were checked with; the newest last.
    kept: Mutex<Vec<(Key, Arc<Compiled>)>>,
}

type Key = (Digest, Limits);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The settings of the engine. The cost of a NaN that is the same on every processor is too high
/// (about twice the time), so outputs with NaN are refused instead.
fn config(stack: usize) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(stack)
        .cranelift_nan_canonicalization(false)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_tail_call(false);
    config
}

fn shared(limits: &Limits) -> Result<&'static Shared> {
    static SHARED: LazyLock<Mutex<HashMap<usize, &'static Shared>>> = LazyLock::new(Mutex::default);
    let mut all = lock(&SHARED);
    // One for each size of the stack: few, as limits are settings of programs.
    if let Some(shared) = all.get(&limits.stack()) {
        return Ok(shared);
    }
    let engine = Engine::new(&config(limits.stack())).map_err(|error| {
        Error::new(ErrorKind::Unsupported, format!("guests cannot run here: {error}"))
    })?;
    let shared: &'static Shared = Box::leak(Box::new(Shared { engine, kept: Mutex::default() }));
    Clock::watch(&shared.engine);
    all.insert(limits.stack(), shared);
    Ok(shared)
}

/// Check and compile a module, or take it from those that this process has compiled.
///
/// # Errors
/// `InvalidInput` with all that is wrong with it.
pub(crate) fn compiled(code: &[u8], limits: &Limits) -> Result<Arc<Compiled>> {
    let shared = shared(limits)?;
    let key = (Digest::of(code), limits.clone());
    if let Some((_, known)) = lock(&shared.kept).iter().find(|(known, _)| *known == key) {
        return Ok(known.clone());
    }
    let declared = crate::check::check(code, limits)?;
    let module = Module::from_binary(&shared.engine, code)
        .map_err(|error| Error::invalid(format!("the module cannot be compiled: {error:#}")))?;
    let compiled = Arc::new(Compiled { declared, module });
    let mut kept = lock(&shared.kept);
    if kept.len() >= KEPT {
        kept.remove(0);
    }
    kept.push((key, compiled.clone()));
    Ok(compiled)
}

/// Counts time for all engines while a guest runs.
pub(crate) struct Clock {
    running: AtomicUsize,
    engines: Mutex<Vec<Engine>>,
    awake: Condvar,
}

static CLOCK: LazyLock<&'static Clock> = LazyLock::new(|| {
    let clock: &'static Clock = Box::leak(Box::new(Clock {
        running: AtomicUsize::new(0),
        engines: Mutex::default(),
        awake: Condvar::new(),
    }));
    std::thread::spawn(move || clock.run());
    clock
});

impl Clock {
    fn watch(engine: &Engine) {
        lock(&CLOCK.engines).push(engine.clone());
    }

    fn run(&self) {
        let mut engines = lock(&self.engines);
        loop {
            if self.running.load(Ordering::SeqCst) == 0 {
                engines = self.awake.wait(engines).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            engines.iter().for_each(Engine::increment_epoch);
            drop(engines);
            std::thread::sleep(TICK);
            engines = lock(&self.engines);
        }
    }

    /// Let the time run while this lives.
    pub(crate) fn start() -> Running {
        if CLOCK.running.fetch_add(1, Ordering::SeqCst) == 0 {
            // Under the lock, so that the thread is not between its look and its sleep.
            drop(lock(&CLOCK.engines));
            CLOCK.awake.notify_all();
        }
        Running
    }
}

/// A guest runs.
pub(crate) struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        CLOCK.running.fetch_sub(1, Ordering::SeqCst);
    }
}
