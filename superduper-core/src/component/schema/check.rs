//! Looking at documents before they are decoded: all mistakes that the nodes know of, at once.
//!
//! Invariant: what is accepted here fits the schema. What the nodes do not know is left to serde.

use super::{
    Mistake, Node, Role,
    callables::callables,
    expected::{expected, found},
    kind::{FieldForm, KindForm},
    near,
    reading::{self, Documents},
};
use crate::{
    address::{Address, check_identifier},
    component::registry::Registration,
    encode::DecodeEnv,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Looks at one document.
pub(super) struct Checker<'a> {
    pub(super) env: &'a Arc<DecodeEnv>,
    pub(super) documents: &'a Arc<Documents>,
    /// The place of the document among all.
    pub(super) document: usize,
    /// Whether values are read, too, whose nodes do not know all that can be wrong.
    pub(super) reads: bool,
    /// Where what is looked at begins.
    pub(super) base: String,
    pub(super) path: Vec<Step<'a>>,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

/// A step on the way to a value.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Checker<'a> {
    /// Look at a whole document.
    pub(super) fn document(&mut self, value: &'a Value) {
        match value {
            Value::Object(map) if !map.contains_key("$ref") => self.child(None, map),
            _ => {
                let problem = found(value);
                self.mistake(problem, "a document: an object with `kind`");
            }
        }
    }

    pub(super) fn pointer(&self) -> String {
        let mut pointer = self.base.clone();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&reading::escape(key)),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    fn mistake(&mut self, problem: impl Into<String>, expected: impl Into<String>) {
        self.push(problem, expected, None);
    }

    fn push(
        &mut self,
        problem: impl Into<String>,
        expected: impl Into<String>,
        near: Option<String>,
    ) {
        let mistake = Mistake::new(self.document, self.pointer(), problem, expected).near(near);
        self.mistakes.push(mistake);
    }

    fn wrong(&mut self, node: &Node, value: &Value) {
        self.mistake(found(value), expected(node));
    }

    /// Go on at a step.
    fn at(&mut self, step: Step<'a>, go_on: impl FnOnce(&mut Self)) {
        self.path.push(step);
        go_on(self);
        self.path.pop();
    }

    /// Look at a value.
    pub(super) fn value(&mut self, form: &KindForm, node: &Node, value: &'a Value) {
        let fits = match (node, value) {
            (Node::Any, _)
            | (Node::Null, Value::Null)
            | (Node::Bool, Value::Bool(_))
            | (Node::Text, Value::String(_))
            | (Node::Option(_), Value::Null) => true,
            (Node::Integer { min, max }, Value::Number(number)) => reading::whole(number)
                .is_some_and(|number| number >= i128::from(*min) && number <= i128::from(*max)),
            (Node::Number { single }, Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(0.0);
                !single || number.abs() <= f64::from(f32::MAX)
            }
            (Node::Char, Value::String(text)) => text.chars().count() == 1,
            (Node::Identifier, Value::String(text)) => check_identifier(text).is_ok(),
            (Node::Option(inner), value) => return self.value(form, inner, value),
            (Node::List { item, length }, Value::Array(items))
                if length.is_none_or(|length| length == items.len()) =>
            {
                let items = items.iter().enumerate();
                items.for_each(|(index, value)| {
                    self.at(Step::Index(index), |this| this.value(form, item, value));
                });
                true
            }
            (Node::Tuple(nodes), Value::Array(items)) if nodes.len() == items.len() => {
                for (index, (node, value)) in nodes.iter().zip(items).enumerate() {
                    self.at(Step::Index(index), |this| this.value(form, node, value));
                }
                true
            }
            (Node::Map { key, value: node }, Value::Object(map)) => {
                for (name, value) in map {
                    self.at(Step::Key(name), |this| {
                        if !key.takes(name) {
                            this.mistake(format!("found the key {name:?}"), key.expected());
                        }
                        this.value(form, node, value);
                    });
                }
                true
            }
            (Node::Record(members), Value::Object(map)) => {
                self.record(form, members, map);
                true
            }
            (Node::Child(entry), Value::Object(map)) => {
                self.child_or_reference(Some(entry), map);
                true
            }
            (Node::AnyChild, Value::Object(map)) => {
                self.child_or_reference(None, map);
                true
            }
            (Node::Artifact, Value::Object(map)) => is_blob(map),
            (Node::Secret, value) => return self.secret(value),
            (Node::Callable, value) => return self.callable(value),
            #[cfg(feature = "schemars")]
            (Node::Foreign(foreign), value) => return self.foreign(form, foreign, value),
            _ => false,
        };
        if !fits {
            self.wrong(node, value);
        }
    }

    fn record(
        &mut self,
        form: &KindForm,
        members: &[(&'static str, Node)],
        map: &'a Map<String, Value>,
    ) {
        for (key, value) in map {
            self.at(Step::Key(key), |this| match members.iter().find(|(name, _)| name == key) {
                Some((_, node)) => this.value(form, node, value),
                None => this.unknown(key, members.iter().map(|(name, _)| *name)),
            });
        }
        for (key, node) in members.iter().filter(|(key, _)| !map.contains_key(*key)) {
            self.at(Step::Key(key), |this| this.missing(key, expected(node)));
        }
    }

    /// A member that is not known, at its place.
    fn unknown(&mut self, key: &str, known: impl Iterator<Item = &'static str> + Clone) {
        let near = near(key, known.clone());
        let known: Vec<&str> = known.collect();
        self.push(format!("unknown field `{key}`"), names(&known), near);
    }

    /// A member that is missing, at its place.
    fn missing(&mut self, key: &str, expected: impl Into<String>) {
        self.mistake(format!("field `{key}` is missing"), expected);
    }

    fn secret(&mut self, value: &Value) {
        let place = match value {
            Value::Object(map) if map.len() == 1 => map.get("$secret").unwrap_or(value),
            _ => value,
        };
        let is_reference = place
            .as_str()
            .is_some_and(|place| place.parse::<crate::component::secret::Secret<String>>().is_ok());
        if !is_reference {
            // It may be the secret itself.
            self.mistake("this is not a reference to a secret", expected(&Node::Secret));
        }
    }

    /// Code in an artifact, with the runtime that runs it.
    fn code(&mut self, map: &'a Map<String, Value>) {
        for (key, value) in map {
            self.at(Step::Key(key), |this| match (key.as_str(), value) {
                ("$runtime", Value::String(_)) => {}
                ("artifact", Value::Object(blob)) if is_blob(blob) => {}
                ("params", Value::Array(params)) if params.iter().all(is_parameter) => {}
                ("$runtime", _) => this.wrong(&Node::Text, value),
                ("artifact", _) => this.wrong(&Node::Artifact, value),
                ("params", _) => {
                    this.mistake(found(value), "a list of `{\"name\": …, \"ty\": …}`".to_owned());
                }
                _ => this.unknown(key, ["$runtime", "artifact", "params"].into_iter()),
            });
        }
        if !map.contains_key("artifact") {
            self.wrong(&Node::Callable, &Value::Null);
        }
    }

    fn callable(&mut self, value: &'a Value) {
        if let Value::Object(map) = value
            && map.contains_key("$runtime")
        {
            return self.code(map);
        }
        let is_known = |key: &String| key == "$callable" || key == "code";
        let name = match value {
            Value::Object(map)
                if map.keys().all(is_known) && map.get("code").is_none_or(Value::is_string) =>
            {
                map.get("$callable").unwrap_or(value)
            }
            _ => value,
        };
        match name.as_str() {
            Some(name) if callables().contains(&name) => {}
            Some(name) => {
                let near = near(name, callables().iter().copied());
                self.push(format!("unknown callable `{name}`"), expected(&Node::Callable), near);
            }
            None => self.wrong(&Node::Callable, value),
        }
    }

    fn child_or_reference(&mut self, wanted: Option<&Registration>, map: &'a Map<String, Value>) {
        let Some(reference) = map.get("$ref") else { return self.child(wanted, map) };
        for key in map.keys().filter(|key| *key != "$ref") {
            self.at(Step::Key(key), |this| this.unknown(key, std::iter::once("$ref")));
        }
        self.at(Step::Key("$ref"), |this| this.reference(wanted, reference));
    }

    fn reference(&mut self, wanted: Option<&Registration>, reference: &Value) {
        let kind = wanted.map_or("Kind", |entry| entry.kind);
        let Some(text) = reference.as_str() else {
            return self.mistake(found(reference), format!("an address: `{kind}/identifier`"));
        };
        let found_kind = text.split_once('/').map(|(kind, _)| kind);
        if found_kind.is_none() || wanted.is_some_and(|entry| found_kind != Some(entry.kind)) {
            self.mistake(found(reference), format!("an address: `{kind}/identifier`"));
        } else if self.documents.place(text).is_none() && !self.env.documents.contains_key(text) {
            let near = near(text, self.documents.addresses());
            let expected = if self.env.artifacts.is_some() {
                "the address of another document, or of a stored component"
            } else {
                "the address of another document; `db.decode_documents` finds stored components, too"
            };
            self.push(format!("component `{text}` is not at hand"), expected, near);
        }
    }

    /// A component in place.
    fn child(&mut self, wanted: Option<&Registration>, map: &'a Map<String, Value>) {
        let registry = &self.env.registry;
        if let Some(entry) = wanted {
            let form = registry.form(entry);
            let known = self.kind(form.kind_key, map, std::iter::once(entry.kind));
            return if known.is_some() || !map.contains_key(form.kind_key) {
                self.component(&form, map);
            };
        }
        let key = if map.contains_key("$kind") { "$kind" } else { "kind" };
        let Some(kind) = self.kind(key, map, registry.kinds()) else { return };
        let Ok(entry) = registry.entry(kind) else { return };
        let form = registry.form(entry);
        if form.kind_key == key {
            self.component(&form, map);
        } else {
            let text = format!("`kind` is a field of `{kind}`");
            self.at(Step::Key("$kind"), |this| this.mistake(text, "the kind in `$kind`"));
        }
    }

    /// The kind that a document names, if it is one of these.
    fn kind(
        &mut self,
        key: &'static str,
        map: &'a Map<String, Value>,
        known: impl Iterator<Item = &'static str> + Clone,
    ) -> Option<&'a str> {
        let kinds = || names(&known.clone().collect::<Vec<_>>());
        let mut kind = None;
        self.at(Step::Key(key), |this| match map.get(key) {
            Some(Value::String(text)) if known.clone().any(|known| known == text) => {
                kind = Some(text.as_str());
            }
            Some(Value::String(text)) => {
                let registry = &this.env.registry;
                let present = registry.entry(text).ok().map(|entry| entry.kind);
                // A former name, or a kind that does not belong here.
                let present =
                    present.filter(|kind| kind != text && known.clone().any(|one| one == *kind));
                let near = present.map(str::to_owned).or_else(|| near(text, known.clone()));
                let what = if registry.entry(text).is_ok() { "found the" } else { "unknown" };
                this.push(format!("{what} kind `{text}`"), kinds(), near);
            }
            Some(other) => this.mistake(found(other), kinds()),
            None => this.missing(key, kinds()),
        });
        kind
    }

    fn component(&mut self, form: &KindForm, map: &'a Map<String, Value>) {
        let mut rest = Map::new();
        for (key, value) in map.iter().filter(|(key, _)| *key != form.kind_key) {
            match form.field(key) {
                Some(field) if field.part.role == Role::Output => self.at(Step::Key(key), |this| {
                    let problem = format!("`{key}` is an output of `{}`", form.entry.kind);
                    this.mistake(problem, "no value: triggers make it");
                }),
                Some(field) => self.at(Step::Key(key), |this| this.field(form, field, value)),
                None if form.flat.is_empty() => self.at(Step::Key(key), |this| {
                    this.unknown_of(form, key);
                }),
                None => {
                    rest.insert(key.clone(), value.clone());
                }
            }
        }
        for field in form.fields.iter().filter(|field| field.part.required) {
            let key = field.part.key;
            if !map.contains_key(key) {
                self.at(Step::Key(key), |this| this.missing(key, expected(&field.node)));
            }
        }
        if !form.flat.is_empty() {
            self.flat(form, &Value::Object(rest));
        }
    }

    fn unknown_of(&mut self, form: &KindForm, key: &str) {
        let renamed = form.fields.iter().find(|field| field.part.aliases.contains(&key));
        let absent = |part: &super::FieldPart| part.role == Role::Absent && part.name == key;
        if form.fields.iter().any(|field| absent(&field.part)) {
            let problem = format!("`{key}` of `{}` is not stored", form.entry.kind);
            return self.mistake(problem, "no value");
        }
        let near = match renamed {
            Some(field) => Some(field.part.key.to_owned()),
            None => near(key, form.keys()),
        };
        let known: Vec<&str> = form.keys().collect();
        let problem = format!("unknown field `{key}` of `{}`", form.entry.kind);
        self.push(problem, names(&known), near);
    }

    fn field(&mut self, form: &KindForm, field: &FieldForm, value: &'a Value) {
        let before = self.mistakes.len();
        self.value(form, &field.node, value);
        if let Some(check) = field.ty.check
            && self.reads
            && self.mistakes.len() == before
        {
            let found = reading::read(self.env, self.documents, self.document, check, value);
            self.mistakes.extend(found.into_mistakes(self.document, &self.pointer()));
        }
    }

    /// The members that the flattened fields have among them.
    fn flat(&mut self, form: &KindForm, rest: &Value) {
        let base = self.pointer();
        let mut found = Vec::new();
        let mut checker = Checker {
            base: base.clone(),
            path: Vec::new(),
            mistakes: &mut found,
            env: self.env,
            documents: self.documents,
            document: self.document,
            reads: self.reads,
        };
        if !form.is_open()
            && let [only] = form.flat.as_slice()
        {
            checker.field(form, only, rest);
        } else {
            found = self.open_flat(form, rest, &base);
        }
        self.mistakes.append(&mut found);
    }

    /// As [`Checker::flat`], for fields without a schema: what none of them reads is unknown.
    fn open_flat(&self, form: &KindForm, rest: &Value, base: &str) -> Vec<Mistake> {
        let mut unread: Option<Vec<Mistake>> = None;
        let mut mistakes = Vec::new();
        for field in &form.flat {
            // What is read by a function of which nothing is known may read all of them.
            let Some(check) = field.ty.check else { return mistakes };
            let found = reading::read(self.env, self.documents, self.document, check, rest);
            let (ignored, wrong) = found.parts(self.document, base);
            if let Some(wrong) = wrong {
                if self.reads {
                    mistakes.push(wrong);
                }
                continue;
            }
            unread = Some(match unread {
                None => ignored,
                Some(before) => {
                    let is_in = |one: &Mistake| {
                        ignored.iter().any(|other| other.pointer() == one.pointer())
                    };
                    before.into_iter().filter(is_in).collect()
                }
            });
        }
        mistakes.extend(unread.unwrap_or_default());
        mistakes
    }

    #[cfg(feature = "schemars")]
    fn foreign(&mut self, form: &KindForm, foreign: &super::foreign::Foreign, value: &Value) {
        let base = self.pointer();
        let mut found = Vec::new();
        foreign.check(&form.types, value, &mut found);
        for wrong in found {
            let pointer = format!("{base}{}", wrong.pointer);
            let mistake = Mistake::new(self.document, pointer, wrong.problem, wrong.expected);
            self.mistakes.push(mistake.near(wrong.near));
        }
    }
}

/// Whether it is a parameter of a callable that a runtime runs.
fn is_parameter(value: &Value) -> bool {
    let is_text = |key: &str| value.get(key).is_some_and(Value::is_string);
    is_text("name") && is_text("ty") && value.as_object().is_some_and(|map| map.len() == 2)
}

fn is_blob(map: &Map<String, Value>) -> bool {
    let digest = map.get("$blob").and_then(Value::as_str);
    let size = map.get("size").and_then(Value::as_u64);
    digest.is_some_and(|digest| digest.parse::<crate::digest::Digest>().is_ok()) && size.is_some()
}

/// Names in a text: `` `a`, `b` or `c` ``.
pub(super) fn names(names: &[&str]) -> String {
    const MOST: usize = 20;
    match names {
        [] => "none, there are none".to_owned(),
        [one] => format!("`{one}`"),
        names if names.len() > MOST => {
            let first: Vec<String> = names[..MOST].iter().map(|name| format!("`{name}`")).collect();
            format!("one of {} and {} more", first.join(", "), names.len() - MOST)
        }
        names => {
            let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("one of {}", all.join(", "))
        }
    }
}

/// `Kind/identifier` of a document that names both.
pub(super) fn address_of(env: &DecodeEnv, value: &Value) -> Option<Address> {
    let key = if value.get("$kind").is_some() { "$kind" } else { "kind" };
    let entry = env.registry.entry(value.get(key)?.as_str()?).ok()?;
    let identifier = value.get(entry.spec.identifier)?.as_str()?;
    check_identifier(identifier).ok()?;
    Some(Address::new(entry.kind, identifier))
}
