//! The public API of each crate equals its snapshot in `docs/api`, so that a review sees each
//! change of it.
//!
//! The list comes from rustdoc's JSON, which only a nightly toolchain writes. Without one, the test
//! says so and checks nothing. `UPDATE_API=1 cargo test -p superduper-api` writes the snapshots.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The crates that are quick to build.
const CRATES: [&str; 8] = [
    "superduper-core",
    "superduper",
    "superduper-memory",
    "superduper-object",
    "superduper-sqlite",
    "superduper-train",
    "superduper-access",
    "superduper-federated",
];

/// The crates that need candle or a compiler of WebAssembly, whose builds take minutes: they are
/// compared where the environment variable `API_CRATES` is `all`.
const HEAVY: [&str; 2] = ["superduper-candle", "superduper-sandbox"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A cargo of the nightly toolchain, without the settings of the cargo that runs this test.
fn nightly(args: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(args).current_dir(root());
    for name in ["RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command.output()
}

fn has_nightly() -> bool {
    nightly(&["--version"]).is_ok_and(|output| output.status.success())
}

/// The public items of a crate, one in a line.
fn public_items(package: &str) -> Result<String, String> {
    let target = root().join("target/api");
    let output = nightly(&[
        "rustdoc",
        "--package",
        package,
        "--lib",
        "--target-dir",
        target.to_str().unwrap(),
        "--",
        "-Z",
        "unstable-options",
        "--output-format",
        "json",
        "--cap-lints",
        "warn",
    ])
    .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let json = target.join("doc").join(format!("{}.json", package.replace('-', "_")));
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    for item in api.items() {
        let item = item.to_string();
        // Paths of the hidden module that generated code uses.
        if !item.contains("::__") {
            writeln!(text, "{item}").unwrap();
        }
    }
    Ok(text)
}

/// The lines that only one of both texts has, marked with `-` and `+`.
fn difference(before: &str, now: &str) -> String {
    let mut text = String::new();
    for (mark, one, other) in [('-', before, now), ('+', now, before)] {
        let other: std::collections::BTreeSet<&str> = other.lines().collect();
        for line in one.lines().filter(|line| !other.contains(line)) {
            writeln!(text, "  {mark} {line}").unwrap();
        }
    }
    text
}

#[test]
fn n11_the_public_api_equals_its_snapshot() {
    if !has_nightly() {
        eprintln!("skipped: no nightly toolchain, which alone writes the JSON of rustdoc");
        return;
    }
    let mut changed = String::new();
    let all = std::env::var("API_CRATES").is_ok_and(|which| which == "all");
    for package in CRATES.iter().chain(HEAVY.iter().filter(|_| all)) {
        let now = match public_items(package) {
            Ok(now) => now,
            // Each version of `public-api` reads one format of this JSON.
            Err(error) if error.contains("format") => {
                eprintln!("skipped: this nightly writes another format of JSON: {error}");
                return;
            }
            Err(error) => panic!("{package}: {error}"),
        };
        let path = root().join("docs/api").join(format!("{package}.txt"));
        if std::env::var_os("UPDATE_API").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &now).unwrap();
        }
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if before != now {
            writeln!(changed, "{package}:\n{}", difference(&before, &now)).unwrap();
        }
    }
    assert!(
        changed.is_empty(),
        "the public API is not that of `docs/api`:\n{changed}\
         If the change is meant, run `UPDATE_API=1 cargo test -p superduper-api` and commit it."
    );
}

#[test]
fn the_difference_names_what_came_and_what_went() {
    let text = difference("pub fn a()\npub fn b()\n", "pub fn b()\npub fn c()\n");
    assert_eq!(text, "  - pub fn a()\n  + pub fn c()\n");
}
