//! The fuzz target `access`; see `access.rs` of the sources.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| superduper_fuzz::access::access(data));
