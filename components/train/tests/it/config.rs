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
    format!(
        "model_management:\n  trainers:\n    default:\n      type: LOCAL\n      config: {config}\n"
    )
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
    assert_eq!(
        (base.isolation, base.max_concurrent, base.restart.retries),
        (Isolation::Process, 3, 2)
    );
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
    assert!(
        unknown_type.contains("trainers.a")
            && unknown_type.contains("NOPE")
            && unknown_type.contains("LOCAL"),
        "{unknown_type}"
    );
    let unknown_key = refused(&with("{retention_durations: 1d}"));
    assert!(
        unknown_key.contains("retention_durations") && unknown_key.contains("retention_duration"),
        "{unknown_key}"
    );
    assert!(refused(&with("{limits: {ram: 1}}")).contains("ram"));
    assert!(refused("model_management: {trainer: {}}").contains("trainer"));
    assert!(
        refused("model_management: {trainers: {a: {type: LOCAL, konfig: {}}}}").contains("konfig")
    );
    assert!(
        refused("model_management: {trainers: {a: {type: LOCAL}, a: {type: LOCAL}}}")
            .contains("duplicate")
    );
    let duplicate =
        r#"{"model_management": {"trainers": {"a": {"type": "LOCAL"}, "a": {"type": "LOCAL"}}}}"#;
    assert!(refused(duplicate).contains("duplicate"));
    assert!(refused(&with("{retention_duration: 1w}")).contains("`1w` is no span of time"));
    let bare = refused(&with("{retention_duration: 60}"));
    assert!(
        bare.contains("trainers.default") && bare.contains("60") && bare.contains("string"),
        "{bare}"
    );
    assert!(refused(&with("{max_concurrent: 1, max_concurrent: 2}")).contains("duplicate"));
    assert!(refused(&with("{limits: {wall: 1s, wall: 2s}}")).contains("duplicate"));
    let forked = refused(&with("{use_subprocess: true, subprocess_start_method: fork}"));
    assert!(forked.contains("fork") && forked.contains("0004"), "{forked}");
    assert!(refused(&with("{limits: {memory: 1000000}}")).contains("thread"));
    for limit in ["memory: 0", "cpu: 0s", "wall: 0s", "heartbeat: 0s"] {
        let zero = refused(&with(&format!("{{use_subprocess: true, limits: {{{limit}}}}}")));
        assert!(
            zero.contains(&format!("the limit `{}` is 0", limit.split_once(':').unwrap().0)),
            "{zero}"
        );
    }
    assert!(refused("model_management: {trainers: {a/b: {type: LOCAL}}}").contains("a/b"));
}

#[test]
fn j17_values_come_from_the_environment() {
    let env = |name: &str, value: &str| {
        vec![(name.to_owned(), value.to_owned()), ("PATH".to_owned(), "/bin".to_owned())]
    };
    let text = with("{max_concurrent: 1}");
    let read = |name: &str, value: &str| Config::from_yaml_and_env(&text, env(name, value));
    let config = read("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURRENT", "7").unwrap();
    assert!(format!("{:?}", config.trainer("default").unwrap()).contains("max_concurrent: 7"));
    let config =
        read("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_RETENTION_DURATION", "0.01s").unwrap();
    assert!(format!("{:?}", config.trainer("default").unwrap()).contains("10ms"));
    for (name, value) in [
        ("MODEL_MANAGEMENT_TRAINERS_OTHER_CONFIG_MAX_CONCURRENT", "7"),
        ("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURENT", "7"),
        ("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_MAX_CONCURRENT", "many"),
    ] {
        assert_eq!(
            read(name, value).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{name}={value}"
        );
    }
}

