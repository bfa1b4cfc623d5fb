//! `fcdm --version`: what has to be known of a build to understand what it does: its commit, the formats that it writes and reads, and
//! the instruction set that it uses on this CPU.

use fcdm_runtime::simd::Isa;
use fcdm_runtime::{artifact, plan};

/// Hash and date of the commit, where the build knew one.
const COMMIT: Option<&str> = option_env!("FCDM_COMMIT");

/// `0.1.0 (abc1234abc 2026-11-20), artifact version 2, avx2`.
pub fn short() -> String {
    format!("{}, artifact version {}, {}", of_build(), artifact::VERSION, isa())
}

/// The same and more, on lines of their own.
pub fn long() -> String {
    format!(
        "{}\nartifact: version {}, plan version {} (written and read)\nCPU: {}, {}\nthreads: {}",
        of_build(),
        artifact::VERSION,
        plan::VERSION,
        std::env::consts::ARCH,
        isa(),
        fcdm_runtime::threads::available()
    )
}

fn of_build() -> String {
    let commit = COMMIT.map_or_else(String::new, |commit| format!(" ({commit})"));
    format!("{}{commit}", env!("CARGO_PKG_VERSION"))
}

/// The instruction set, and whether it was asked for. One that this CPU cannot have is no reason not to know the version.
fn isa() -> String {
    let forced = std::env::var_os("FCDM_ISA").is_some();
    match Isa::from_env() {
        Ok(isa) if forced => format!("{} (FCDM_ISA)", isa.name()),
        Ok(isa) => isa.name().to_owned(),
        Err(e) => e.to_string(),
    }
}
