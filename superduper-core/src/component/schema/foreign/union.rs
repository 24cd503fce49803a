//! One of several schemas: enums, options.
//!
//! Invariant: where none fits, the mistakes are those of the one that was meant, if one can be
//! told: by its tag, by its only member, or by its type.

use super::{
    Wrong,
    form::{Form, Forms},
};
use crate::component::schema::{check::names, expected::found, near};
use serde_json::Value;

/// Look at a value that fits one of these.
pub(super) fn check(
    parts: &[Form],
    only_one: bool,
    forms: &Forms,
    at: &mut String,
    value: &Value,
    wrong: &mut Vec<Wrong>,
) {
    let fitting = parts.iter().filter(|part| part.fits(forms, value)).count();
    if fitting == 1 || (fitting > 1 && !only_one) {
        return;
    }
    let mut push = |problem: String, expected: String, near: Option<String>| {
        wrong.push(Wrong { pointer: at.clone(), problem, expected, near, missing: false });
    };
    if fitting > 1 {
        return push("this fits more than one variant".to_owned(), expected(parts), None);
    }
    let variants = variants(parts);
    match value {
        Value::String(text) if !variants.is_empty() => {
            let near = near(text, variants.iter().copied());
            return push(format!("unknown variant `{text}`"), names(&variants), near);
        }
        _ => {}
    }
    match meant(parts, forms, value) {
        Some(part) => part.check(forms, at, value, wrong),
        None => {
            let key = match value {
                Value::Object(map) if map.len() == 1 => map.keys().next(),
                _ => None,
            };
            let near = key.and_then(|key| near(key, variants.iter().copied()));
            push(found(value), expected(parts), near);
        }
    }
}

/// The part that was meant: the only one of the value's type, else the only one with its tag.
fn meant<'a>(parts: &'a [Form], forms: &Forms, value: &Value) -> Option<&'a Form> {
    let wrong = |part: &Form| {
        let mut wrong = Vec::new();
        part.check(forms, &mut String::new(), value, &mut wrong);
        wrong
    };
    let of_type: Vec<(&Form, Vec<Wrong>)> = parts
        .iter()
        .map(|part| (part, wrong(part)))
        .filter(|(_, wrong)| wrong.iter().all(|wrong| !wrong.pointer.is_empty()))
        .collect();
    if let [(only, _)] = of_type.as_slice() {
        return Some(*only);
    }
    let mut tagged = of_type.iter().filter(|(part, wrong)| {
        !wrong.iter().any(|wrong| {
            wrong
                .pointer
                .strip_prefix('/')
                .is_some_and(|key| part.is_tag(forms, key, wrong.missing))
        })
    });
    let first = tagged.next()?;
    tagged.next().is_none().then_some(first.0)
}

impl Form {
    /// Whether a member that is missing or wrong shows that another part was meant.
    fn is_tag(&self, forms: &Forms, key: &str, missing: bool) -> bool {
        let by_name = self.reference.as_ref().and_then(|name| forms.get(name));
        self.is_constant(key)
            || (missing && self.required.len() == 1 && self.required[0] == key)
            || by_name.is_some_and(|form| form.is_tag(forms, key, missing))
    }
}

/// The names of the variants of an enum.
fn variants(parts: &[Form]) -> Vec<&str> {
    let mut names = Vec::new();
    for part in parts {
        names.extend(part.values.iter().flatten().filter_map(Value::as_str));
        if part.required.len() == 1 && part.values.is_none() {
            names.push(part.required[0].as_str());
        }
    }
    names
}

/// What should be there, in words.
pub(super) fn expected(parts: &[Form]) -> String {
    let variants = variants(parts);
    if variants.len() == parts.len() || variants.len() > 1 {
        return names(&variants);
    }
    let mut words: Vec<String> = parts.iter().map(Form::expected).collect();
    words.dedup();
    words.join(", or ")
}
