//! Where a strict reader is in a document, what it ignored, and where it failed.
//!
//! Stored values are read without it. It is apart from the session of the decoder, because it is
//! asked at each member.

use crate::component::Flattened;
use serde_json::Value;
use std::{cell::RefCell, collections::HashMap, sync::Arc};

/// The documents that are read together.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// Their places, by address.
    places: HashMap<String, usize>,
    /// The documents, if one of them refers to another one.
    values: Vec<Value>,
}

impl Documents {
    /// These documents, with their addresses where they have one.
    pub(crate) fn new(values: &[Value], addresses: &[Option<String>]) -> Self {
        if !values.iter().any(refers) {
            return Documents::default();
        }
        let named = addresses.iter().enumerate().rev();
        Documents {
            places: named.filter_map(|(place, address)| Some((address.clone()?, place))).collect(),
            values: values.to_vec(),
        }
    }

    /// The place of the document with this address.
    pub(crate) fn place(&self, address: &str) -> Option<usize> {
        self.places.get(address).copied()
    }

    /// The addresses that can be referred to.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }
}

/// Whether a document refers to anything.
fn refers(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(refers),
        Value::Object(map) => map.contains_key("$ref") || map.values().any(refers),
        _ => false,
    }
}

/// What a strict reader found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Where it failed, as a JSON pointer.
    pub(crate) failed: Option<String>,
    /// Whether it failed in a document that this one refers to.
    pub(crate) elsewhere: bool,
    /// The members that nothing reads.
    pub(crate) ignored: Vec<Ignored>,
}

/// A member that nothing reads.
#[derive(Debug)]
pub(crate) struct Ignored {
    /// Its place, as a JSON pointer.
    pub(crate) pointer: String,
    pub(crate) key: String,
    /// The members that the type has.
    pub(crate) known: &'static [&'static str],
}

struct Track {
    documents: Arc<Documents>,
    /// The documents that are read, one inside of the other.
    open: Vec<usize>,
    /// How many references were followed.
    followed: usize,
    path: Vec<Step>,
    /// The members of the struct at the root.
    known: &'static [&'static str],
    /// The flattened settings of the component at the root.
    settings: &'static [Flattened],
    found: Found,
}

struct Step {
    segment: Segment,
    /// The members of the struct here.
    known: &'static [&'static str],
    /// The flattened settings of the component here.
    settings: &'static [Flattened],
}

/// A step on the way to a value.
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

thread_local! {
    static TRACK: RefCell<Option<Track>> = const { RefCell::new(None) };
}

struct Restore(Option<Track>);
impl Drop for Restore {
    fn drop(&mut self) {
        let outer = self.0.take();
        TRACK.with(|cell| cell.replace(outer));
    }
}

fn with<R>(change: impl FnOnce(&mut Track) -> R) -> Option<R> {
    TRACK.with(|cell| cell.borrow_mut().as_mut().map(change))
}

/// Follow what is read from the document at this place.
pub(crate) fn tracked<R>(
    documents: Arc<Documents>,
    place: usize,
    work: impl FnOnce() -> R,
) -> (R, Found) {
    let track = Track {
        documents,
        open: vec![place],
        followed: 0,
        path: Vec::new(),
        known: &[],
        settings: &[],
        found: Found::default(),
    };
    let restore = Restore(TRACK.with(|cell| cell.replace(Some(track))));
    let result = work();
    let found = with(|track| std::mem::take(&mut track.found)).unwrap_or_default();
    drop(restore);
    (result, found)
}

/// Go on to a member or item.
pub(super) fn enter(segment: Segment) {
    with(|track| track.path.push(Step { segment, known: &[], settings: &[] }));
}

/// Leave what was entered last.
pub(super) fn leave(failed: bool) {
    with(|track| {
        if !failed {
            // An error inside that the reader did not mind.
            track.found.failed = None;
        } else if track.found.failed.is_none() {
            track.found.failed = Some(track.pointer());
            track.found.elsewhere = track.open.len() > 1;
        }
        track.path.pop();
    });
}

/// A struct with these members is read here.
pub(super) fn know(known: &'static [&'static str]) {
    with(|track| match track.path.last_mut() {
        Some(step) => step.known = known,
        None => track.known = known,
    });
}

/// A component with these settings is read here. Its document has their members among its own.
pub(super) fn spread(settings: &'static [Flattened]) {
    with(|track| match track.path.last_mut() {
        Some(step) => step.settings = settings,
        None => track.settings = settings,
    });
}

/// What is here is not read.
pub(super) fn ignore() {
    with(|track| {
        let Some(Step { segment: Segment::Key(key), .. }) = track.path.last() else { return };
        // The document that has it says so itself.
        if track.open.len() > 1 {
            return;
        }
        let holder = track.path.len().checked_sub(2).map(|at| track.path[at].known);
        let known = holder.unwrap_or(track.known);
        // Documents have it as they are stored.
        if known == ["$callable"] && key == "code" {
            return;
        }
        let ignored = Ignored { pointer: track.pointer(), key: key.clone(), known };
        track.found.ignored.push(ignored);
    });
}

/// What a reference leads to.
pub(super) enum Followed {
    /// The document, which is open until [`close`].
    Document(Value),
    /// There is none of this address.
    None,
    /// It is being read, or so many were that it would not end.
    Endless,
}

/// Follow a reference to another document.
pub(super) fn follow(address: &str) -> Followed {
    with(|track| {
        let Some(place) = track.documents.place(address) else { return Followed::None };
        track.followed += 1;
        let most =
            super::decode::FREE_COPIES + super::decode::COPIES * track.documents.values.len();
        if track.open.contains(&place) || track.followed > most {
            return Followed::Endless;
        }
        track.open.push(place);
        Followed::Document(track.documents.values[place].clone())
    })
    .unwrap_or(Followed::None)
}

/// Leave the document that was followed last.
pub(super) fn close(failed: bool) {
    with(|track| {
        if failed && track.found.failed.is_none() {
            track.found.failed = Some(track.pointer());
            track.found.elsewhere = true;
        }
        track.open.pop();
    });
}

impl Track {
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        let mut settings = self.settings;
        for step in &self.path {
            let around = std::mem::replace(&mut settings, step.settings);
            match &step.segment {
                // The document does not have the field of the settings, but what is in it.
                Segment::Key(key) if around.iter().any(|of| of.key == key.as_str()) => continue,
                _ => pointer.push('/'),
            }
            match &step.segment {
                Segment::Key(key) => pointer.push_str(&escape(key)),
                Segment::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

/// A key as a JSON pointer has it.
pub(crate) fn escape(key: &str) -> std::borrow::Cow<'_, str> {
    if key.contains(['~', '/']) {
        key.replace('~', "~0").replace('/', "~1").into()
    } else {
        key.into()
    }
}
