//! The JSON texts of stores and files: how deep they may be, and what stands for one that cannot be
//! read.
//!
//! Invariants: nothing nested deeper than [`MAX_NESTING`] is written, so that every reader of JSON
//! can read it, older versions of superduper included. Reading also takes deeper texts, which older
//! versions wrote, as long as walking through them cannot overflow a stack. A text that cannot be
//! read becomes a mark that says why; it never becomes `null`.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// The deepest nesting of arrays and objects in a stored value: a document, an output, a result, a
/// message, a state.
///
/// A scalar has no level, `[1]` has one. What superduper writes around the value counts, too: a
/// model inside of a job's result begins at the third level.
pub const MAX_NESTING: usize = 127;

/// The deepest nesting that is read.
pub(crate) const MAX_READ: usize = 1024;

/// Stack that one level of a value takes while it is decoded, with room to spare for types with
/// large fields.
const STACK_PER_LEVEL: usize = 16 * 1024;

/// The key of the mark for a text that cannot be read. Keys of users that begin with `$` are
/// escaped, so no value looks like it.
const UNREADABLE: &str = "$unreadable";

/// Read a stored JSON text.
///
/// # Errors
/// Why it cannot be read, in a few words.
pub fn read_json(text: &[u8]) -> Result<Value, String> {
    let error = match serde_json::from_slice(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // The parser stops where its own limit is.
    let levels = nesting_of_text(text);
    if levels <= MAX_NESTING {
        return Err(error.to_string());
    }
    if levels > MAX_READ {
        return Err(format!(
            "it is nested {levels} levels deep, and at most {MAX_READ} levels are read"
        ));
    }
    Deep { text, at: 0 }.document()
}

/// Read a stored JSON text; one that cannot be read becomes a mark with the reason. See
/// [`check_readable`].
pub fn read_or_mark(text: &[u8]) -> Value {
    read_json(text).unwrap_or_else(unreadable)
}

/// The mark for a stored value that cannot be read.
pub fn unreadable(why: impl Into<String>) -> Value {
    Value::Object(Map::from_iter([(UNREADABLE.to_owned(), Value::String(why.into()))]))
}

/// Pass a stored value on unless it is the mark for one that cannot be read.
///
/// Rows are listed with the mark in place of the value, so that one damaged row hides no other.
/// Whoever uses a value of a row checks it first; decoding does.
///
/// # Errors
/// `Integrity`, naming `what`.
pub fn check_readable(value: &Value, what: impl std::fmt::Display) -> Result<&Value> {
    match value.as_object().and_then(|map| map.get(UNREADABLE)) {
        Some(why) => Err(Error::integrity(format!(
            "{what} cannot be read: {}",
            why.as_str().unwrap_or("damaged")
        ))
        .with_hint("restore the database from a backup; `db.verify()` lists what is damaged")),
        None => Ok(value),
    }
}

/// A container whose end is not read yet; an object with the key of its next value.
enum Open {
    Items(Vec<Value>),
    Entries(Map<String, Value>, String),
}

/// A parser without recursion, for texts that are too deep for serde_json, which reads the scalars.
struct Deep<'t> {
    text: &'t [u8],
    at: usize,
}

impl Deep<'_> {
    fn document(mut self) -> Result<Value, String> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut value = match self.peek() {
                Some(b'[') => match self.begin(b']') {
                    true => Value::Array(Vec::new()),
                    false => {
                        open.push(Open::Items(Vec::new()));
                        continue;
                    }
                },
                Some(b'{') => match self.begin(b'}') {
                    true => Value::Object(Map::new()),
                    false => {
                        open.push(Open::Entries(Map::new(), self.key()?));
                        continue;
                    }
                },
                _ => self.scalar()?,
            };
            // The value may be the last one of the container around it, and so on.
            loop {
                let Some(mut around) = open.pop() else {
                    return if self.peek().is_none() {
                        Ok(value)
                    } else {
                        Err(self.wrong("the end of the text"))
                    };
                };
                match (&mut around, self.peek()) {
                    (Open::Items(items), Some(b',' | b']')) => items.push(value),
                    (Open::Entries(map, key), Some(b',' | b'}')) => {
                        map.insert(std::mem::take(key), value);
                    }
                    _ => return Err(self.wrong("`,` or the end of a list or object")),
                }
                let is_closed = self.text[self.at] != b',';
                self.at += 1;
                value = match around {
                    Open::Items(items) if is_closed => Value::Array(items),
                    Open::Entries(map, _) if is_closed => Value::Object(map),
                    Open::Items(items) => {
                        open.push(Open::Items(items));
                        break;
                    }
                    Open::Entries(map, _) => {
                        open.push(Open::Entries(map, self.key()?));
                        break;
                    }
                };
            }
        }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        self.at += self.text[self.at..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        self.text.get(self.at).copied()
    }

    /// Enter a container; whether it is empty, and left again.
    fn begin(&mut self, end: u8) -> bool {
        self.at += 1;
        let is_empty = self.peek() == Some(end);
        self.at += usize::from(is_empty);
        is_empty
    }

    fn key(&mut self) -> Result<String, String> {
        match (self.peek(), self.scalar()?) {
            (Some(b'"'), Value::String(key)) if self.peek() == Some(b':') => {
                self.at += 1;
                Ok(key)
            }
            _ => Err(self.wrong("a key")),
        }
    }

    fn scalar(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let length = match rest.first() {
            Some(b'"') => {
                let mut escaped = false;
                let end = rest[1..].iter().position(|byte| {
                    let is_end = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    is_end
                });
                end.map_or(rest.len(), |end| end + 2)
            }
            _ => rest
                .iter()
                .position(|byte| {
                    matches!(byte, b',' | b']' | b'}' | b':') || byte.is_ascii_whitespace()
                })
                .unwrap_or(rest.len()),
        };
        let value = serde_json::from_slice(&rest[..length]).map_err(|_| self.wrong("a value"))?;
        self.at += length;
        Ok(value)
    }

    fn wrong(&self, expected: &str) -> String {
        format!("expected {expected} at byte {}", self.at)
    }
}

