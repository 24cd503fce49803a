//! The fuzz target `address`; see `bodies.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| superduper_fuzz::bodies::address(data));
