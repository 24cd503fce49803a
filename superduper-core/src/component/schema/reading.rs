//! Reading a value of a document with serde, strictly: what its type ignores is noted.

use super::{Check, Mistake, check::names, near};
use crate::{
    encode::{DecodeEnv, Found, Stored, in_decode_session, reader, tracked},
    error::{Error, ErrorKind, Result},
};
use serde_json::{Number, Value};
use std::{collections::HashMap, sync::Arc};

pub(crate) use crate::encode::{Documents, escape};

/// What reading found.
pub(super) struct Read<T> {
    pub(super) result: Result<T>,
    pub(super) found: Found,
}

impl<T> Read<T> {
    /// The mistakes; the value begins at `base`.
    pub(super) fn into_mistakes(self, document: usize, base: &str) -> Vec<Mistake> {
        let (mut mistakes, wrong) = self.parts(document, base);
        mistakes.extend(wrong);
        mistakes
    }

    /// What was ignored, and what could not be read.
    pub(super) fn parts(&self, document: usize, base: &str) -> (Vec<Mistake>, Option<Mistake>) {
        let ignored = self.found.ignored.iter().map(|ignored| {
            let pointer = format!("{base}{}", ignored.pointer);
            let problem = format!("unknown field `{}`", ignored.key);
            let near = near(&ignored.key, ignored.known.iter().copied());
            Mistake::new(document, pointer, problem, names(ignored.known)).near(near)
        });
        let wrong = self.result.as_ref().err().map(|error| {
            let place = self.found.failed.as_deref().unwrap_or("");
            mistake_of(error, document, format!("{base}{place}"))
        });
        (ignored.collect(), wrong)
    }
}

/// Read a value of a field and forget it.
pub(super) fn read(
    env: &Arc<DecodeEnv>,
    documents: &Arc<Documents>,
    document: usize,
    check: Check,
    value: &Value,
) -> Read<()> {
    let (result, found) = tracked(documents.clone(), document, || {
        in_decode_session(env, || {
            reader(Stored::strict(value.clone()), check)
                .map_err(|error| Error::new(ErrorKind::Decode, error.to_string()))
        })
    });
    Read { result, found }
}

/// The mistake that an error of reading tells of.
pub(super) fn mistake_of(error: &Error, document: usize, pointer: String) -> Mistake {
    let text = error.to_string();
    let name = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if error.kind() == ErrorKind::Decode {
        if text.starts_with("missing field `") {
            let key = name(&text);
            let pointer = format!("{pointer}/{}", escape(&key));
            return Mistake::new(document, pointer, format!("field `{key}` is missing"), "");
        }
        if let Some((problem, expected)) = text.split_once(", expected ") {
            let word = name(problem);
            let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
            let is_field = problem.starts_with("unknown field `");
            let is_name = is_field || problem.starts_with("unknown variant `");
            let near = near(&word, known.iter().copied()).filter(|_| is_name);
            let pointer = if is_field { format!("{pointer}/{}", escape(&word)) } else { pointer };
            return Mistake::new(document, pointer, problem, expected).near(near);
        }
    }
    Mistake::new(document, pointer, text, "")
}

/// A number that is whole, also where it is written as a float.
pub(super) fn whole(number: &Number) -> Option<i128> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(number), ..) => Some(number.into()),
        (None, Some(number), _) => Some(number.into()),
        // 2^64 and more is no number of any type.
        (None, None, Some(number))
            if number.fract() == 0.0 && number.abs() <= 18_446_744_073_709_551_616.0 =>
        {
            Some(number as i128)
        }
        _ => None,
    }
}

/// Which documents are named more than once, with the first of the same name.
pub(super) fn named_twice(addresses: &[Option<String>]) -> Vec<(usize, usize)> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut twice = Vec::new();
    for (place, address) in addresses.iter().enumerate() {
        let Some(address) = address else { continue };
        match first.get(address.as_str()) {
            Some(earlier) => twice.push((place, *earlier)),
            None => {
                first.insert(address, place);
            }
        }
    }
    twice
}
