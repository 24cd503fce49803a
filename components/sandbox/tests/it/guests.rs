//! Guests in the text format of WebAssembly.

use superduper::{Bytes, prelude::*};

/// A module from its text.
pub(crate) fn module(text: &str) -> Bytes {
    Bytes::from(wat::parse_str(text).expect("the text is well-formed"))
}

/// A callable without parameters, with these fields of a module, whose `call` has this body.
pub(crate) fn calling(fields: &str, body: &str) -> Bytes {
    module(&format!(
        r#"(module
            {fields}
            (memory (export "memory") 1)
            (@custom "superduper" "{{\"abi\": 1, \"name\": \"test\", \"callable\": {{\"params\": []}}}}")
            (data (i32.const 16) "{{\"ok\": 42}}")
            (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i64) {body}))"#
    ))
}

/// The place of `{"ok": 42}`.
pub(crate) const OK: &str = "(i64.const 0x100000000a)";

/// A callable that answers 42.
pub(crate) fn good() -> Bytes {
    calling("", OK)
}

/// Call a callable without arguments, by the runtime of the program.
pub(crate) async fn call(code: Bytes) -> Result<Value> {
    superduper_sandbox::callable(code)?.call(json!({})).await
}

/// A classifier of digits.
pub(crate) fn digits() -> Bytes {
    module(include_str!("../guests/digits.wat"))
}
