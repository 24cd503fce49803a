//! Random and damaged modules harm nothing. `SUPERDUPER_STORM=10000` runs more of them.

use crate::guests::{digits, good};
use std::time::Duration;
use superduper::prelude::*;
use superduper_sandbox::{Guest, Limits};
use wasm_smith::{Config, Module};

fn limits() -> Limits {
    Limits {
        fuel: 200_000,
        deadline: Duration::from_secs(10),
        memory: 4 << 20,
        table: 1000,
        ..Limits::default()
    }
}

fn count(short: usize) -> usize {
    std::env::var("SUPERDUPER_STORM").ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

/// A small generator of pseudo-random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Load and call a module, whatever it is.
fn try_out(code: &Bytes) -> bool {
    let mut guest = match Guest::new(code, &limits(), 1) {
        Ok(guest) => guest,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    drop(guest.call_without_arguments());
    true
}

/// A module that exports what a guest has to, with random code in it.
fn random_guest(dice: &mut Dice) -> Option<Bytes> {
    let bytes: Vec<u8> = (0..512).flat_map(|_| dice.next().to_le_bytes()).collect();
    let mut unstructured = arbitrary::Unstructured::new(&bytes);
    let config = Config {
        exports: Some(
            wat::parse_str(
                r#"(module (memory (export "memory") 1)
                (func (export "alloc") (param i32) (result i32) unreachable)
                (func (export "call") (param i32 i32) (result i64) unreachable))"#,
            )
            .ok()?,
        ),
        max_imports: 0,
        threads_enabled: false,
        reference_types_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        gc_enabled: false,
        exceptions_enabled: false,
        tail_call_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        extended_const_enabled: false,
        max_memories: 0,
        max_tables: 1,
        max_table_elements: 100,
        max_memory32_bytes: 1 << 20,
        ..Config::default()
    };
    let module = Module::new(config, &mut unstructured).ok()?;
    let mut code = module.to_bytes();
    let section = br#"{"abi": 1, "name": "random", "callable": {"params": []}}"#;
    // A custom section: its id, its size, the length of its name, the name, the data.
    code.push(0);
    code.push(u8::try_from(section.len() + 11).ok()?);
    code.push(10);
    code.extend_from_slice(b"superduper");
    code.extend_from_slice(section);
    Some(Bytes::from(code))
}

#[test]
fn random_modules_harm_nothing() {
    let (mut dice, mut ran) = (Dice(11), 0);
    let count = count(200);
    for _ in 0..count {
        if let Some(code) = random_guest(&mut dice) {
            ran += usize::from(try_out(&code));
        }
    }
    println!("{ran} of {count} random modules ran");
    assert!(ran * 4 > count, "only {ran} of {count} ran at all");
    assert!(try_out(&good()));
}

#[test]
fn damaged_modules_harm_nothing() {
    let mut dice = Dice(13);
    let corpus = [good(), digits()];
    let count = 10 * count(100);
    for _ in 0..count {
        let mut code = corpus[dice.next() as usize % 2].to_vec();
        for _ in 0..=dice.next() % 3 {
            let at = dice.next() as usize % code.len();
            match dice.next() % 3 {
                0 => code[at] ^= 1 << (dice.next() % 8),
                1 => code[at] = dice.next() as u8,
                _ => drop(code.remove(at)),
            }
        }
        try_out(&Bytes::from(code));
    }
    assert!(try_out(&good()));
}
