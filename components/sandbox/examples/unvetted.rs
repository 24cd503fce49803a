//! A guest that behaves, and eight that do not; each with what stopped it.
//!
//! ```sh
//! cargo run --release -p superduper-sandbox --example unvetted
//! ```

use std::time::Duration;
use superduper::{Bytes, prelude::*};
use superduper_sandbox::{Guest, Limits};

/// A guest whose `call` has this body. The text `{"ok": 42}` stands at 16 in its memory.
fn guest(fields: &str, body: &str) -> Result<Bytes> {
    let text = format!(
        r#"(module
            {fields}
            (memory (export "memory") 1)
            (@custom "superduper" "{{\"abi\": 1, \"name\": \"guest\", \"callable\": {{\"params\": []}}}}")
            (data (i32.const 16) "{{\"ok\": 42}}")
            (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i64) {body}))"#
    );
    wat::parse_str(text).map(Bytes::from).map_err(Error::other)
}

/// Load and call a guest.
fn call(code: &Bytes, limits: &Limits) -> Result<Value> {
    Guest::new(code, limits, 0)?.call_without_arguments()
}

fn main() -> Result<()> {
    let limits = Limits {
        fuel: 10_000_000,
        deadline: Duration::from_secs(1),
        memory: 8 << 20,
        ..Limits::default()
    };
    let answer = "(i64.const 0x100000000a)";
    let endless = Limits { fuel: u64::MAX, ..limits.clone() };
    let strangers = [
        ("behaves", "", answer, &limits),
        ("loops for ever", "", "(loop $l (br $l)) unreachable", &limits),
        ("loops, with fuel for years", "", "(loop $l (br $l)) unreachable", &endless),
        (
            "calls itself for ever",
            "(func $f (param i64) (result i64) (i64.add (i64.const 1) (call $f (local.get 0))))",
            "(call $f (i64.const 1))",
            &limits,
        ),
        (
            "takes all memory",
            "",
            "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) unreachable",
            &limits,
        ),
        ("reads outside of its memory", "", "(i64.load (i32.const -8))", &limits),
        ("points outside of its memory", "", "(i64.const 0xfffffff000000010)", &limits),
        (
            "opens a file",
            r#"(import "wasi_snapshot_preview1" "path_open" (func (param i32) (result i32)))"#,
            answer,
            &limits,
        ),
        ("loops before it is called", "(func $s (loop $l (br $l))) (start $s)", answer, &limits),
    ];
    for (what, fields, body, limits) in strangers {
        match call(&guest(fields, body)?, limits) {
            Ok(value) => println!("a guest that {what}: {value}"),
            Err(error) => println!("a guest that {what}: {error}"),
        }
    }
    let value = call(&guest("", answer)?, &limits)?;
    println!("the process lives, and the next guest is right: {value}");
    Ok(())
}
