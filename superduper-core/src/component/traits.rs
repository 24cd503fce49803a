//! What a component is: the object-safe [`Component`] and the [`ComponentType`] that the derive
//! writes.
//!
//! Invariant: a component is plain data. Everything a store needs to know of it (document,
//! children, blobs, outputs, triggers) is reached through [`Component`]; nothing here touches a
//! store.

use crate::future::BoxFuture;
use crate::{
    component::{
        lifecycle::Hooks,
        observed::Observed,
        output::OutputCell,
        policy::JobPolicy,
        schema::TypeParts,
        trigger::{Run, Trigger, TriggerSpec},
    },
    error::{Error, ErrorKind, Result},
    job::JobContext,
};
use serde::Serializer;
use serde_json::Value;
use std::{any::Any, collections::*, sync::Arc};

/// One field of a component type, as the derive saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// The name in the Rust source.
    pub name: &'static str,
    /// The name in the document (`#[serde(rename)]` counts).
    pub key: &'static str,
    /// Whether a change makes a new version.
    pub breaking: bool,
    /// The flattened field whose settings it is one of, see [`Settings`](crate::Settings).
    pub within: Option<&'static str>,
}

impl FieldSpec {
    /// The name in plans: the key in the document, after the field that holds it if it is one of
    /// flattened settings, as in `fit.epochs`.
    pub fn path(&self) -> String {
        match self.within {
            Some(holder) => format!("{holder}.{}", self.key),
            None => self.key.to_owned(),
        }
    }

    /// The name in the source: `lr`, or `fit.epochs` for one of flattened settings.
    pub(crate) fn source_name(&self) -> String {
        match self.within {
            Some(holder) => format!("{holder}.{}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// Whether this is the source name of the field.
    pub(crate) fn is_exactly(&self, name: &str) -> bool {
        match self.within {
            Some(holder) => name
                .strip_prefix(holder)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| rest == self.name),
            None => self.name == name,
        }
    }

    /// Whether `watch` or `requires` of a trigger means this field: by its source name, or with all
    /// settings that stand in one field.
    pub(crate) fn is_meant_by(&self, name: &str) -> bool {
        self.within == Some(name) || self.is_exactly(name)
    }
}

/// A field whose settings stand in the document of its component in its place.
#[derive(Debug, Clone, Copy)]
pub struct Flattened {
    /// The name of the field by which serde reads and writes the component.
    pub key: &'static str,
    /// The keys of the settings in the document, with those that they are also read by.
    pub keys: &'static [&'static str],
}

/// What the derive knows of a component type.
#[derive(Debug, Clone, Copy)]
pub struct TypeSpec {
    /// The Rust name, without path and parameters.
    pub name: &'static str,
    /// The version of the type's document, from 1.
    pub version: u32,
    /// Kinds under which rows of this type were written before.
    pub aliases: &'static [&'static str],
    /// The stored fields.
    pub fields: &'static [FieldSpec],
    /// The key of the field that is the identifier.
    pub identifier: &'static str,
    /// The fields whose settings stand in the document in their place.
    pub flattened: &'static [Flattened],
    /// `module_path!()` of the type.
    pub module: &'static str,
}

/// A component type. `#[derive(Component)]` writes this implementation; nothing else should.
///
/// The methods begin with two underscores so that they never clash with the user's own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component",
    label = "this type does not derive `Component`",
    note = "add `#[derive(Component)]` to the struct and give it a field `identifier: String`",
    note = "where the type is `!` or `_`, nothing says which one is meant: name it, as in `db.load::<Model>(\"a\")`"
)]
pub trait ComponentType: Sized + Send + Sync + VisitChildren + AsComponent + 'static {
    /// What the derive knows of the type.
    const SPEC: TypeSpec;
    /// What else the derive knows of it, for schemas.
    #[doc(hidden)]
    const __PARTS: TypeParts = TypeParts::UNKNOWN;

    /// The wire name: `crate.Type`, or what `#[component(kind = "…")]` or `register!` says.
    fn __kind() -> &'static str;
    /// The user's name for this component.
    fn __identifier(&self) -> &str;
    /// Write the fields; children and blobs take part in the current session.
    ///
    /// # Errors
    /// Those of the serializer.
    fn __serialize_body<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Read the fields.
    ///
    /// # Errors
    /// Those of the deserializer.
    fn __deserialize_body<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error>;
    /// Bring a body of an older type version to the current one.
    ///
    /// # Errors
    /// Those of the user's `Migrate`.
    fn __migrate(from: u32, body: Value) -> Result<Value>;
    /// The user's `Lifecycle`, or defaults.
    fn __hooks() -> Hooks<Self>;
    /// The user's `#[triggers]` block, or nothing.
    fn __triggers() -> &'static [Trigger<Self>];
    /// Visit the `Output` fields, by name.
    fn __outputs(&self, visit: &mut dyn FnMut(&'static str, &dyn OutputCell));
    /// Visit the components held in fields.
    fn __children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component));
}

