//! Each limit has an error of its own, and the next guest in the same process is right.

use crate::guests::*;
use std::time::{Duration, Instant};
use superduper::{ErrorKind, prelude::*};
use superduper_sandbox::{Guest, Limits};

fn strict() -> Limits {
    Limits {
        fuel: 50_000_000,
        deadline: Duration::from_secs(20),
        memory: 8 << 20,
        table: 100,
        ..Limits::default()
    }
}

/// Call a guest under limits; the error.
fn stopped(code: &Bytes, limits: &Limits) -> Error {
    let called = || -> Result<Value> {
        let mut guest = Guest::new(code, limits, 0)?;
        guest.call_without_arguments()
    };
    let error = called().expect_err("the guest is stopped");
    // The next one is right.
    let mut next = Guest::new(&good(), limits, 0).expect("a guest");
    assert_eq!(next.call_without_arguments().expect("it is right"), json!(42));
    error
}

#[test]
fn p15_and_p25_each_misbehaviour_is_stopped_by_its_own_limit() {
    let cases = [
        ("loops", "", "(loop $l (br $l)) unreachable", "used up its fuel of 50000000"),
        (
            "recurses",
            "(func $f (param i64) (result i64) (i64.add (i64.const 1) (call $f (local.get 0))))",
            "(call $f (i64.const 1))",
            "used up its stack",
        ),
        (
            "grows its memory at once",
            "",
            "(drop (memory.grow (i32.const 60000))) (i64.const 0)",
            "asked for more memory than its 8388608 bytes",
        ),
        (
            "grows its memory bit by bit",
            "",
            "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) unreachable",
            "asked for more memory than its 8388608 bytes",
        ),
        (
            "grows a table",
            "(table $t 1 funcref)",
            "(drop (table.grow $t (ref.null func) (i32.const 1000))) (i64.const 0)",
            "asked for a larger table than 100 elements",
        ),
        ("gives up", "", "unreachable", "gave up (`unreachable`)"),
        ("divides by zero", "", "(i64.div_u (i64.const 1) (i64.const 0))", "divide by zero"),
        ("reads outside", "", "(i64.load (i32.const -8))", "out of bounds memory access"),
        ("points outside", "", "(i64.const 0xfffffff000000010)", "outside of the guest's memory"),
        ("gives 3 GiB", "", "(i64.const 0xc0000000)", "gives 3221225472 bytes; the limit is"),
        (
            "calls what is no function",
            "(table $t 1 funcref)",
            "(call_indirect $t (result i64) (i32.const 0))",
            "uninitialized element",
        ),
    ];
    for (name, fields, body, wanted) in cases {
        // Fields come before what they use.
        let error = stopped(&calling(fields, body), &strict());
        assert!(error.to_string().contains(wanted), "{name}: {error}");
        assert_eq!(error.kind(), ErrorKind::User, "{name}");
        assert!(!error.is_retryable(), "{name}");
    }
}

#[test]
fn p25_a_start_function_that_loops_is_stopped() {
    let code = calling("(func $s (loop $l (br $l))) (start $s)", OK);
    let error = stopped(&code, &strict()).to_string();
    assert!(error.contains("used up its fuel of 50000000, in the start of the module"), "{error}");
}

#[test]
fn p15_a_guest_that_never_ends_is_stopped_at_its_deadline() {
    let code = calling("", "(loop $l (br $l)) unreachable");
    let limits = Limits { fuel: u64::MAX, deadline: Duration::from_millis(300), ..strict() };
    let mut guest = Guest::new(&code, &limits, 0).unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        let error = guest.call_without_arguments().unwrap_err().to_string();
        let took = begun.elapsed();
        assert!(error.contains("did not end within its deadline of 300ms"), "{error}");
        assert!(took >= Duration::from_millis(295), "{took:?}");
        // A machine may be busy; the benchmark has the figure.
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(stopped(&code, &limits).kind(), ErrorKind::User);
}

