//! Which implementation this CPU gets. Detected once when an executor is made; `FCDM_ISA=scalar|avx2|avx512`
//! forces one.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// An instruction set that this CPU has; there is no other way to make one than to detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// `FCDM_ISA` asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not a name of [`Isa::NAMES`].
    #[error("FCDM_ISA: expected one of scalar, avx2, avx512, found `{0}`")]
    Unknown(String),
    /// A name that this CPU cannot honour.
    #[error("FCDM_ISA: this CPU lacks `{0}`")]
    Unavailable(String),
}

impl Isa {
    /// Every name, fastest first.
    pub const NAMES: &'static [&'static str] = &["avx512", "avx2", "scalar"];

    /// The instruction set every CPU has.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// The instruction set of that name, if this CPU has it.
    pub fn named(name: &str) -> Option<Isa> {
        match name {
            "scalar" => Some(Isa::SCALAR),
            #[cfg(target_arch = "x86_64")]
            "avx2" if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => Some(Isa(Kind::Avx2)),
            #[cfg(target_arch = "x86_64")]
            "avx512" if is_x86_feature_detected!("avx512f") => Some(Isa(Kind::Avx512)),
            _ => None,
        }
    }

    /// The fastest that this CPU has.
    pub fn best() -> Isa {
        Isa::NAMES.iter().find_map(|n| Isa::named(n)).unwrap_or(Isa::SCALAR)
    }

    /// What `request` names, or the fastest when there is no request.
    ///
    /// # Errors
    /// One line that says what was asked for and why it cannot be had.
    pub fn select(request: Option<&str>) -> Result<Isa, IsaError> {
        match request {
            None => Ok(Isa::best()),
            Some(name) if Isa::NAMES.contains(&name) => Isa::named(name).ok_or_else(|| IsaError::Unavailable(name.into())),
            Some(name) => Err(IsaError::Unknown(name.chars().take(40).flat_map(char::escape_debug).collect())),
        }
    }

    /// As [`Isa::select`], the request being the environment variable `FCDM_ISA`.
    ///
    /// # Errors
    /// As there.
    pub fn from_env() -> Result<Isa, IsaError> {
        match std::env::var_os("FCDM_ISA") {
            None => Isa::select(None),
            Some(name) => Isa::select(Some(&name.to_string_lossy())),
        }
    }

    /// Its name in [`Isa::NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Proof of AVX2 and FMA, if this is that variant.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx2(self) -> Option<Avx2> {
        // SAFETY: `named` detected the features.
        (self.0 == Kind::Avx2).then(|| unsafe { Avx2::new() })
    }

    /// Proof of AVX-512F, if this is that variant.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx512(self) -> Option<Avx512> {
        // SAFETY: `named` detected the feature.
        (self.0 == Kind::Avx512).then(|| unsafe { Avx512::new() })
    }

    /// Every variant this CPU has, fastest first; for tests, which print those it lacks.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Isa> {
        let (have, lack): (Vec<&str>, Vec<&str>) = Isa::NAMES.iter().partition(|n| Isa::named(n).is_some());
        if !lack.is_empty() {
            println!("skipped, not on this CPU: {}", lack.join(", "));
        }
        have.into_iter().filter_map(Isa::named).collect()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(Isa::select(Some("scalar")), Ok(Isa::SCALAR));
        assert_eq!(Isa::select(None), Ok(Isa::best()));
        let e = Isa::select(Some("sse9")).expect_err("no such name");
        assert_eq!(e.to_string(), "FCDM_ISA: expected one of scalar, avx2, avx512, found `sse9`");
        for name in Isa::NAMES {
            match Isa::select(Some(name)) {
                Ok(isa) => assert_eq!(isa.name(), *name),
                Err(e) => assert_eq!(e.to_string(), format!("FCDM_ISA: this CPU lacks `{name}`")),
            }
        }
    }
}
