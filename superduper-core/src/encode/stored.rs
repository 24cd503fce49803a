//! The deserializer of stored values: the counterpart of the serializer.
//!
//! Invariant: it reads as serde_json reads a `Value`, but for what the serializer writes in its own
//! way: escaped keys, and marks for infinity and NaN. All scalars are left to serde_json.

use super::{
    floats::{has_marks, is_mark, visit_mark},
    serializer::{unescape, unescape_key},
    track::{self, Segment},
};
use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IgnoredAny, IntoDeserializer, MapAccess,
        SeqAccess, Unexpected, VariantAccess, Visitor, value::StringDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Map, Number, Value};
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
#[doc(hidden)]
pub struct Stored {
    pub(super) value: Value,
    mode: Mode,
}

/// How a value is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Its keys are escaped, and its floats may be marked.
    Escaped,
    /// As users see it.
    Plain,
    /// As users see it and wrote it: structs are objects, whole numbers may be written as floats,
    /// and what is read is tracked.
    Strict,
}

impl Stored {
    /// A value as it is stored. Only one with marks has to be read in its stored form.
    pub(super) fn new(value: Value) -> Self {
        if has_marks(&value) {
            Stored { value, mode: Mode::Escaped }
        } else {
            Stored::plain(unescape(value))
        }
    }

    /// A value as users see it.
    pub(super) fn plain(value: Value) -> Self {
        Stored { value, mode: Mode::Plain }
    }

    /// A value that a user wrote, to be read strictly.
    pub(crate) fn strict(value: Value) -> Self {
        Stored { value, mode: Mode::Strict }
    }

    /// Whether a user wrote it.
    pub(super) fn is_strict(&self) -> bool {
        self.mode == Mode::Strict
    }

    /// A part of the value.
    pub(super) fn part(&self, value: Value) -> Self {
        Stored { value, mode: self.mode }
    }

    /// The value as users see it. It should have no marks.
    pub(super) fn into_plain(self) -> Value {
        if self.mode == Mode::Escaped { unescape(self.value) } else { self.value }
    }
}

fn visit_items<'de, V: Visitor<'de>>(
    items: Vec<Value>,
    mode: Mode,
    visitor: V,
) -> Result<V::Value, Error> {
    let length = items.len();
    let mut items = Items { iter: items.into_iter(), mode, next: 0 };
    let value = visitor.visit_seq(&mut items)?;
    if items.iter.len() == 0 {
        Ok(value)
    } else {
        Err(Error::invalid_length(length, &"fewer elements in array"))
    }
}

fn visit_entries<'de, V: Visitor<'de>>(
    map: Map<String, Value>,
    mode: Mode,
    visitor: V,
) -> Result<V::Value, Error> {
    let length = map.len();
    let mut entries = Entries { iter: map.into_iter(), value: None, mode };
    let value = visitor.visit_map(&mut entries)?;
    if entries.iter.len() == 0 {
        Ok(value)
    } else {
        Err(Error::invalid_length(length, &"fewer elements in map"))
    }
}

/// Visit a struct that a user wrote. A struct with a first member such as `$secret` may be written
/// as that member alone.
fn visit_strict<'de, V: Visitor<'de>>(
    value: Value,
    name: &'static str,
    fields: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, Error> {
    let short = fields.first().copied().filter(|first| first.starts_with('$'));
    match (value, short) {
        (Value::Object(map), _) => {
            track::know(fields);
            visit_entries(map, Mode::Strict, visitor)
        }
        (Value::String(text), Some(first)) => {
            let member = Map::from_iter([(first.to_owned(), Value::String(text))]);
            visitor.visit_map(&mut Entries {
                iter: member.into_iter(),
                value: None,
                mode: Mode::Plain,
            })
        }
        // It may be the secret itself.
        (_, Some("$secret")) => Err(Error::custom("this is not a reference to a secret")),
        (Value::Array(_), _) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
        (other, _) => other.deserialize_struct(name, fields, visitor),
    }
}

/// Methods for scalars: a mark is a float, all else is left to serde_json.
macro_rules! scalars {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.value {
                Value::Object(map) if self.mode == Mode::Escaped && is_mark(&map) => visit_mark(&map, visitor),
                other => other.$method(visitor),
            }
        }
    )+};
}

/// Methods for whole numbers: users may write them as floats.
macro_rules! whole_numbers {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.value {
                Value::Object(map) if self.mode == Mode::Escaped && is_mark(&map) => visit_mark(&map, visitor),
                Value::Number(number) if self.mode == Mode::Strict => whole(number).$method(visitor),
                other => other.$method(visitor),
            }
        }
    )+};
}

/// The number as a whole one, if it is.
fn whole(number: Number) -> Value {
    if number.is_f64()
        && let Some(float) = number.as_f64()
        && float.fract() == 0.0
    {
        let float = float as i128;
        let small = i64::try_from(float).ok().map(Value::from);
        return small
            .or_else(|| u64::try_from(float).ok().map(Value::from))
            .unwrap_or(Value::Number(number));
    }
    Value::Number(number)
}

impl Mode {
    /// A key as the user wrote it.
    fn key(self, key: String) -> String {
        if self == Mode::Escaped { unescape_key(key) } else { key }
    }

