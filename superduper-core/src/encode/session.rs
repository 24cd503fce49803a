//! The thread-local session of an encoding: what components and artifacts register themselves with.

use super::{
    Encoded, MAX_DEPTH,
    decode::{COPIES, FREE_COPIES},
    serializer::to_value,
    shape::{self, Mark, Shape},
    tree::{BlobUse, ChildUse, Record, Tree, find_marks},
};
use crate::unreturned::Unreturned;
use crate::{
    address::check_identifier,
    artifact::BlobHandle,
    component::Component,
    error::{Error, ErrorKind, Result},
    panics,
};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};
use serde_json::Value;
use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The newtype name by which the serializer knows a key of ours.
pub(crate) const RAW_KEY: &str = "$superduper::Key";

/// An object key of superduper's own, such as `$ref`; other keys that begin with `$` are escaped.
#[doc(hidden)]
pub(crate) struct RawKey(pub(crate) &'static str);

impl Serialize for RawKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(RAW_KEY, self.0)
    }
}

/// One step of a path inside a component.
pub(crate) enum Segment {
    Key(Cow<'static, str>),
    Index(usize),
}

#[derive(Default)]
struct Frame {
    /// The component whose fields these are; empty outside of any.
    owner: String,
    path: Vec<Step>,
    children: Vec<usize>,
    blobs: Vec<Arc<BlobHandle>>,
    shape: Shape,
}

/// A segment that was entered.
struct Step {
    segment: Segment,
    /// The place in the shape.
    place: u64,
    /// The total of the shape before.
    before: u64,
}

impl Frame {
    fn place(&self) -> u64 {
        self.path.last().map_or(shape::ROOT, |step| step.place)
    }
}

struct Session {
    /// Whether components become records of their own; else they are written inline.
    tree: bool,
    stack: Vec<Frame>,
    records: Vec<Record>,
    /// Where each record was met first.
    places: Vec<String>,
    by_path: HashMap<String, usize>,
    /// A shared component is encoded once: its place in memory, while the session borrows the tree.
    by_place: HashMap<(usize, &'static str), usize>,
    /// The places that stay taken while the session lasts: those of the root and of what is reached
    /// from it by references. Another component may be made and dropped while its parent is
    /// written, and the next one be made in its place.
    lasting: HashSet<(usize, &'static str)>,
    /// How many components were encoded, those included that gave no record of their own.
    encoded: usize,
    /// Inside what belongs to no shape, if above 0.
    shapeless: u32,
    blobs: Vec<Arc<BlobHandle>>,
    error: Option<Error>,
    /// How to mend the error that serde carries as a text.
    hint: Option<&'static str>,
    /// Whether infinity and NaN are marked; else they are refused.
    marks_floats: bool,
}

impl Session {
    fn new(tree: bool) -> Self {
        Session {
            tree,
            stack: vec![Frame::default()],
            records: Vec::new(),
            places: Vec::new(),
            by_path: HashMap::new(),
            by_place: HashMap::new(),
            lasting: HashSet::new(),
            encoded: 0,
            shapeless: 0,
            blobs: Vec::new(),
            error: None,
            hint: None,
            marks_floats: false,
        }
    }

    /// An error of the serializer, with its hint.
    fn refuse(&mut self, text: String) -> Error {
        let error = Error::new(ErrorKind::Encode, text);
        match self.hint.take() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    fn path(&self) -> String {
        self.stack.last().map(|frame| path_text(&frame.path)).unwrap_or_default()
    }

    /// The component and field that are being written.
    fn place(&self) -> String {
        match self.stack.last() {
            Some(frame) if !frame.owner.is_empty() => {
                format!("`{}` in `{}`", path_text(&frame.path), frame.owner)
            }
            _ => "the root".to_owned(),
        }
    }
}

/// A path as text; the middle of a very long one is left out.
fn path_text(path: &[Step]) -> String {
    const ENDS: usize = 10;
    let mut text = String::new();
    let left_out = if path.len() > 3 * ENDS { ENDS..path.len() - ENDS } else { 0..0 };
    for (index, step) in path.iter().enumerate() {
        if left_out.contains(&index) {
            if index == left_out.start {
                text.push('…');
            }
            continue;
        }
        match &step.segment {
            Segment::Key(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Segment::Index(index) => {
                write!(text, "[{index}]").ignored("writing to a string does not fail");
            }
        }
    }
    text
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

fn with<R>(use_session: impl FnOnce(&mut Session) -> R) -> Option<R> {
    SESSION.with(|cell| cell.borrow_mut().as_mut().map(use_session))
}

/// Puts the outer session back, also when user code panics.
struct Restore(Option<Option<Session>>);

impl Restore {
    fn enter(session: Session) -> Self {
        Restore(Some(SESSION.with(|cell| cell.replace(Some(session)))))
    }

    fn finish(mut self) -> Option<Session> {
        let outer = self.0.take().flatten();
        SESSION.with(|cell| cell.replace(outer))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(outer) = self.0.take() {
            SESSION.with(|cell| cell.replace(outer));
        }
    }
}

/// Encode a component and all below it: children before parents, shared ones once.
pub(crate) fn encode_tree(component: &dyn Component) -> Result<Tree> {
    let restore = Restore::enter(Session::new(true));
    with(|session| session.lasting.insert(place_of(component)));
    let written = catch_unwind(AssertUnwindSafe(|| {
        serialize_component(component, serde_json::value::Serializer)
    }));
    let Some(session) = restore.finish() else {
        return Err(Error::internal("the encode session was lost"));
    };
    let written = written.map_err(|panic| {
        let whole = format!("`{}/{}`", component.kind(), component.identifier());
        let place = if session.stack.len() > 1 { session.place() } else { whole };
        panics::error(&format!("encoding {place}"), &*panic)
    })?;
    match (session.error, written) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(Error::new(ErrorKind::Encode, error.to_string())),
        (None, Ok(_)) => {
            Ok(Tree { records: in_document_order(session.records), blobs: session.blobs })
        }
    }
}

/// Children before parents, siblings as in their parent's document: hash maps are walked in another
/// order each time.
fn in_document_order(records: Vec<Record>) -> Vec<Record> {
    let mut order = Vec::with_capacity(records.len());
    let mut entered = vec![false; records.len()];
    // An explicit stack, with the child that is next: trees may be deeper than the thread's.
    let mut stack: Vec<(usize, usize)> = Vec::new();
    if let Some(root) = records.len().checked_sub(1) {
        stack.push((root, 0));
    }
    while let Some((index, next)) = stack.pop() {
        entered[index] = true;
        match records[index].children.get(next) {
            Some(child) => {
                stack.push((index, next + 1));
                if !entered[child.index] {
                    stack.push((child.index, 0));
                }
            }
            None => order.push(index),
        }
    }
    if order.len() != records.len() || order.is_sorted() {
        return records;
    }
    let mut place = vec![0; records.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = new;
    }
    let mut records: Vec<Option<Record>> = records.into_iter().map(Some).collect();
    let sorted = order.into_iter().filter_map(|old| records[old].take());
    sorted
        .map(|mut record| {
            record.children.iter_mut().for_each(|child| child.index = place[child.index]);
            record
        })
        .collect()
}

/// Encode a value that is no component's document, with or without marks for infinity and NaN;
/// gives its shape too.
pub(super) fn encode_value<T: Serialize + ?Sized>(
    value: &T,
    marks_floats: bool,
) -> Result<(Encoded, Shape)> {
    let restore = Restore::enter(Session { marks_floats, ..Session::new(false) });
    let written = catch_unwind(AssertUnwindSafe(|| to_value(value)));
    let Some(mut session) = restore.finish() else {
        return Err(Error::internal("the encode session was lost"));
    };
    let written = written.map_err(|panic| {
        let path = session.path();
        let place =
            if path.is_empty() { "a value".to_owned() } else { format!("a value at `{path}`") };
        panics::error(&format!("encoding {place}"), &*panic)
    })?;
    match (session.error, written) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(Error::new(ErrorKind::Encode, error.to_string())),
        (None, Ok(value)) => {
            let shape = session.stack.pop().map(|frame| frame.shape).unwrap_or_default();
            Ok((Encoded { value, blobs: session.blobs }, shape))
        }
    }
}

/// Write a component: a reference inside a tree session, the whole component elsewhere.
#[doc(hidden)]
pub fn serialize_component<S: Serializer>(
    component: &dyn Component,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let in_tree = with(|session| session.tree).unwrap_or(false);
    if !in_tree {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry(&RawKey("$kind"), component.kind())?;
        map.serialize_entry(&RawKey("$version"), &component.__spec().version)?;
        map.serialize_entry(&RawKey("$body"), &Body(component))?;
        return map.end();
    }
    let index = stacker::maybe_grow(128 * 1024, 2 * 1024 * 1024, || record(component))
        .map_err(S::Error::custom)?;
    let address = with(|session| {
        if let Some(frame) = session.stack.last_mut() {
            frame.children.push(index);
        }
        session.records[index].path()
    });
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(&RawKey("$ref"), &address.unwrap_or_default())?;
    map.end()
}

/// Components inside are part of the value that holds them: written whole, with no name and version
/// of their own.
///
/// Without it a component held by another one is stored once for all who hold it.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub struct Inline<T>(pub T);

/// Lets components become records again, also when user code panics.
struct Reenter(bool);
impl Drop for Reenter {
    fn drop(&mut self) {
        with(|session| session.tree = self.0);
    }
}

impl<T: Serialize> Serialize for Inline<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let before = with(|session| std::mem::replace(&mut session.tree, false)).unwrap_or(false);
        let _reenter = Reenter(before);
        self.0.serialize(serializer)
    }
}

struct Body<'a>(&'a dyn Component);
impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        erased_serde::serialize(&*self.0.__body(), serializer)
    }
}

