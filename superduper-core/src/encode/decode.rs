//! From documents to components: the thread-local decode session.
//!
//! Invariant: a document is decoded only by the type of its kind, and only if it is not of a newer
//! version of that type. `postinit` runs on every decoded component, children first.

use super::{
    serializer::unescape,
    stored::{RAW_VALUE, Stored, take_raw},
    track::{self, Followed},
};
use crate::{
    address::Address,
    artifact::BlobHandle,
    artifact::contract::ArtifactStore,
    component::{
        Component, ComponentType,
        registry::{Registration, Registry},
    },
    error::{Error, ErrorKind, Result},
    json::{check_readable, nesting, with_stack_for},
    panics::caught,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A stored component, as the decoder needs it.
#[derive(Debug, Clone)]
pub struct Document {
    /// The component's address; with its version where it is stored.
    pub address: Address,
    /// The version of the type that wrote it.
    pub type_version: u32,
    /// The declared fields.
    pub body: Value,
    /// The outputs that are set, by name.
    pub outputs: Map<String, Value>,
}

/// What decoding may refer to: documents of children, blobs, the types of this program.
pub struct DecodeEnv {
    pub(crate) registry: Arc<Registry>,
    pub(crate) artifacts: Option<Arc<dyn ArtifactStore>>,
    /// Documents by the text of their `$ref`.
    pub(crate) documents: HashMap<String, Document>,
    /// Blobs by name that are at hand, saved or not.
    blobs: Mutex<HashMap<String, Arc<BlobHandle>>>,
    /// Whether `postinit` runs on what is decoded.
    postinit: bool,
    /// Whether a `postinit` was left out that a type may have.
    left_out: AtomicBool,
}

impl std::fmt::Debug for DecodeEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DecodeEnv({} documents)", self.documents.len())
    }
}

impl DecodeEnv {
    pub(crate) fn new(registry: Arc<Registry>, artifacts: Option<Arc<dyn ArtifactStore>>) -> Self {
        DecodeEnv {
            registry,
            artifacts,
            documents: HashMap::new(),
            blobs: Mutex::default(),
            postinit: true,
            left_out: AtomicBool::new(false),
        }
    }

    /// For comparing what is decoded with what was encoded: `postinit` does not run.
    pub(crate) fn without_postinit(self) -> Self {
        DecodeEnv { postinit: false, ..self }
    }

    /// Whether a component was decoded whose type may have a `postinit`, which did not run.
    pub(crate) fn left_postinit_out(&self) -> bool {
        self.left_out.load(Ordering::Relaxed)
    }

    pub(crate) fn for_blobs(blobs: Vec<Arc<BlobHandle>>) -> Self {
        DecodeEnv::new(Registry::global(), None).with_blobs(&blobs)
    }

    pub(crate) fn with_blobs(self, blobs: &[Arc<BlobHandle>]) -> Self {
        self.add_blobs(blobs);
        self
    }

    /// From now on these blobs are at hand.
    pub(crate) fn add_blobs(&self, blobs: &[Arc<BlobHandle>]) {
        let mut known = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(
            blobs.iter().flat_map(|handle| handle.names().map(|name| (name, handle.clone()))),
        );
    }

    /// The handle of the blob that a `$blob` reference names.
    pub(crate) fn blob(&self, reference: Value) -> Result<Arc<BlobHandle>> {
        let name = reference.get("$blob").and_then(Value::as_str).unwrap_or_default().to_owned();
        let known = self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        match known {
            Some(handle) => Ok(handle),
            None => {
                BlobHandle::stored(reference, self.artifacts.clone(), owner(&name)).map(Arc::new)
            }
        }
    }
}

struct Session {
    env: Arc<DecodeEnv>,
    error: Option<Error>,
    /// What is being decoded, outermost first.
    owners: Vec<Owner>,
    /// How many components were decoded.
    decoded: usize,
}

