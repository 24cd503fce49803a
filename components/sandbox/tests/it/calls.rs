//! Callables whose code is a guest.

use crate::guests::*;
use std::sync::Arc;
use superduper::{Callable, prelude::*};
use superduper_memory::MemoryStore;
use superduper_object::ObjectStore;

/// Gives its arguments back, with `{"ok": ` before them and `}` after them.
fn echo() -> Bytes {
    module(
        r#"(module
            (memory (export "memory") 2)
            (@custom "superduper" "{\"abi\": 1, \"name\": \"echo\", \"callable\": {\"params\": [{\"name\": \"x\", \"type\": \"i64\"}, {\"name\": \"text\", \"type\": \"Option<String>\"}]}}")
            (data (i32.const 0) "{\"ok\": ")
            ;; The arguments stand behind the beginning of the result.
            (func (export "alloc") (param i32) (result i32) (i32.const 7))
            (func (export "call") (param $at i32) (param $length i32) (result i64)
                (i32.store8 (i32.add (local.get $at) (local.get $length)) (i32.const 125))
                (i64.extend_i32_u (i32.add (local.get $length) (i32.const 8)))))"#,
    )
}

#[derive(Component, Clone)]
#[component(kind = "sandbox-it.Step")]
struct Step {
    identifier: String,
    function: Callable,
}

#[triggers]
impl Step {
    #[trigger("apply")]
    async fn run(&self) -> Result<Value> {
        self.function.call(json!({"x": 21})).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_called_wherever_a_callable_is() {
    let echo = superduper_sandbox::callable(echo()).unwrap();
    let names: Vec<String> =
        echo.params().iter().map(|param| format!("{}: {}", param.name, param.ty)).collect();
    assert_eq!(names, ["x: i64", "text: Option<String>"]);
    let db = Db::builder()
        .metadata(Arc::new(MemoryStore::new()))
        .artifacts(Arc::new(ObjectStore::memory()))
        .build()
        .await
        .unwrap();
    let step = Step { identifier: "s".into(), function: echo };
    let applied = db.apply(step).await.unwrap();
    assert_eq!(applied.result::<Value>("run").unwrap(), json!({"x": 21}));
    // As it was stored.
    let stored = db.load::<Step>("s").await.unwrap();
    let given: Value = stored.function.call(json!({"x": 1, "text": "a\"}"})).await.unwrap();
    assert_eq!(given, json!({"x": 1, "text": "a\"}"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_another_type_are_refused_before_any_code_runs() {
    let echo = superduper_sandbox::callable(echo()).unwrap();
    for (args, wanted) in [
        (json!({"x": "two"}), "the argument `x` is \"two\", not of type i64"),
        (json!({"x": 1, "text": 2}), "the argument `text` is 2, not of type Option<String>"),
    ] {
        let error = echo.call::<Value>(args).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(echo.call::<Value>(json!({})).await.is_err());
    assert!(echo.call::<Value>(json!({"x": 1, "y": 2})).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_says_and_what_it_garbles_are_errors() {
    let says = |text: &str| {
        let data = format!(r#"(data (i32.const 64) "{}")"#, text.replace('"', "\\\""));
        let place = (64_u64 << 32) | text.len() as u64;
        let text = format!(
            r#"(module (memory (export "memory") 1)
            (@custom "superduper" "{{\"abi\": 1, \"name\": \"says\", \"callable\": {{\"params\": []}}}}")
            {data}
            (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i64) (i64.const {place})))"#
        );
        module(&text)
    };
    assert_eq!(call(says(r#"{"ok": [1, 2]}"#)).await.unwrap(), json!([1, 2]));
    for (text, wanted) in [
        (r#"{"error": "no such row"}"#, "the guest says: no such row"),
        (r#"{"ok": 1, "error": "x"}"#, "gives no result"),
        (r#"{"other": 1}"#, "it is neither `ok` nor `error`"),
        ("[1]", "it is no object"),
        ("{", "gives no result"),
        ("", "gives no result"),
    ] {
        let error = call(says(text)).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert_eq!(call(good()).await.unwrap(), json!(42));
}