    /// Go on to a part of the value.
    fn enter(self, segment: impl FnOnce() -> Segment) -> Entered {
        if self == Mode::Strict {
            track::enter(segment());
        }
        Entered(self)
    }
}

/// A part of a value that is being read.
struct Entered(Mode);

impl Entered {
    /// The part was read.
    fn left<T>(self, read: Result<T, Error>) -> Result<T, Error> {
        if self.0 == Mode::Strict {
            track::leave(read.is_err());
        }
        read
    }
}

impl<'de> Deserializer<'de> for Stored {
    type Error = Error;

    scalars! {
        deserialize_bool deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_unit deserialize_identifier
    }
    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.mode, visitor),
            Value::Object(map) if self.mode == Mode::Escaped && is_mark(&map) => {
                visit_mark(&map, visitor)
            }
            Value::Object(map) => visit_entries(map, self.mode, visitor),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.mode, visitor),
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

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            RAW_VALUE => {
                RAW.set(Some(self));
                visitor.visit_newtype_struct(Value::Null)
            }
            // One of serde_json's own, such as `RawValue`.
            name if name.starts_with("$serde_json::") => {
                self.into_plain().deserialize_newtype_struct(name, visitor)
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visit_items(items, self.mode, visitor),
            other => other.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visit_entries(map, self.mode, visitor),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.mode == Mode::Strict {
            return visit_strict(self.value, name, fields, visitor);
        }
        match self.value {
            Value::Array(items) => visit_items(items, self.mode, visitor),
            Value::Object(map) => visit_entries(map, self.mode, visitor),
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
                    let mode = self.mode;
                    let variant = mode.key(variant);
                    let entered = mode.enter(|| Segment::Key(variant.clone()));
                    let content = Stored { value, mode };
                    entered.left(visitor.visit_enum(Variant { variant, content }))
                }
                None => Err(Error::custom("an enum has no variant")),
            },
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.mode == Mode::Strict {
            track::ignore();
        }
        visitor.visit_unit()
    }
}

struct Items {
    iter: vec::IntoIter<Value>,
    mode: Mode,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(value) = self.iter.next() else { return Ok(None) };
        let (mode, index) = (self.mode, self.next);
        self.next += 1;
        let entered = mode.enter(|| Segment::Index(index));
        entered.left(seed.deserialize(Stored { value, mode })).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.iter.len())
    }
}

struct Entries {
    iter: <Map<String, Value> as IntoIterator>::IntoIter,
    /// The value that is next, with its key where what is read is tracked.
    value: Option<(Value, Option<String>)>,
    mode: Mode,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((key, value)) = self.iter.next() else { return Ok(None) };
        self.value = Some((value, (self.mode == Mode::Strict).then(|| key.clone())));
        seed.deserialize(Key(self.mode.key(key))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        match self.value.take() {
            Some((value, key)) => {
                let mode = self.mode;
                let entered = mode.enter(|| Segment::Key(key.unwrap_or_default()));
                entered.left(seed.deserialize(Stored { value, mode }))
            }
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
            Value::Array(items) => visit_items(items, self.mode, visitor),
            other => Err(Error::invalid_type(unexpected(&other), &"tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visit_entries(map, self.mode, visitor),
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

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
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
            any: vec![
                Any::Number(0.5),
                Any::Map([("$a".to_owned(), 1.5)].into()),
                Any::Text("t".to_owned()),
            ],
            tuple: (i64::MIN, u64::MAX, f32::MIN_POSITIVE, ()),
            rest: [("$$x".to_owned(), json!({"$f64": "0000000000000000", "$ref": [null, 1, "a"]}))]
                .into(),
        }
    }

    #[test]
    fn it_reads_what_the_serializer_writes() {
        let encoded = crate::encode::Encoded::of_state(&all()).expect("encodes");
        let value = encoded.value().clone();
        for stored in [Stored { value: value.clone(), mode: Mode::Escaped }, Stored::new(value)] {
            assert_eq!(All::deserialize(stored).expect("decodes"), all());
        }
    }

    #[test]
    fn its_errors_are_those_of_serde_json() {
        let mut base = serde_json::to_value(all()).expect("JSON");
        base.as_object_mut().expect("an object").remove("$$x");
        let wrong = [
            json!(null),
            json!(1),
            json!("a"),
            json!([]),
            json!([1]),
            json!({}),
            json!({"Tuple": {}}),
            json!({"a": 1, "b": 2}),
        ];
        for field in ["bytes", "keys", "variants", "shapes", "any", "tuple"] {
            for value in wrong.iter().chain(&[
                json!({"Tuple": [1]}),
                json!({"x": {"Tuple": [1, 2, 3]}}),
                json!([{"Struct": 1}]),
            ]) {
                let mut all = base.clone();
                all[field] = value.clone();
                let expected = All::deserialize(all.clone()).map_err(|error| error.to_string());
                for mode in [Mode::Escaped, Mode::Plain] {
                    let found = All::deserialize(Stored { value: all.clone(), mode })
                        .map_err(|error| error.to_string());
                    assert_eq!(found, expected, "`{field}`: {value}");
                }
            }
        }
    }
}
