//! The fields that triggers name, as in `requires = "data"`, looked at while they are compiled.
//!
//! The derive sees the fields and `#[triggers]` sees the names, so that only a constant sees both:
//! it says which fields there are, and which one may have been meant.
//!
//! Invariant: a component whose fields are not known here, such as one without the derive, is never
//! refused.

use crate::component::FieldSpec;

/// Whether a field that a trigger names is there; for no other than `Known<true>` is there a
/// component.
pub struct Known<const FIELD: bool>;

/// The component, where the field is known to be there.
pub trait OfKnown<T> {
    /// The component.
    type Component;
}
impl<T> OfKnown<T> for Known<true> {
    type Component = T;
}

/// Whether there is a field of this name, for a constant.
///
/// # Panics
/// Where there is none, with all that a user wants to know: the compiler shows the text at the
/// name.
#[track_caller]
pub const fn has_field(
    component: &str,
    fields: &[&str],
    settings: &[(&str, &[FieldSpec])],
    name: &str,
) -> bool {
    if fields.is_empty() {
        return true;
    }
    let mut nearest = None;
    let mut smallest = usize::MAX;
    let mut index = 0;
    while index < fields.len() {
        let distance = distance(fields[index].as_bytes(), name.as_bytes());
        if distance == 0 {
            return true;
        }
        if distance < smallest && is_near(distance, fields[index], name) {
            smallest = distance;
            nearest = Some(fields[index]);
        }
        index += 1;
    }
    let text =
        Text::new().push("`").push(component).push("` has no field `").push(name).push("`; ");
    if let Some(holder) = holder_of(settings, name) {
        let text = text.push("did you mean `").push(holder).push(".").push(name).push("`?");
        panic!("{}", text.as_str())
    }
    let text = match nearest {
        Some(field) => text.push("did you mean `").push(field).push("`? its fields are: "),
        None => text.push("its fields are: "),
    };
    panic!("{}", text.push_list(fields).as_str())
}

/// The field whose flattened settings have a field of this name.
const fn holder_of<'a>(settings: &[(&'a str, &[FieldSpec])], name: &str) -> Option<&'a str> {
    let mut group = 0;
    while group < settings.len() {
        let (holder, fields) = settings[group];
        let mut index = 0;
        while index < fields.len() {
            if is_equal(fields[index].name.as_bytes(), name.as_bytes()) {
                return Some(holder);
            }
            index += 1;
        }
        group += 1;
    }
    None
}

/// As near as the macros ask of a suggestion.
const fn is_near(distance: usize, one: &str, other: &str) -> bool {
    let longest = if one.len() > other.len() { one.len() } else { other.len() };
    let most = if longest.div_ceil(2) < 3 { longest.div_ceil(2) } else { 3 };
    distance < longest && distance <= most
}

const LONGEST: usize = 64;

/// Letters added, left out, changed or swapped with their neighbour; `usize::MAX` where there are
/// too many to count.
const fn distance(one: &[u8], other: &[u8]) -> usize {
    if one.len() >= LONGEST || other.len() >= LONGEST || one.len().abs_diff(other.len()) > 3 {
        return if is_equal(one, other) { 0 } else { usize::MAX };
    }
    let mut table = [[0; LONGEST]; LONGEST];
    let mut i = 0;
    while i <= one.len() {
        let mut j = 0;
        while j <= other.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = table[i - 1][j - 1] + (one[i - 1] != other[j - 1]) as usize;
                let mut least = min(changed, min(table[i - 1][j], table[i][j - 1]) + 1);
                if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                    least = min(least, table[i - 2][j - 2] + 1);
                }
                least
            };
            j += 1;
        }
        i += 1;
    }
    table[one.len()][other.len()]
}

const fn min(one: usize, other: usize) -> usize {
    if one < other { one } else { other }
}

pub(crate) const fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while one.len() == other.len() && index < one.len() && one[index] == other[index] {
        index += 1;
    }
    one.len() == other.len() && index == one.len()
}

const CAPACITY: usize = 1024;
const MORE: &str = ", …";

/// A text made in a constant; what does not fit is left out.
pub(crate) struct Text {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Text { bytes: [0; CAPACITY], length: 0 }
    }

    const fn has_room(&self, text: &str) -> bool {
        self.length + text.len() <= CAPACITY
    }

    pub(crate) const fn push(mut self, text: &str) -> Self {
        let mut index = 0;
        while self.has_room(text) && index < text.len() {
            self.bytes[self.length + index] = text.as_bytes()[index];
            index += 1;
        }
        self.length += index;
        self
    }

    const fn push_list(mut self, names: &[&str]) -> Self {
        let mut index = 0;
        while index < names.len() {
            if self.length + names[index].len() + 2 * MORE.len() > CAPACITY {
                return self.push(MORE);
            }
            self = if index == 0 { self } else { self.push(", ") };
            self = self.push(names[index]);
            index += 1;
        }
        self
    }

    pub(crate) const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "a trigger names a field that is not there",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [FieldSpec; 1] =
        [FieldSpec { name: "epochs", key: "epochs", breaking: true, within: None }];

    fn message(fields: &'static [&str], name: &'static str) -> String {
        let panic =
            std::panic::catch_unwind(|| has_field("Model", fields, &[("fit", &SETTINGS)], name))
                .expect_err("there is no such field");
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    }

    #[test]
    fn the_nearest_field_is_suggested() {
        let fields = &["identifier", "label", "rate"];
        assert!(has_field("Model", fields, &[], "rate") && has_field("Model", &[], &[], "rate"));
        assert_eq!(
            message(fields, "lable"),
            "`Model` has no field `lable`; did you mean `label`? its fields are: identifier, label, rate"
        );
        assert_eq!(
            message(fields, "epochs"),
            "`Model` has no field `epochs`; did you mean `fit.epochs`?"
        );
        assert_eq!(
            message(fields, "size"),
            "`Model` has no field `size`; its fields are: identifier, label, rate"
        );
        assert_eq!(
            message(fields, "rte"),
            "`Model` has no field `rte`; did you mean `rate`? its fields are: identifier, label, rate"
        );
        assert_eq!(
            message(fields, ""),
            "`Model` has no field ``; its fields are: identifier, label, rate"
        );
    }

    #[test]
    fn long_names_and_many_of_them_are_no_trouble() {
        const LONG: &str = "a_name_that_is_longer_than_anybody_would_write_but_that_the_compiler_takes_all_the_same";
        assert!(has_field("Model", &[LONG], &[], LONG));
        let text = message(&[LONG; 40], "größe");
        assert!(
            text.starts_with("`Model` has no field `größe`; its fields are: a_name")
                && text.ends_with("same, …"),
            "{text}"
        );
        assert!(text.len() <= CAPACITY);
    }
}
