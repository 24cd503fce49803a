//! Flattened settings: the fields of one struct as if they were fields of the component.
//!
//! serde's own `flatten` is not used. It reads through a buffer that loses the paths of errors,
//! the numbers in keys of maps and what is known of a field by name. Here a component is written
//! through a serializer that spreads the settings, and its document is gathered again before it
//! is read.
//!
//! Invariant: the document of a component does not show that some of its fields are settings.

use crate::component::Flattened;
use serde::{
    Serialize, Serializer,
    ser::{Error, Impossible, SerializeStruct},
};
use serde_json::{Map, Value};

/// Put the keys of flattened settings into an object of their own, each under the name of its
/// field. A row from before the field was flattened has such an object already: what stands in it
/// is kept.
pub(super) fn gather(body: &mut Value, flattened: &[Flattened]) {
    let Value::Object(fields) = body else { return };
    // All are taken out before one is put in: a key of some settings may be the name of a field.
    let mut gathered: Vec<(&str, Map<String, Value>)> = Vec::with_capacity(flattened.len());
    for Flattened { key, keys } in flattened {
        let settings =
            keys.iter().filter_map(|key| Some(((*key).to_owned(), fields.remove(*key)?))).collect();
        gathered.push((key, settings));
    }
    for (key, mut settings) in gathered {
        if let Some(Value::Object(former)) = fields.remove(key) {
            for (name, value) in former {
                settings.entry(name).or_insert(value);
            }
        }
        fields.insert(key.to_owned(), Value::Object(settings));
    }
}

/// A serializer of the fields of a component, which spreads those with these names.
pub struct Spread<S> {
    serializer: S,
    names: &'static [&'static str],
}

impl<S> Spread<S> {
    /// Write to `serializer`.
    pub fn new(serializer: S, names: &'static [&'static str]) -> Self {
        Spread { serializer, names }
    }
}

/// The methods of a serializer that takes nothing but a struct.
macro_rules! only_structs {
    ($what:literal: $($method:ident($($type:ty),*)),+ $(,)?) => {
        $(
            fn $method(self $(, _: $type)*) -> Result<Self::Ok, Self::Error> {
                Err(Self::Error::custom($what))
            }
        )+
        fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_newtype_variant<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: &T,
        ) -> Result<Self::Ok, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_newtype_struct<T: Serialize + ?Sized>(
            self,
            _: &'static str,
            _: &T,
        ) -> Result<Self::Ok, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_tuple_struct(
            self,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleStruct, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_tuple_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeTupleVariant, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Self::Error> {
            Err(Self::Error::custom($what))
        }
        fn serialize_struct_variant(
            self,
            _: &'static str,
            _: u32,
            _: &'static str,
            _: usize,
        ) -> Result<Self::SerializeStructVariant, Self::Error> {
            Err(Self::Error::custom($what))
        }
    };
    ($what:literal) => {
        only_structs!(
            $what:
            serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
            serialize_i64(i64), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
            serialize_u64(u64), serialize_f32(f32), serialize_f64(f64), serialize_char(char),
            serialize_str(&str), serialize_bytes(&[u8]), serialize_none(), serialize_unit(),
            serialize_unit_struct(&'static str),
            serialize_unit_variant(&'static str, u32, &'static str),
        );
    };
}

impl<S: Serializer> Serializer for Spread<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Impossible<S::Ok, S::Error>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = SpreadFields<S::SerializeStruct>;
    type SerializeStructVariant = Impossible<S::Ok, S::Error>;

    only_structs!("a component with flattened settings is written as a struct");

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        let fields = self.serializer.serialize_struct(name, len)?;
        Ok(SpreadFields { fields, names: self.names })
    }
}

/// The fields of a component under construction.
pub struct SpreadFields<F> {
    fields: F,
    names: &'static [&'static str],
}

impl<F: SerializeStruct> SerializeStruct for SpreadFields<F> {
    type Ok = F::Ok;
    type Error = F::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), F::Error> {
        if self.names.contains(&key) {
            return value.serialize(Settings(&mut self.fields));
        }
        self.fields.serialize_field(key, value)
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), F::Error> {
        self.fields.skip_field(key)
    }

    fn end(self) -> Result<F::Ok, F::Error> {
        self.fields.end()
    }
}

/// Writes the fields of settings among those of their component.
struct Settings<'a, F>(&'a mut F);

impl<'a, F: SerializeStruct> Serializer for Settings<'a, F> {
    type Ok = ();
    type Error = F::Error;
    type SerializeSeq = Impossible<(), F::Error>;
    type SerializeTuple = Impossible<(), F::Error>;
    type SerializeTupleStruct = Impossible<(), F::Error>;
    type SerializeTupleVariant = Impossible<(), F::Error>;
    type SerializeMap = Impossible<(), F::Error>;
    type SerializeStruct = Settings<'a, F>;
    type SerializeStructVariant = Impossible<(), F::Error>;

    only_structs!("flattened settings are written as a struct");

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Settings<'a, F>, F::Error> {
        Ok(self)
    }
}

impl<F: SerializeStruct> SerializeStruct for Settings<'_, F> {
    type Ok = ();
    type Error = F::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), F::Error> {
        self.0.serialize_field(key, value)
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), F::Error> {
        self.0.skip_field(key)
    }

    fn end(self) -> Result<(), F::Error> {
        Ok(())
    }
}
