//! Who somebody is, by keys: public keys on record, and requests and audits that are signed.

mod head;
mod keys;
mod nonce;
mod request;

pub use head::SignedHead;
pub use keys::{KEY_PASSWORD, PublicKey, SigningKey};
pub use nonce::TakenNonce;
pub(crate) use nonce::take;
pub use request::SignedRequest;
pub(crate) use request::{ACCESS, Expected};
