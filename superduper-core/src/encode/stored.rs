//! The deserializer of stored values: the counterpart of the serializer.
//!
//! Invariant: it reads as serde_json reads a `Value`, but for what the serializer writes in its own way: escaped keys, and marks
//! for infinity and NaN. All scalars are left to serde_json.

use super::{
    floats::{has_marks, is_mark, visit_mark},
    serializer::{unescape, unescape_key},
};
use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
        value::StringDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Value};
use std::{cell::Cell, vec};

/// The name of the newtype by which a component asks for its value as it is stored.
pub(super) const RAW_VALUE: &str = "$superduper::RawValue";

thread_local! {
    /// A value on its way to the visitor that asked for it as it is stored.
    static RAW: Cell<Option<Stored>> = const { Cell::new(None) };
}

/// The value for a visitor that asked for it as it is stored, if it was read from a [`Stored`].
pub(super) fn take_raw() -> Option<Stored> {
    RAW.take()
}

/// A value as it is stored, or as users see it.
pub(crate) struct Stored {
    pub(super) value: Value,
    /// Whether its keys are escaped and its floats may be marked.
    escaped: bool,
}

impl Stored {
    /// A value as it is stored. Only one with marks has to be read in its stored form.
    pub(super) fn new(value: Value) -> Self {
        if has_marks(&value) { Stored { value, escaped: true } } else { Stored::plain(unescape(value)) }
    }

    /// A value as users see it.
    pub(super) fn plain(value: Value) -> Self {
        Stored { value, escaped: false }
    }

    /// A part of the value.
    pub(super) fn part(&self, value: Value) -> Self {
        Stored { value, escaped: self.escaped }
    }

    /// The value as users see it. It should have no marks.
    pub(super) fn into_plain(self) -> Value {
        if self.escaped { unescape(self.value) } else { self.value }
    }
}

fn visit_items<'de, V: Visitor<'de>>(items: Vec<Value>, escaped: bool, visitor: V) -> Result<V::Value, Error> {
    let length = items.len();
    let mut items = Items { iter: items.into_iter(), escaped };
    let value = visitor.visit_seq(&mut items)?;
    if items.iter.len() == 0 { Ok(value) } else { Err(Error::invalid_length(length, &"fewer elements in array")) }
}

fn visit_entries<'de, V: Visitor<'de>>(map: Map<String, Value>, escaped: bool, visitor: V) -> Result<V::Value, Error> {
    let length = map.len();
    let mut entries = Entries { iter: map.into_iter(), value: None, escaped };
    let value = visitor.visit_map(&mut entries)?;
    if entries.iter.len() == 0 { Ok(value) } else { Err(Error::invalid_length(length, &"fewer elements in map")) }
}

/// Methods for scalars: a mark is a float, all else is left to serde_json.
macro_rules! scalars {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.value {
                Value::Object(map) if self.escaped && is_mark(&map) => visit_mark(&map, visitor),
                other => other.$method(visitor),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for Stored {
    type Error = Error;

    scalars! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_unit deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.escaped, visitor),
            Value::Object(map) if self.escaped && is_mark(&map) => visit_mark(&map, visitor),
            Value::Object(map) => visit_entries(map, self.escaped, visitor),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.escaped, visitor),
            other => other.deserialize_bytes(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match name {
            RAW_VALUE => {
                RAW.set(Some(self));
                visitor.visit_newtype_struct(Value::Null)
            }
            // One of serde_json's own, such as `RawValue`.
            name if name.starts_with("$serde_json::") => self.into_plain().deserialize_newtype_struct(name, visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.escaped, visitor),
            other => other.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visit_entries(map, self.escaped, visitor),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.escaped, visitor),
            Value::Object(map) => visit_entries(map, self.escaped, visitor),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) if map.len() == 1 => match map.into_iter().next() {
                Some((variant, value)) => {
                    let variant = if self.escaped { unescape_key(variant) } else { variant };
                    visitor.visit_enum(Variant { variant, content: Stored { value, escaped: self.escaped } })
                }
                None => Err(Error::custom("an enum has no variant")),
            },
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items {
    iter: vec::IntoIter<Value>,
    escaped: bool,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.iter.next().map(|value| seed.deserialize(Stored { value, escaped: self.escaped })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.iter.len())
    }
}

struct Entries {
    iter: <Map<String, Value> as IntoIterator>::IntoIter,
    value: Option<Value>,
    escaped: bool,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((key, value)) = self.iter.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Key(if self.escaped { unescape_key(key) } else { key })).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(Stored { value, escaped: self.escaped }),
            None => Err(Error::custom("value is missing")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.iter.len())
    }
}