/// A shared component is decoded once for each reference to it, those that it shares again for each
/// of those: layers of shared components would take for ever. More copies than this per document,
/// on average, are refused.
pub(super) const COPIES: usize = 100;
/// Copies that are allowed in any case.
pub(super) const FREE_COPIES: usize = 10_000;

/// A component or output being decoded, with the places of its blobs.
struct Owner {
    name: String,
    blobs: Vec<(String, String)>,
}

impl Owner {
    fn of(name: String, body: &Value) -> Self {
        Owner { name, blobs: super::tree::find_marks(body).blobs }
    }
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

struct Restore(Option<Session>);
impl Drop for Restore {
    fn drop(&mut self) {
        let outer = self.0.take();
        SESSION.with(|cell| cell.replace(outer));
    }
}

/// Name what is decoded from `body` in the current session, for errors about its blobs.
pub(super) fn name_owner(name: String, body: &Value) {
    SESSION.with(|cell| {
        if let Some(session) = cell.borrow_mut().as_mut() {
            session.owners.push(Owner::of(name, body));
        }
    });
}

/// Run `decode` with `env` as the current session and give its error, or the first typed one met on
/// the way.
pub(crate) fn in_decode_session<T>(
    env: &Arc<DecodeEnv>,
    decode: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let session = Session { env: env.clone(), error: None, owners: Vec::new(), decoded: 0 };
    let restore = Restore(SESSION.with(|cell| cell.replace(Some(session))));
    let owner = || {
        SESSION.with(|cell| {
            cell.borrow().as_ref().and_then(|session| Some(session.owners.last()?.name.clone()))
        })
    };
    let result =
        caught(|| format!("decoding {}", owner().unwrap_or_else(|| "a value".to_owned())), decode);
    let first =
        SESSION.with(|cell| cell.borrow_mut().as_mut().and_then(|session| session.error.take()));
    drop(restore);
    result.map_err(|error| first.unwrap_or(error))
}

/// The environment of the current session, or one that knows only the types of this program.
pub(crate) fn current_env() -> Arc<DecodeEnv> {
    let current = SESSION.with(|cell| cell.borrow().as_ref().map(|session| session.env.clone()));
    current.unwrap_or_else(|| Arc::new(DecodeEnv::new(Registry::global(), None)))
}

/// Who names a blob and in which field, for errors.
fn owner(blob: &str) -> String {
    let describe = |owner: &Owner| match owner.blobs.iter().find(|(_, name)| name == blob) {
        Some((path, _)) if !path.is_empty() => format!("{} (field `{path}`)", owner.name),
        _ => owner.name.clone(),
    };
    SESSION
        .with(|cell| cell.borrow().as_ref().and_then(|session| session.owners.last().map(describe)))
        .unwrap_or_default()
}

fn keep(error: Error) -> String {
    let text = error.to_string();
    SESSION.with(|cell| {
        if let Some(session) = cell.borrow_mut().as_mut()
            && session.error.is_none()
        {
            session.error = Some(error);
        }
    });
    text
}

/// What a serialized component looks like: a reference, or all of it in place.
enum Form {
    Reference(Document),
    Inline {
        kind: String,
        version: u32,
        body: Stored,
    },
    /// As a user wrote it: of the version that the type has.
    Written {
        kind: String,
        body: Stored,
        reference: bool,
    },
}

/// Takes the value of a component as it is stored, where it is part of a stored value.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Stored;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a component")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Stored, D::Error> {
        match take_raw() {
            Some(stored) => Ok(stored),
            None => Value::deserialize(deserializer).map(Stored::plain),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Stored, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(map)).map(Stored::plain)
    }
}

