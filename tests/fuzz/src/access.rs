//! The fuzz target `access`: rules, references, rights, key files, signed requests and schemas.

use superduper_access::{
    DataSchema, ModelReference, PublicKey, Right, Rule, SignedHead, SignedRequest, SigningKey,
};

/// Read what is written, where reading gives something: it has to come out the same.
fn again<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        match written.parse::<T>() {
            Ok(read) => assert_eq!(read, value, "{written}"),
            Err(_) => panic!("`{written}` is not read again"),
        }
    }
}

/// Any bytes as each of the texts that come from others.
pub fn access(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    again::<Rule>(text);
    again::<ModelReference>(text);
    again::<Right>(text);
    again::<PublicKey>(text);
    // Opening an encrypted key takes a second; none of these is one.
    assert!(SigningKey::open(text, None).is_err());
    drop(serde_json::from_str::<SignedRequest>(text));
    if let Ok(head) = serde_json::from_str::<SignedHead>(text) {
        drop(head.verify(&SigningKey::generate().expect("a key").public()));
    }
    if let Ok(schema) = serde_json::from_str::<DataSchema>(text) {
        assert!(schema.check(&[]).is_ok());
    }
}
