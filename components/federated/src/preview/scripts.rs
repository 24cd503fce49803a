//! The captured source of classes as files, and what is missing from it.

use crate::{class::Class, model::entry, training::FederatedTraining};
use std::collections::{BTreeMap, HashSet};
use superduper::{Result, schema::Source};

/// A class of a training and its part in it.
pub(super) struct Part {
    /// `model`, `executor` or `persistor`.
    pub(super) role: &'static str,
    /// The trait that it implements.
    pub(super) contract: &'static str,
    pub(super) class: Class,
}

impl Part {
    /// The parts of a training, in the order of its classes.
    pub(super) fn all(training: &FederatedTraining) -> Result<[Part; 3]> {
        let [model, executor, persistor] = training.classes()?;
        let contract = entry(training.resolved_model()?.kind())?.contract;
        Ok([
            Part { role: "model", contract, class: model },
            Part { role: "executor", contract: "ClientExecutor", class: executor },
            Part { role: "persistor", contract: "ModelPersistor", class: persistor },
        ])
    }

    /// Where its source goes.
    pub(super) fn path(&self) -> String {
        match self.role {
            "executor" => "scripts/custom_client_executor.rs".to_owned(),
            "persistor" => "scripts/custom_persistor.rs".to_owned(),
            _ => {
                let name = snake(self.class.name());
                // Those of the other parts are taken.
                let is_taken = ["custom_client_executor", "custom_persistor"].contains(&&*name);
                format!("scripts/{}{name}.rs", if is_taken { "model_" } else { "" })
            }
        }
    }

    /// Its source as one file; `None` where nothing is captured.
    pub(super) fn script(&self) -> Option<String> {
        if self.class.sources.is_empty() {
            return None;
        }
        let mut by_file: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
        for source in &self.class.sources {
            by_file.entry(source.path).or_default().push(source);
        }
        let krate = self.class.path.split("::").next().unwrap_or_default();
        let mut text = String::new();
        for (file, sources) in by_file {
            text.push_str(&format!("// From `{file}` of the crate `{krate}`.\n"));
            let mut seen = HashSet::new();
            let uses = sources.iter().flat_map(|source| source.uses.iter());
            for line in uses.filter(|line| seen.insert(**line)) {
                text.push_str(line);
                text.push('\n');
            }
            for source in sources {
                text.push('\n');
                text.push_str(source.text);
                text.push('\n');
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        Some(text)
    }

    /// What of its source is not there, and how to add it.
    pub(super) fn missing(&self) -> Vec<String> {
        let Part { role, contract, class } = self;
        let mut notes = Vec::new();
        if class.is_built_in() {
            return notes;
        }
        let (name, path) = (class.name(), class.path);
        for missing in &class.missing {
            notes.push(format!(
                "could not capture the source of `{}`: {}; referred to by path `{path}`",
                missing.item, missing.why
            ));
        }
        let was_missing =
            |begin: &str| class.missing.iter().any(|missing| missing.item.starts_with(begin));
        if !class.has_type() && !was_missing("struct") && !was_missing("enum") {
            let how = match *role {
                "model" => "add `source` to its `#[component(…)]`",
                _ => "add `#[source]` above it",
            };
            notes.push(format!(
                "could not capture the source of `{name}`: it is not marked; referred to by path \
                 `{path}`; {how}"
            ));
        }
        let item = format!("impl {contract} for {name}");
        if !class.has_impl_of(contract) && !class.misses_impl_of(contract) {
            notes.push(format!(
                "could not capture the source of `{item}`: it is not marked; referred to by path \
                 `{path}`; add `#[source]` above the `impl`"
            ));
        }
        notes
    }
}

/// Names of the same file that a captured text uses and that are in no captured text: whoever gets
/// the files cannot see them.
pub(super) fn helpers(parts: &[Part; 3]) -> Vec<String> {
    let sources = || parts.iter().flat_map(|part| part.class.sources.iter());
    let place = |source: &Source| (source.module.split("::").next(), source.path);
    let captured: HashSet<_> =
        sources().filter_map(|source| Some((place(source), source.name()?))).collect();
    let is_captured = |source: &Source, name: &'static str| match name.split_once("::") {
        // A method of the type, in a block of its own.
        Some((_, method)) => {
            let begins = [format!("fn {method}("), format!("fn {method}<")];
            let holds = |other: &Source| begins.iter().any(|begin| other.text.contains(begin));
            sources().any(|other| other.item.starts_with("impl") && holds(other))
        }
        None => captured.contains(&(place(source), name)),
    };
    let mut notes = Vec::new();
    for part in parts {
        for source in &part.class.sources {
            let left_out = source.helpers.iter().filter(|name| !is_captured(source, name));
            notes.extend(left_out.map(|name| {
                format!(
                    "`{}` of `{}` uses `{name}` of the same file, which is not captured",
                    source.item, source.path
                )
            }));
        }
    }
    notes
}

/// `MyResNet` as `my_res_net`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