fn form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Form, D::Error> {
    let mut stored = deserializer.deserialize_newtype_struct(RAW_VALUE, ValueVisitor)?;
    if stored.is_strict()
        && let Some(written) =
            written(&mut stored).map_err(|error| D::Error::custom(keep(error)))?
    {
        return Ok(written);
    }
    let value = &mut stored.value;
    if let Some(Value::String(text)) = value.get("$ref") {
        let env = current_env();
        return match env.documents.get(text) {
            Some(document) => Ok(Form::Reference(document.clone())),
            None => Err(D::Error::custom(keep(Error::new(
                ErrorKind::NotFound,
                format!("component `{text}` is not at hand"),
            )))),
        };
    }
    let kind = value.get("$kind").and_then(Value::as_str).map(str::to_owned);
    let Some(kind) = kind else {
        return Err(D::Error::custom(
            "a component is `{\"$ref\": …}` or an object with `$kind`, `$version` and `$body`",
        ));
    };
    let version = value.get("$version").and_then(Value::as_u64).unwrap_or(1);
    let body = value.get_mut("$body").map(Value::take).unwrap_or_default();
    Ok(Form::Inline {
        kind,
        version: u32::try_from(version).unwrap_or(u32::MAX),
        body: stored.part(body),
    })
}

/// A component as a user wrote it; None for a reference to a stored one.
fn written(stored: &mut Stored) -> Result<Option<Form>> {
    if let Some(Value::String(address)) = stored.value.get("$ref") {
        return match track::follow(address) {
            Followed::Document(value) => {
                let (kind, body) = written_kind(&mut Stored::strict(value))?;
                Ok(Some(Form::Written { kind, body, reference: true }))
            }
            Followed::None => Ok(None),
            Followed::Endless => Err(Error::new(
                ErrorKind::Decode,
                format!("following the reference to `{address}` would not end"),
            )),
        };
    }
    let (kind, body) = written_kind(stored)?;
    Ok(Some(Form::Written { kind, body, reference: false }))
}

/// The kind that a user wrote, and the fields without it.
fn written_kind(stored: &mut Stored) -> Result<(String, Stored)> {
    let fields = stored.value.as_object_mut();
    let kind = fields.and_then(|fields| {
        let key = if fields.contains_key("$kind") { "$kind" } else { "kind" };
        match fields.remove(key) {
            Some(Value::String(kind)) => Some(kind),
            _ => None,
        }
    });
    match kind {
        Some(kind) => {
            let fields = stored.value.take();
            Ok((kind, stored.part(fields)))
        }
        None => Err(Error::new(
            ErrorKind::Decode,
            "this is no component, expected an object with `kind`, or `{\"$ref\": …}`",
        )),
    }
}

/// Decode a component as a user wrote it, of any kind. [`track`] knows what was found.
pub(crate) fn decode_strict(mut document: Stored) -> Result<Box<dyn Component>> {
    let (kind, body) = written_kind(&mut document)?;
    let registry = current_env().registry.clone();
    let entry = registry.entry(&kind)?;
    (entry.decode_inline)(&kind, entry.spec.version, body)
}

/// Read a value with a function that forgets it.
pub(crate) fn reader(
    value: Stored,
    read: crate::component::schema::Check,
) -> std::result::Result<(), serde_json::Error> {
    let mut track = serde_path_to_error::Track::new();
    read(serde_path_to_error::Deserializer::new(value, &mut track))
}

/// Leave the document that a reference led to.
fn closed<T>(reference: bool, read: Result<T>) -> Result<T> {
    if reference {
        track::close(read.is_err());
    }
    read
}

/// Deserialize a component of a known type.
///
/// # Errors
/// Those of the deserializer, with the session keeping the typed error.
#[doc(hidden)]
pub fn deserialize_typed<'de, T: ComponentType, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    match form(deserializer)? {
        Form::Reference(document) => decode_document(&document),
        Form::Inline { kind, version, body } => decode_inline(&kind, version, body),
        Form::Written { kind, body, reference } => {
            closed(reference, decode_inline(&kind, T::SPEC.version, body))
        }
    }
    .map_err(|error| D::Error::custom(keep(error)))
}

