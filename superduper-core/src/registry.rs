//! The component types of a program, by kind.

use crate::{
    Error, ErrorKind, Result,
    component::{Component, ComponentType, TypeSpec},
    encode::{Document, Stored},
    trigger::TriggerSpec,
};
use std::{
    any::TypeId,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// A component type as the registry knows it; `#[derive(Component)]` and `register!` submit one each.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Registration {
    pub kind: &'static str,
    pub type_id: fn() -> TypeId,
    pub type_name: fn() -> &'static str,
    pub spec: &'static TypeSpec,
    pub lifecycle: fn() -> bool,
    pub trigger: fn(&str) -> Option<&'static TriggerSpec>,
    /// Whether a trigger has a policy.
    pub(crate) has_policy: fn(&str) -> bool,
    pub decode: fn(&Document) -> Result<Box<dyn Component>>,
    pub(crate) decode_inline: fn(&str, u32, Stored) -> Result<Box<dyn Component>>,
}
inventory::collect!(Registration);

impl Registration {
    /// The registration of a type under a kind.
    pub const fn of<T: ComponentType>(kind: &'static str) -> Self {
        Registration {
            kind,
            type_id: TypeId::of::<T>,
            type_name: std::any::type_name::<T>,
            spec: const { &T::SPEC },
            lifecycle: has_lifecycle::<T>,
            trigger: trigger_spec::<T>,
            has_policy: has_policy::<T>,
            decode: crate::encode::decode_boxed::<T>,
            decode_inline: crate::encode::decode_inline_boxed::<T>,
        }
    }
}

fn has_lifecycle<T: ComponentType>() -> bool {
    T::__hooks().present
}

fn trigger_spec<T: ComponentType>(name: &str) -> Option<&'static TriggerSpec> {
    T::__triggers().iter().map(|trigger| &trigger.spec).find(|spec| spec.name == name)
}

fn has_policy<T: ComponentType>(name: &str) -> bool {
    T::__triggers().iter().any(|trigger| trigger.spec.name == name && trigger.policy.is_some())
}

/// Register an instance of a generic component type: `register!(Pipeline<Linear> as "my_crate.LinearPipeline");`.
#[macro_export]
macro_rules! register {
    ($type:ty as $kind:literal) => {
        $crate::__private::inventory::submit! {
            $crate::__private::Registration::of::<$type>($kind)
        }
    };
}

/// The kind under which a generic type was registered, or its Rust name where it was not.
#[doc(hidden)]
pub fn registered_kind<T: 'static>() -> &'static str {
    let id = TypeId::of::<T>();
    inventory::iter::<Registration>
        .into_iter()
        .find(|entry| (entry.type_id)() == id)
        .map_or_else(std::any::type_name::<T>, |entry| entry.kind)
}

