//! One function per fuzz target: any bytes go in, and no panic, no endless loop and no memory out
//! of proportion comes out.
//!
//! What is accepted must hold what its type promises: those checks are here too.

use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use superduper::{Component, Migrate, prelude::*};

/// A bit of everything that documents can hold.
#[derive(Component, Clone, Debug)]
#[component(kind = "fuzz.Node", version = 3, migrate)]
pub struct Node {
    pub identifier: String,
    #[component(breaking)]
    pub number: i64,
    pub size: Option<u64>,
    pub float: Option<f64>,
    pub any: Value,
    pub shape: Option<Shape>,
    pub child: Option<Arc<Node>>,
    pub children: Vec<Leaf>,
    pub by_name: BTreeMap<String, Leaf>,
    pub blob: Option<Artifact<Bytes>>,
    pub weights: Option<Artifact<Tensors>>,
    pub secret: Option<Secret<String>>,
    pub call: Option<Callable>,
    pub made: Output<Artifact<Bytes>>,
}

/// An enum as a field.
#[derive(
    Clone, Debug, superduper::__private::serde::Serialize, superduper::__private::serde::Deserialize,
)]
#[serde(crate = "superduper::__private::serde")]
pub enum Shape {
    Point,
    Circle(f32),
    Boxed { of: Box<Shape>, leaf: Option<Leaf> },
}

/// A component without children.
#[derive(Component, Clone, Debug)]
#[component(kind = "fuzz.Leaf")]
pub struct Leaf {
    pub identifier: String,
    #[component(default)]
    pub text: String,
    pub bytes: Option<[u8; 3]>,
}

/// Any component.
#[derive(Component)]
#[component(kind = "fuzz.Holder")]
pub struct Holder {
    pub identifier: String,
    pub held: Option<Arc<dyn Component>>,
    pub more: Vec<Box<dyn Component>>,
}

#[callable("fuzz.twice")]
fn twice(a: i64) -> Result<i64> {
    Ok(a.wrapping_mul(2))
}

/// Stands for the callable in the program's registry, so that it is linked.
pub fn callable() -> Callable {
    Callable::of::<twice>()
}

impl Migrate for Node {
    fn migrate(from: u32, mut fields: Value) -> Result<Value> {
        if let Some(fields) = fields.as_object_mut().filter(|_| from == 1)
            && let Some(count) = fields.remove("count")
        {
            fields.insert("number".to_owned(), count);
        }
        Ok(fields)
    }
}

/// Decode documents of unknown origin; what is accepted is encoded, and decoded to the same.
pub fn document(data: &[u8]) {
    let Ok(documents) = serde_json::from_slice::<Vec<Value>>(data) else { return };
    let Ok(component) = superduper::__private::decode_documents(&documents) else { return };
    // What can be read is not always what can be written: a blob that is only named, a name that is
    // held twice.
    let Ok(encoding) = component.encode() else { return };
    let Value::Array(written) = encoding.to_json() else { panic!("an encoding is a list") };
    match superduper::__private::decode_documents(&written) {
        Ok(again) => {
            let again = again.encode().expect("what was written once can be written again");
            assert_eq!(again.to_json(), encoding.to_json(), "encode, decode, encode");
        }
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}

/// Parse an address; what is accepted is written as it was read.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    let again: Address = address.to_string().parse().expect("an address that was written");
    assert_eq!(again, address);
    assert_eq!(address.unversioned().to_string(), address.path());
    assert!(!address.kind.is_empty() && !address.identifier.is_empty());
}

/// Read a safetensors file; what is accepted has tensors of the sizes that their headers say.
pub fn safetensors(data: &[u8]) {
    let Ok(tensors) = Tensors::from_bytes(data.to_vec()) else { return };
    let mut total = 0;
    for name in tensors.names() {
        let info = tensors.info(name).expect("a tensor that is listed");
        let width = info.size().expect("a tensor that fits into its file");
        total += width;
    }
    assert!(total <= data.len(), "{total} bytes of tensors in {} bytes", data.len());
}