/// Zero-sized components cannot exist: each has an identifier, so a place belongs to one of them.
fn place_of(component: &dyn Component) -> (usize, &'static str) {
    (std::ptr::from_ref(component).cast::<()>().addr(), component.kind())
}

/// Make sure that the session has a record of the component; gives its index.
fn record(component: &dyn Component) -> Result<usize, String> {
    let (kind, identifier) = (component.kind(), component.identifier());
    let place = place_of(component);
    let known = with(|session| {
        let index = *session.by_place.get(&place)?;
        (session.records[index].identifier == identifier).then_some(index)
    });
    if let Some(Some(index)) = known {
        return Ok(index);
    }
    let (lasts, copies) = with(|session| {
        session.encoded += 1;
        let copies = session.encoded > FREE_COPIES + COPIES * session.records.len();
        (session.lasting.contains(&place), copies)
    })
    .unwrap_or_default();
    if copies {
        let text = format!(
            "`{kind}/{identifier}` and what it holds are shared so often that encoding would not end"
        );
        return Err(stop(
            Error::new(ErrorKind::Encode, text).with_hint("share components across fewer layers"),
        ));
    }
    if lasts {
        component.__visit_children(&mut |child| {
            with(|session| session.lasting.insert(place_of(child)));
        });
    }
    if let Err(error) = check_identifier(identifier) {
        return Err(stop(error.context(format_args!("component of kind `{kind}`"))));
    }
    component.__visit_outputs(&mut |name, output| output.name(name));
    let depth = with(|session| {
        session.stack.push(Frame { owner: format!("{kind}/{identifier}"), ..Frame::default() });
        session.stack.len()
    });
    if depth.unwrap_or(0) > MAX_DEPTH + 1 {
        return Err(stop(Error::new(
            ErrorKind::Encode,
            format!("the tree of components is deeper than {MAX_DEPTH} at `{kind}/{identifier}`"),
        )));
    }
    let body = to_value(&Body(component));
    let frame = with(|session| session.stack.pop()).flatten().unwrap_or_default();
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            let at = path_text(&frame.path);
            let at = if at.is_empty() { String::new() } else { format!(": field `{at}`") };
            let text = format!("`{kind}/{identifier}`{at}: {error}");
            let error = with(|session| session.refuse(text.clone()))
                .unwrap_or_else(|| Error::new(ErrorKind::Encode, text));
            return Err(stop(error));
        }
    };
    let marks = find_marks(&body);
    let result = with(|session| {
        let children: Vec<ChildUse> = marks
            .refs
            .into_iter()
            .filter_map(|(path, address)| {
                let index = *session.by_path.get(&address)?;
                Some(ChildUse { path, index, address })
            })
            .collect();
        let found: HashSet<usize> = children.iter().map(|child| child.index).collect();
        if let Some(lost) = frame.children.iter().find(|index| !found.contains(index)) {
            return Err(Error::new(
                ErrorKind::Encode,
                format!("`{kind}/{identifier}` holds `{}` in a place that cannot be found in its document", session.records[*lost].path()),
            )
            .with_hint("let serde write the field itself, without going through a text or another serializer"));
        }
        let handles: HashMap<String, &Arc<BlobHandle>> = frame
            .blobs
            .iter()
            .flat_map(|handle| handle.names().map(move |name| (name, handle)))
            .collect();
        let blobs = marks
            .blobs
            .into_iter()
            .filter_map(|(path, name)| {
                Some(BlobUse { path, handle: (*handles.get(&name)?).clone() })
            })
            .collect();
        let record = Record::new(component, body, frame.shape, children, blobs);
        let path = record.path();
        if let Some(index) = session.by_path.get(&path).copied() {
            let known = &session.records[index];
            if known.body != record.body {
                let (one, other) = (hashed_body(known)?, hashed_body(&record)?);
                if one != other {
                    let (field, ..) = super::first_difference(&one, &other);
                    return Err(Error::invalid(format!(
                        "two different components are both named `{kind}/{identifier}`: {} and {}; they differ in `{field}`",
                        session.places[index],
                        session.place(),
                    ))
                    .with_hint("give one of them another identifier, or share one value with `Arc`"));
                }
            }
            if lasts {
                session.by_place.insert(place, index);
            }
            return Ok(index);
        }
        let index = session.records.len();
        session.records.push(record);
        let met = session.place();
        session.places.push(met);
        session.by_path.insert(path, index);
        if lasts {
            session.by_place.insert(place, index);
        }
        Ok(index)
    });
    match result {
        Some(Ok(index)) => Ok(index),
        Some(Err(error)) => Err(stop(error)),
        None => Err("the encode session was lost".to_owned()),
    }
}