/// The component types of a program.
///
/// `Db::open` uses all types that are linked in. A type in a dependency that nothing names in the
/// source is not linked: write `use that_crate as _;`, or build a registry by hand:
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{Registry, prelude::*};
///
/// #[derive(Component)]
/// struct Model {
///     identifier: String,
/// }
///
/// let registry = Registry::builder().with::<Model>().build()?;
/// assert!(registry.kinds().any(|kind| kind.ends_with(".Model")));
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    entries: BTreeMap<&'static str, Registration>,
    aliases: BTreeMap<&'static str, &'static str>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Registry {
    /// Start with no types.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder { entries: Vec::new() }
    }

    /// All types that are linked into this program.
    ///
    /// # Errors
    /// `UnknownKind` where two types claim one kind, naming both.
    pub fn linked() -> Result<Self> {
        RegistryBuilder { entries: inventory::iter::<Registration>.into_iter().copied().collect() }.build()
    }

    /// The linked types, for serde outside of any database; duplicates are reported by `Db::open`.
    pub(crate) fn global() -> Arc<Registry> {
        static GLOBAL: OnceLock<Arc<Registry>> = OnceLock::new();
        GLOBAL
            .get_or_init(|| {
                Arc::new(Registry::linked().unwrap_or_else(|_| Registry { entries: BTreeMap::new(), aliases: BTreeMap::new() }))
            })
            .clone()
    }

    /// The kinds known, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.keys().copied()
    }

    /// Whether rows of this kind can be decoded here.
    pub fn knows(&self, kind: &str) -> bool {
        self.entry(kind).is_ok()
    }

    pub(crate) fn entry(&self, kind: &str) -> Result<&Registration> {
        let found = self.entries.get(kind).or_else(|| self.entries.get(self.aliases.get(kind)?));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.kinds().collect();
            let nearest = known.iter().map(|name| (strsim::levenshtein(name, kind), *name)).min().filter(|(distance, _)| *distance <= 3);
            let suggestion = nearest.map(|(_, name)| format!(" (did you mean `{name}`?)")).unwrap_or_default();
            Error::new(
                ErrorKind::UnknownKind,
                format!(
                    "unknown component kind `{kind}`{suggestion}. This program knows: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ),
            )
            .with_hint(if kind.contains("::") {
                // The name of a Rust type stands for a generic one that nobody has registered.
                format!("a generic type needs `superduper::register!({kind} as \"my_crate.Name\");` for each use")
            } else {
                "link the crate that defines it with `use that_crate as _;`, or add it with `Registry::builder()`".to_owned()
            })
        })
    }

    /// Check that a type is in this registry under its kind.
    pub(crate) fn check(&self, component: &dyn Component) -> Result<()> {
        let entry = self.entries.get(component.kind());
        if entry.is_some_and(|entry| (entry.type_id)() == component.type_id()) {
            return Ok(());
        }
        let kind = component.kind();
        Err(Error::new(ErrorKind::UnknownKind, format!("component `{kind}/{}` is of a type that is not registered", component.identifier()))
            .with_hint(format!("a generic type needs `superduper::register!({kind} as \"my_crate.Name\");` for each use; with `Registry::builder()` add `.with::<…>()`")))
    }
}

/// Builds a [`Registry`] from named types.
#[derive(Debug)]
pub struct RegistryBuilder {
    entries: Vec<Registration>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registration({})", self.kind)
    }
}

impl RegistryBuilder {
    /// Add a type.
    pub fn with<T: ComponentType>(mut self) -> Self {
        self.entries.push(Registration::of::<T>(T::__kind()));
        self
    }

    /// Add all types that are linked into this program.
    pub fn with_linked(mut self) -> Self {
        self.entries.extend(inventory::iter::<Registration>.into_iter().copied());
        self
    }

    /// Finish.
    ///
    /// # Errors
    /// `UnknownKind` where two types claim one kind or alias, naming both.
    pub fn build(self) -> Result<Registry> {
        let mut registry = Registry { entries: BTreeMap::new(), aliases: BTreeMap::new() };
        for entry in self.entries {
            if let Some(other) = registry.entries.insert(entry.kind, entry)
                && (other.type_id)() != (entry.type_id)()
            {
                return Err(Error::new(
                    ErrorKind::UnknownKind,
                    format!("two types are of kind `{}`: `{}` and `{}`", entry.kind, (other.type_name)(), (entry.type_name)()),
                )
                .with_hint("give one of them `#[component(kind = \"…\")]`"));
            }
        }
        for entry in registry.entries.values() {
            for alias in entry.spec.aliases {
                let taken = registry.entries.get(alias).or_else(|| registry.entries.get(registry.aliases.get(alias)?));
                if let Some(other) = taken.filter(|other| other.kind != entry.kind) {
                    return Err(Error::new(
                        ErrorKind::UnknownKind,
                        format!("`{}` and `{}` both claim the kind `{alias}`", (other.type_name)(), (entry.type_name)()),
                    ));
                }
                registry.aliases.insert(alias, entry.kind);
            }
        }
        Ok(registry)
    }
}
