//! A schema, read once so that values can be checked against it.
//!
//! It knows the keywords that schemars writes. A `pattern` is left to the type itself; the words
//! that only describe are left out.

use super::{Wrong, close::decoded, union};
use crate::component::schema::{check::names, expected::found, near, reading};
use serde_json::{Map, Number, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A schema, read once.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    /// No value fits.
    never: bool,
    pub(super) types: Option<Vec<String>>,
    /// The only values that fit.
    pub(super) values: Option<Vec<Value>>,
    least: Option<Bound>,
    most: Option<Bound>,
    /// How many characters a text has, items a list, members an object.
    lengths: [(Option<u64>, Option<u64>); 3],
    members: BTreeMap<String, Form>,
    pub(super) required: Vec<String>,
    /// Members that are not named.
    other: Option<Box<Form>>,
    first: Vec<Form>,
    items: Option<Box<Form>>,
    all: Vec<Form>,
    pub(super) any: Vec<Form>,
    pub(super) one: Vec<Form>,
    pub(super) reference: Option<String>,
    /// Whether all members must be known.
    closed: bool,
}

#[derive(Clone, Debug)]
struct Bound {
    number: Number,
    exclusive: bool,
}

/// Definitions by name.
pub(super) type Forms = BTreeMap<String, Form>;

