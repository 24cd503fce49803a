//! A serde serializer to JSON values that refuses what JSON would silently change.
//!
//! Invariants: a non-finite float is an error with its path (serde_json writes null), or in a state
//! a mark with its bits; a value nested too deep is an error with its path, and recurses no
//! further; keys of user data that begin with `$` are escaped as `$$`, so that they never look like
//! a reference; marks of `Runtime` and `Output` leave no trace in the document. The keys of an
//! object are written once, in sorted order; numbers are written alike whatever features
//! `serde_json` has in this build.

use super::{
    OUTPUT_MARK, RUNTIME_MARK, floats,
    numbers::{self, Decimal, NUMBER, RAW, Raw},
    session,
    shape::Mark,
};
use crate::json::MAX_NESTING;
use serde::{Serialize, ser};
use serde_json::{Map, Number, Value};
use std::fmt::{self, Display};

/// Serialize to JSON inside the current session.
pub(crate) fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, SerError> {
    Ok(value.serialize(ValueSerializer::default())?.into_value())
}

/// Whether a value that was written has to be rewritten before a type reads it; hardly any has.
pub(super) fn is_escaped(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(is_escaped),
        Value::Object(map) => {
            map.iter().any(|(key, value)| key.starts_with("$$") || is_escaped(value))
        }
        Value::Number(number) => numbers::is_odd(number),
        _ => false,
    }
}

/// Undo the escaping of keys, and write numbers as this build reads them in every place.
pub(crate) fn unescape(value: Value) -> Value {
    fn rewrite(value: Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.into_iter().map(rewrite).collect()),
            Value::Object(map) => numbers::of_struct(&map).unwrap_or_else(|| {
                let entries =
                    map.into_iter().map(|(key, value)| (unescape_key(key), rewrite(value)));
                Value::Object(entries.collect())
            }),
            Value::Number(number) if numbers::is_odd(&number) => {
                Value::Number(numbers::plain(&number).unwrap_or(number))
            }
            other => other,
        }
    }
    if is_escaped(&value) { rewrite(value) } else { value }
}

/// A key as the user wrote it.
pub(super) fn unescape_key(key: String) -> String {
    if key.starts_with("$$") { key[1..].to_owned() } else { key }
}

fn escape(key: String) -> String {
    if key.starts_with('$') { format!("${key}") } else { key }
}

/// The serializer's error: its text; the path is kept by the session.
#[derive(Debug)]
pub(crate) struct SerError(String);

impl Display for SerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for SerError {}
impl ser::Error for SerError {
    fn custom<T: Display>(message: T) -> Self {
        let text = message.to_string();
        session::note_error(&text);
        SerError(text)
    }
}

fn fail<T>(message: impl Display) -> Result<T, SerError> {
    Err(ser::Error::custom(message))
}

/// A serialized value, or the sign that there is none.
pub(crate) enum Slot {
    Value(Value),
    Absent,
    Output,
}

impl Slot {
    fn into_value(self) -> Value {
        match self {
            Slot::Value(value) => value,
            Slot::Absent | Slot::Output => Value::Null,
        }
    }
}

/// Writes one value, inside of so many arrays and objects.
#[derive(Clone, Copy, Default)]
struct ValueSerializer {
    level: usize,
    /// How many wrappers that leave no trace in JSON (`Some`, newtypes) are around it, since the
    /// last array or object.
    wrappers: usize,
}

impl ValueSerializer {
    /// Inside of so many more arrays and objects.
    fn open(self, levels: usize) -> Result<Self, SerError> {
        let level = self.level + levels;
        if level > MAX_NESTING { too_deep() } else { Ok(ValueSerializer { level, wrappers: 0 }) }
    }

    fn unwrapped(self) -> Result<Self, SerError> {
        if self.wrappers == MAX_NESTING {
            too_deep()
        } else {
            Ok(ValueSerializer { wrappers: self.wrappers + 1, ..self })
        }
    }