/// How deep arrays and objects are nested in a JSON text.
fn nesting_of_text(text: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    let mut bytes = text.iter();
    let mut in_string = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' if !in_string => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// How deep arrays and objects are nested in a value. It does not recurse.
pub(crate) fn nesting(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 1)];
    while let Some((value, level)) = open.pop() {
        let is_open = |item: &&Value| item.is_array() || item.is_object();
        match value {
            Value::Array(items) => {
                open.extend(items.iter().filter(is_open).map(|item| (item, level + 1)))
            }
            Value::Object(map) => {
                open.extend(map.values().filter(is_open).map(|item| (item, level + 1)))
            }
            _ => continue,
        }
        deepest = deepest.max(level);
    }
    deepest
}

/// Drop a value that was refused, on a stack of its own: one that is nested too deep recurses once
/// more for each level.
pub(crate) fn drop_refused<T>(value: T) {
    // Only what is touched of it takes memory.
    stacker::grow(64 * 1024 * 1024, || drop(value));
}

/// Run what recurses once for each of so many levels.
pub(crate) fn with_stack_for<R>(levels: usize, work: impl FnOnce() -> R) -> R {
    let stack = 128 * 1024 + levels * STACK_PER_LEVEL;
    stacker::maybe_grow(stack, stack + 2 * 1024 * 1024, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn nested(levels: usize) -> String {
        format!("{}\"[{{\\\"\"{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn deep_texts_are_read_as_serde_json_reads_shallow_ones() {
        for text in [
            r#"{"a": [1, -2.5e3, "x\"\\", {}, [] ,null], "b":{"c" : true}, "":0.1 }"#,
            "[[],[[]],{}]",
            "0.30000000000000004",
            " \n[\t1 ,2\r] ",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{1:2}",
            "{\"a\":1,}",
            "[1}",
            "{\"a\":1]",
            "[\"x",
            "[",
            "]",
            "",
            "[1] 2",
            "[nul]",
            "[01]",
            "{\"a\":1,\"a\":2}",
        ] {
            let expected = serde_json::from_str::<Value>(text).ok();
            assert_eq!(Deep { text: text.as_bytes(), at: 0 }.document().ok(), expected, "{text}");
            let deep = format!("{}{text}{}", "[".repeat(200), "]".repeat(200));
            let inner = read_json(deep.as_bytes())
                .ok()
                .map(|value| (0..200).fold(value, |value, _| value[0].clone()));
            // Outside of a list the text may be two values, or none.
            if !matches!(text, "" | "]" | "[1] 2") {
                assert_eq!(inner, expected, "{text}");
            }
        }
    }

    #[test]
    fn texts_are_read_as_deep_as_any_version_wrote_them() {
        for levels in [0, 1, 127, 128, 500, MAX_READ] {
            let text = nested(levels);
            let value = read_json(text.as_bytes()).expect("readable");
            assert_eq!(
                (value.to_string(), nesting(&value), nesting_of_text(text.as_bytes())),
                (text, levels, levels)
            );
        }
        let error = read_json(nested(MAX_READ + 1).as_bytes()).expect_err("too deep");
        assert_eq!(error, "it is nested 1025 levels deep, and at most 1024 levels are read");
        assert!(read_json(nested(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_null() {
        for text in ["", "[1", "nul", "{\"a\":1}}", &format!("{}x", nested(300))] {
            let mark = read_or_mark(text.as_bytes());
            let error = check_readable(&mark, "the result of job 7").expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Integrity, "{text}");
            assert!(
                error.to_string().starts_with("the result of job 7 cannot be read: "),
                "{error}"
            );
        }
        assert_eq!(check_readable(&read_or_mark(b"null"), "it").expect("readable"), &Value::Null);
    }
}
