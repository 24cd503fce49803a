//! What makes a batch safe to send again.

use super::rows::Timestamp;

/// A unique token of a batch. It lets a caller send the same batch again without writing it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitToken([u8; 16]);

impl CommitToken {
    /// A new token. It holds 128 random bits, from the seeds that the standard library draws for
    /// its hash tables.
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let mut bytes = [0; 16];
        for (place, half) in bytes.chunks_mut(8).enumerate() {
            half.copy_from_slice(
                &RandomState::new()
                    .hash_one((std::process::id(), Timestamp::now(), place))
                    .to_le_bytes(),
            );
        }
        CommitToken(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
