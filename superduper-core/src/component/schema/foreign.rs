//! Types with a schema of their own: `schemars::JsonSchema`.
//!
//! schemars leaves open what a struct does not know, and serde ignores it. Here schemas are closed:
//! an unknown member is a mistake, as it is in a component. Numbers get the ranges of their types.

mod close;
mod form;
mod union;

use super::{Maker, Node};
use form::Form;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A type with a schema of its own.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub(super) schema: Value,
    form: Form,
}

/// What the types in the fields of one kind share.
#[derive(Debug, Default)]
pub(crate) struct Types {
    pub(super) schemas: Map<String, Value>,
    forms: BTreeMap<String, Form>,
}

/// What is wrong in a value, at a place in it.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) pointer: String,
    pub(super) problem: String,
    pub(super) expected: String,
    pub(super) near: Option<String>,
    /// Whether it is a member that is missing.
    missing: bool,
}

/// A generator whose definitions are at this JSON pointer.
pub(super) fn generator(definitions: String) -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = definitions.into();
            settings.meta_schema = None;
        })
        .into_generator()
}

/// The node of a type.
pub(super) fn node<T: JsonSchema>(maker: &mut Maker<'_>) -> Node {
    let schema = Value::from(maker.generator.subschema_for::<T>());
    match &schema {
        Value::Bool(true) => Node::Any,
        // Its forms are made when all definitions are known.
        _ => Node::Foreign(Box::new(Foreign { schema, form: Form::default() })),
    }
}

impl Types {
    /// Take the definitions, and finish the nodes that refer to them.
    pub(super) fn new<'n>(
        mut generator: SchemaGenerator,
        nodes: impl Iterator<Item = &'n mut Node>,
    ) -> Self {
        let raw = generator.take_definitions(true);
        for node in nodes {
            if let Node::Foreign(foreign) = node {
                close::close(&mut foreign.schema, &raw);
                foreign.form = Form::of(&foreign.schema);
            }
        }
        let mut schemas = raw.clone();
        schemas.values_mut().for_each(|schema| close::close_inside(schema, &raw));
        let forms = schemas.iter().map(|(name, schema)| (name.clone(), Form::of(schema))).collect();
        Types { schemas, forms }
    }
}

impl Foreign {
    /// Look at a value.
    pub(super) fn check(&self, types: &Types, value: &Value, found: &mut Vec<Wrong>) {
        self.form.check(&types.forms, &mut String::new(), value, found);
    }

    /// What should be there, in words.
    pub(super) fn expected(&self) -> String {
        self.form.expected()
    }
}

/// The type of a component's field that has a form of its own in documents.
macro_rules! json_schema {
    ($($name:literal $type:ty [$($generics:tt)*] => $shared:expr),+ $(,)?) => {$(
        impl<$($generics)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
                let schema = super::render::shared($shared, &mut std::iter::empty());
                schemars::Schema::try_from(schema).unwrap_or_default()
            }
        }
    )+};
}
json_schema! {
    "Artifact" crate::artifact::Artifact<T> [T: crate::artifact::Blob] => super::render::ARTIFACT,
    "Secret" crate::component::secret::Secret<T> [T] => super::render::SECRET,
    "Callable" crate::component::callable::Callable [] => super::render::CALLABLE,
}