/// The body with the digests of its blobs, for a comparison that names cannot decide: reads the
/// blobs.
fn hashed_body(record: &Record) -> Result<Value> {
    let names: Vec<(String, &Arc<BlobHandle>)> =
        record.blobs.iter().map(|blob| (blob.handle.name(), &blob.handle)).collect();
    names.iter().try_for_each(|(_, handle)| handle.hash())?;
    let pending = names.iter().map(|(name, handle)| (name.as_str(), *handle)).collect();
    let mut body = record.body.clone();
    super::tree::patch_pending(&mut body, &pending);
    Ok(body)
}

/// Keep the first typed error of the session; serde only carries its text.
fn stop(error: Error) -> String {
    let text = error.to_string();
    with(|session| {
        if session.error.is_none() {
            session.error = Some(error);
        }
    });
    text
}

/// Register an artifact's blob; false outside of a session.
pub(crate) fn note_blob(handle: &Arc<BlobHandle>) -> bool {
    with(|session| {
        if !session.blobs.iter().any(|known| Arc::ptr_eq(known, handle)) {
            session.blobs.push(handle.clone());
        }
        if let Some(frame) = session.stack.last_mut() {
            frame.blobs.push(handle.clone());
        }
    })
    .is_some()
}

pub(super) fn enter(segment: Segment) {
    with(|session| {
        if let Some(frame) = session.stack.last_mut() {
            let place = match &segment {
                Segment::Key(key) => shape::member(frame.place(), key),
                Segment::Index(_) => shape::item(frame.place()),
            };
            frame.path.push(Step { segment, place, before: frame.shape.total() });
        }
    });
}

