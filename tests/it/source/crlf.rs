//! Lines that end with a carriage return; `.gitattributes` keeps them so.

use superduper::{
    prelude::source, // äöü
};

pub(super) const FILE: &str = include_str!("crlf.rs");

/// Größe: 模型, "é".
#[source]
#[rustfmt::skip]
pub(super) struct Größe(/* ä
    ö */ #[expect(dead_code, reason = "only its text is looked at")] u8)
;