/// How a type brings documents of older versions of itself up to date; asked for by
/// `#[component(migrate)]`.
pub trait Migrate {
    /// Turn the body of type version `from` into one of the current version.
    ///
    /// # Errors
    /// Any; the row is then listed but not loaded.
    fn migrate(from: u32, body: Value) -> Result<Value>;
}

/// A component of any type.
///
/// Implemented for every type with `#[derive(Component)]`. `Box<dyn Component>` and
/// `Arc<dyn Component>` can be fields of other components.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component",
    label = "this type does not derive `Component`",
    note = "add `#[derive(Component)]` to the struct and give it a field `identifier: String`"
)]
pub trait Component: Any + Send + Sync + VisitChildren + AsComponent {
    /// The wire name of the type.
    fn kind(&self) -> &'static str;
    /// The user's name for this component.
    fn identifier(&self) -> &str;
    #[doc(hidden)]
    fn __spec(&self) -> &'static TypeSpec;
    #[doc(hidden)]
    fn __trigger_specs(&self) -> Vec<&'static TriggerSpec>;
    #[doc(hidden)]
    fn __unmet(&self, trigger: &str) -> Vec<&'static str>;
    #[doc(hidden)]
    fn __policy(&self, trigger: &str) -> Option<JobPolicy>;
    #[doc(hidden)]
    fn __run<'a>(&'a self, trigger: &str, ctx: &'a JobContext) -> Option<TriggerCall<'a>>;
    #[doc(hidden)]
    fn __has_lifecycle(&self) -> bool;
    #[doc(hidden)]
    fn __postinit(&mut self) -> Result<()>;
    #[doc(hidden)]
    fn __setup<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<()>>;
    #[doc(hidden)]
    fn __on_create<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<()>>;
    #[doc(hidden)]
    fn __observe<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<Observed>>;
    #[doc(hidden)]
    fn __cleanup<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<()>>;
    #[doc(hidden)]
    fn __body<'a>(&'a self) -> Box<dyn erased_serde::Serialize + 'a>;
    #[doc(hidden)]
    fn __visit_outputs(&self, visit: &mut dyn FnMut(&'static str, &dyn OutputCell));
    #[doc(hidden)]
    fn __visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component));
}

/// A trigger bound to its component and context, ready to run.
#[doc(hidden)]
pub enum TriggerCall<'a> {
    /// To be awaited on the runtime.
    Async(BoxFuture<'a, Result<crate::encode::Encoded>>),
    /// To be called on a worker thread.
    Sync(Box<dyn FnOnce() -> Result<crate::encode::Encoded> + Send + 'a>),
}

impl<T: ComponentType> Component for T {
    fn kind(&self) -> &'static str {
        T::__kind()
    }
    fn identifier(&self) -> &str {
        self.__identifier()
    }
    fn __spec(&self) -> &'static TypeSpec {
        const { &T::SPEC }
    }
    fn __trigger_specs(&self) -> Vec<&'static TriggerSpec> {
        T::__triggers().iter().map(|trigger| &trigger.spec).collect()
    }
    fn __unmet(&self, trigger: &str) -> Vec<&'static str> {
        T::__triggers()
            .iter()
            .filter(|candidate| candidate.spec.name == trigger)
            .flat_map(|trigger| trigger.requires.iter())
            .filter(|(_, met)| !met(self))
            .map(|(field, _)| *field)
            .collect()
    }
    fn __policy(&self, trigger: &str) -> Option<JobPolicy> {
        let trigger = T::__triggers().iter().find(|candidate| candidate.spec.name == trigger)?;
        trigger.policy.map(|policy| policy(self))
    }
    fn __run<'a>(&'a self, trigger: &str, ctx: &'a JobContext) -> Option<TriggerCall<'a>> {
        let trigger = T::__triggers().iter().find(|candidate| candidate.spec.name == trigger)?;
        Some(match trigger.run {
            Run::Async(call) => TriggerCall::Async(call(self, ctx)),
            Run::Sync(call) => TriggerCall::Sync(Box::new(move || call(self, ctx))),
        })
    }
    fn __has_lifecycle(&self) -> bool {
        T::__hooks().present
    }
    fn __postinit(&mut self) -> Result<()> {
        (T::__hooks().postinit)(self)
    }
    fn __setup<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<()>> {
        (T::__hooks().setup)(self, ctx)
    }
    fn __on_create<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<()>> {
        (T::__hooks().on_create)(self, ctx)
    }
    fn __observe<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<Observed>> {
        (T::__hooks().observe)(self, ctx)
    }
    fn __cleanup<'a>(&'a self, ctx: &'a JobContext) -> BoxFuture<'a, Result<()>> {
        (T::__hooks().cleanup)(self, ctx)
    }
    fn __body<'a>(&'a self) -> Box<dyn erased_serde::Serialize + 'a> {
        struct Body<'a, T>(&'a T);
        impl<T: ComponentType> serde::Serialize for Body<'_, T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.__serialize_body(serializer)
            }
        }
        Box::new(Body(self))
    }
    fn __visit_outputs(&self, visit: &mut dyn FnMut(&'static str, &dyn OutputCell)) {
        self.__outputs(visit);
    }
    fn __visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        self.__children(visit);
    }
}