pub(super) fn leave() {
    with(|session| {
        if let Some(frame) = session.stack.last_mut()
            && let Some(step) = frame.path.pop()
            && frame.path.is_empty()
            // Fields of structs, not the keys of maps.
            && let Segment::Key(Cow::Borrowed(name)) = step.segment
        {
            frame.shape.close_field(name, step.before);
        }
    });
}

/// Serde was told this of the value at the current path.
pub(super) fn mark(mark: Mark) {
    shaped(|frame| {
        let place = frame.place();
        frame.shape.add(place, mark);
        if matches!(mark, Mark::Single) && !frame.owner.is_empty() {
            frame.shape.add_single(place);
        }
    });
}

/// Serde was told this name of a type.
pub(super) fn mark_name(name: &str) {
    shaped(|frame| frame.shape.add_name(frame.place(), name));
}

/// A `Some` at the current path was written as null.
pub(super) fn note_empty_some() {
    shaped(|frame| {
        let path = path_text(&frame.path);
        frame.shape.empty_somes.push(path);
    });
}

fn shaped(add: impl FnOnce(&mut Frame)) {
    with(|session| {
        if session.shapeless == 0
            && let Some(frame) = session.stack.last_mut()
        {
            add(frame);
        }
    });
}

/// Lets the session take note of shapes again, also when user code panics.
struct Reshape;
impl Drop for Reshape {
    fn drop(&mut self) {
        with(|session| session.shapeless -= 1);
    }
}

