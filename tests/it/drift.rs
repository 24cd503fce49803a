//! What is outside compared with what is declared, and secrets that are not there.

use crate::support::{databases, refused, says};
use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
};
use superduper::{Observed, prelude::*, store::JobState};

/// The outside world: services by name, with their replicas.
static WORLD: LazyLock<Mutex<BTreeMap<String, i64>>> = LazyLock::new(Mutex::default);

fn world(name: &str) -> Option<i64> {
    WORLD.lock().expect("the world").get(name).copied()
}

#[derive(Component, Clone)]
#[component(kind = "drift.Service")]
struct Service {
    identifier: String,
    #[serde(rename = "count")]
    replicas: i64,
    color: String,
    #[component(default)]
    odd: bool,
}

impl Lifecycle for Service {
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        WORLD.lock().expect("the world").insert(self.identifier.clone(), 0);
        Ok(())
    }
    async fn observe(&self, _ctx: &JobContext) -> Result<Observed> {
        if self.odd {
            return Observed::present().with("colour", "red");
        }
        match world(&self.identifier) {
            Some(-1) => Err(Error::msg("the line is dead")),
            Some(-2) => panic!("nobody expects this"),
            Some(replicas) => Observed::present().with("replicas", replicas),
            None => Ok(Observed::missing()),
        }
    }
}

#[triggers]
impl Service {
    #[trigger("apply", watch = "replicas")]
    fn scale(&self) -> Result<i64> {
        WORLD.lock().expect("the world").insert(self.identifier.clone(), self.replicas);
        Ok(self.replicas)
    }
    #[trigger("apply", depends_on = "scale")]
    fn announce(&self) -> Result<()> {
        Ok(())
    }
    #[trigger("apply", watch = "color")]
    fn paint(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Component)]
#[component(kind = "drift.Site")]
struct Site {
    identifier: String,
    service: Service,
}

fn service(name: &str, replicas: i64) -> Service {
    Service { identifier: name.into(), replicas, color: "red".into(), odd: false }
}

#[tokio::test]
async fn drift_is_seen_and_mended() {
    for (round, on) in databases().await.into_iter().enumerate() {
        let name = format!("drift-{round}");
        let address = format!("drift.Service/{name}");
        on.db
            .apply(Site { identifier: "site".into(), service: service(&name, 3) })
            .await
            .expect("applies");
        let none = on.db.refresh("drift.Site/site").await.expect("looks");
        assert!(none.is_empty() && none.plan.is_empty() && none.looked_at.len() == 1, "{none}");
        assert!(none.to_string().contains("no drift in 1"), "{none}");

        // Somebody scaled it by hand.
        WORLD.lock().expect("the world").insert(name.clone(), 1);
        let before = on.dump().await;
        let drift = on.db.refresh("drift.Site/site").await.expect("looks");
        assert_eq!(on.dump().await, before, "looking writes nothing");
        let text = drift.to_string();
        assert!(text.contains(&format!("{address}@0.0: `count` is 1, declared is 3")), "{text}");
        let methods: Vec<&str> = drift.plan.jobs().iter().map(|job| job.method.as_str()).collect();
        assert_eq!(
            methods,
            ["scale", "announce"],
            "what watches the field, and what depends on that"
        );
        on.db.apply_plan(drift.plan).await.expect("mends");
        assert_eq!(world(&name), Some(3));
        assert_eq!(on.newest(&address).await, (0, 0), "nothing was stored anew");
        assert!(on.db.refresh(address.as_str()).await.expect("looks").is_empty());

        // Somebody deleted it.
        WORLD.lock().expect("the world").remove(&name);
        let drift = on.db.refresh(address.as_str()).await.expect("looks");
        assert!(drift.components[0].missing && drift.to_string().contains("is missing"), "{drift}");
        assert_eq!(drift.plan.jobs().len(), 4);
        on.db.apply_plan(drift.plan).await.expect("mends");
        assert_eq!(world(&name), Some(3));
        assert_eq!(on.successes(&address, "on_create").await, 2);

        // A plan of a state that moved is refused.
        WORLD.lock().expect("the world").insert(name.clone(), 1);
        let drift = on.db.refresh(address.as_str()).await.expect("looks");
        on.db.apply(service(&name, 4)).await.expect("applies");
        assert_eq!(refused(on.db.apply_plan(drift.plan).await).kind(), ErrorKind::Conflict);
    }
}

#[tokio::test]
async fn what_cannot_be_seen_is_said() {
    for on in databases().await {
        on.db.apply(Service { odd: true, ..service("odd", 1) }).await.expect("applies");
        let error = refused(on.db.refresh("drift.Service/odd").await);
        says(&error, ErrorKind::InvalidInput, &["drift.Service/odd", "`colour`", "`color`"]);
        for (value, says) in [(-1, "the line is dead"), (-2, "panicked")] {
            let name = format!("dead{value}");
            on.db.apply(service(&name, 1)).await.expect("applies");
            WORLD.lock().expect("the world").insert(name.clone(), value);
            let error = refused(on.db.refresh(format!("drift.Service/{name}").as_str()).await);
            assert!(format!("{error} {error:?}").contains(says), "{error:?}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        assert_eq!(
            refused(on.db.refresh("drift.Service/absent").await).kind(),
            ErrorKind::NotFound
        );
    }
}

#[derive(Component)]
#[component(kind = "drift.Guarded")]
struct Guarded {
    identifier: String,
    token: Secret<String>,
    inner: Option<Box<dyn Component>>,
}

impl Lifecycle for Guarded {
    async fn setup(&self, ctx: &JobContext) -> Result<()> {
        ctx.log(format!("{} characters", self.token.reveal()?.len()));
        Ok(())
    }
    async fn on_create(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn d06_a_missing_secret_is_named_before_setup() {
    for on in databases().await {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let place = file.to_str().expect("a path").to_owned();
        let inner =
            Guarded { identifier: "inner".into(), token: Secret::file(&place), inner: None };
        let outer = Guarded {
            identifier: "outer".into(),
            token: Secret::env("PATH"),
            inner: Some(Box::new(inner)),
        };
        let error = refused(on.db.apply(&outer).await);
        let text = format!("{error} {:?}", error.outcome());
        assert!(
            text.contains("`token` of `drift.Guarded/inner`") && text.contains(&place),
            "{text}"
        );
        std::fs::write(&file, "hush-hush\n").expect("writes");
        let applied = on.db.apply(&outer).await.expect("applies");
        assert!(applied.jobs().iter().all(|job| job.state == JobState::Succeeded));
        assert!(!on.dump().await.contains("hush-hush"), "the value is stored nowhere");
        let encoded = outer.encode().expect("encodes");
        assert!(!format!("{encoded:?} {}", outer.show().expect("shows")).contains("hush-hush"));
        // It may have gone since.
        std::fs::remove_file(&file).expect("removes");
        let loaded: Guarded = on.db.load("outer").await.expect("loading reads no secret");
        says(
            &refused(on.db.setup(&loaded).await),
            ErrorKind::NotFound,
            &["`token` of `drift.Guarded/inner`", &place],
        );
    }
}
