//! Where `rustc` is called without Cargo, as Bazel and Buck do, nothing tells the name of the
//! crate.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The library of the macros that these tests are built with.
fn macros() -> PathBuf {
    let here = std::env::current_exe().expect("a test is a file");
    let folder = here.parent().expect("it is in a folder");
    let found = std::fs::read_dir(folder).expect("the folder is there").filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        let is_library = name.contains("superduper_derive-")
            && path.extension()?.to_str() == std::env::consts::DLL_EXTENSION.into();
        is_library.then(|| Some((path.metadata().ok()?.modified().ok()?, path.clone())))?
    });
    found.max().expect("the library is beside its tests").1
}

/// What the compiler says of a component, with these attributes, in a crate without Cargo.
fn compiled(folder: &Path, attributes: &str) -> String {
    let file = folder.join("lib.rs");
    let text = format!(
        "#[derive(superduper_derive::Component)] {attributes} struct Model {{ identifier: String }}"
    );
    std::fs::write(&file, text).expect("the file is written");
    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()));
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"]);
    rustc.arg("--extern").arg(format!("superduper_derive={}", macros().display()));
    rustc.arg("--out-dir").arg(folder).arg(&file);
    for variable in ["CARGO_CRATE_NAME", "CARGO_PKG_NAME", "UNSTABLE_RUSTDOC_TEST_PATH"] {
        rustc.env_remove(variable);
    }
    let output = rustc.output().expect("there is a compiler");
    String::from_utf8(output.stderr).expect("it writes text")
}

#[test]
fn a_component_without_cargo_has_to_say_its_kind() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without_cargo");
    std::fs::create_dir_all(&folder).expect("the folder is made");
    let message = "nothing tells the name of this crate, as Cargo does, with which the kind begins; \
                   write it: `#[component(kind = \"my_crate.Model\")]`";
    let said = compiled(&folder, "");
    assert!(said.contains(message), "{said}");
    // There is no superduper here, but the kind is known.
    let said = compiled(&folder, "#[component(kind = \"my_crate.Model\")]");
    assert!(said.contains("superduper") && !said.contains("name of this crate"), "{said}");
}
