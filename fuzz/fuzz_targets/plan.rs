//! `cargo fuzz run plan --features libfuzzer`: see [`fcdm_fuzz::plan`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::plan(bytes));