/// Deserialize a component of any registered type.
///
/// # Errors
/// Those of the deserializer, with the session keeping the typed error.
#[doc(hidden)]
pub(super) fn deserialize_boxed<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Box<dyn Component>, D::Error> {
    let registry = current_env().registry.clone();
    match form(deserializer)? {
        Form::Reference(document) => {
            registry.entry(&document.address.kind).and_then(|entry| (entry.decode)(&document))
        }
        Form::Inline { kind, version, body } => {
            registry.entry(&kind).and_then(|entry| (entry.decode_inline)(&kind, version, body))
        }
        Form::Written { kind, body, reference } => {
            let decode =
                |entry: &Registration| (entry.decode_inline)(&kind, entry.spec.version, body);
            closed(reference, registry.entry(&kind).and_then(decode))
        }
    }
    .map_err(|error| D::Error::custom(keep(error)))
}

impl<'de> Deserialize<'de> for Box<dyn Component> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_boxed(deserializer)
    }
}

impl serde::Serialize for dyn Component {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize_component(self, serializer)
    }
}

/// Decode a stored document as a component of type `T`.
///
/// # Errors
/// `Decode` for another kind, a newer type version, or a field that does not fit; the error of
/// `postinit`.
pub(crate) fn decode_body<T: ComponentType>(document: &Document) -> Result<T> {
    decode_document(document)
}

fn decode_document<T: ComponentType>(document: &Document) -> Result<T> {
    let address = document.address.to_string();
    check_kind::<T>(&document.address.kind, &address)?;
    check_readable(&document.body, format_args!("the document of `{address}`"))?;
    let env = current_env();
    let component = decode_parts::<T>(
        document.type_version,
        Stored::plain(unescape(document.body.clone())),
        &address,
        |component| {
            component.__outputs(&mut |name, cell| {
                cell.bind(name, &address, document.outputs.get(name), &env)
            });
        },
    )?;
    if component.__identifier() != document.address.identifier {
        return Err(Error::new(
            ErrorKind::Decode,
            format!(
                "`{address}`: `postinit` or decoding changed the identifier to `{}`",
                component.__identifier()
            ),
        ));
    }
    Ok(component)
}

fn decode_inline<T: ComponentType>(kind: &str, version: u32, body: Stored) -> Result<T> {
    check_kind::<T>(kind, kind)?;
    if body.is_strict() {
        let identifier = body.value.get(T::SPEC.identifier).and_then(Value::as_str);
        let address = format!("{kind}/{}", identifier.unwrap_or("?"));
        // As a builder would make it.
        let name = |component: &T| component.__outputs(&mut |name, output| output.name(name));
        return decode_parts::<T>(version, body, &address, name);
    }
    decode_parts::<T>(version, body, kind, |_| ())
}

/// [`decode_document`] for the registry.
pub(crate) fn decode_boxed<T: ComponentType>(document: &Document) -> Result<Box<dyn Component>> {
    Ok(Box::new(decode_document::<T>(document)?))
}

/// [`decode_inline`] for the registry.
pub(crate) fn decode_inline_boxed<T: ComponentType>(
    kind: &str,
    version: u32,
    body: Stored,
) -> Result<Box<dyn Component>> {
    Ok(Box::new(decode_inline::<T>(kind, version, body)?))
}

fn check_kind<T: ComponentType>(kind: &str, address: &str) -> Result<()> {
    if kind == T::__kind() || T::SPEC.aliases.contains(&kind) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Decode,
        format!(
            "`{address}` is not a `{}`, which is of kind `{}`",
            std::any::type_name::<T>(),
            T::__kind()
        ),
    ))
}