/// A variant with its content.
struct Variant {
    variant: String,
    content: Stored,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = Stored;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Stored), Error> {
        let variant: StringDeserializer<Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Stored {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) if items.is_empty() => visitor.visit_unit(),
            Value::Array(items) => visit_items(items, self.escaped, visitor),
            other => Err(Error::invalid_type(unexpected(&other), &"tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visit_entries(map, self.escaped, visitor),
            other => Err(Error::invalid_type(unexpected(&other), &"struct variant")),
        }
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => Unexpected::Unsigned(number),
            (None, Some(number), _) => Unexpected::Signed(number),
            (None, None, Some(number)) => Unexpected::Float(number),
            (None, None, None) => Unexpected::Other("number"),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

/// A key of an object. Only text is read here; numbers and truth values are left to serde_json.
struct Key(String);

macro_rules! keys {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            struct Seed<V>(V);
            impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Seed<V> {
                type Value = V::Value;
                fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
                    deserializer.$method(self.0)
                }
            }
            Map::from_iter([(self.0, Value::Null)]).deserialize_any(OneKey(Seed(visitor)))
        }
    )+};
}

/// Reads the only key of a map.
struct OneKey<S>(S);

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for OneKey<S> {
    type Value = S::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<S::Value, A::Error> {
        let key = map.next_key_seed(self.0)?.ok_or_else(|| A::Error::custom("a key is missing"))?;
        map.next_value::<IgnoredAny>()?;
        Ok(key)
    }
}

impl<'de> Deserializer<'de> for Key {
    type Error = Error;

    keys! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let key: StringDeserializer<Error> = self.0.into_deserializer();
        key.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use std::collections::{BTreeMap, HashMap};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Newtype(f64),
        Tuple(u8, f32),
        Struct { a: Option<f64> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Number(f64),
        Map(HashMap<String, f64>),
        Text(String),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        bytes: Vec<u8>,
        keys: BTreeMap<i32, BTreeMap<bool, char>>,
        variants: HashMap<String, Shape>,
        shapes: Vec<Shape>,
        any: Vec<Any>,
        tuple: (i64, u64, f32, ()),
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    fn all() -> All {
        All {
            bytes: vec![0, 255],
            keys: [(-7, [(true, 'x')].into())].into(),
            variants: [("$f64".to_owned(), Shape::Unit)].into(),
            shapes: vec![
                Shape::Unit,
                Shape::Newtype(-0.0),
                Shape::Tuple(1, 0.1),
                Shape::Struct { a: None },
                Shape::Struct { a: Some(0.1) },
            ],
            any: vec![Any::Number(0.5), Any::Map([("$a".to_owned(), 1.5)].into()), Any::Text("t".to_owned())],
            tuple: (i64::MIN, u64::MAX, f32::MIN_POSITIVE, ()),
            rest: [("$$x".to_owned(), json!({"$f64": "0000000000000000", "$ref": [null, 1, "a"]}))].into(),
        }
    }

    #[test]
    fn it_reads_what_the_serializer_writes() {
        let encoded = crate::Encoded::of_state(&all()).expect("encodes");
        let value = encoded.value().clone();
        for stored in [Stored { value: value.clone(), escaped: true }, Stored::new(value)] {
            assert_eq!(All::deserialize(stored).expect("decodes"), all());
        }
    }

    #[test]
    fn its_errors_are_those_of_serde_json() {
        let mut base = serde_json::to_value(all()).expect("JSON");
        base.as_object_mut().expect("an object").remove("$$x");
        let wrong = [json!(null), json!(1), json!("a"), json!([]), json!([1]), json!({}), json!({"Tuple": {}}), json!({"a": 1, "b": 2})];
        for field in ["bytes", "keys", "variants", "shapes", "any", "tuple"] {
            for value in wrong.iter().chain(&[json!({"Tuple": [1]}), json!({"x": {"Tuple": [1, 2, 3]}}), json!([{"Struct": 1}])]) {
                let mut all = base.clone();
                all[field] = value.clone();
                let expected = All::deserialize(all.clone()).map_err(|error| error.to_string());
                for escaped in [true, false] {
                    let found = All::deserialize(Stored { value: all.clone(), escaped }).map_err(|error| error.to_string());
                    assert_eq!(found, expected, "`{field}`: {value}");
                }
            }
        }
    }
}
