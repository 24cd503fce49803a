//! The component types of a program, by kind.

use crate::{
    component::{
        Component, ComponentType, TypeSpec,
        callable_runtime::{CallableRuntime, Runtimes},
        schema::{KindForms, TypeParts},
        source::{self, Source},
        trigger::TriggerSpec,
    },
    encode::{Document, Stored},
    error::{Error, ErrorKind, Result},
};
use std::{
    any::TypeId,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// A component type as the registry knows it; `#[derive(Component)]` and `register!` submit one
/// each.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Registration {
    pub kind: &'static str,
    pub type_id: fn() -> TypeId,
    pub type_name: fn() -> &'static str,
    pub spec: &'static TypeSpec,
    pub(crate) parts: &'static TypeParts,
    pub lifecycle: fn() -> bool,
    pub trigger: fn(&str) -> Option<&'static TriggerSpec>,
    /// The names of the triggers.
    pub(crate) triggers: fn() -> Vec<&'static str>,
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
            parts: const { &T::__PARTS },
            lifecycle: has_lifecycle::<T>,
            trigger: trigger_spec::<T>,
            triggers: trigger_names::<T>,
            has_policy: has_policy::<T>,
            decode: crate::encode::decode_boxed::<T>,
            decode_inline: crate::encode::decode_inline_boxed::<T>,
        }
    }
}

impl Registration {
    /// Whether the type is declared inside of a function: its path goes on after its module.
    fn is_in_function(&self) -> bool {
        let name = (self.type_name)();
        let path = name.split('<').next().unwrap_or_default();
        let rest = path.strip_prefix(self.spec.module).and_then(|rest| rest.strip_prefix("::"));
        rest.is_some_and(|rest| rest.contains("::"))
    }
}

fn has_lifecycle<T: ComponentType>() -> bool {
    T::__hooks().present
}

fn trigger_spec<T: ComponentType>(name: &str) -> Option<&'static TriggerSpec> {
    T::__triggers().iter().map(|trigger| &trigger.spec).find(|spec| spec.name == name)
}

fn trigger_names<T: ComponentType>() -> Vec<&'static str> {
    T::__triggers().iter().map(|trigger| trigger.spec.name).collect()
}

fn has_policy<T: ComponentType>(name: &str) -> bool {
    T::__triggers().iter().any(|trigger| trigger.spec.name == name && trigger.policy.is_some())
}

