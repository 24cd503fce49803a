//! `***` in place of the values of secrets, in what jobs leave on record.
//!
//! A process remembers the values that it has read with [`Secret::reveal`](crate::Secret::reveal).
//! They are masked where a text of a job is about to be recorded: log lines, failures, reasons why
//! a job waits, strings of results and messages. A job process also tells its values to its parent,
//! which keeps the log of its output: over the socket between the two, never over a file.
//!
//! Invariant: nothing is searched while no secret was read.

use crate::{
    error::JobFailure,
    store::{Finish, Finished},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What stands for a value.
const MASK: &str = "***";
/// Shorter values are not masked: they are in too many words.
pub(crate) const MIN_SECRET: usize = 4;
/// A line of a value with several lines is masked by itself if it has so many bytes.
const MIN_LINE: usize = 8;
/// So many values are remembered, the newest.
const MOST: usize = 1024;

/// The values, each with the texts by which it is found.
static VALUES: RwLock<VecDeque<Known>> = RwLock::new(VecDeque::new());
static ANY: AtomicBool = AtomicBool::new(false);
type Forward = Box<dyn Fn(&str) + Send + Sync>;
static FORWARD: OnceLock<Forward> = OnceLock::new();

struct Known {
    text: String,
    /// The text, its escaped form, and its lines.
    patterns: Vec<String>,
}

impl Known {
    fn new(text: &str) -> Self {
        let mut patterns = vec![text.to_owned()];
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE);
        patterns.extend(lines.map(str::to_owned));
        // As `{:?}` and JSON write it between quotes; each escapes other characters.
        let quoted = |text: &String| {
            let forms = [format!("{text:?}"), Value::from(text.as_str()).to_string()];
            forms.map(|form| form[1..form.len() - 1].to_owned())
        };
        patterns.extend(patterns.iter().flat_map(quoted).collect::<Vec<_>>());
        patterns.sort_unstable();
        patterns.dedup();
        Known { text: text.to_owned(), patterns }
    }
}

/// Mask this text from now on.
pub(crate) fn remember(text: &str) {
    let is_known = |values: &VecDeque<Known>| values.iter().any(|value| value.text == text);
    if text.len() < MIN_SECRET || is_known(&VALUES.read().unwrap_or_else(PoisonError::into_inner)) {
        return;
    }
    {
        let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
        if is_known(&values) {
            return;
        }
        values.push_back(Known::new(text));
        while values.len() > MOST {
            values.pop_front();
        }
        ANY.store(true, Ordering::Release);
    }
    if let Some(forward) = FORWARD.get() {
        forward(text);
    }
}

/// Call this with each value that is remembered from now on. Only the first call counts.
pub(crate) fn forward(send: impl Fn(&str) + Send + Sync + 'static) {
    FORWARD.get_or_init(|| Box::new(send));
}

/// The text with `***` in place of secrets.
pub(crate) fn mask(text: String) -> String {
    if !ANY.load(Ordering::Acquire) {
        return text;
    }
    let places = places(&text);
    if places.is_empty() {
        return text;
    }
    let (mut masked, mut from) = (String::with_capacity(text.len()), 0);
    for place in places {
        masked.push_str(&text[from..place.start]);
        masked.push_str(MASK);
        from = place.end;
    }
    masked.push_str(&text[from..]);
    masked
}

/// As [`mask`], for a text whose end was cut off, perhaps in the middle of a secret.
pub(crate) fn mask_cut(text: String) -> String {
    let mut text = mask(text);
    if !ANY.load(Ordering::Acquire) {
        return text;
    }
    let values = VALUES.read().unwrap_or_else(PoisonError::into_inner);
    let begun = |pattern: &String| {
        (MIN_SECRET..pattern.len())
            .rev()
            .find(|end| pattern.is_char_boundary(*end) && text.ends_with(&pattern[..*end]))
    };
    let longest = values.iter().flat_map(|value| value.patterns.iter()).filter_map(begun).max();
    if let Some(length) = longest {
        text.truncate(text.len() - length);
        text.push_str(MASK);
    }
    text
}

