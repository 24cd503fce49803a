//! A component with hooks and triggers: applied, its jobs run, loaded, removed.

use std::collections::BTreeMap;
use superduper::prelude::*;

#[callable]
fn greet(a: i64, b: String, c: BTreeMap<String, Value>) -> Result<String> {
    Ok(format!("{b} {} {}", a + 1, c.len()))
}

#[derive(Component)]
struct MyComponent {
    identifier: String,
    a: i64,
    #[component(breaking)]
    b: String,
    c: BTreeMap<String, Value>,
    d: Option<Callable>,
    client: Runtime<Client>, // filled by `setup`, never stored
}

impl Lifecycle for MyComponent {
    // After construction and after load.
    fn postinit(&mut self) -> Result<()> {
        let Some(d) = &self.d else { return Ok(()) };
        match ["a", "b", "c"]
            .iter()
            .find(|name| !d.params().iter().any(|param| param.name == **name))
        {
            Some(lacks) => Err(Error::msg(format!(
                "`d` is `{}`, which takes no parameter `{lacks}`",
                d.name()
            ))),
            None => Ok(()),
        }
    }
    // Before any hook or trigger, once per instance.
    async fn setup(&self, _ctx: &JobContext) -> Result<()> {
        self.client.set(Client::connect("chat"));
        Ok(())
    }
    // Once per new version, after it is durable.
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        self.client.get()?.register(&self.identifier).await
    }
    // On db.remove.
    async fn cleanup(&self, _ctx: &JobContext) -> Result<()> {
        self.client.get()?.teardown(&self.identifier).await
    }
}

// Each trigger runs as a durable job.
#[triggers]
impl MyComponent {
    #[trigger("apply")]
    async fn start(&self, ctx: &JobContext) -> Result<()> {
        self.client.get()?.send(&format!("initializing {}", ctx.huuid())).await
    }

    #[trigger("apply", depends_on = "start", requires = "d", retries = 3, timeout = "10m")]
    async fn go(&self) -> Result<Value> {
        self.d.as_ref().unwrap().call(json!({"a": self.a, "b": self.b, "c": self.c})).await
    }

    #[trigger("apply")] // a parameter named after a trigger is its result: a typed dependency
    fn report(&self, go: Option<Value>) -> Result<String> {
        Ok(format!("{go:?}"))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let component = MyComponent::builder("hello")
        .a(1)
        .b("x")
        .c(BTreeMap::new())
        .d(Callable::of::<greet>())
        .build()?;
    let db = Db::open("my.db").await?; // a folder; or a URL
    println!("{}", db.plan(&component).await?); // pure: writes nothing
    let applied = db.apply(component).await?; // waits for its jobs
    println!("{} reports {}", applied.address, applied.result::<String>("report")?);
    let back: MyComponent = db.load("hello").await?;
    println!("loaded {} with a = {}", back.huuid()?, back.a);
    db.remove::<MyComponent>("hello").await?;
    Ok(())
}

/// Stands for a client of some service.
struct Client(&'static str);

impl Client {
    fn connect(service: &'static str) -> Self {
        Client(service)
    }
    async fn send(&self, text: &str) -> Result<()> {
        println!("[{}] {text}", self.0);
        Ok(())
    }
    async fn register(&self, name: &str) -> Result<()> {
        self.send(&format!("registered {name}")).await
    }
    async fn teardown(&self, name: &str) -> Result<()> {
        self.send(&format!("tore down {name}")).await
    }
}
