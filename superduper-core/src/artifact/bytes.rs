//! Cheaply cloned bytes.

use std::{fmt, ops::Deref};

/// Immutable bytes; a clone or slice shares the memory.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(bytes::Bytes);

impl Bytes {
    /// No bytes.
    pub const fn new() -> Self {
        Bytes(bytes::Bytes::new())
    }

    /// Bytes that live as long as the program.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Bytes(bytes::Bytes::from_static(bytes))
    }

    /// Part of the bytes, sharing the memory.
    ///
    /// # Panics
    /// If the range is outside of the bytes.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Bytes(self.0.slice(range))
    }

    /// For stores: the bytes as the `bytes` crate has them.
    #[doc(hidden)]
    pub fn into_inner(self) -> bytes::Bytes {
        self.0
    }

    /// For stores: bytes of the `bytes` crate.
    #[doc(hidden)]
    pub fn from_inner(bytes: bytes::Bytes) -> Self {
        Bytes(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes.into())
    }
}
impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes::Bytes::copy_from_slice(bytes))
    }
}
impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Bytes(text.into())
    }
}
impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}
impl<const N: usize> From<[u8; N]> for Bytes {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}
