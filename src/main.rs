//! Command line of `fcdm`.
fn main() {}