fn decode_parts<T: ComponentType>(
    from: u32,
    body: Stored,
    address: &str,
    bind: impl FnOnce(&T),
) -> Result<T> {
    let spec = T::SPEC;
    if from > spec.version {
        return Err(Error::new(
            ErrorKind::Decode,
            format!("`{address}` was written by version {from} of its type; this program has version {}", spec.version),
        )
        .with_hint("run a build that has the newer type"));
    }
    let (depth, copies) = SESSION.with(|cell| {
        cell.borrow_mut().as_mut().map_or((0, false), |session| {
            session.owners.push(Owner::of(format!("`{address}`"), &body.value));
            session.decoded += 1;
            // Without documents there are no references: what is written in place is no copy of
            // anything.
            let documents = session.env.documents.len();
            (
                session.owners.len(),
                documents > 0 && session.decoded > FREE_COPIES + COPIES * documents,
            )
        })
    });
    if copies {
        let text =
            format!("`{address}` and what it holds are shared so often that loading would not end");
        return Err(Error::new(ErrorKind::Decode, text)
            .with_hint("share components across fewer layers, or load them one by one"));
    }
    if depth > super::MAX_DEPTH + 1 {
        return Err(Error::new(
            ErrorKind::Decode,
            format!("the tree of components is deeper than {} at `{address}`", super::MAX_DEPTH),
        ));
    }
    let result = with_stack_for(nesting(&body.value), || {
        let body = if from < spec.version {
            let what = format!("`{address}`: migration from type version {from}");
            let body = body.into_plain();
            caught(
                || what.clone(),
                || {
                    T::__migrate(from, body)
                        .map(Stored::plain)
                        .map_err(|error| error.context(&what))
                },
            )?
        } else {
            body
        };
        let mut component =
            caught(|| format!("`{address}`: decoding"), || read_fields::<T>(body, address))?;
        bind(&component);
        let env = current_env();
        if env.postinit {
            let postinit = || {
                component
                    .__postinit()
                    .map_err(|error| error.context(format_args!("`{address}`: postinit")))
            };
            caught(|| format!("`{address}`: postinit"), postinit)?;
        } else if component.__has_lifecycle() {
            env.left_out.store(true, Ordering::Relaxed);
        }
        Ok(component)
    });
    SESSION.with(|cell| {
        if let Some(session) = cell.borrow_mut().as_mut() {
            session.owners.pop();
        }
    });
    result
}

/// A value that is the content of an `Option`: to be read as `Some`, whatever it is.
pub(super) struct Content(pub(super) Stored);

impl<'de> Deserializer<'de> for Content {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.0.deserialize_any(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self.0)
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

fn read_fields<T: ComponentType>(mut body: Stored, address: &str) -> Result<T> {
    let strict = body.is_strict();
    super::flatten::gather(&mut body.value, T::SPEC.flattened);
    if strict {
        super::track::spread(T::SPEC.flattened);
    }
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(body, &mut track);
    T::__deserialize_body(deserializer).map_err(|error| {
        if strict {
            // The place is tracked.
            return Error::new(ErrorKind::Decode, error.to_string());
        }
        let path = track.path().to_string();
        let field = if path == "." { String::new() } else { format!(": field `{path}`") };
        let text = Error::new(ErrorKind::Decode, format!("`{address}`{field}: {error}"));
        match error.to_string() {
            missing if missing.starts_with("missing field") => text.with_hint(
                "rows written before a field existed need `#[component(default)]` on it, or a higher `version` with `migrate`; \
                 a field that was renamed needs `#[serde(alias = \"its former name\")]`",
            ),
            // A program that has the type can read it, as with an unknown kind.
            unlinked if let Some(hint) = crate::near::unlinked(&unlinked) => {
                let text = format!("`{address}`{field}: {error}");
                Error::new(ErrorKind::UnknownKind, text).with_hint(hint)
            }
            other if other.starts_with("invalid type") || other.starts_with("invalid value") => text.with_hint(
                "rows written before the type of a field changed need a higher `version` with `migrate`, \
                 `#[component(version = 2, migrate)]` and an `impl Migrate`",
            ),
            _ => text,
        }
    })
}