    /// Write an item of the array or object that was opened.
    fn within<T: Serialize + ?Sized>(
        self,
        segment: session::Segment,
        value: &T,
    ) -> Result<Slot, SerError> {
        session::enter(segment);
        // What a level takes is the user's; some levels always have room.
        let slot = match self.level % 16 {
            0 => stacker::maybe_grow(256 * 1024, 2 * 1024 * 1024, || value.serialize(self)),
            _ => value.serialize(self),
        }?;
        if matches!(slot, Slot::Output) {
            session::note_output();
        }
        session::leave();
        Ok(slot)
    }

    /// A float; `mark` stands for one that JSON has no text for, in a state.
    fn float(self, value: f64, mark: impl FnOnce() -> Value) -> Result<Slot, SerError> {
        match Number::from_f64(value) {
            Some(number) => Ok(Slot::Value(Value::Number(number))),
            None if session::marks_floats() => self.open(1).map(|_| Slot::Value(mark())),
            None => {
                session::note_hint(
                    "use `Option` and leave it out, or keep it in an `Artifact`; the state of a checkpoint may hold infinity and NaN",
                );
                fail(format_args!("the number is {value}, which JSON cannot hold"))
            }
        }
    }
}

fn too_deep<T>() -> Result<T, SerError> {
    session::note_hint(
        "write what refers to itself as a flat list, whose items name each other by their index, or keep it in an `Artifact`",
    );
    fail(format_args!(
        "it is nested deeper than the {MAX_NESTING} levels that a stored value may have"
    ))
}

