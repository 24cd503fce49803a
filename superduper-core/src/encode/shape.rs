//! What a value tells its serializer beyond its JSON: `Some` or not, which kind of number, which
//! variant.
//!
//! Two values of equal JSON may differ in it: `Some(None)` and `None` are both null. A value and
//! its decoded copy have equal shapes, else something was lost on the way. Marks are summed up
//! without their order, since hash maps have none.

use std::collections::{BTreeMap, HashSet};

/// What serde is told about one value.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    Null,
    Some,
    Unit,
    Bool,
    Signed,
    Unsigned,
    Single,
    Double,
    Char,
    Text,
    Bytes,
    Items,
    Entries,
    Blob,
}

/// The shape of one component's document, or of one value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    total: u64,
    /// The part of each field of the outermost struct.
    fields: BTreeMap<&'static str, u64>,
    /// The places where `Some` was written as null.
    pub(super) empty_somes: Vec<String>,
    singles: Singles,
}

impl Shape {
    pub(super) fn add(&mut self, place: u64, mark: Mark) {
        self.total = self.total.wrapping_add(mix(place, mark as u64 + 1));
    }

    /// A mark that has a name: of a struct, an enum, a variant.
    pub(super) fn add_name(&mut self, place: u64, name: &str) {
        self.total = self.total.wrapping_add(mix(place, of_text(name)));
    }

    pub(super) fn add_single(&mut self, place: u64) {
        self.singles.add(place);
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The field has been written; `before` was the total then.
    pub(super) fn close_field(&mut self, name: &'static str, before: u64) {
        let part = self.fields.entry(name).or_default();
        *part = part.wrapping_add(self.total.wrapping_sub(before));
    }

    /// The place where another shape differs; empty where only the value as a whole does.
    pub(super) fn first_difference(&self, other: &Shape) -> Option<String> {
        if self.total == other.total {
            return None;
        }
        let different = |name: &&&'static str| self.fields.get(**name) != other.fields.get(**name);
        Some(
            self.fields
                .keys()
                .chain(other.fields.keys())
                .find(different)
                .map(ToString::to_string)
                .unwrap_or_default(),
        )
    }

    /// The places of the document that hold numbers of 32 bits.
    pub(crate) fn singles(&self) -> &Singles {
        &self.singles
    }
}

/// The places of a document that hold an `f32`; all items of a list are one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Singles {
    places: HashSet<u64>,
    /// The items of a long list come one after the other.
    last: Option<u64>,
}

impl Singles {
    fn add(&mut self, place: u64) {
        if self.last != Some(place) {
            self.last = Some(place);
            self.places.insert(place);
        }
    }

    pub(crate) fn contains(&self, place: u64) -> bool {
        self.places.contains(&place)
    }
}

/// The place of a whole document.
pub(crate) const ROOT: u64 = 0;

/// The place of a member of an object.
pub(crate) fn member(place: u64, key: &str) -> u64 {
    mix(place, of_text(key))
}

/// The place of the items of a list.
pub(crate) fn item(place: u64) -> u64 {
    mix(place, 0x1d)
}

/// FNV-1a.
fn of_text(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64: sums of it do not cancel each other out.
fn mix(place: u64, mark: u64) -> u64 {
    let mut hash = place.rotate_left(23) ^ mark.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
