//! How the sources are laid out: short functions, `mod.rs` files that only declare, and no circle
//! of imports.

use crate::tidy::{read, root, sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The lines of a function, from its name to its closing brace. `cargo fmt` puts that brace under
/// the first word of the function.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = name_of_function(line.trim_start()) else { continue };
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == close);
        let declared = lines[start..].iter().position(|line| line.trim_end().ends_with(';'));
        match (length, declared) {
            // A declaration of a trait has no body: its `;` comes before any block.
            (Some(length), Some(end))
                if end < length && is_declaration(&lines[start..=start + end]) => {}
            (Some(length), _) => found.push((name.to_owned(), length + 1)),
            (None, _) => {}
        }
    }
    found
}

fn is_declaration(lines: &[&str]) -> bool {
    !lines.iter().any(|line| line.trim_end().ends_with('{'))
}

fn name_of_function(line: &str) -> Option<&str> {
    let mut rest = line;
    loop {
        let word = rest.split([' ', '(']).next()?;
        match word {
            "fn" => return rest[3..].split(['(', '<']).next(),
            "pub" | "const" | "async" | "unsafe" | "extern" | "crate)" | "super)" => {}
            _ if word.starts_with("pub(") => {}
            _ => return None,
        }
        // `pub(crate)` is one word, up to the space.
        rest = rest[rest.find(' ')?..].trim_start();
    }
}