/// Register an instance of a generic component type:
/// `register!(Pipeline<Linear> as "my_crate.LinearPipeline");`.
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
    entries: Arc<BTreeMap<&'static str, Registration>>,
    aliases: Arc<BTreeMap<&'static str, &'static str>>,
    /// Kinds and aliases that belong to no type, as several claim them.
    ambiguous: Arc<BTreeMap<&'static str, [&'static str; 2]>>,
    runtimes: Runtimes,
    /// What was looked at so far for schemas and strict decodes.
    pub(crate) forms: KindForms,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Registry {
    /// Start with no types.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder { entries: Vec::new(), named: Vec::new(), runtimes: Runtimes::default() }
    }

    /// All types that are linked into this program.
    ///
    /// Types inside of functions, as tests have them, may claim a kind that another type has: then
    /// whoever uses the kind gets the error.
    ///
    /// # Errors
    /// `UnknownKind` where two types claim one kind, naming both.
    pub fn linked() -> Result<Self> {
        Registry::builder().with_linked().build()
    }

    /// The linked types, for serde outside of any database; duplicates are reported by `Db::open`.
    pub(crate) fn global() -> Arc<Registry> {
        static GLOBAL: OnceLock<Arc<Registry>> = OnceLock::new();
        GLOBAL
            .get_or_init(|| {
                Arc::new(Registry::linked().unwrap_or_else(|_| Registry {
                    entries: Arc::default(),
                    aliases: Arc::default(),
                    ambiguous: Arc::default(),
                    runtimes: Runtimes::default(),
                    forms: KindForms::default(),
                }))
            })
            .clone()
    }

    /// What runs the code of artifacts.
    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    pub(crate) fn add_runtimes(&mut self, runtimes: Runtimes) {
        self.runtimes.extend(runtimes);
    }

    /// The kinds known, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + Clone + '_ {
        self.entries.keys().copied()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Registration> + '_ {
        self.entries.values().copied()
    }

    /// The type with this id, where it is known.
    pub(crate) fn of_type(&self, id: TypeId) -> Option<&Registration> {
        self.entries.values().find(|entry| (entry.type_id)() == id)
    }

    /// Whether rows of this kind can be decoded here.
    pub fn knows(&self, kind: &str) -> bool {
        self.entry(kind).is_ok()
    }

    /// The captured source of the type of a kind, as [`source_of`](crate::schema::source_of) gives
    /// it.
    ///
    /// # Errors
    /// `UnknownKind`.
    pub fn source(&self, kind: &str) -> Result<Vec<&'static Source>> {
        let entry = self.entry(kind)?;
        Ok(source::sources((entry.type_id)(), (entry.type_name)()))
    }

    pub(crate) fn entry(&self, kind: &str) -> Result<&Registration> {
        self.check_ambiguous(kind)?;
        let found = self.entries.get(kind).or_else(|| self.entries.get(self.aliases.get(kind)?));
        found.ok_or_else(|| self.unknown(kind))
    }

    fn check_ambiguous(&self, kind: &str) -> Result<()> {
        match self.ambiguous.get(kind) {
            Some([one, other]) => Err(twice(kind, one, other)),
            None => Ok(()),
        }
    }

    fn unknown(&self, kind: &str) -> Error {
        let known: Vec<&str> = self.kinds().collect();
        let nearest = crate::near::nearest(kind, known.iter().copied());
        let suggestion =
            nearest.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text =
            format!("unknown component kind `{kind}`{suggestion}. This program knows: {known}");
        Error::new(ErrorKind::UnknownKind, text).with_hint(self.hint(kind))
    }

    /// How to get a type of this kind.
    fn hint(&self, kind: &str) -> String {
        if kind.contains("::") {
            // The name of a Rust type stands for a generic one that nobody has registered.
            return format!(
                "a generic type needs `superduper::register!({kind} as \"my_crate.Name\");` for each use"
            );
        }
        let link = "link the crate that defines it with `use that_crate as _;`, or add it with `Registry::builder()`";
        let Some((_, name)) = kind.rsplit_once('.') else { return link.to_owned() };
        let of_that_name = |entry: &&Registration| {
            entry.spec.name == name
                || entry.kind.rsplit_once('.').is_some_and(|(_, other)| other == name)
        };
        match self.entries.values().find(of_that_name) {
            Some(entry) => format!(
                "if `{}` is this type, from when its crate or module had another name, write \
                 `#[component(alias = \"{kind}\")]` on `{}`; else {link}",
                entry.kind,
                (entry.type_name)(),
            ),
            None => link.to_owned(),
        }
    }

    /// Check that a type is in this registry under its kind.
    pub(crate) fn check(&self, component: &dyn Component) -> Result<()> {
        let kind = component.kind();
        self.check_ambiguous(kind)?;
        let entry = self.entries.get(kind);
        if entry.is_some_and(|entry| (entry.type_id)() == component.type_id()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnknownKind, format!("component `{kind}/{}` is of a type that is not registered", component.identifier()))
            .with_hint(format!("a generic type needs `superduper::register!({kind} as \"my_crate.Name\");` for each use; with `Registry::builder()` add `.with::<…>()`")))
    }
}

