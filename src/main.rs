//! Command line of `fcdm`.
#![forbid(unsafe_code)]

fn main() {}