/// The text without its tests at the end.
fn library(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Functions that are longer, each with the reason. Nothing is to be added here.
const LONG: [(&str, &str, &str); 10] = [
    ("encode/session.rs", "record", "one pass over the state of a session"),
    ("encode/decode.rs", "decode_parts", "the steps from a row to a component, in their order"),
    ("memory/src/commit.rs", "apply", "one arm for each operation"),
    ("sqlite/src/commit.rs", "apply", "one arm for each operation"),
    ("candle/src/train_loop.rs", "run_from", "the training loop itself"),
    ("train/src/config.rs", "set", "one arm for each setting"),
    ("train/src/handle.rs", "resume", "each state of a run, and what to do in it"),
    ("schema/check.rs", "value", "one arm for each form of a value"),
    ("foreign/form.rs", "of", "one line for each keyword of a schema"),
    ("metadata/lines.rs", "runs_are_listed_in_pages", "the life of three runs, in its order"),
];

#[test]
fn functions_have_at_most_60_lines() {
    let mut long = Vec::new();
    let mut met = BTreeSet::new();
    for path in sources() {
        let text = read(&path);
        for (name, lines) in functions(library(&text)) {
            let file = path.to_string_lossy();
            let listed = LONG
                .iter()
                .position(|(end, listed, _)| file.ends_with(end) && *listed == name.as_str());
            match listed {
                _ if lines <= 60 => {}
                Some(listed) => drop(met.insert(listed)),
                None => long.push(format!("{file}: `{name}` has {lines} lines")),
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
    assert_eq!(met.len(), LONG.len(), "one of `LONG` is short now: take it out");
}

#[test]
fn the_length_of_a_function_is_measured() {
    let long = format!(
        "impl X {{\n    pub(crate) async fn f<T>(\n    ) {{\n{}    }}\n}}\n",
        "        a;\n".repeat(60)
    );
    assert_eq!(functions(&long), [("f".to_owned(), 63)]);
    assert_eq!(functions("trait X {\n    fn f(&self);\n    fn g(\n    ) -> u8;\n}\n"), []);
}

#[test]
fn a_mod_file_only_declares() {
    for path in sources().iter().filter(|path| path.ends_with("mod.rs")) {
        let text = read(path);
        if let Some(line) = first_code(&text) {
            panic!("{} has code, not only `mod` and `use`: {line}", path.display());
        }
    }
}

/// The first line that is neither a declaration of a module, an import, an attribute nor a comment.
fn first_code(text: &str) -> Option<&str> {
    // What ends the statement under way.
    let mut inside = None;
    for line in text.lines() {
        let trimmed = line.trim();
        let word = trimmed.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let word = word.trim_start_matches("pub ");
        let silent = trimmed.is_empty() || trimmed.starts_with("//");
        let ending = match inside {
            Some(ending) => ending,
            None if silent => continue,
            None if word.starts_with("use ") => ";",
            None if word.starts_with("mod ") && word.ends_with(';') => ";",
            None if word.starts_with("#[") => "]",
            None => return Some(line),
        };
        inside = (!trimmed.ends_with(ending)).then_some(ending);
    }
    None
}

#[test]
fn code_in_a_mod_file_is_found() {
    let declared = "//! X.\n\n#[cfg(test)]\nmod a;\npub(crate) use a::{\n    B,\n    C,\n};\n";
    assert_eq!(first_code(declared), None);
    assert_eq!(first_code("mod a;\nfn b() {}\n"), Some("fn b() {}"));
    assert_eq!(first_code("mod a {\n}\n"), Some("mod a {"));
    assert_eq!(first_code("#[cfg(\n    test\n)]\nmod a;\n"), None);
}

/// The paths of a `use`, each as its segments.
fn paths(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![path.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let prefix: Vec<String> = tree[..open]
        .split("::")
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    let inner = format!("{inner},");
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[start..at].trim();
                start = at + 1;
                if !part.is_empty() {
                    found.extend(
                        paths(part).into_iter().map(|path| [prefix.clone(), path].concat()),
                    );
                }
            }
            _ => {}
        }
    }
    found
}

/// What a file names of its crate, as paths without `crate`.
fn imports(text: &str) -> Vec<Vec<String>> {
    let code: String = library(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("crate::") {
        let is_use = rest[..at].trim_end().ends_with("use");
        rest = &rest[at + "crate::".len()..];
        if is_use {
            let end = rest.find(';').unwrap_or(rest.len());
            found.extend(paths(&rest[..end]));
            rest = &rest[end..];
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(vec![rest[..end].to_owned()]);
        }
    }
    found
}

/// The modules at the root of a crate, with the other such modules that each one names.
fn modules(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources().iter().filter(|path| path.starts_with(source)) {
        let inside = path.strip_prefix(source).unwrap().with_extension("");
        let top = inside.iter().next().unwrap().to_str().unwrap().to_owned();
        if top == "lib" {
            continue;
        }
        let named = imports(&read(path)).into_iter().filter_map(|path| path.into_iter().next());
        found.entry(top).or_default().extend(named);
    }
    let names: BTreeSet<String> = found.keys().cloned().collect();
    for (name, named) in &mut found {
        named.retain(|other| names.contains(other) && other != name);
    }
    found
}

/// A circle among the modules, if there is one.
fn circle(modules: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left = modules.clone();
    loop {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, named)| !named.iter().any(|name| left.contains_key(name)))
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    let mut at = left.keys().next()?.clone();
    let mut seen = vec![at.clone()];
    loop {
        at = left[&at].iter().find(|name| left.contains_key(*name))?.clone();
        if let Some(start) = seen.iter().position(|name| *name == at) {
            return Some(seen.split_off(start));
        }
        seen.push(at.clone());
    }
}

#[test]
fn the_modules_of_the_component_crates_form_no_circle() {
    for name in ["access", "candle", "federated", "sandbox", "train"] {
        let modules = modules(&root().join("components").join(name).join("src"));
        assert!(modules.len() > 5, "{name}: {modules:?}");
        assert_eq!(circle(&modules), None, "{name}");
    }
}

#[test]
fn a_circle_is_found() {
    let modules = |edges: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        edges.iter().map(|(name, named)| ((*name).to_owned(), set(named))).collect()
    };
    assert_eq!(circle(&modules(&[("a", &["b"]), ("b", &[])])), None);
    let found = circle(&modules(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]));
    assert_eq!(found, Some(vec!["b".to_owned(), "c".to_owned()]));
    let text = "use crate::{a::{B, c::D}, e};\nfn f() -> crate::g::H {}\n// crate::not\n";
    let named: Vec<String> = imports(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(named, ["a::B", "a::c::D", "e", "g"]);
}

/// The modules of `superduper-core`, the lowest layer first. A module imports from its own layer
/// and from those below.
const LAYERS: [&[&str]; 7] = [
    &[
        "address",
        "digest",
        "error",
        "error_codes",
        "future",
        "json",
        "locator",
        "near",
        "panics",
        "runtime_check",
        "secret_mask",
        "unreturned",
    ],
    &["artifact", "encode"],
    &["store"],
    &["component", "schema"],
    &["plan"],
    &["job"],
    &["db", "bundle", "verify"],
];

/// Imports that point up, each with the reason why it stays.
const UPWARDS: [(&str, &str, &str); 11] = [
    ("address", "component", "`Address::of` takes the kind of a type"),
    ("locator", "component", "a component stands for its own address"),
    ("locator", "db", "what an apply gives stands for the address that it gives"),
    ("error", "component", "an error of a document carries its mistakes"),
    ("encode", "component", "a document is decoded into a component, whose type says how"),
    ("encode", "job", "a value is checked with the registry of the job that is running"),
    ("encode", "store", "the rows that name a blob are made where its digest is put in"),
    ("component", "job", "hooks and triggers take the context of a job"),
    ("job", "db", "a job works on the database that runs it"),
    ("secret_mask", "store", "a failure and a line of a log are masked as they are recorded"),
    ("unreturned", "store", "an event names the run and the job that it is about"),
];

#[test]
fn imports_of_core_point_down() {
    let modules = modules(&root().join("superduper-core/src"));
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut found = Vec::new();
    for (name, named) in &modules {
        let own = layer(name).unwrap_or_else(|| panic!("`{name}` is in no layer"));
        for other in named {
            let is_up = layer(other).is_some_and(|other| other > own);
            let is_listed = UPWARDS.iter().any(|(from, to, _)| from == name && to == other);
            if is_up && !is_listed {
                found.push(format!("`{name}` imports from `{other}`"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (from, to, _) in UPWARDS {
        assert!(modules[from].contains(to), "`{from}` imports nothing from `{to}` any more");
    }
}

#[test]
fn core_imports_nothing_through_its_root() {
    let source = root().join("superduper-core/src");
    let names: BTreeSet<String> = modules(&source).into_keys().collect();
    for path in sources().iter().filter(|path| path.starts_with(&source)) {
        if path.ends_with("src/lib.rs") {
            continue;
        }
        for import in imports(&read(path)) {
            let first = &import[0];
            let known = names.contains(first) || first == "__private" || first == "simulate";
            assert!(known, "{}: `crate::{first}`", path.display());
        }
    }
}
