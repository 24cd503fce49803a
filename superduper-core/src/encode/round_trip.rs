//! The door that every value of the user's passes on its way to a store.
//!
//! Invariant: what is stored is what was given. A value is encoded, a copy is decoded from that
//! without `postinit`, and the copy is encoded again: a document of another content, or one of
//! equal content that serde was told in another way, is refused with the path of the first
//! difference. Blobs take part by their names; their bytes are not read.

use super::{
    DecodeEnv, Encoded, Stored, Tree, decode, floats, patch_pending, serializer,
    session::encode_value,
    shape::Shape,
    tree::{Place, Record},
};
use crate::{
    artifact::BlobHandle,
    component::registry::Registry,
    error::{Error, ErrorKind, Result},
    json::{nesting, with_stack_for},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Values in errors are cut after so many characters.
const SHOWN: usize = 72;

const SET: &str = "use a BTreeSet or `#[serde(with = \"superduper::sorted\")]` for sets";
const LOST: &str = "let the type read what it writes: an untagged enum takes the first variant that fits, a tag tells them apart; \
                    `rename` and `skip` hold for both directions; `skip_serializing_if` leaves out only what `default` gives back";
const EMPTY_SOME: &str = "`Some` of `None`, `()`, a unit struct or a null value is written as null, which reads as `None`; use an enum \
                          with a name for each case";
const VARIANT: &str = "an untagged enum takes the first variant that fits: give it a tag, as in `#[serde(tag = \"type\")]`";

/// Encode a value whose type need not be readable.
pub(super) fn encode_written<T: Serialize + ?Sized>(value: &T) -> Result<Encoded> {
    let (encoded, shape) = encode_value(value, false)?;
    match shape.empty_somes.first() {
        Some(path) => Err(empty_some(&at(None, path))),
        None => Ok(encoded),
    }
}

/// Encode a value, with or without marks for infinity and NaN, and compare it with its decoded
/// copy; the registry has the types of components in it.
pub(crate) fn encode_checked<T: Serialize + DeserializeOwned>(
    value: &T,
    registry: Arc<Registry>,
    marks_floats: bool,
) -> Result<Encoded> {
    let (given, shape) = encode_value(value, marks_floats)?;
    let read = |value: &Value| match floats::has_marks(&given.value) {
        true => serde_path_to_error::deserialize(Stored::new(given.value.clone())),
        false => serde_path_to_error::deserialize(value),
    };
    let copy: T = decode_copy(&given, registry, read)?.map_err(unreadable)?;
    compare(given, &shape, &copy, marks_floats)
}

/// Encode the result of a method and compare it with its decoded copy. A type that can only borrow
/// what it reads, as one with a `&'static str` in it, cannot be read from a store: its value is
/// written only.
pub(crate) fn encode_result<T: Serialize + Deserialize<'static>>(value: &T) -> Result<Encoded> {
    let (given, shape) = encode_value(value, false)?;
    match decode_copy(&given, registry_here(), |value| {
        serde_path_to_error::deserialize::<_, T>(value.clone())
    })? {
        Ok(copy) => compare(given, &shape, &copy, false),
        Err(error) if error.inner().to_string().contains("expected a borrowed") => {
            encode_written(value)
        }
        Err(error) => Err(unreadable(error)),
    }
}

fn compare<T: Serialize>(
    given: Encoded,
    given_shape: &Shape,
    copy: &T,
    marks_floats: bool,
) -> Result<Encoded> {
    let (mut copy, copy_shape) = encode_value(copy, marks_floats)?;
    if given.value != copy.value {
        // Another thread may have hashed a blob in between: its name changed.
        let mut named = given.value.clone();
        let blobs: Vec<(String, _)> = given.blobs.iter().map(|blob| (blob.name(), blob)).collect();
        let pending: HashMap<&str, &Arc<BlobHandle>> =
            blobs.iter().map(|(name, blob)| (name.as_str(), *blob)).collect();
        patch_pending(&mut named, &pending);
        patch_pending(&mut copy.value, &pending);
        // Sets have an order of their own in each copy, which does no harm outside of documents.
        if named != copy.value && unordered(&named) != unordered(&copy.value) {
            return Err(lost(None, first_difference(&named, &copy.value)));
        }
    }
    compare_shapes(None, given_shape, &copy_shape)?;
    Ok(given)
}

type Read<T> = std::result::Result<T, serde_path_to_error::Error<serde_json::Error>>;

/// Inside a job the types that its database knows, else those of the program.
pub(super) fn registry_here() -> Arc<Registry> {
    crate::job::current().map_or_else(Registry::global, |job| job.registry())
}

fn decode_copy<T>(
    encoded: &Encoded,
    registry: Arc<Registry>,
    read: impl FnOnce(&Value) -> Read<T>,
) -> Result<Read<T>> {
    let env =
        Arc::new(DecodeEnv::new(registry, None).with_blobs(&encoded.blobs).without_postinit());
    let value = if serializer::is_escaped(&encoded.value) {
        Cow::Owned(serializer::unescape(encoded.value.clone()))
    } else {
        Cow::Borrowed(&encoded.value)
    };
    decode::in_decode_session(&env, || Ok(with_stack_for(nesting(&encoded.value), || read(&value))))
}

fn unreadable(error: serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = error.path().to_string();
    let place = at(None, if path == "." { "" } else { &path });
    let error = error.into_inner();
    Error::new(ErrorKind::Encode, format!("{place} cannot be read back: {error}")).with_hint(LOST)
}

