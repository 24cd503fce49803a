//! The classes of a training: its model, executor and persistor, by path and by source.

use superduper::{
    Digest, Hasher,
    schema::{MissingSource, Source, missing_sources_of, source_of},
};

/// The type of a model, an executor or a persistor: its path and its captured source.
///
/// Source is captured by `#[component(source)]` on a component and by `#[source]` on any other
/// struct and on each `impl` block. Nothing fails without it: the type is then named by its path.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Class {
    /// The path of the type, such as `my_crate::executor::Counting`.
    pub path: &'static str,
    /// Its source: the type, then its `impl` blocks, then the captured items of the same files that
    /// these use, such as functions with `#[source]`.
    pub sources: Vec<&'static Source>,
    /// What was to be captured and could not be.
    pub missing: Vec<&'static MissingSource>,
}

impl Class {
    /// The class of a type.
    pub fn of<T: ?Sized + 'static>() -> Self {
        let mut sources = source_of::<T>();
        let mut looked_at = 0;
        while let Some(source) = sources.get(looked_at) {
            // A type that is used is shown by itself; its `impl` blocks belong to it.
            for helper in source.captured_helpers() {
                if !sources.contains(&helper) {
                    sources.push(helper);
                }
            }
            looked_at += 1;
        }
        Class { path: std::any::type_name::<T>(), sources, missing: missing_sources_of::<T>() }
    }

    /// The name of the type, without path and parameters.
    pub fn name(&self) -> &'static str {
        let path = self.path.split('<').next().unwrap_or_default();
        path.rsplit("::").next().unwrap_or(path)
    }

    /// Whether the type is built into this crate.
    pub fn is_built_in(&self) -> bool {
        self.path.starts_with(concat!(env!("CARGO_CRATE_NAME"), "::"))
    }

    /// Whether an `impl` block of this trait is captured.
    pub(crate) fn has_impl_of(&self, contract: &str) -> bool {
        self.sources.iter().any(|source| is_impl(source.item, contract, self.name()))
    }

    /// Whether an `impl` block of this trait was to be captured and could not be.
    pub(crate) fn misses_impl_of(&self, contract: &str) -> bool {
        self.missing.iter().any(|missing| is_impl(missing.item, contract, self.name()))
    }

    /// Whether the struct itself is captured.
    pub(crate) fn has_type(&self) -> bool {
        self.sources.iter().any(|source| source.name() == Some(self.name()))
    }

    /// A digest of path and source. It does not depend on lines, folders and machines.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(self.path);
        for source in &self.sources {
            add("item");
            add(source.item);
            add(source.path);
            add(source.text);
            source.uses.iter().for_each(|text| add(text));
        }
        hasher.finish()
    }
}

/// Whether an item is the `impl` of a trait for a type, whichever paths it names them by.
fn is_impl(item: &str, contract: &str, name: &str) -> bool {
    fn last(path: &str) -> &str {
        let path = path.split('<').next().unwrap_or_default().trim();
        path.rsplit("::").next().unwrap_or(path).trim()
    }
    let Some((before, of)) = item.strip_prefix("impl").and_then(|rest| rest.split_once(" for "))
    else {
        return false;
    };
    // Parameters of the block come before the trait.
    let before = before.trim_start();
    let implemented = match before.starts_with('<') {
        true => before.split_once("> ").map_or(before, |(_, rest)| rest),
        false => before,
    };
    last(implemented) == contract && last(of) == name
}

/// Gives the [`Class`] of a value, also of a value behind a trait object.
///
/// Every type implements this trait, `Box` included. For a boxed executor, call it on the value in
/// the box: `(*training.executor).class()`. `training.executor.class()` is the class of `Box`.
pub trait HasClass {
    /// The class of the value's type.
    fn class(&self) -> Class;
}

impl<T: 'static> HasClass for T {
    fn class(&self) -> Class {
        Class::of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use superduper::source;

    mod one {
        use super::source;

        #[source]
        pub(super) struct Same;

        #[source]
        impl Same {
            fn _value() -> u8 {
                1
            }
        }
    }

    mod two {
        use super::source;

        #[source]
        pub(super) struct Same;

        #[source]
        impl Same {
            fn _value() -> u8 {
                2
            }
        }
    }

    mod three {
        use super::source;

        #[source]
        pub(super) struct Same;

        #[source]
        impl Same {
            fn _value() -> u8 {
                1
            }
        }
    }

    #[test]
    fn c10_the_body_of_a_method_changes_the_digest_and_its_place_does_not() {
        let digest = |class: Class| Class { path: "my_crate::Same", ..class }.digest();
        let [one, two, three] =
            [Class::of::<one::Same>(), Class::of::<two::Same>(), Class::of::<three::Same>()];
        assert_eq!(one.sources.len(), 2);
        let digests = [one, two, three].map(digest);
        assert_ne!(digests[0], digests[1]);
        assert_eq!(digests[0], digests[2]);
    }

    #[test]
    fn an_impl_is_known_by_the_names_of_trait_and_type() {
        let is = |item: &str| is_impl(item, "ClientExecutor", "Custom");
        for item in [
            "impl ClientExecutor for Custom",
            "impl superduper_federated::ClientExecutor for crate::sdk::Custom",
            "impl<T: Send> ClientExecutor for Custom<T>",
            "impl<T: Into<u8>> a::ClientExecutor for super::Custom<Vec<T>>",
        ] {
            assert!(is(item), "{item}");
        }
        for item in [
            "impl Custom",
            "impl MyClientExecutor for Custom",
            "impl ClientExecutor for MyCustom",
            "struct Custom",
        ] {
            assert!(!is(item), "{item}");
        }
    }
}