/// Write something of superduper's own whose form says nothing of the value: the reference to a
/// blob grows when the blob is hashed.
pub(crate) fn without_shape<R>(write: impl FnOnce() -> R) -> R {
    mark(Mark::Blob);
    let reshape = with(|session| {
        session.shapeless += 1;
        Reshape
    });
    let written = write();
    drop(reshape);
    written
}

/// An output was met at the current path; it must be a direct field of a component.
pub(super) fn note_output() {
    with(|session| {
        let depth = session.stack.last().map_or(0, |frame| frame.path.len());
        if session.tree && depth != 1 && session.error.is_none() {
            let place = session.place();
            session.error = Some(
                Error::new(ErrorKind::Encode, format!("field {place} is an `Output` inside another value"))
                    .with_hint("an `Output<T>` must be a direct field of the component, not of a struct or list inside it"),
            );
        }
    });
}

/// An error at the current path of a value that is no component: keep it with the path.
pub(super) fn note_error(text: &str) {
    with(|session| {
        // That of a component is built where its record ends.
        let in_component = session.stack.last().is_some_and(|frame| !frame.owner.is_empty());
        if !in_component && session.error.is_none() {
            let path = session.path();
            let at = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
            session.error = Some(session.refuse(format!("{at}{text}")));
        }
    });
}

/// How to mend the error that comes next.
pub(super) fn note_hint(hint: &'static str) {
    with(|session| session.hint = Some(hint));
}

/// Whether the value that is being written may hold infinity and NaN.
pub(super) fn marks_floats() -> bool {
    with(|session| session.marks_floats).unwrap_or(false)
}
