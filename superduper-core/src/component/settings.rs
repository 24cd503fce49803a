//! Settings that several component types share: a plain struct whose fields stand among those of a
//! component.
//!
//! `#[derive(Settings)]` sees the fields of the settings, `#[derive(Component)]` those of the
//! component. What needs both is a constant of the component, which the compiler computes from the
//! two lists: the list of all fields, and the check that no key is there twice.

use crate::{
    component::{
        FieldSpec, Flattened,
        fields::Text,
        schema::{FieldPart, Role},
    },
    error::{Error, Result},
};

/// A plain struct that components hold with `#[component(flatten)]`. `#[derive(Settings)]` writes
/// this implementation; nothing else should.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be flattened",
    label = "this type does not derive `Settings`",
    note = "add `#[derive(Settings)]` to the struct; it writes the implementations of serde too"
)]
pub trait Settings: Sized {
    /// The fields, as they stand in a document.
    const FIELDS: &'static [FieldSpec];
    /// The keys under which a document may have them, those included that are only read.
    #[doc(hidden)]
    const __KEYS: &'static [&'static str];
    /// What their schema says.
    #[doc(hidden)]
    const __PARTS: &'static [FieldPart];
    /// The values that a builder was given so far.
    #[doc(hidden)]
    type __Given: Default;

    /// For each field without a default: its name, its setter, and whether it has no value yet.
    #[doc(hidden)]
    fn __missing(given: &Self::__Given) -> Vec<(&'static str, &'static str, bool)>;
    /// Put them together; defaults stand in for what was not given.
    #[doc(hidden)]
    fn __make(given: Self::__Given) -> Self;
    /// Take them apart.
    #[doc(hidden)]
    fn __give(self) -> Self::__Given;
}

/// A builder that takes the values of some [`Settings`], such as that of a component with a
/// flattened field of them. The trait of setters that `#[derive(Settings)]` writes is for all of
/// these.
pub trait HoldsSettings<S: Settings>: Sized {
    /// The values given so far.
    #[doc(hidden)]
    fn __settings(&mut self) -> &mut S::__Given;
}

/// Finish settings that are built by themselves.
pub fn finish_settings<S: Settings>(name: &str, given: S::__Given) -> Result<S> {
    let missing: Vec<(&str, &str, bool)> =
        S::__missing(&given).into_iter().filter(|(_, _, missing)| *missing).collect();
    if missing.is_empty() {
        return Ok(S::__make(given));
    }
    let names: Vec<String> = missing.iter().map(|(name, ..)| format!("`{name}`")).collect();
    let setters: Vec<String> =
        missing.iter().map(|(_, setter, _)| format!("`.{setter}(…)`")).collect();
    let (fields, are) = if names.len() == 1 { ("field", "is") } else { ("fields", "are") };
    Err(Error::invalid(format!("`{name}`: {fields} {} {are} missing", names.join(", ")))
        .with_hint(format!("call {} before `.build()`", setters.join(", "))))
}

/// All fields of a component in one list, for a constant. A part has its own fields, or the settings
/// in one field of this name.
pub const fn join_fields<const N: usize>(
    parts: &[(Option<&'static str>, &'static [FieldSpec])],
) -> [FieldSpec; N] {
    let mut all = [FieldSpec { name: "", key: "", breaking: false, within: None }; N];
    let (mut part, mut count) = (0, 0);
    while part < parts.len() {
        let (within, fields) = parts[part];
        let mut index = 0;
        while index < fields.len() {
            all[count] = fields[index];
            all[count].within = within;
            count += 1;
            index += 1;
        }
        part += 1;
    }
    all
}

/// What the schema says of all fields of a component, in one list, for a constant.
pub const fn join_parts<const N: usize>(lists: &[&[FieldPart]]) -> [FieldPart; N] {
    const NONE: FieldPart = FieldPart {
        name: "",
        key: "",
        doc: "",
        role: Role::Absent,
        breaking: false,
        required: false,
        aliases: &[],
        default: None,
        ty: None,
    };
    let mut all = [NONE; N];
    let (mut list, mut count) = (0, 0);
    while list < lists.len() {
        let mut index = 0;
        while index < lists[list].len() {
            all[count] = lists[list][index];
            count += 1;
            index += 1;
        }
        list += 1;
    }
    all
}

/// Whether each key of a document belongs to one field, for a constant. `own` has the fields of the
/// component itself, by name and key.
///
/// # Panics
/// Where a key belongs to two fields, naming both: the compiler shows the text.
#[track_caller]
pub const fn check_keys(component: &str, own: &[(&str, &str)], flattened: &[Flattened]) {
    let mut first = 0;
    while first < flattened.len() {
        let Flattened { key: holder, keys } = flattened[first];
        let mut field = 0;
        while field < own.len() {
            // The object of the settings is gathered under the key of their field.
            if is_equal(own[field].1, holder) {
                collide(component, holder, (holder, ""), ("", own[field].0));
            }
            field += 1;
        }
        let mut index = 0;
        while index < keys.len() {
            let key = keys[index];
            let mut other = 0;
            while other < own.len() {
                if is_equal(own[other].1, key) {
                    collide(component, key, (holder, key), ("", own[other].0));
                }
                other += 1;
            }
            let mut second = first + 1;
            while second < flattened.len() {
                if contains(flattened[second].keys, key) {
                    collide(component, key, (holder, key), (flattened[second].key, key));
                }
                second += 1;
            }
            index += 1;
        }
        first += 1;
    }
}

#[track_caller]
const fn collide(component: &str, key: &str, one: (&str, &str), other: (&str, &str)) {
    let text = Text::new().push("`").push(component).push("` has two fields with the key `");
    let text = text.push(key).push("` in its document: `").push(one.0);
    let text = if one.1.is_empty() { text } else { text.push(".").push(one.1) };
    let text = text.push("` and `").push(other.0);
    let text = if other.0.is_empty() { text } else { text.push(".") };
    let text = text.push(other.1).push("`; rename one of them");
    panic!("{}", text.as_str())
}

/// See to it that settings with `breaking` fields do not stand in one field, for a constant.
///
/// # Panics
/// Where they do: the compiler shows the text.
#[track_caller]
pub const fn settings_in_place(has_breaking: bool) {
    if has_breaking {
        panic!(
            "the `breaking` fields of these settings would not count here; write \
             `#[component(flatten)]` on the field"
        )
    }
}

const fn contains(keys: &[&str], key: &str) -> bool {
    let mut index = 0;
    while index < keys.len() {
        if is_equal(keys[index], key) {
            return true;
        }
        index += 1;
    }
    false
}

const fn is_equal(one: &str, other: &str) -> bool {
    crate::component::fields::is_equal(one.as_bytes(), other.as_bytes())
}
