//! Types of `serde_json` that only its own serializer knows: numbers as text and raw JSON.
//!
//! Any crate of a program can switch on `serde_json/arbitrary_precision`; a number inside a `Value`
//! then serializes as a struct with a secret name. Invariant: what is written does not depend on
//! that feature. A number that 64 bits cannot hold exactly as it is written is refused in both
//! builds.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::Error as _,
};
use serde_json::{Number, Value};
use std::{fmt, sync::LazyLock};

/// The name of a number's struct and of its only field, whose value is its text.
pub(super) const NUMBER: &str = "$serde_json::private::Number";
/// The same of raw JSON.
pub(super) const RAW: &str = "$serde_json::private::RawValue";
/// How [`NUMBER`] stands in documents that were written before the serializer knew it.
const ESCAPED_NUMBER: &str = "$$serde_json::private::Number";

/// Whether this build of `serde_json` keeps numbers as they are written.
static PRECISE: LazyLock<bool> = LazyLock::new(|| {
    serde_json::from_str::<Number>("1.50").is_ok_and(|number| number.to_string() == "1.50")
});

/// A number by its text.
pub(super) struct Decimal<'a>(pub(super) &'a str);

impl Serialize for Decimal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0;
        if text != "-0" {
            if let Ok(number) = text.parse::<u64>() {
                return serializer.serialize_u64(number);
            }
            if let Ok(number) = text.parse::<i64>() {
                return serializer.serialize_i64(number);
            }
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && digits(text) == digits(&number.to_string()) => {
                serializer.serialize_f64(number)
            }
            _ => Err(S::Error::custom(format_args!(
                "the number {text} has more digits than 64 bits keep"
            ))),
        }
    }
}

/// Sign, significant digits and exponent of a number's text.
fn digits(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().ok()?;
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let trailing = all.len() - all.trim_end_matches('0').len();
    let exponent = exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(trailing).ok()?;
    Some((negative, significant.to_owned(), exponent))
}

/// Whether a number is not written as this program would write it.
pub(super) fn is_odd(number: &Number) -> bool {
    *PRECISE && plain(number).is_some()
}

/// The number as this program would write it, where that differs.
pub(super) fn plain(number: &Number) -> Option<Number> {
    let text = number.to_string();
    if text != "-0" && (number.is_u64() || number.is_i64()) {
        return None;
    }
    let plain = Number::from_f64(text.parse().ok()?)?;
    (plain.to_string() != text).then_some(plain)
}

/// The number that stands for `{"$$serde_json::private::Number": "0.1"}`.
pub(super) fn of_struct(map: &serde_json::Map<String, Value>) -> Option<Value> {
    let text = map.get(ESCAPED_NUMBER).filter(|_| map.len() == 1)?.as_str()?;
    let number: Number = serde_json::from_str(text).ok()?;
    Some(Value::Number(plain(&number).unwrap_or(number)))
}

/// Raw JSON, with the keys as they are written: a `Value` would lose one of two equal keys.
pub(super) enum Raw {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Number(String),
    Text(String),
    Items(Vec<Raw>),
    Entries(Vec<(String, Raw)>),
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Raw::Null => serializer.serialize_unit(),
            Raw::Bool(value) => serializer.serialize_bool(*value),
            Raw::Unsigned(value) => serializer.serialize_u64(*value),
            Raw::Signed(value) => serializer.serialize_i64(*value),
            Raw::Double(value) => serializer.serialize_f64(*value),
            Raw::Number(text) => Decimal(text).serialize(serializer),
            Raw::Text(value) => serializer.serialize_str(value),
            Raw::Items(items) => serializer.collect_seq(items),
            Raw::Entries(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Unsigned(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Signed(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Double(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::Items(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut list: Vec<(String, Raw)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Raw>()? {
            if key == NUMBER {
                return match value {
                    Raw::Text(text) => Ok(Raw::Number(text)),
                    _ => Err(A::Error::custom("a number is its text")),
                };
            }
            list.push((key, value));
        }
        Ok(Raw::Entries(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Encoded;
    use serde::ser::SerializeStruct;
    use serde_json::json;

    /// Serializes as `serde_json` does with the feature that is named like the struct.
    struct Private(&'static str, &'static str);
    impl Serialize for Private {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut private = serializer.serialize_struct(self.0, 1)?;
            private.serialize_field(self.0, self.1)?;
            private.end()
        }
    }

    /// With its place: a number alone has none.
    fn written(name: &'static str, text: &'static str) -> Value {
        Encoded::of(&vec![Private(name, text)]).expect("encodes").value[0].clone()
    }

    #[test]
    fn b04_numbers_as_text_are_written_as_numbers() {
        for (text, value) in [
            ("1", json!(1)),
            ("-7", json!(-7)),
            ("18446744073709551615", json!(u64::MAX)),
            ("0.1", json!(0.1)),
            ("0.10", json!(0.1)),
            ("1e300", json!(1e300)),
            ("1E+2", json!(100.0)),
            ("100000000000000000000", json!(1e20)),
            ("5e-324", json!(5e-324)),
            ("-0.0", json!(-0.0)),
            ("-0", json!(-0.0)),
        ] {
            let found = written(NUMBER, text);
            assert_eq!(found.to_string(), value.to_string(), "{text}");
            assert_eq!(found, value, "{text}");
        }
    }

    #[test]
    fn b04_numbers_that_64_bits_would_change_are_refused() {
        for text in [
            "0.1000000000000000055511151231257827",
            "18446744073709551616",
            "1e400",
            "123456789012345678901234567890",
        ] {
            let error = Encoded::of(&vec![Private(NUMBER, text)]).expect_err("it does not fit");
            assert!(
                error.to_string().contains(text) && error.to_string().contains("[0]"),
                "{error}"
            );
        }
    }

    #[test]
    fn b04_raw_json_is_written_as_the_value_it_is() {
        let found = written(RAW, r#"{"b": [1, -2, 0.50, null, true], "a": {"$ref": "x"}}"#);
        assert_eq!(found.to_string(), r#"{"a":{"$$ref":"x"},"b":[1,-2,0.5,null,true]}"#);
        let error =
            Encoded::of(&Private(RAW, r#"{"a": 1, "a": 2}"#)).expect_err("one would be lost");
        assert!(error.to_string().contains("`a`"), "{error}");
    }

    #[test]
    fn b04_documents_of_other_builds_are_read_as_numbers() {
        let stored = json!({"rate": {ESCAPED_NUMBER: "0.1"}, "list": [{ESCAPED_NUMBER: "3"}]});
        assert_eq!(crate::encode::serializer::unescape(stored), json!({"rate": 0.1, "list": [3]}));
    }
}
