//! The types of the introduction, word for word, beside the checks that they mean what they say.

#![allow(
    dead_code,
    unused_variables,
    clippy::unwrap_used,
    reason = "the types are here to be compiled, as a user writes them"
)]

use std::collections::BTreeMap;
use superduper::prelude::*;

struct Client;
impl Client {
    async fn send(&self, _message: &str) -> Result<()> {
        Ok(())
    }
}

#[callable]
fn greet(a: i64, b: String, c: BTreeMap<String, Value>) -> Result<String> {
    Ok(format!("{b} {} {}", a + 1, c.len()))
}

#[derive(Component)]
struct MyComponent {
    identifier: String,
    a: i64,
    b: String,
    c: BTreeMap<String, Value>,
    d: Option<Callable>,
    client: Runtime<Client>, // filled by `setup`, never stored
}

#[rustfmt::skip]
impl Lifecycle for MyComponent {            // every method optional
    fn postinit(&mut self) -> Result<()> { /* after construction and after load */ Ok(()) }
    async fn setup(&self, ctx: &JobContext) -> Result<()> { /* before any hook or trigger, once per instance */ Ok(()) }
    async fn on_create(&self, ctx: &JobContext) -> Result<()> { /* once per new version, after it is durable */ Ok(()) }
    async fn cleanup(&self, ctx: &JobContext) -> Result<()> { /* on db.remove */ Ok(()) }
}

#[rustfmt::skip]
#[triggers]
impl MyComponent {
    #[trigger("apply")]
    async fn start(&self, ctx: &JobContext) -> Result<()> { self.client.get()?.send(&format!("initializing {}", ctx.huuid())).await }

    #[trigger("apply", depends_on = "start", requires = "d", retries = 3, timeout = "10m")]
    async fn go(&self) -> Result<Value> { self.d.as_ref().unwrap().call(json!({"a": self.a, "b": self.b, "c": self.c})).await }

    #[trigger("apply")]                     // a parameter named after a trigger is its result: a typed dependency
    fn report(&self, go: Option<Value>) -> Result<String> { Ok(format!("{go:?}")) }
}

#[test]
fn the_kind_is_the_crate_and_the_type() {
    let component = MyComponent::builder("hello")
        .a(1)
        .b("x")
        .c(BTreeMap::new())
        .build()
        .expect("all fields are given");
    assert_eq!((component.kind(), component.identifier()), ("design.MyComponent", "hello"));
    assert!(component.__has_lifecycle());
    assert_eq!(component.__trigger_specs().len(), 3);
}