/// The kinds that other kinds replace, by their former names.
fn aliases(
    entries: &BTreeMap<&'static str, Registration>,
) -> Result<BTreeMap<&'static str, &'static str>> {
    let mut aliases: BTreeMap<&'static str, &'static str> = BTreeMap::new();
    for entry in entries.values() {
        for alias in entry.spec.aliases {
            let taken = entries.get(alias).or_else(|| entries.get(aliases.get(alias)?));
            if let Some(other) = taken.filter(|other| other.kind != entry.kind) {
                let (one, other) = ((other.type_name)(), (entry.type_name)());
                return Err(Error::new(
                    ErrorKind::UnknownKind,
                    format!("`{one}` and `{other}` both claim the kind `{alias}`"),
                ));
            }
            aliases.insert(alias, entry.kind);
        }
    }
    Ok(aliases)
}

fn twice(kind: &str, one: &str, other: &str) -> Error {
    let text = format!("two types are of kind `{kind}`: `{one}` and `{other}`");
    Error::new(ErrorKind::UnknownKind, text)
        .with_hint("give one of them `#[component(kind = \"…\")]`")
}

/// Builds a [`Registry`] from named types.
#[derive(Debug)]
pub struct RegistryBuilder {
    entries: Vec<Registration>,
    /// Whether the entry of the same place was named; else it is there because it is linked.
    named: Vec<bool>,
    runtimes: Runtimes,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registration({})", self.kind)
    }
}

/// A type that claims a kind.
#[derive(Clone, Copy)]
struct Claim {
    entry: Registration,
    /// Whether two such claims make the kind ambiguous, and not the registry wrong.
    is_local: bool,
}

impl Claim {
    fn name(&self) -> &'static str {
        (self.entry.type_name)()
    }
}

impl RegistryBuilder {
    /// Add a type.
    pub fn with<T: ComponentType>(mut self) -> Self {
        self.entries.push(Registration::of::<T>(T::__kind()));
        self.named.push(true);
        self
    }

    /// Add what runs the code of artifacts; see [`CallableRuntime`].
    pub fn with_runtime(
        mut self,
        name: impl Into<String>,
        runtime: Arc<dyn CallableRuntime>,
    ) -> Self {
        self.runtimes.add(name.into(), runtime);
        self
    }

    /// Add all types and runtimes that are linked into this program.
    pub fn with_linked(mut self) -> Self {
        self.runtimes.extend(Runtimes::linked());
        self.entries.extend(inventory::iter::<Registration>.into_iter().copied());
        self.named.resize(self.entries.len(), false);
        self
    }

    /// Finish.
    ///
    /// # Errors
    /// `UnknownKind` where two types claim one kind or alias, naming both. Linked types inside of
    /// functions are no such error; who uses the kind gets it.
    pub fn build(self) -> Result<Registry> {
        let mut entries: BTreeMap<&'static str, Registration> = BTreeMap::new();
        let mut ambiguous: BTreeMap<&'static str, [&'static str; 2]> = BTreeMap::new();
        let mut claims: BTreeMap<&'static str, Vec<Claim>> = BTreeMap::new();
        for (entry, named) in self.entries.into_iter().zip(self.named) {
            let claims = claims.entry(entry.kind).or_default();
            if !claims.iter().any(|other| (other.entry.type_id)() == (entry.type_id)()) {
                claims.push(Claim { entry, is_local: !named && entry.is_in_function() });
            }
        }
        for (kind, claims) in claims {
            let lasting: Vec<&Claim> = claims.iter().filter(|claim| !claim.is_local).collect();
            match (&claims[..], &lasting[..]) {
                ([only], _) => {
                    entries.insert(kind, only.entry);
                }
                (_, [one, other, ..]) => return Err(twice(kind, one.name(), other.name())),
                ([one, other, ..], _) => {
                    ambiguous.insert(kind, [one.name(), other.name()]);
                }
                ([], _) => {}
            }
        }
        Ok(Registry {
            aliases: Arc::new(aliases(&entries)?),
            entries: Arc::new(entries),
            ambiguous: Arc::new(ambiguous),
            runtimes: self.runtimes,
            forms: KindForms::default(),
        })
    }
}
