//! The house rules that a machine can check.

use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Library sources of the workspace, without tests, benches, examples and binaries.
pub(crate) fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "superduper-core/src", "superduper-derive/src"]
        .map(|folder| root().join(folder))
        .into();
    for group in ["components", "stores"] {
        folders.extend(
            std::fs::read_dir(root().join(group))
                .unwrap()
                .map(|entry| entry.unwrap().path().join("src")),
        );
    }
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "{}", found.len());
    found
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn files_open_with_their_purpose_and_can_be_read_in_a_sitting() {
    for path in sources() {
        let text = read(&path);
        assert!(text.starts_with("//!"), "{} does not open with `//!`", path.display());
        let lines = text.lines().count();
        assert!(lines <= 800, "{} has {lines} lines", path.display());
    }
}

#[test]
fn libraries_print_nothing_and_leave_nothing_open() {
    for path in sources() {
        for (number, line) in
            read(&path).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for word in ["println!", "dbg!(", "todo!(", "unimplemented!(", "TODO", "FIXME"] {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_readme_shows_two_examples() {
    let readme = read(&root().join("README.md"));
    let shown: Vec<&str> = readme.split("```rust,no_run\n").skip(1).collect();
    for (shown, name) in shown.iter().zip(["first", "quickstart"]) {
        let example = read(&root().join("examples").join(name).with_extension("rs"));
        let program: Vec<&str> =
            example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
        let shown: Vec<&str> = shown.lines().take_while(|line| *line != "```").collect();
        assert_eq!(shown, program, "{name}");
    }
    assert_eq!(shown.len(), 2);
}

#[test]
fn dependencies_go_one_way() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 9);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let ours: Vec<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string())
            .map(|dependency| dependency["name"].as_str().unwrap())
            .collect();
        let allowed: &[&str] = match name {
            "superduper-derive" => &[],
            "superduper-core" => &["superduper-derive"],
            // Those of `components/` by features.
            "superduper" => &[
                "superduper-core",
                "superduper-derive",
                "superduper-sqlite",
                "superduper-object",
                "superduper-memory",
                "superduper-candle",
                "superduper-train",
                "superduper-federated",
                "superduper-access",
                "superduper-sandbox",
            ],
            // Custom models on candle by a feature.
            "superduper-access" => {
                &["superduper-core", "superduper-federated", "superduper-candle"]
            }
            // Models by a feature.
            "superduper-sandbox" => {
                &["superduper-core", "superduper-federated", "superduper-candle"]
            }
            // Networks on candle by a feature.
            "superduper-federated" => &["superduper-core", "superduper-train", "superduper-candle"],
            // Its models can be trained as background jobs.
            "superduper-candle" => &["superduper-core", "superduper-train"],
            // The record of its worlds is the memory store.
            "superduper-simulator" => &["superduper-core", "superduper-memory"],
            // It measures everything.
            "superduper-bench" => &[
                "superduper",
                "superduper-core",
                "superduper-sqlite",
                "superduper-object",
                "superduper-memory",
                "superduper-candle",
                "superduper-train",
                "superduper-federated",
                "superduper-access",
            ],
            "superduper-examples" | "superduper-serve-model" => &["superduper"],
            "superduper-api" => &[],
            // An example, with the program that the tests of executors run.
            "superduper-launcher" => &["superduper", "superduper-conformance"],
            _ => &["superduper-core", "superduper-derive"],
        };
        for dependency in ours {
            assert!(allowed.contains(&dependency), "{name} depends on {dependency}");
        }
    }
}
