//! `cargo fuzz run onnx --features libfuzzer`: see [`fcdm_fuzz::onnx`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fcdm_fuzz::onnx(bytes));