#[test]
fn fault_28_variables_of_other_programs_are_ignored_and_ours_are_refused_by_name() {
    let text = with("{max_concurrent: 1}");
    let read = |name: &str, value: &str| Config::from_yaml_and_env(&text, [(name, value)]);
    for (name, value) in [
        ("MODEL_MANAGEMENT_URL", "http://models"),
        ("MODEL_MANAGEMENT_", ""),
        ("MODEL_MANAGEMENT_TRAINER", "x"),
        ("MODEL_MANAGEMENT_TRAINERSHIP_DEFAULT", ""),
        ("MODEL_MANAGEMENT_REGISTRY_DEFAULT_CONFIG_MAX_CONCURRENT", "many"),
        ("model_management_trainers_default_config_max_concurrent", "7"),
    ] {
        let config = read(name, value).unwrap_or_else(|error| panic!("{name}={value}: {error}"));
        assert!(
            format!("{:?}", config.trainer("default").unwrap()).contains("max_concurrent: 1"),
            "{name}={value}"
        );
    }
    for (rest, value, part) in [
        ("", "x", "fits no entry"),
        ("_", "x", "fits no entry"),
        ("_OTHER_CONFIG_MAX_CONCURRENT", "7", "has default"),
        ("_DEFAULT_MAX_CONCURRENT", "7", "fits no entry"),
        ("_DEFAULT_CONFIG_", "7", "fits no entry"),
        ("_DEFAULT_CONFIG_MAX_CONCURENT", "7", "max_concurent"),
        ("_DEFAULT_CONFIG_MAX_CONCURRENT", "many", "trainers.default"),
        ("_DEFAULT_CONFIG_MAX_CONCURRENT", "", "is empty"),
        ("_DEFAULT_CONFIG_RETENTION_DURATION", "", "is empty"),
        ("_DEFAULT_CONFIG_RETENTION_DURATION", " \t", "is empty"),
        ("_DEFAULT_CONFIG_RETENTION_DURATION", "# none", "is empty"),
        ("_DEFAULT_CONFIG_SUBPROCESS_START_METHOD", "fork", "fork"),
        ("_DEFAULT_CONFIG_LIMITS", "{wall: 1s, wall: 2s}", "duplicate"),
    ] {
        let name = format!("MODEL_MANAGEMENT_TRAINERS{rest}");
        let error = read(&name, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}={value}");
        let error = error.to_string();
        assert!(
            error.contains(&format!("`{name}`")) && error.contains(part),
            "{name}={value}: {error}"
        );
    }
    for name in
        ["MODEL_MANAGEMENT_FINDERS_DISK_CONFIG_FOLDER", "MODEL_MANAGEMENT_INITIALIZERS_X_CONFIG_Y"]
    {
        assert!(read(name, "x").unwrap_err().to_string().contains(name));
    }
    let config =
        read("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_RETENTION_DURATION", "null").unwrap();
    assert!(format!("{:?}", config.trainer("default").unwrap()).contains("retention: None"));
}

#[test]
fn fault_28_of_several_variables_the_wrong_one_is_named() {
    let text = with("{max_concurrent: 1}");
    let of = |key: &str, value: &str| {
        (format!("MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_{key}"), value.to_owned())
    };
    let limits = || of("LIMITS", "{memory: 1073741824}");
    // Alone it would be refused: a thread has no limit of memory.
    Config::from_yaml_and_env(&text, [limits(), of("USE_SUBPROCESS", "true")]).unwrap();
    let error = Config::from_yaml_and_env(&text, [of("MAX_CONCURRENT", "2"), limits()])
        .unwrap_err()
        .to_string();
    assert!(error.contains("CONFIG_LIMITS`") && !error.contains("MAX_CONCURRENT"), "{error}");
    let wrong_file =
        Config::from_yaml_and_env(&with("{max_concurrent: many}"), [of("GRACE", "1s")])
            .unwrap_err()
            .to_string();
    assert!(wrong_file.contains("many") && !wrong_file.contains("GRACE"), "{wrong_file}");
}

#[cfg(unix)]
#[test]
fn fault_28_what_is_no_unicode_is_refused_only_where_it_is_ours() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let text = with("{max_concurrent: 1}");
    let bytes = || OsString::from_vec(vec![b'a', 0xff]);
    let read = |name: &OsString| Config::from_yaml_and_env(&text, [(name.clone(), bytes())]);
    read(&"LANG".into()).unwrap();
    read(&bytes()).unwrap();
    let error = read(&"MODEL_MANAGEMENT_TRAINERS_DEFAULT_CONFIG_RESULT_DIR".into())
        .unwrap_err()
        .to_string();
    assert!(error.contains("CONFIG_RESULT_DIR` is no Unicode"), "{error}");
}

#[test]
fn j17_a_variable_that_fits_two_entries_is_refused() {
    let text = "model_management: {trainers: {a-b: {type: LOCAL}, a_b: {type: LOCAL}}}";
    let variable =
        ("MODEL_MANAGEMENT_TRAINERS_A_B_CONFIG_MAX_CONCURRENT".to_owned(), "7".to_owned());
    let error = Config::from_yaml_and_env(text, [variable]).unwrap_err();
    assert!(
        error.to_string().contains("fits several entries of the configuration: a-b, a_b"),
        "{error}"
    );
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
    assert_eq!(
        config.load("disk", "default", "absent").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        config.load("disk", "default", "..").await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert!(
        config
            .load("disk", "other", "walk")
            .await
            .unwrap_err()
            .to_string()
            .contains("unknown initializer `other`; there is default")
    );
    assert!(
        config
            .load("nowhere", "default", "walk")
            .await
            .unwrap_err()
            .to_string()
            .contains("unknown finder")
    );
}