impl ser::Serializer for ValueSerializer {
    type Ok = Slot;
    type Error = SerError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    fn serialize_bool(self, value: bool) -> Result<Slot, SerError> {
        session::mark(Mark::Bool);
        Ok(Slot::Value(Value::Bool(value)))
    }
    fn serialize_i8(self, value: i8) -> Result<Slot, SerError> {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<Slot, SerError> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<Slot, SerError> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<Slot, SerError> {
        session::mark(Mark::Signed);
        Ok(Slot::Value(Value::Number(value.into())))
    }
    fn serialize_i128(self, value: i128) -> Result<Slot, SerError> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.serialize_i64(value),
            (_, Ok(value)) => self.serialize_u64(value),
            _ => fail(format_args!("the number {value} does not fit 64 bits")),
        }
    }
    fn serialize_u8(self, value: u8) -> Result<Slot, SerError> {
        self.serialize_u64(value.into())
    }
    fn serialize_u16(self, value: u16) -> Result<Slot, SerError> {
        self.serialize_u64(value.into())
    }
    fn serialize_u32(self, value: u32) -> Result<Slot, SerError> {
        self.serialize_u64(value.into())
    }
    fn serialize_u64(self, value: u64) -> Result<Slot, SerError> {
        session::mark(Mark::Unsigned);
        Ok(Slot::Value(Value::Number(value.into())))
    }
    fn serialize_u128(self, value: u128) -> Result<Slot, SerError> {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => fail(format_args!("the number {value} does not fit 64 bits")),
        }
    }
    fn serialize_f32(self, value: f32) -> Result<Slot, SerError> {
        session::mark(Mark::Single);
        self.float(value.into(), || floats::mark_f32(value))
    }
    fn serialize_f64(self, value: f64) -> Result<Slot, SerError> {
        session::mark(Mark::Double);
        self.float(value, || floats::mark_f64(value))
    }
    fn serialize_char(self, value: char) -> Result<Slot, SerError> {
        session::mark(Mark::Char);
        Ok(Slot::Value(Value::String(value.into())))
    }
    fn serialize_str(self, value: &str) -> Result<Slot, SerError> {
        session::mark(Mark::Text);
        Ok(Slot::Value(Value::String(value.to_owned())))
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Slot, SerError> {
        session::mark(Mark::Bytes);
        self.open(1)?;
        Ok(Slot::Value(Value::Array(value.iter().map(|byte| Value::from(*byte)).collect())))
    }
    fn serialize_none(self) -> Result<Slot, SerError> {
        session::mark(Mark::Null);
        Ok(Slot::Value(Value::Null))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Slot, SerError> {
        session::mark(Mark::Some);
        let slot = value.serialize(self.unwrapped()?)?;
        if matches!(slot, Slot::Value(Value::Null)) {
            session::note_empty_some();
        }
        Ok(slot)
    }
    fn serialize_unit(self) -> Result<Slot, SerError> {
        session::mark(Mark::Unit);
        Ok(Slot::Value(Value::Null))
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<Slot, SerError> {
        session::mark_name(name);
        Ok(match name {
            RUNTIME_MARK => Slot::Absent,
            OUTPUT_MARK => Slot::Output,
            _ => Slot::Value(Value::Null),
        })
    }
    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Slot, SerError> {
        session::mark_name(name);
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Slot, SerError> {
        session::mark_name(name);
        value.serialize(self.unwrapped()?)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Slot, SerError> {
        session::mark_name(name);
        let value =
            self.open(1)?.within(session::Segment::Key(variant.into()), value)?.into_value();
        Ok(Slot::Value(Value::Object(Map::from_iter([(escape(variant.to_owned()), value)]))))
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Items, SerError> {
        session::mark(Mark::Items);
        Ok(Items {
            items: Vec::with_capacity(len.unwrap_or(0).min(4096)),
            variant: None,
            inside: self.open(1)?,
        })
    }
    fn serialize_tuple(self, len: usize) -> Result<Items, SerError> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Items, SerError> {
        session::mark_name(name);
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items, SerError> {
        session::mark_name(name);
        session::enter(session::Segment::Key(variant.into()));
        let mut items = self.open(1)?.serialize_seq(Some(len))?;
        items.variant = Some(variant);
        Ok(items)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Fields, SerError> {
        session::mark(Mark::Entries);
        Ok(Fields::new(len.unwrap_or(0), self.open(1)?))
    }
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields, SerError> {
        if name == NUMBER || name == RAW {
            return Ok(Fields::new(0, self));
        }
        session::mark_name(name);
        self.serialize_map(Some(len))
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields, SerError> {
        session::mark_name(name);
        session::enter(session::Segment::Key(variant.into()));
        let mut fields = self.open(1)?.serialize_map(Some(len))?;
        fields.variant = Some(variant);
        Ok(fields)
    }
}

/// The items of an array under construction.
struct Items {
    items: Vec<Value>,
    /// The variant whose items they are; it was entered.
    variant: Option<&'static str>,
    inside: ValueSerializer,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerError> {
        let slot = self.inside.within(session::Segment::Index(self.items.len()), value)?;
        self.items.push(slot.into_value());
        Ok(())
    }

    fn finish(self) -> Result<Slot, SerError> {
        Ok(Slot::Value(wrap(self.variant, Value::Array(self.items))))
    }
}

/// Put a value under its variant, which was entered.
fn wrap(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => {
            session::leave();
            Value::Object(Map::from_iter([(escape(variant.to_owned()), value)]))
        }
        None => value,
    }
}

impl ser::SerializeSeq for Items {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}
impl ser::SerializeTuple for Items {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}
impl ser::SerializeTupleStruct for Items {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}
impl ser::SerializeTupleVariant for Items {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerError> {
        self.push(value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}

/// The entries of an object under construction.
struct Fields {
    entries: Vec<(String, Value)>,
    key: Option<String>,
    /// The variant whose fields they are; it was entered.
    variant: Option<&'static str>,
    /// What a struct of serde_json's own stands for.
    private: Option<Slot>,
    inside: ValueSerializer,
}

impl Fields {
    fn new(len: usize, inside: ValueSerializer) -> Self {
        Fields {
            entries: Vec::with_capacity(len.min(4096)),
            key: None,
            variant: None,
            private: None,
            inside,
        }
    }

    fn put<T: Serialize + ?Sized>(
        &mut self,
        segment: session::Segment,
        key: String,
        value: &T,
    ) -> Result<(), SerError> {
        match self.inside.within(segment, value)? {
            Slot::Value(value) => self.entries.push((key, value)),
            Slot::Absent | Slot::Output => {}
        }
        Ok(())
    }

    /// The only field of a struct of serde_json's own; `false` for other structs.
    fn put_private<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<bool, SerError> {
        if key != NUMBER && key != RAW {
            return Ok(false);
        }
        let text = value.serialize(KeySerializer)?;
        let slot = if key == NUMBER {
            Decimal(&text).serialize(self.inside)?
        } else {
            serde_json::from_str::<Raw>(&text)
                .map_err(ser::Error::custom)?
                .serialize(self.inside)?
        };
        self.private = Some(slot);
        Ok(true)
    }

    fn finish(mut self) -> Result<Slot, SerError> {
        if let Some(slot) = self.private {
            return Ok(slot);
        }
        // `Map` keeps the order of insertion if any crate of the build enables `preserve_order`.
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            session::note_hint(
                "give each value a key of its own; a flattened map has no key that a field has",
            );
            return fail(format_args!(
                "the key `{}` is written twice, and only one of the values would be kept",
                pair[0].0
            ));
        }
        Ok(Slot::Value(wrap(self.variant, Value::Object(Map::from_iter(self.entries)))))
    }
}

impl ser::SerializeMap for Fields {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerError> {
        self.key = Some(key.serialize(KeySerializer)?);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerError> {
        let Some(key) = self.key.take() else {
            return fail("a map value was written before its key");
        };
        self.put(session::Segment::Key(key.clone().into()), key, value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}
impl ser::SerializeStruct for Fields {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), SerError> {
        if key.starts_with('$') && self.put_private(key, value)? {
            return Ok(());
        }
        self.put(session::Segment::Key(key.into()), escape(key.to_owned()), value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}
impl ser::SerializeStructVariant for Fields {
    type Ok = Slot;
    type Error = SerError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), SerError> {
        ser::SerializeStruct::serialize_field(self, key, value)
    }
    fn end(self) -> Result<Slot, SerError> {
        self.finish()
    }
}

/// Turns map keys into text, as serde_json does.
struct KeySerializer;

macro_rules! key_from_display {
    ($($method:ident: $type:ty),+ $(,)?) => {$(
        fn $method(self, value: $type) -> Result<String, SerError> {
            Ok(value.to_string())
        }
    )+};
}

impl ser::Serializer for KeySerializer {
    type Ok = String;
    type Error = SerError;
    type SerializeSeq = ser::Impossible<String, SerError>;
    type SerializeTuple = ser::Impossible<String, SerError>;
    type SerializeTupleStruct = ser::Impossible<String, SerError>;
    type SerializeTupleVariant = ser::Impossible<String, SerError>;
    type SerializeMap = ser::Impossible<String, SerError>;
    type SerializeStruct = ser::Impossible<String, SerError>;
    type SerializeStructVariant = ser::Impossible<String, SerError>;

    key_from_display!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_char: char,
    );
    fn serialize_f32(self, value: f32) -> Result<String, SerError> {
        self.serialize_f64(value.into())
    }
    fn serialize_f64(self, value: f64) -> Result<String, SerError> {
        if value.is_finite() {
            Ok(value.to_string())
        } else {
            fail(format_args!("the key is {value}, which JSON cannot hold"))
        }
    }
    fn serialize_str(self, value: &str) -> Result<String, SerError> {
        Ok(escape(value.to_owned()))
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String, SerError> {
        Ok(escape(variant.to_owned()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<String, SerError> {
        let key = value.serialize(KeySerializer)?;
        // A key of ours is written as it is: this is what tells a reference from user data.
        Ok(if name == session::RAW_KEY { key[1..].to_owned() } else { key })
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<String, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_none(self) -> Result<String, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, SerError> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<String, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<String, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, SerError> {
        fail("a map key must be a text or a number")
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, SerError> {
        fail("a map key must be a text or a number")
    }
}
