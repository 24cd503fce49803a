//! One type, declared in two orders: its identity must not depend on the order, nor on the process.

use superduper::prelude::*;

#[derive(Component)]
#[component(kind = "declared.Type", register = no)]
pub(crate) struct Forward {
    pub(crate) identifier: String,
    #[component(breaking)]
    pub(crate) number: i64,
    #[component(breaking)]
    pub(crate) text: String,
    #[component(breaking)]
    pub(crate) any: Value,
    pub(crate) free: u64,
}

#[derive(Component)]
#[component(kind = "declared.Type", register = no)]
pub(crate) struct Backward {
    pub(crate) free: u64,
    #[component(breaking)]
    pub(crate) any: Value,
    #[component(breaking)]
    pub(crate) text: String,
    #[component(breaking)]
    pub(crate) number: i64,
    pub(crate) identifier: String,
}

fn values(n: u64) -> (String, i64, String, Value, u64) {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let keys = ["$ref", "$$", "é", "a.b", "", "\u{1F600}"];
    let map = keys
        .iter()
        .enumerate()
        .map(|(index, key)| ((*key).to_owned(), json!(mixed >> (8 * index))));
    let any = json!({"$blob": Value::Object(map.collect()), "limits": [i64::MIN, u64::MAX, f64::MAX, f64::MIN_POSITIVE, -0.0]});
    (
        format!("d{n}"),
        mixed as i64,
        format!("\u{0}\"\\ {}", char::from_u32((mixed % 0xd7ff) as u32).unwrap_or('x')),
        any,
        mixed,
    )
}

/// The identities of a value by the two types; they are equal.
pub(crate) fn identities(n: u64) -> Result<[String; 4]> {
    let (identifier, number, text, any, free) = values(n);
    let forward = Forward {
        identifier: identifier.clone(),
        number,
        text: text.clone(),
        any: any.clone(),
        free,
    };
    let backward = Backward { free, any, text, number, identifier };
    let content = |encoding: superduper::db::Encoding| encoding.tree().root().content_hash.to_hex();
    Ok([
        forward.uuid()?.to_hex(),
        backward.uuid()?.to_hex(),
        content(forward.encode()?),
        content(backward.encode()?),
    ])
}
