//! `cargo fuzz run pictures --features libfuzzer`: see [`fcdm_fuzz::pictures`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::pictures(bytes));
