//! `cargo fuzz run checkpoint --features libfuzzer`: see [`fcdm_fuzz::checkpoint`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::checkpoint(bytes));
