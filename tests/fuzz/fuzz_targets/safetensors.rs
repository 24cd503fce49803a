//! The fuzz target `safetensors`; see `bodies.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| superduper_fuzz::bodies::safetensors(data));
