//! `cargo fuzz run tensors --features libfuzzer`: see [`fcdm_fuzz::tensors`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::tensors(bytes));
