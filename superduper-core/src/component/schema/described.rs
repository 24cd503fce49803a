//! The types that are described here: numbers, texts, containers of the standard library, and the
//! types of superduper's own.

use super::{Maker, Node, node::Key, node::range};
use crate::{
    artifact::{Artifact, Blob},
    component::{Component, callable::Callable, output::Output, runtime::Runtime, secret::Secret},
    encode::Inline,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    num::*,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// A type whose values are described here. The derive implements it for components; for types of
/// one's own there is `schemars::JsonSchema`.
pub trait Described {
    /// What its values look like.
    fn node(maker: &mut Maker<'_>) -> Node;
}

/// A type that can be the key of a map.
pub trait DescribedKey {
    /// What the keys look like.
    const KEY: Key;
}

macro_rules! described {
    ($($type:ty => $node:expr),+ $(,)?) => {$(
        impl Described for $type {
            fn node(_: &mut Maker<'_>) -> Node {
                $node
            }
        }
    )+};
}
described! {
    () => Node::Null,
    bool => Node::Bool,
    f32 => Node::Number { single: true },
    f64 => Node::Number { single: false },
    char => Node::Char,
    str => Node::Text,
    String => Node::Text,
    PathBuf => Node::Text,
    Callable => Node::Callable,
    serde_json::Value => Node::Any,
    serde_json::Map<String, serde_json::Value> => Node::Map { key: Key::Text, value: Box::new(Node::Any) },
    Duration => Node::Record(vec![
        ("secs", Node::integer(0, u64::MAX.into())),
        ("nanos", Node::integer(0, u32::MAX.into())),
    ]),
    dyn Component => Node::AnyChild,
}

macro_rules! integers {
    ($($type:ident $non_zero:ident),+) => {$(
        impl Described for $type {
            #[allow(trivial_numeric_casts, reason = "one of the types is the widest")]
            fn node(_: &mut Maker<'_>) -> Node {
                Node::integer($type::MIN as i128, $type::MAX as u128)
            }
        }
        impl DescribedKey for $type {
            const KEY: Key = {
                let (min, max) = ($type::MIN as i128, $type::MAX as u128);
                Key::Integer {
                    min: if min < i64::MIN as i128 { i64::MIN } else { min as i64 },
                    max: if max > u64::MAX as u128 { u64::MAX } else { max as u64 },
                }
            };
        }
        impl Described for $non_zero {
            fn node(maker: &mut Maker<'_>) -> Node {
                // A negative one cannot be told from zero by a range.
                if $type::MIN == 0 { Node::integer(1, $type::MAX as u128) } else { <$type>::node(maker) }
            }
        }
    )+};
}
integers!(
    i8 NonZeroI8, i16 NonZeroI16, i32 NonZeroI32, i64 NonZeroI64, i128 NonZeroI128, isize NonZeroIsize,
    u8 NonZeroU8, u16 NonZeroU16, u32 NonZeroU32, u64 NonZeroU64, u128 NonZeroU128, usize NonZeroUsize
);

impl DescribedKey for String {
    const KEY: Key = Key::Text;
}
impl DescribedKey for char {
    const KEY: Key = Key::Char;
}
impl DescribedKey for bool {
    const KEY: Key = Key::Bool;
}

macro_rules! same {
    ($($type:ty),+) => {$(
        impl<T: Described + ?Sized> Described for $type {
            fn node(maker: &mut Maker<'_>) -> Node {
                T::node(maker)
            }
        }
    )+};
}
same!(Box<T>, Arc<T>, Rc<T>);

impl<T: Described> Described for Inline<T> {
    fn node(maker: &mut Maker<'_>) -> Node {
        T::node(maker)
    }
}
impl<T: Described + ToOwned + ?Sized> Described for Cow<'_, T> {
    fn node(maker: &mut Maker<'_>) -> Node {
        T::node(maker)
    }
}

macro_rules! lists {
    ($($type:ty $(, $hasher:ident)?;)+) => {$(
        impl<T: Described $(, $hasher)?> Described for $type {
            fn node(maker: &mut Maker<'_>) -> Node {
                Node::List { item: Box::new(T::node(maker)), length: None }
            }
        }
    )+};
}
lists! {
    [T];
    Vec<T>;
    VecDeque<T>;
    BTreeSet<T>;
    HashSet<T, S>, S;
}

impl<T: Described, const N: usize> Described for [T; N] {
    fn node(maker: &mut Maker<'_>) -> Node {
        Node::List { item: Box::new(T::node(maker)), length: Some(N) }
    }
}

impl<T: Described> Described for Option<T> {
    fn node(maker: &mut Maker<'_>) -> Node {
        match T::node(maker) {
            Node::Option(inner) => Node::Option(inner),
            inner => Node::Option(Box::new(inner)),
        }
    }
}

impl<K: DescribedKey, T: Described> Described for BTreeMap<K, T> {
    fn node(maker: &mut Maker<'_>) -> Node {
        Node::Map { key: K::KEY, value: Box::new(T::node(maker)) }
    }
}
impl<K: DescribedKey, T: Described, S> Described for HashMap<K, T, S> {
    fn node(maker: &mut Maker<'_>) -> Node {
        Node::Map { key: K::KEY, value: Box::new(T::node(maker)) }
    }
}

macro_rules! tuples {
    ($(($($name:ident),+))+) => {$(
        impl<$($name: Described),+> Described for ($($name,)+) {
            fn node(maker: &mut Maker<'_>) -> Node {
                Node::Tuple(vec![$($name::node(maker)),+])
            }
        }
    )+};
}
tuples!((A)(A, B)(A, B, C)(A, B, C, D)(A, B, C, D, E)(A, B, C, D, E, F)(A, B, C, D, E, F, G)(
    A, B, C, D, E, F, G, H
));

impl<T: Blob> Described for Artifact<T> {
    fn node(_: &mut Maker<'_>) -> Node {
        Node::Artifact
    }
}
impl<T> Described for Secret<T> {
    fn node(_: &mut Maker<'_>) -> Node {
        Node::Secret
    }
}

/// Inside of another type they are in no document; as fields they have roles of their own.
macro_rules! absent {
    ($($type:ty),+) => {$(
        impl<T> Described for $type {
            fn node(_: &mut Maker<'_>) -> Node {
                Node::Null
            }
        }
    )+};
}
absent!(Output<T>, Runtime<T>);

/// The node of a type that is known only when the program runs.
pub(super) fn of_primitive(id: std::any::TypeId) -> Option<Node> {
    use std::any::TypeId;
    macro_rules! find {
        ($($type:ident)+) => {
            [$((TypeId::of::<$type>(), range($type::MIN as i128, $type::MAX as u128))),+]
        };
    }
    let integers = find!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);
    if let Some((_, (min, max))) = integers.into_iter().find(|(found, _)| *found == id) {
        return Some(Node::Integer { min, max });
    }
    let others = [
        (TypeId::of::<bool>(), Node::Bool),
        (TypeId::of::<f32>(), Node::Number { single: true }),
        (TypeId::of::<f64>(), Node::Number { single: false }),
        (TypeId::of::<char>(), Node::Char),
        (TypeId::of::<String>(), Node::Text),
    ];
    others.into_iter().find(|(found, _)| *found == id).map(|(_, node)| node)
}