#[test]
fn p14_a_module_that_imports_more_than_random_numbers_is_refused() {
    for (import, name) in [
        (
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
            "wasi_snapshot_preview1.fd_write",
        ),
        (r#"(import "env" "socket" (func))"#, "env.socket"),
        (r#"(import "env" "memory" (memory 1))"#, "env.memory"),
        (r#"(import "superduper" "random" (func (result i32)))"#, "superduper.random"),
    ] {
        let error = stopped(&calling(import, OK), &strict()).to_string();
        assert!(
            error.contains(&format!("the module imports `{name}`")) || error.contains("memor"),
            "{error}"
        );
    }
}

#[test]
fn p25_a_module_is_checked_before_it_is_compiled_and_all_faults_are_told() {
    let error = stopped(&Bytes::from(b"#!/bin/sh\nrm -rf /\n".to_vec()), &strict()).to_string();
    assert!(error.contains("this is no valid WebAssembly module"), "{error}");
    let error = stopped(&module("(module)"), &strict()).to_string();
    for part in [
        "exports no memory",
        "no custom section `superduper`",
        "exports no `alloc`",
        "exports no `call`",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let large = Bytes::from(vec![0_u8; 17 << 20]);
    let error = stopped(&large, &strict()).to_string();
    assert!(error.contains("the module has 17825792 bytes; the limit is 16777216"), "{error}");

    let nested = format!(
        "{} i64.const 0x100000000a {}",
        "block (result i64) ".repeat(3000),
        "end ".repeat(3000)
    );
    let error = stopped(&calling("", &nested), &strict()).to_string();
    assert!(error.contains("blocks are nested deeper than 1000"), "{error}");

    let many = "(func)".repeat(25_000);
    let error = stopped(&calling(&many, OK), &strict()).to_string();
    assert!(error.contains("more than 20000 functions or types"), "{error}");

    let imports = "(import \"env\" \"f\" (func))".repeat(10_000);
    let error = stopped(&calling(&imports, OK), &strict()).to_string();
    assert!(error.contains("the module imports `env.f`") && error.len() < 5000, "{}", error.len());

    let memory = module(
        r#"(module (memory (export "memory") 1000)
        (@custom "superduper" "{\"abi\": 2, \"name\": \"x\", \"callable\": {\"params\": []}}")
        (func (export "alloc") (param i64) (result i32) (i32.const 0))
        (func (export "call") (param i32 i32) (result i64) (i64.const 0)))"#,
    );
    let error = stopped(&memory, &strict()).to_string();
    for part in
        ["the memory begins with 65536000 bytes", "version 2 of the interface", "`alloc` is not"]
    {
        assert!(error.contains(part), "{error}");
    }
    for (section, wanted) in [
        (r#"{\"abi\": 1, \"name\": \"x\"}"#, "declares `callable` or `model`"),
        (
            r#"{\"abi\": 1, \"name\": \"x\", \"callable\": {\"params\": [{\"name\": \"a\", \"type\": \"File\"}]}}"#,
            "`File` is not a type",
        ),
        (r#"{\"abi\": 1, \"nme\": \"x\", \"callable\": {\"params\": []}}"#, "unknown field `nme`"),
        ("{", "cannot be read"),
    ] {
        let text =
            format!(r#"(module (memory (export "memory") 1) (@custom "superduper" "{section}"))"#);
        let error = stopped(&module(&text), &strict()).to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // Threads, shared memories and 64-bit memories are not there.
    for text in [r#"(module (memory (export "memory") 1 1 shared))"#, r#"(module (memory i64 1))"#]
    {
        let error = stopped(&module(text), &strict()).to_string();
        assert!(error.contains("no valid WebAssembly module"), "{error}");
    }
}

#[test]
fn p27_an_instance_has_nothing_of_another_one() {
    // Gives what its memory has at 4096, and leaves a mark there.
    let body = r#"
        (i64.store (i32.const 16) (i64.const 0x203a226b6f227b))
        (i32.store8 (i32.const 23) (i32.add (i32.const 48) (i32.load8_u (i32.const 4096))))
        (i32.store8 (i32.const 24) (i32.const 125))
        (i32.store8 (i32.const 4096) (i32.const 7))
        (i64.const 0x1000000009)"#;
    let code = calling("", body);
    let mut of_bob = Guest::new(&code, &strict(), 0).unwrap();
    assert_eq!(of_bob.call_without_arguments().unwrap(), json!(0));
    assert_eq!(of_bob.call_without_arguments().unwrap(), json!(7), "its own memory stays");
    let mut of_alice = Guest::new(&code, &strict(), 0).unwrap();
    assert_eq!(of_alice.call_without_arguments().unwrap(), json!(0));
}
