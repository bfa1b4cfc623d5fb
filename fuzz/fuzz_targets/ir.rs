//! `cargo fuzz run ir --features libfuzzer`: see [`fcdm_fuzz::ir`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::ir(bytes));