/// Where secrets are, in order, none overlapping another one.
fn places(text: &str) -> Vec<Range<usize>> {
    let values = VALUES.read().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<Range<usize>> = Vec::new();
    for pattern in values.iter().flat_map(|value| value.patterns.iter()) {
        let step = pattern.chars().next().map_or(1, char::len_utf8);
        let mut from = 0;
        while let Some(place) = text[from..].find(pattern.as_str()) {
            let start = from + place;
            found.push(start..start + pattern.len());
            from = start + step;
        }
    }
    found.sort_unstable_by_key(|place| (place.start, place.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for place in found {
        match merged.last_mut() {
            Some(last) if place.start < last.end => last.end = last.end.max(place.end),
            _ => merged.push(place),
        }
    }
    merged
}

/// A failure with its texts masked.
pub(crate) fn mask_failure(mut failure: JobFailure) -> JobFailure {
    if ANY.load(Ordering::Acquire) {
        for text in std::iter::once(&mut failure.message).chain(&mut failure.causes) {
            *text = mask(std::mem::take(text));
        }
    }
    failure
}

/// Mask what the end of an attempt says: result, messages and the reason why it waits. Its failure
/// is masked before it is cut to size. Outputs are data that a version is made of; they stay.
pub(crate) fn mask_end(finish: &mut Finish) {
    if !ANY.load(Ordering::Acquire) {
        return;
    }
    match &mut finish.end {
        Finished::Succeeded(value) => mask_value(value),
        Finished::Blocked(block) => block.reason = mask(std::mem::take(&mut block.reason)),
        Finished::Paused(reason) => *reason = mask(std::mem::take(reason)),
        Finished::Failed(_) | Finished::Cancelled(_) | Finished::Retry(..) | Finished::Released => {
        }
    }
    finish.messages.iter_mut().for_each(|(_, payload)| mask_value(payload));
}

/// Mask the strings in a value. Keys stay, since a reader looks fields up by them; so do the texts
/// of marks such as `{"$blob": …}`, which are references.
fn mask_value(value: &mut Value) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => *text = mask(std::mem::take(text)),
            Value::Array(items) => rest.extend(items),
            Value::Object(fields) => {
                let is_mark = |key: &str| key.starts_with('$') && !key.starts_with("$$");
                let open = fields
                    .iter_mut()
                    .filter(|(key, value)| !(is_mark(key) && value.is_string()))
                    .map(|(_, value)| value);
                rest.extend(open);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Values of other tests of this process do not matter: these are found nowhere else.
    #[test]
    fn n09_values_are_masked_wherever_they_are_in_a_text() {
        assert_eq!(mask("zq-key-one".into()), "zq-key-one");
        remember("zq-key-one");
        remember("key-one-zq!");
        remember("zq\"quoted\\");
        remember("zq first line\nzq second line\n}");
        remember("zqé");
        remember("zq'it\"s e\u{301}");
        remember("zq one\nzq' two \"quoted\"\n}");
        for (text, masked) in [
            ("a zq-key-one, zq-key-one", "a ***, ***"),
            ("zq-key-one-zq!", "***"),
            ("zq-key-on", "zq-key-on"),
            ("{\"at\": \"zq\\\"quoted\\\\\"}", "{\"at\": \"***\"}"),
            ("stderr: zq second line", "stderr: ***"),
            ("}", "}"),
            ("ézqéé", "é***é"),
            (&format!("{:?}", "zq'it\"s e\u{301}"), "\"***\""),
            (&json!("zq'it\"s e\u{301}").to_string(), "\"***\""),
            (&format!("{:?}", "zq' two \"quoted\""), "\"***\""),
            (&json!("zq' two \"quoted\"").to_string(), "\"***\""),
        ] {
            assert_eq!(mask(text.to_owned()), masked);
        }
        assert_eq!(mask_cut("all of zq-key-o".into()), "all of ***");
        assert_eq!(mask_cut("all of zq-".into()), "all of zq-");
        let mut value = json!({
            "zq-key-one": ["x zq-key-one", 1, null],
            "blob": {"$blob": "zq-key-one"},
            "held": {"$kind": "zq-key-one", "$body": {"text": "zq-key-one", "$$x": "zq-key-one"}},
        });
        mask_value(&mut value);
        let expected = json!({
            "zq-key-one": ["x ***", 1, null],
            "blob": {"$blob": "zq-key-one"},
            "held": {"$kind": "zq-key-one", "$body": {"text": "***", "$$x": "***"}},
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn n09_short_values_are_not_masked() {
        remember("zqz");
        assert_eq!(mask("zqz".into()), "zqz");
    }
}
