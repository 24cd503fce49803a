//! The source text of types, captured when they are compiled. A program can show it, compare it or
//! export it.
//!
//! Invariant: a text is the exact text of the file, or it is absent. A missing text is never an
//! error.

use std::any::{TypeId, type_name};

/// One item of a program as its file has it: a struct, an enum, a function or an `impl` block.
///
/// `#[component(source)]` captures a component, `#[source]` each of these items. [`source_of`]
/// gives those of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// What it is: `struct Model`, `impl Model`, `impl Lifecycle for Model`.
    pub item: &'static str,
    /// The file, relative to its crate and with `/`: `src/model.rs`.
    pub path: &'static str,
    /// The line on which the text begins, from 1.
    pub line: u32,
    /// The item, byte for byte: with its attributes, with comments inside and directly above.
    pub text: &'static str,
    /// The `use` declarations that the item sees, in the order of the file: those of the file and
    /// of the modules in it that hold the item.
    pub uses: &'static [&'static str],
    /// The names of other items of the file that the text seems to use, in the order of the file:
    /// functions, types, constants. They are told by their names, so a local variable of the same
    /// name counts too.
    pub helpers: &'static [&'static str],
    /// The module of the item: `my_crate::model`.
    pub module: &'static str,
}

impl Source {
    /// The captured items of the same file that the text uses, such as functions with `#[source]`,
    /// by line. The [`helpers`](Source::helpers) that are not among them are not captured.
    #[must_use]
    pub fn captured_helpers(&self) -> Vec<&'static Source> {
        // Of the modules that hold this item, which are those that `helpers` was made of.
        let sees = |module: &str| {
            self.module
                .strip_prefix(module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        let mut found: Vec<&Source> = inventory::iter::<SourceEntry>
            .into_iter()
            .filter_map(|entry| match &entry.captured {
                Captured::Found(source) => Some(source),
                Captured::Missing(_) => None,
            })
            .filter(|source| {
                let is_near = source.path == self.path && sees(source.module);
                is_near && source.name().is_some_and(|name| self.helpers.contains(&name))
            })
            .collect();
        found.sort_unstable_by_key(|source| source.line);
        found.dedup();
        found
    }

    /// The name of the item; `None` for an `impl` block.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        let (what, name) = self.item.split_once(' ')?;
        (what != "impl" && !what.starts_with("impl<")).then_some(name)
    }
}

/// An item whose source could not be captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingSource {
    /// What it is, as in [`Source::item`].
    pub item: &'static str,
    /// Why its source is not there.
    pub why: &'static str,
}

/// The captured source of a type: first the type itself, then its `impl` blocks by file and line.
///
/// The list is empty if no item of the type is marked, or if no marked item could be captured.
/// [`missing_sources_of`] lists the marked items that could not be captured.
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::{prelude::*, schema::source_of};
///
/// #[derive(Component)]
/// #[component(source)]
/// struct Model {
///     identifier: String,
///     lr: f64, // the step
/// }
///
/// #[source]
/// impl Model {
///     /// Twice as fast.
///     fn doubled(&self) -> f64 {
///         2.0 * self.lr
///     }
/// }
///
/// for source in source_of::<Model>() {
///     println!("{}:{}\n{}\n\n{}", source.path, source.line, source.uses.join("\n"), source.text);
/// }
/// ```
///
/// # Guarantees
/// The text is that of the file when the crate was compiled. No path is absolute.
///
/// # Assumptions
/// The compiler reports the file and the position of each item, except of an item that a macro
/// wrote. An `impl` block of a type with parameters is found only if it is in the module of the
/// type, or if it names the type by a path that begins with `crate`.
#[must_use]
pub fn source_of<T: ?Sized + 'static>() -> Vec<&'static Source> {
    sources(TypeId::of::<T>(), type_name::<T>())
}

/// The captured source of a function: `source_of_fn(&greet)`. Empty as for [`source_of`], and for a
/// function with type parameters.
#[must_use]
pub fn source_of_fn<F: 'static>(_function: &F) -> Vec<&'static Source> {
    source_of::<F>()
}

/// What of a type was to be captured, but could not be.
#[must_use]
pub fn missing_sources_of<T: ?Sized + 'static>() -> Vec<&'static MissingSource> {
    let entries = entries(TypeId::of::<T>(), type_name::<T>());
    entries
        .filter_map(|entry| match &entry.captured {
            Captured::Missing(missing) => Some(missing),
            Captured::Found(_) => None,
        })
        .collect()
}

pub(crate) fn sources(id: TypeId, name: &str) -> Vec<&'static Source> {
    let mut found: Vec<&Source> = entries(id, name)
        .filter_map(|entry| match &entry.captured {
            Captured::Found(source) => Some(source),
            Captured::Missing(_) => None,
        })
        .collect();
    let is_impl = |source: &Source| source.item.starts_with("impl");
    found.sort_unstable_by_key(|source| (is_impl(source), source.path, source.line));
    found.dedup();
    found
}

fn entries(id: TypeId, name: &str) -> impl Iterator<Item = &'static SourceEntry> {
    let path = name.split('<').next().unwrap_or_default();
    inventory::iter::<SourceEntry>.into_iter().filter(move |entry| match entry.owner {
        Owner::Type(owner) => owner() == id,
        Owner::Generic(owner) => owner == path,
        Owner::Within(module, rest) => {
            let name = module.split("::").next().unwrap_or_default();
            path.strip_prefix(name) == Some(rest)
        }
    })
}

/// What `#[source]` submits.
#[doc(hidden)]
pub struct SourceEntry {
    pub owner: Owner,
    pub captured: Captured,
}
inventory::collect!(SourceEntry);

/// The type that an item belongs to.
#[doc(hidden)]
pub enum Owner {
    Type(fn() -> TypeId),
    /// The path of a type with parameters.
    Generic(&'static str),
    /// A module of its crate, and its path in it from `::` on.
    Within(&'static str, &'static str),
}

/// The type of a function, for [`Owner::Type`].
#[doc(hidden)]
pub fn type_of<F: 'static>(_: &F) -> TypeId {
    TypeId::of::<F>()
}

#[doc(hidden)]
pub enum Captured {
    Found(Source),
    Missing(MissingSource),
}

impl Captured {
    /// An item that was found.
    pub const fn found(
        item: &'static str,
        path: &'static str,
        line: u32,
        text: &'static str,
        uses: &'static [&'static str],
        helpers: &'static [&'static str],
        module: &'static str,
    ) -> Self {
        Captured::Found(Source { item, path, line, text, uses, helpers, module })
    }

    /// An item that was not.
    pub const fn missing(item: &'static str, why: &'static str) -> Self {
        Captured::Missing(MissingSource { item, why })
    }
}