impl Form {
    /// Read a schema.
    pub(super) fn of(schema: &Value) -> Self {
        let Value::Object(map) = schema else {
            return Form { never: *schema == Value::Bool(false), ..Form::default() };
        };
        let forms = |keyword: &str| -> Vec<Form> {
            let parts = map.get(keyword).and_then(Value::as_array);
            parts.map(|parts| parts.iter().map(Form::of).collect()).unwrap_or_default()
        };
        let form = |keyword: &str| map.get(keyword).map(|part| Box::new(Form::of(part)));
        let texts = |value: &Value| -> Vec<String> {
            match value {
                Value::String(one) => vec![one.clone()],
                Value::Array(some) => {
                    some.iter().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
                }
                _ => Vec::new(),
            }
        };
        let number = |keyword: &str| map.get(keyword).and_then(Value::as_u64);
        let bound = |plain: &str, exclusive: &str| {
            let read = |keyword: &str, exclusive| match map.get(keyword) {
                Some(Value::Number(number)) => Some(Bound { number: number.clone(), exclusive }),
                _ => None,
            };
            read(plain, false).or_else(|| read(exclusive, true))
        };
        let named = map.get("properties").and_then(Value::as_object);
        let patterned = map.get("patternProperties").and_then(Value::as_object);
        let pattern = patterned.and_then(|patterns| patterns.values().next());
        Form {
            never: false,
            types: map.get("type").map(texts),
            values: match (map.get("const"), map.get("enum")) {
                (Some(only), _) => Some(vec![only.clone()]),
                (None, some) => some.and_then(Value::as_array).cloned(),
            },
            least: bound("minimum", "exclusiveMinimum"),
            most: bound("maximum", "exclusiveMaximum"),
            lengths: [
                (number("minLength"), number("maxLength")),
                (number("minItems"), number("maxItems")),
                (number("minProperties"), number("maxProperties")),
            ],
            members: named
                .map(|named| {
                    named.iter().map(|(key, part)| (key.clone(), Form::of(part))).collect()
                })
                .unwrap_or_default(),
            required: map.get("required").map(texts).unwrap_or_default(),
            // Keys of maps that are numbers have a pattern; the type itself reads them.
            other: pattern
                .map(|part| Box::new(Form::of(part)))
                .or_else(|| form("additionalProperties")),
            first: forms("prefixItems"),
            items: form("items"),
            all: forms("allOf"),
            any: forms("anyOf"),
            one: forms("oneOf"),
            reference: map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| reference.rsplit('/').next())
                .map(decoded),
            closed: map.get("unevaluatedProperties") == Some(&Value::Bool(false)),
        }
    }

    /// Whether a member can only have one value.
    pub(super) fn is_constant(&self, key: &str) -> bool {
        self.members
            .get(key)
            .is_some_and(|form| form.values.as_ref().is_some_and(|values| values.len() == 1))
    }

    /// Whether a value fits.
    pub(super) fn fits(&self, forms: &Forms, value: &Value) -> bool {
        let mut found = Vec::new();
        self.check(forms, &mut String::new(), value, &mut found);
        found.is_empty()
    }

    /// Look at a value at a place.
    pub(super) fn check(
        &self,
        forms: &Forms,
        at: &mut String,
        value: &Value,
        found: &mut Vec<Wrong>,
    ) {
        if !self.fits_alone(value) {
            found.push(self.wrong(at, value));
            return;
        }
        match value {
            Value::Array(items) => self.check_items(forms, at, items, found),
            Value::Object(map) => self.check_members(forms, at, map, found),
            _ => {}
        }
        for form in &self.all {
            form.check(forms, at, value, found);
        }
        if let Some(form) = self.reference.as_ref().and_then(|name| forms.get(name)) {
            form.check(forms, at, value, found);
        }
        for (parts, only_one) in [(&self.any, false), (&self.one, true)] {
            if !parts.is_empty() {
                union::check(parts, only_one, forms, at, value, found);
            }
        }
        if let (true, Value::Object(map)) = (self.closed, value) {
            self.check_closed(forms, at, map, found);
        }
    }

    /// Whether the value fits, apart from what is in it.
    fn fits_alone(&self, value: &Value) -> bool {
        let within = |count: usize, (least, most): (Option<u64>, Option<u64>)| {
            let count = count as u64;
            least.is_none_or(|least| count >= least) && most.is_none_or(|most| count <= most)
        };
        let is_of = |types: &Vec<String>| types.iter().any(|name| is_of(value, name));
        !self.never
            && self.types.as_ref().is_none_or(is_of)
            && self.values.as_ref().is_none_or(|values| values.contains(value))
            && match value {
                Value::Number(number) => {
                    self.least.as_ref().is_none_or(|least| least.is_below(number))
                        && self.most.as_ref().is_none_or(|most| most.is_above(number))
                }
                Value::String(text) => within(text.chars().count(), self.lengths[0]),
                Value::Array(items) => within(items.len(), self.lengths[1]),
                Value::Object(map) => within(map.len(), self.lengths[2]),
                _ => true,
            }
    }

    fn check_items(&self, forms: &Forms, at: &mut String, items: &[Value], found: &mut Vec<Wrong>) {
        for (index, item) in items.iter().enumerate() {
            if let Some(form) = self.first.get(index).or(self.items.as_deref()) {
                inside(at, &index.to_string(), |at| form.check(forms, at, item, found));
            }
        }
    }

    fn check_members(
        &self,
        forms: &Forms,
        at: &mut String,
        map: &Map<String, Value>,
        found: &mut Vec<Wrong>,
    ) {
        for (key, value) in map {
            match (self.members.get(key), &self.other) {
                (Some(form), _) => inside(at, key, |at| form.check(forms, at, value, found)),
                (None, Some(other)) if other.never => {
                    let known = self.members.keys().map(String::as_str).collect();
                    inside(at, key, |at| found.push(unknown(at, key, &known)));
                }
                (None, Some(other)) => inside(at, key, |at| other.check(forms, at, value, found)),
                (None, None) => {}
            }
        }
        for key in self.required.iter().filter(|key| !map.contains_key(*key)) {
            inside(at, key, |at| {
                found.push(Wrong {
                    pointer: at.clone(),
                    problem: format!("field `{key}` is missing"),
                    expected: self.members.get(key).map(Form::expected).unwrap_or_default(),
                    near: None,
                    missing: true,
                });
            });
        }
    }

    fn check_closed(
        &self,
        forms: &Forms,
        at: &mut String,
        map: &Map<String, Value>,
        found: &mut Vec<Wrong>,
    ) {
        let value = Value::Object(map.clone());
        let mut known = BTreeSet::new();
        if self.known(forms, &value, &mut known) {
            return;
        }
        for key in map.keys().filter(|key| !known.contains(key.as_str())) {
            inside(at, key, |at| found.push(unknown(at, key, &known)));
        }
    }

    /// The members that an object may have; true where it may have any.
    fn known<'a>(&'a self, forms: &'a Forms, value: &Value, known: &mut BTreeSet<&'a str>) -> bool {
        known.extend(self.members.keys().map(String::as_str));
        let mut any = self.other.is_some();
        let reference = self.reference.as_ref().and_then(|name| forms.get(name));
        for form in self.all.iter().chain(reference) {
            any |= form.known(forms, value, known);
        }
        for parts in [&self.any, &self.one] {
            let mut fitting = parts.iter().filter(|form| form.fits(forms, value)).peekable();
            // That none fits is a mistake of its own.
            any |= !parts.is_empty() && fitting.peek().is_none();
            for form in fitting {
                any |= form.known(forms, value, known);
            }
        }
        any
    }

    fn wrong(&self, at: &str, value: &Value) -> Wrong {
        let texts: Vec<&str> = self.values.iter().flatten().filter_map(Value::as_str).collect();
        let near = value.as_str().and_then(|text| near(text, texts));
        Wrong {
            pointer: at.to_owned(),
            problem: found(value),
            expected: self.expected(),
            near,
            missing: false,
        }
    }

    /// What should be there, in words.
    pub(super) fn expected(&self) -> String {
        if let Some(values) = &self.values {
            let values: Vec<String> = values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            return names(&values.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let parts = if self.any.is_empty() { &self.one } else { &self.any };
        if !parts.is_empty() {
            return union::expected(parts);
        }
        let Some(types) = &self.types else {
            return self.reference.as_ref().map_or_else(
                || "another value".to_owned(),
                |name| format!("a value of the type `{name}`"),
            );
        };
        let range = match (&self.least, &self.most) {
            (Some(least), Some(most)) => format!(" from {} to {}", least.number, most.number),
            (Some(least), None) => format!(" from {}", least.number),
            (None, Some(most)) => format!(" up to {}", most.number),
            (None, None) => String::new(),
        };
        let words: Vec<String> = types
            .iter()
            .map(|name| match name.as_str() {
                "integer" => format!("a whole number{range}"),
                "number" => format!("a number{range}"),
                "string" => "a text".to_owned(),
                "boolean" => "`true` or `false`".to_owned(),
                "array" => "a list".to_owned(),
                "object" => "an object".to_owned(),
                other => other.to_owned(),
            })
            .collect();
        words.join(" or ")
    }
}

/// A member that nothing knows, at its place.
fn unknown(at: &str, key: &str, known: &BTreeSet<&str>) -> Wrong {
    Wrong {
        pointer: at.to_owned(),
        problem: format!("unknown field `{key}`"),
        expected: names(&known.iter().copied().collect::<Vec<_>>()),
        near: near(key, known.iter().copied()),
        missing: false,
    }
}

/// Go on at a member or item.
fn inside(at: &mut String, key: &str, go_on: impl FnOnce(&mut String)) {
    let length = at.len();
    at.push('/');
    at.push_str(&reading::escape(key));
    go_on(at);
    at.truncate(length);
}

fn is_of(value: &Value, name: &str) -> bool {
    match (name, value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        ("integer", Value::Number(number)) => reading::whole(number).is_some(),
        _ => false,
    }
}

impl Bound {
    fn is_below(&self, number: &Number) -> bool {
        match compare(&self.number, number) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => !self.exclusive,
            std::cmp::Ordering::Greater => false,
        }
    }

    fn is_above(&self, number: &Number) -> bool {
        match compare(&self.number, number) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => !self.exclusive,
            std::cmp::Ordering::Less => false,
        }
    }
}

fn compare(one: &Number, other: &Number) -> std::cmp::Ordering {
    if let (Some(one), Some(other)) = (reading::whole(one), reading::whole(other)) {
        return one.cmp(&other);
    }
    let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
    float(one).total_cmp(&float(other))
}
