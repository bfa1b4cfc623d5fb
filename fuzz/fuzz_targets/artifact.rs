//! `cargo fuzz run artifact --features libfuzzer`: see [`fcdm_fuzz::artifact`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::artifact(bytes));
