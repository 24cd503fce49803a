//! An instance of a module: calls with buffers in its memory, within its limits.

use crate::{
    declared::Declared,
    engine::{Clock, Compiled, TICK, compiled},
    limits::Limits,
};
use serde_json::{Map, Value};
use std::sync::Arc;
use superduper::{Error, ErrorKind, Result};
use wasmtime::{
    Caller, Extern, Instance, Linker, Memory, Store, StoreLimits, StoreLimitsBuilder, Trap,
    TypedFunc, WasmParams, WasmResults,
};

/// What belongs to one instance.
struct State {
    limits: StoreLimits,
    /// The state of its random numbers.
    random: u64,
}

/// An instance of a module. It has a memory of its own, and is used for one task of one user.
pub struct Guest {
    compiled: Arc<Compiled>,
    limits: Limits,
    store: Store<State>,
    instance: Instance,
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guest({})", self.compiled.declared.name)
    }
}

/// A place in the memory of a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) at: i32,
    bytes: usize,
}

/// What stopped a guest.
fn stopped(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::User, what).fatal()
}

impl Guest {
    /// Check and compile a module, and make an instance of it. `seed` is that of its random numbers.
    ///
    /// # Errors
    /// `InvalidInput` with all that is wrong with the module; a fatal `User` error that names the
    /// limit which its start function has reached.
    pub fn new(code: &[u8], limits: &Limits, seed: u64) -> Result<Guest> {
        Guest::of(&compiled(code, limits)?, limits, seed)
    }

    pub(crate) fn of(compiled: &Arc<Compiled>, limits: &Limits, seed: u64) -> Result<Guest> {
        let engine = compiled.module.engine();
        let state = State {
            limits: StoreLimitsBuilder::new()
                .memory_size(limits.memory)
                .table_elements(limits.table)
                .instances(1)
                .tables(8)
                .memories(1)
                .trap_on_grow_failure(true)
                .build(),
            random: seed,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limits);
        refill(&mut store, limits)?;
        let mut linker: Linker<State> = Linker::new(engine);
        let random = |mut caller: Caller<'_, State>| next(&mut caller.data_mut().random) as i64;
        linker.func_wrap("superduper", "random", random).map_err(|error| internal(&error))?;
        let running = Clock::start();
        let instance = linker
            .instantiate(&mut store, &compiled.module)
            .map_err(|error| why(&error, limits, "the start of the module"))?;
        drop(running);
        let memory = instance.get_export(&mut store, "memory").and_then(Extern::into_memory);
        let memory = memory.ok_or_else(|| Error::internal("a checked module has a memory"))?;
        let alloc =
            instance.get_typed_func(&mut store, "alloc").map_err(|error| internal(&error))?;
        let (compiled, limits) = (compiled.clone(), limits.clone());
        Ok(Guest { compiled, limits, store, instance, memory, alloc })
    }

    /// Call a callable without parameters.
    ///
    /// # Errors
    /// A fatal `User` error that names the limit which the guest has reached, what it says, or what is
    /// wrong with its result.
    pub fn call_without_arguments(&mut self) -> Result<Value> {
        self.call_json("call", &Map::new())
    }

    /// What the module declares of itself.
    pub fn declared(&self) -> &Declared {
        &self.compiled.declared
    }

