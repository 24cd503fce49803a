//! J17: trainers by type and name.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::{Config, prelude::*};

fn refused(text: &str) -> String {
    let error = Config::from_yaml(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

fn with(config: &str) -> String {
    format!("model_management:\n  trainers:\n    default:\n      type: LOCAL\n      config: {config}\n")
}

#[tokio::test]
async fn j17_trainers_are_registered_by_type_and_named_by_configuration() {
    let text = "
model_management:
  trainers:
    default: {type: LOCAL}
    isolated:
      type: LOCAL
      config:
        use_subprocess: true
        subprocess_start_method: spawn
        retention_duration: 1d12h3m0.2s
        max_concurrent: 3
        grace: 5s
        limits: {wall: 1h, memory: 1073741824, heartbeat: 10m}
        restart: {retries: 2}
";
    let config = Config::from_yaml(text).unwrap();
    let place = Place::new();
    let db = place.db().await;
    let trainer = config.open(&db, "isolated").await.unwrap();
    let base = trainer.config();
    assert_eq!((base.isolation, base.max_concurrent, base.restart.retries), (Isolation::Process, 3, 2));
    assert_eq!(base.retention.unwrap().get().as_millis(), 129_780_200);
    assert_eq!(base.limits.memory, Some(1 << 30));
    let default = config.open(&db, "default").await.unwrap();
    assert_eq!(default.config(), &JobBase::default());
    let run = default.train(Walk::new("loop", 1), TrainSpec::new().wait()).await.unwrap();
    assert_eq!(run.info().await.unwrap().status, Status::Completed);
    let error = config.trainer("other").unwrap_err();
    assert_eq!(error.to_string(), "unknown trainer `other`; there is default, isolated");
    let json = superduper::json!({"model_management": {"trainers": {"j": {"type": "LOCAL", "config": {"retention_duration": null}}}}});
    let kept_for_ever = Config::from_yaml(&json.to_string()).unwrap().trainer("j").unwrap();
    assert!(kept_for_ever.open(&db).await.unwrap().config().retention.is_none());
}

#[test]
fn j17_mistakes_are_found_when_the_configuration_is_read() {
    let unknown_type = refused("model_management: {trainers: {a: {type: NOPE, config: {}}}}");
    assert!(unknown_type.contains("trainers.a") && unknown_type.contains("NOPE") && unknown_type.contains("LOCAL"), "{unknown_type}");
    let unknown_key = refused(&with("{retention_durations: 1d}"));
    assert!(unknown_key.contains("retention_durations") && unknown_key.contains("retention_duration"), "{unknown_key}");
    assert!(refused(&with("{limits: {ram: 1}}")).contains("ram"));
    assert!(refused("model_management: {trainer: {}}").contains("trainer"));
    assert!(refused("model_management: {trainers: {a: {type: LOCAL, konfig: {}}}}").contains("konfig"));
    assert!(refused("model_management: {trainers: {a: {type: LOCAL}, a: {type: LOCAL}}}").contains("duplicate"));
    let duplicate = r#"{"model_management": {"trainers": {"a": {"type": "LOCAL"}, "a": {"type": "LOCAL"}}}}"#;
    assert!(refused(duplicate).contains("duplicate"));
    assert!(refused(&with("{retention_duration: 1w}")).contains("`1w` is no span of time"));
    let bare = refused(&with("{retention_duration: 60}"));
    assert!(bare.contains("trainers.default") && bare.contains("60") && bare.contains("string"), "{bare}");
    assert!(refused(&with("{max_concurrent: 1, max_concurrent: 2}")).contains("duplicate"));
    assert!(refused(&with("{limits: {wall: 1s, wall: 2s}}")).contains("duplicate"));
    let forked = refused(&with("{use_subprocess: true, subprocess_start_method: fork}"));
    assert!(forked.contains("fork") && forked.contains("0004"), "{forked}");
    assert!(refused(&with("{limits: {memory: 1000000}}")).contains("thread"));
    for limit in ["memory: 0", "cpu: 0s", "wall: 0s", "heartbeat: 0s"] {
        let zero = refused(&with(&format!("{{use_subprocess: true, limits: {{{limit}}}}}")));
        assert!(zero.contains(&format!("the limit `{}` is 0", limit.split_once(':').unwrap().0)), "{zero}");
    }
    assert!(refused("model_management: {trainers: {a/b: {type: LOCAL}}}").contains("a/b"));
}

#[test]
fn j17_values_come_from_the_environment() {
    let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
    let text = with("{max_concurrent: 1}");
    let read = |name: &str, value: &str| Config::from_yaml_and_env(&text, env(name, value));
    let config = read("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURRENT", "7").unwrap();
    assert!(format!("{:?}", config.trainer("default").unwrap()).contains("max_concurrent: 7"));
    let config = read("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_RETENTION_DURATION", "0.01s").unwrap();
    assert!(format!("{:?}", config.trainer("default").unwrap()).contains("10ms"));
    for (name, value) in [
        ("MODEL_MANAGEMENT_TRAINERS_OTHER_CONFIG_MAX_CONCURRENT", "7"),
        ("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURENT", "7"),
        ("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURRENT", "many"),
        ("MODEL_MANAGEMENT_TRAINER", "x"),
    ] {
        assert_eq!(read(name, value).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}={value}");
    }
}

#[test]
fn j17_a_variable_that_fits_two_entries_is_refused() {
    let text = "model_management: {trainers: {a-b: {type: LOCAL}, a_b: {type: LOCAL}}}";
    let variable = ("MODEL_MANAGEMENT_TRAINERS_A_B_CONFIG_MAX_CONCURRENT".to_owned(), "7".to_owned());
    let error = Config::from_yaml_and_env(text, [variable]).unwrap_err();
    assert!(error.to_string().contains("fits several entries of the configuration: a-b, a_b"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j17_finders_and_loaders_are_configured_too() {
    let place = Place::new();
    let db = place.db().await;
    let folder = place.path("models");
    let spec = TrainSpec::new().save_path(&folder).model_name("walk").wait();
    trainer(&db, Thread).await.train(Walk::new("loop", 2), spec).await.unwrap();
    let text = format!(
        "model_management: {{finders: {{disk: {{type: LOCAL, config: {{folder: '{}'}}}}}}, initializers: {{default: {{type: LOCAL}}}}}}",
        folder.display()
    );
    let config = Config::from_yaml(&text).unwrap();
    let model = config.load("disk", "default", "walk").await.unwrap();
    assert_eq!(model.identifier(), "walk");
    assert_eq!(config.load("disk", "default", "absent").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(config.load("disk", "default", "..").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(config.load("disk", "other", "walk").await.unwrap_err().to_string().contains("unknown initializer `other`; there is default"));
    assert!(config.load("nowhere", "default", "walk").await.unwrap_err().to_string().contains("unknown finder"));
}
