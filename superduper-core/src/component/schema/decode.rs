//! [`Registry::decode`]: documents that people write.
//!
//! 1. All documents are checked by the nodes of their kinds, which finds nearly all mistakes.
//! 2. Where there are none, the documents are decoded, and what serde ignores is noted.
//! 3. Where there are some, the values that nodes do not know are read as well, one by one, so that
//!    no mistake hides another one.

use super::{
    Report,
    check::{Checker, address_of},
    mistake::Mistake,
    reading::{self, Documents, Read, mistake_of},
};
use crate::{
    component::{Component, registry::Registry},
    encode::{DecodeEnv, Stored, in_decode_session, tracked},
    error::{Error, Result},
    json::{check_readable, nesting, with_stack_for},
};
use serde_json::Value;
use std::sync::Arc;

impl Registry {
    /// Read documents that people or programs write, strictly. The components are as if a builder
    /// had made them: `postinit` has run, and [`Db::apply`](crate::Db::apply) takes them.
    ///
    /// A document is an object of the fields of a component with its kind:
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::{Registry, prelude::*};
    ///
    /// #[derive(Component)]
    /// #[component(kind = "doc.Layer")]
    /// struct Layer {
    ///     identifier: String,
    ///     width: u32,
    ///     note: Option<String>,
    /// }
    ///
    /// let registry = Registry::linked()?;
    /// let layer = json!({"kind": "doc.Layer", "identifier": "l1", "width": 3});
    /// let components = registry.decode(&[layer])?;
    /// assert_eq!(components[0].identifier(), "l1");
    ///
    /// let wrong = json!({"kind": "doc.Layer", "identifier": "l1", "width": -3, "notes": "first"});
    /// let error = registry.decode(&[wrong]).unwrap_err();
    /// let places: Vec<&str> = error.mistakes().iter().map(|mistake| mistake.pointer()).collect();
    /// assert_eq!(places, ["/notes", "/width"]);
    /// assert_eq!(error.mistakes()[0].did_you_mean(), Some("note"));
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// [`Registry::schema`] says what the documents of a kind look like; `docs/documents.md` has
    /// all forms of fields. A component inside another one is written in its place, or as
    /// `{"$ref": "Kind/identifier"}` of another document;
    /// [`Db::decode_documents`](crate::Db::decode_documents) takes references to stored components, too.
    ///
    /// # Errors
    /// `InvalidInput` with all mistakes of all documents, see [`Error::mistakes`]: members that
    /// nothing reads, values of another type, missing fields, unknown kinds and callables, outputs,
    /// values in the place of secrets, and errors of `postinit`.
    pub fn decode(&self, documents: &[Value]) -> Result<Vec<Box<dyn Component>>> {
        let env = DecodeEnv::new(Arc::new(self.clone()), None);
        decode(&Arc::new(env), documents)
    }
}

/// Read documents; they may refer to what `env` has.
pub(crate) fn decode(env: &Arc<DecodeEnv>, documents: &[Value]) -> Result<Vec<Box<dyn Component>>> {
    for (place, document) in documents.iter().enumerate() {
        check_readable(document, format_args!("document {place}"))?;
    }
    let levels = documents.iter().map(nesting).max().unwrap_or(0);
    with_stack_for(4 * levels, || {
        let addresses: Vec<Option<String>> = documents
            .iter()
            .map(|document| address_of(env, document).map(|address| address.path()))
            .collect();
        let all = Arc::new(Documents::new(documents, &addresses));
        let mut report = check(env, &all, documents, &addresses, false);
        if report.mistakes.is_empty() {
            match read(env, &all, documents) {
                Ok(components) => return Ok(components),
                Err(found) => report = found,
            }
        }
        // Once more, with all values read.
        let mut whole = check(env, &all, documents, &addresses, true);
        let is_new = |mistake: &Mistake| !whole.mistakes.iter().any(|other| same(other, mistake));
        let further: Vec<Mistake> = report.mistakes.into_iter().filter(is_new).collect();
        whole.mistakes.extend(further);
        whole.mistakes.sort_by_key(Mistake::document);
        whole.source = report.source;
        Err(whole.into_error(documents.len()))
    })
}

fn same(one: &Mistake, other: &Mistake) -> bool {
    one.document() == other.document() && one.pointer() == other.pointer()
}

fn check(
    env: &Arc<DecodeEnv>,
    all: &Arc<Documents>,
    documents: &[Value],
    addresses: &[Option<String>],
    reads: bool,
) -> Report {
    let mut report = Report::default();
    for (document, value) in documents.iter().enumerate() {
        let mistakes = &mut report.mistakes;
        let (base, path) = (String::new(), Vec::new());
        Checker { env, documents: all, document, reads, base, path, mistakes }.document(value);
    }
    for (document, first) in reading::named_twice(addresses) {
        let address = addresses[document].as_deref().unwrap_or_default();
        let problem = format!("document {first} is `{address}` as well");
        report.mistakes.push(Mistake::new(document, String::new(), problem, "another identifier"));
    }
    report
}

/// Decode all documents; they have no mistake that is known.
fn read(
    env: &Arc<DecodeEnv>,
    all: &Arc<Documents>,
    documents: &[Value],
) -> std::result::Result<Vec<Box<dyn Component>>, Report> {
    let mut components = Vec::with_capacity(documents.len());
    let mut report = Report::default();
    // Of a document that another one refers to; it has the mistake itself.
    let mut elsewhere: Option<(Mistake, Error)> = None;
    for (place, document) in documents.iter().enumerate() {
        let read = read_one(env, all, place, document);
        let (ignored, _) = read.parts(place, "");
        report.mistakes.extend(ignored);
        match read.result {
            Ok(component) => components.push(component),
            Err(error) => {
                let pointer = read.found.failed.unwrap_or_default();
                let mistake = mistake_of(&error, place, pointer);
                if read.found.elsewhere {
                    elsewhere.get_or_insert((mistake, error));
                } else {
                    report.mistakes.push(mistake);
                    report.source.get_or_insert(error);
                }
            }
        }
    }
    if report.mistakes.is_empty()
        && let Some((mistake, error)) = elsewhere
    {
        report.mistakes.push(mistake);
        report.source = Some(error);
    }
    if report.mistakes.is_empty() { Ok(components) } else { Err(report) }
}

fn read_one(
    env: &Arc<DecodeEnv>,
    all: &Arc<Documents>,
    place: usize,
    document: &Value,
) -> Read<Box<dyn Component>> {
    let (result, found) = tracked(all.clone(), place, || {
        in_decode_session(env, || crate::encode::decode_strict(Stored::strict(document.clone())))
    });
    Read { result, found }
}