/// Compare the encoding of a tree with that of its copy, which was decoded without `postinit`.
pub(crate) fn check_copy(given: &Tree, copy: &Tree) -> Result<()> {
    let found: HashMap<(&str, &str), &Record> = copy
        .records
        .iter()
        .map(|record| ((record.kind, record.identifier.as_str()), record))
        .collect();
    let mut missing = None;
    for record in &given.records {
        let Some(other) = found.get(&(record.kind, record.identifier.as_str())) else {
            missing = missing.or(Some(record));
            continue;
        };
        let path = record.path();
        if record.body != other.body {
            if unordered(&record.body) == unordered(&other.body) {
                let (field, ..) = first_difference(&record.body, &other.body);
                let text = format!(
                    "`{path}`: field `{field}` does not encode to the same value twice: its items have no fixed order"
                );
                return Err(Error::new(ErrorKind::Encode, text).with_hint(SET));
            }
            return Err(lost(Some(&path), first_difference(&record.body, &other.body)));
        }
        compare_shapes(Some(&path), &record.shape, &other.shape)?;
    }
    match missing {
        Some(record) => Err(Error::new(
            ErrorKind::Encode,
            format!("`{}` is gone when its parent is read back", record.path()),
        )),
        None => Ok(()),
    }
}

/// Compare what `postinit` made of a component with what it makes of that.
pub(crate) fn check_stable(once: &Tree, twice: &Tree) -> Result<()> {
    for record in &once.records {
        let path = record.path();
        let other = twice
            .records
            .iter()
            .find(|other| other.kind == record.kind && other.identifier == record.identifier);
        let Some(other) = other else {
            return Err(Error::new(
                ErrorKind::Encode,
                format!("`{path}` is gone after its parent was decoded"),
            ));
        };
        if record.body != other.body {
            let (field, ..) = first_difference(&record.body, &other.body);
            let text = format!("`{path}`: field `{field}` does not encode to the same value twice");
            return Err(Error::new(ErrorKind::Encode, text)
                .with_hint(format!("{SET}, and keep `postinit` idempotent")));
        }
        compare_shapes(Some(&path), &record.shape, &other.shape)?;
    }
    Ok(())
}

fn compare_shapes(owner: Option<&str>, given: &Shape, copy: &Shape) -> Result<()> {
    let Some(field) = given.first_difference(copy) else { return Ok(()) };
    // Paths may stand more than once, and in another order where a map is hashed.
    let kept: BTreeSet<&String> = copy.empty_somes.iter().collect();
    if let Some(path) = given.empty_somes.iter().find(|path| !kept.contains(path)) {
        return Err(empty_some(&at(owner, path)));
    }
    if given.empty_somes.len() != copy.empty_somes.len()
        && let Some(path) = given.empty_somes.first()
    {
        return Err(empty_some(&at(owner, path)));
    }
    let text = format!(
        "{} is read back as a value of another type that is written in the same way",
        at(owner, &field)
    );
    Err(Error::new(ErrorKind::Encode, text).with_hint(VARIANT))
}

fn empty_some(place: &str) -> Error {
    let text = format!(
        "{place} is `Some` of a value that is written as null: it would be read back as `None`"
    );
    Error::new(ErrorKind::Encode, text).with_hint(EMPTY_SOME)
}

fn lost(
    owner: Option<&str>,
    (path, given, copy): (String, Option<&Value>, Option<&Value>),
) -> Error {
    let place = at(owner, &path);
    let text = match (given, copy) {
        (Some(given), None) => format!(
            "{place} is not kept: {} is written, and is gone when it is read back",
            shown(given)
        ),
        (None, Some(copy)) => format!(
            "{place} is not kept: nothing is written, and it is read back as {}",
            shown(copy)
        ),
        (Some(given), Some(copy)) => format!(
            "{place} is not kept: {} is written, and is read back as {}",
            shown(given),
            shown(copy)
        ),
        (None, None) => format!("{place} is not kept"),
    };
    Error::new(ErrorKind::Encode, text).with_hint(LOST)
}

/// A place in words: of a component's field, or of a place inside another value.
fn at(owner: Option<&str>, path: &str) -> String {
    match (owner, path) {
        (Some(owner), "") => format!("`{owner}`"),
        (Some(owner), path) => format!("`{owner}`: field `{path}`"),
        (None, "") => "the value".to_owned(),
        (None, path) => format!("`{path}`"),
    }
}

fn shown(value: &Value) -> String {
    let text = super::shown(value).to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The first place where two values differ, with what is there.
pub(crate) fn first_difference<'a>(
    left: &'a Value,
    right: &'a Value,
) -> (String, Option<&'a Value>, Option<&'a Value>) {
    differ(left, right, &Place::Root).unwrap_or_default()
}

type Difference<'a> = (String, Option<&'a Value>, Option<&'a Value>);

fn differ<'a>(left: &'a Value, right: &'a Value, place: &Place<'_>) -> Option<Difference<'a>> {
    match (left, right) {
        _ if left == right => None,
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| differ(a, b, &Place::Item(place, index))),
        (Value::Object(a), Value::Object(b))
            if super::mark_of(a).is_none() && super::mark_of(b).is_none() =>
        {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let inside = Place::Field(place, key);
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differ(a, b, &inside),
                    (a, b) => Some((inside.to_path(), a, b)),
                }
            })
        }
        _ => Some((place.to_path(), Some(left), Some(right))),
    }
}

/// The canonical text of a value whose lists are sorted.
fn unordered(value: &Value) -> Vec<u8> {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(items) => {
                let mut items: Vec<(Vec<u8>, Value)> =
                    items.iter().map(|item| (unordered(item), sorted(item))).collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Array(items.into_iter().map(|(_, item)| item).collect())
            }
            Value::Object(map) => {
                Value::Object(map.iter().map(|(key, item)| (key.clone(), sorted(item))).collect())
            }
            other => other.clone(),
        }
    }
    let mut text = Vec::new();
    crate::digest::write_canonical(&sorted(value), &mut text);
    text
}