    /// Call a function of the module, with new fuel and a new deadline.
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
        parameters: P,
    ) -> Result<R> {
        let function: TypedFunc<P, R> = self
            .instance
            .get_typed_func(&mut self.store, name)
            .map_err(|error| internal(&error))?;
        self.run(name, &function, parameters)
    }

    fn run<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &str,
        function: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R> {
        refill(&mut self.store, &self.limits)?;
        let running = Clock::start();
        let given = function.call(&mut self.store, parameters);
        drop(running);
        given.map_err(|error| why(&error, &self.limits, &format!("`{name}`")))
    }

    /// A place for so many bytes, from the guest.
    pub(crate) fn place(&mut self, bytes: usize) -> Result<Place> {
        let size = i32::try_from(bytes).map_err(|_| {
            Error::invalid(format!("{bytes} bytes do not fit into the memory of a guest"))
        })?;
        let alloc = self.alloc.clone();
        let at = self.run("alloc", &alloc, size)?;
        let place = Place { at, bytes };
        self.range(place, "alloc")?;
        Ok(place)
    }

    /// The place as a range of the memory.
    fn range(&self, place: Place, by: &str) -> Result<std::ops::Range<usize>> {
        // Addresses are unsigned.
        let begin = place.at.cast_unsigned() as usize;
        let size = self.memory.data_size(&self.store);
        match begin.checked_add(place.bytes).filter(|end| *end <= size) {
            Some(end) => Ok(begin..end),
            None => Err(stopped(format!(
                "`{by}` gives a place outside of the guest's memory: {} bytes at {begin}, but it has \
                 {size}",
                place.bytes
            ))),
        }
    }

    pub(crate) fn write(&mut self, place: Place, bytes: &[u8]) -> Result<()> {
        if bytes.len() > place.bytes {
            return Err(Error::internal("a place of a guest is too small"));
        }
        let range = self.range(Place { bytes: bytes.len(), ..place }, "alloc")?;
        self.memory.data_mut(&mut self.store)[range].copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn read(&self, place: Place, by: &str) -> Result<&[u8]> {
        if place.bytes > self.limits.output {
            return Err(stopped(format!(
                "`{by}` gives {} bytes; the limit is {}",
                place.bytes, self.limits.output
            )));
        }
        let range = self.range(place, by)?;
        Ok(&self.memory.data(&self.store)[range])
    }

    /// Numbers out of the guest's memory; none of them may be NaN or infinite.
    pub(crate) fn numbers(&self, place: Place, by: &str) -> Result<Vec<f32>> {
        let bytes = self.read(place, by)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(place) => {
                Err(stopped(format!("`{by}` gives {} at place {place}", numbers[place])))
            }
            None => Ok(numbers),
        }
    }

    /// Call a function with a JSON object, which gives a place and a length with JSON:
    /// `{"ok": …}` or `{"error": "…"}`.
    pub(crate) fn call_json(&mut self, name: &str, args: &Map<String, Value>) -> Result<Value> {
        let text = serde_json::to_vec(args)?;
        let place = self.place(text.len())?;
        self.write(place, &text)?;
        let packed: i64 = self.call(name, (place.at, place.bytes as i32))?;
        let packed = packed.cast_unsigned();
        let at = ((packed >> 32) as u32).cast_signed();
        let given = Place { at, bytes: (packed & 0xffff_ffff) as usize };
        let bytes = self.read(given, name)?;
        let wrong = |why: &str| stopped(format!("`{name}` gives no result: {why}"));
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
        match value {
            Value::Object(mut map) if map.len() == 1 => {
                match (map.remove("ok"), map.remove("error")) {
                    (Some(value), None) => Ok(value),
                    (None, Some(Value::String(text))) => Err(stopped(format!(
                        "the guest says: {}",
                        text.chars().take(500).collect::<String>()
                    ))),
                    _ => Err(wrong("it is neither `ok` nor `error`")),
                }
            }
            _ => Err(wrong("it is no object with `ok` or `error`")),
        }
    }

    /// How many bytes a call may give back.
    pub(crate) fn most_output(&self) -> usize {
        self.limits.output
    }

    /// Whether the module exports a function.
    pub(crate) fn has(&mut self, name: &str) -> bool {
        self.instance.get_func(&mut self.store, name).is_some()
    }
}

/// New fuel and a new deadline.
fn refill(store: &mut Store<State>, limits: &Limits) -> Result<()> {
    store.set_fuel(limits.fuel).map_err(|error| internal(&error))?;
    let ticks = limits.deadline.as_nanos() / TICK.as_nanos();
    // One more, because a tick may be about to end.
    store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX / 2).saturating_add(1));
    Ok(())
}

/// Why a guest was stopped, by the limit.
fn why(error: &wasmtime::Error, limits: &Limits, doing: &str) -> Error {
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => format!("used up its fuel of {}", limits.fuel),
        Some(Trap::Interrupt) => {
            format!("did not end within its deadline of {:?}", limits.deadline)
        }
        Some(Trap::StackOverflow) => format!("used up its stack of {} bytes", limits.stack()),
        Some(Trap::UnreachableCodeReached) => "gave up (`unreachable`)".to_owned(),
        Some(trap) => format!("was stopped: {trap}"),
        None => {
            let text = format!("{error:#}");
            if text.contains("growing memory") {
                format!("asked for more memory than its {} bytes", limits.memory)
            } else if text.contains("growing table") {
                format!("asked for a larger table than {} elements", limits.table)
            } else {
                format!("was stopped: {text}")
            }
        }
    };
    stopped(format!("the guest {what}, in {doing}"))
}

fn internal(error: &wasmtime::Error) -> Error {
    Error::internal(format!("the sandbox: {error:#}"))
}

/// The next random number (SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