impl std::fmt::Debug for dyn Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind(), self.identifier())
    }
}

impl dyn Component {
    /// The component as one of type `T`; `None` if it is of another type.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::prelude::*;
    ///
    /// #[derive(Component)]
    /// struct Model {
    ///     identifier: String,
    ///     size: u32,
    /// }
    ///
    /// let any: Box<dyn Component> = Box::new(Model { identifier: "m".into(), size: 3 });
    /// assert_eq!(any.downcast_ref::<Model>().map(|model| model.size), Some(3));
    /// ```
    ///
    /// [`downcast`] takes the component over.
    pub fn downcast_ref<T: ComponentType>(&self) -> Option<&T> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }

    /// Whether the component is of type `T`.
    pub fn is<T: ComponentType>(&self) -> bool {
        self.downcast_ref::<T>().is_some()
    }
}

/// Turn a component of any type into one of type `T`.
///
/// # Errors
/// `Decode` that names both kinds.
pub fn downcast<T: ComponentType>(component: Box<dyn Component>) -> Result<T> {
    let kind = component.kind();
    let identifier = component.identifier().to_owned();
    let any: Box<dyn Any> = component;
    any.downcast::<T>().map(|boxed| *boxed).map_err(|_| {
        Error::new(
            ErrorKind::Decode,
            format!(
                "`{kind}/{identifier}` is not a `{}`, which is of kind `{}`",
                std::any::type_name::<T>(),
                T::__kind()
            ),
        )
    })
}

/// What can be given to `db.apply` and `db.plan`: a component, a reference, a `Box` or an `Arc` of
/// one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component",
    label = "this type does not derive `Component`",
    note = "add `#[derive(Component)]` to the struct and give it a field `identifier: String`"
)]
pub trait AsComponent {
    /// The component.
    fn as_component(&self) -> &dyn Component;
}

impl<T: AsComponent + ?Sized> AsComponent for &T {
    fn as_component(&self) -> &dyn Component {
        (**self).as_component()
    }
}
impl<T: AsComponent + ?Sized> AsComponent for Box<T> {
    fn as_component(&self) -> &dyn Component {
        (**self).as_component()
    }
}
impl<T: AsComponent + ?Sized> AsComponent for Arc<T> {
    fn as_component(&self) -> &dyn Component {
        (**self).as_component()
    }
}

/// Places where components can sit inside a field; `setup` of a parent reaches children through it.
///
/// The derive implements it for components (which visit themselves), this crate for the standard
/// containers of them. Implement it for a plain struct that holds components whose `setup` should
/// run before the parent's.
pub trait VisitChildren {
    /// Call `visit` for each component held, in a fixed order.
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component));
}

impl<T: VisitChildren + ?Sized> VisitChildren for Box<T> {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        (**self).visit_children(visit);
    }
}
impl<T: VisitChildren + ?Sized> VisitChildren for Arc<T> {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        (**self).visit_children(visit);
    }
}

macro_rules! visit_items {
    ($($container:ty),+) => {$(
        impl<T: VisitChildren> VisitChildren for $container {
            fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
                for item in self {
                    item.visit_children(visit);
                }
            }
        }
    )+};
}
visit_items!(Vec<T>, VecDeque<T>, [T]);

impl<T: VisitChildren> VisitChildren for Option<T> {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        if let Some(item) = self {
            item.visit_children(visit);
        }
    }
}

impl<T: VisitChildren, const N: usize> VisitChildren for [T; N] {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        for item in self {
            item.visit_children(visit);
        }
    }
}
impl<K: Ord, T: VisitChildren, S> VisitChildren for HashMap<K, T, S> {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_by(|a, b| a.0.cmp(b.0));
        for (_, item) in entries {
            item.visit_children(visit);
        }
    }
}
impl<K, T: VisitChildren> VisitChildren for BTreeMap<K, T> {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        for item in self.values() {
            item.visit_children(visit);
        }
    }
}
impl<A: VisitChildren, B: VisitChildren> VisitChildren for (A, B) {
    fn visit_children<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Component)) {
        self.0.visit_children(visit);
        self.1.visit_children(visit);
    }
}
