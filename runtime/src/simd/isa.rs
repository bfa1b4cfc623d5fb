//! Which implementation this CPU gets. Detected once when an executor is made; `FCDM_ISA` with a
//! name of [`Isa::NAMES`] forces one.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512, Avx512Bf16};

/// An instruction set that this CPU has; there is no other way to make one than to detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa {
    kind: Kind,
    /// Products with bf16 weights round the other factor to bf16 and multiply pairs.
    bf16_pairs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

/// `FCDM_ISA` asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not a name of [`Isa::NAMES`].
    #[error("FCDM_ISA: expected one of scalar, avx2, avx512, avx512bf16, found `{0}`")]
    Unknown(String),
    /// A name that this CPU cannot honour.
    #[error("FCDM_ISA: this CPU lacks `{0}`")]
    Unavailable(String),
}

impl Isa {
    /// Every name, fastest first.
    pub const NAMES: &'static [&'static str] = &["avx512bf16", "avx512", "avx2", "scalar"];

    /// The instruction set every CPU has.
    pub const SCALAR: Isa = Isa::of(Kind::Scalar, false);

    const fn of(kind: Kind, bf16_pairs: bool) -> Isa {
        Isa { kind, bf16_pairs }
    }

    /// The instruction set of that name, if this CPU has it.
    pub fn named(name: &str) -> Option<Isa> {
        match name {
            "scalar" => Some(Isa::SCALAR),
            #[cfg(target_arch = "x86_64")]
            "avx2" if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") => {
                Some(Isa::of(Kind::Avx2, false))
            }
            #[cfg(target_arch = "x86_64")]
            "avx512" if is_x86_feature_detected!("avx512f") => Some(Isa::of(Kind::Avx512, false)),
            #[cfg(target_arch = "x86_64")]
            "avx512bf16" if has_avx512_bf16() => Some(Isa::of(Kind::Avx512Bf16, true)),
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
        match self.kind {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Whether products with bf16 weights round the other factor to bf16 as well, to multiply pairs.
    pub(crate) fn bf16_pairs(self) -> bool {
        self.bf16_pairs
    }

    /// The same, multiplying bf16 pairs: where the CPU has no instruction for it, as f32.
    #[cfg(test)]
    pub(crate) fn with_bf16_pairs(self) -> Isa {
        Isa { bf16_pairs: true, ..self }
    }

    /// Proof of AVX2, FMA and F16C, if this is that variant.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx2(self) -> Option<Avx2> {
        // SAFETY: `named` detected the features.
        (self.kind == Kind::Avx2).then(|| unsafe { Avx2::new() })
    }

    /// Proof of AVX-512F, if this is that variant or the one with bf16.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx512(self) -> Option<Avx512> {
        // SAFETY: `named` detected the feature.
        matches!(self.kind, Kind::Avx512 | Kind::Avx512Bf16).then(|| unsafe { Avx512::new() })
    }

    /// Proof of AVX-512 BF16, if this is that variant.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn avx512bf16(self) -> Option<Avx512Bf16> {
        // SAFETY: `named` detected the features.
        (self.kind == Kind::Avx512Bf16).then(|| unsafe { Avx512Bf16::new() })
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

/// AVX-512 BF16, and what `rustc` takes for granted beside it.
#[cfg(target_arch = "x86_64")]
fn has_avx512_bf16() -> bool {
    let more = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
    more && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
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
        assert_eq!(e.to_string(), "FCDM_ISA: expected one of scalar, avx2, avx512, avx512bf16, found `sse9`");
        for name in Isa::NAMES {
            match Isa::select(Some(name)) {
                Ok(isa) => assert_eq!(isa.name(), *name),
                Err(e) => assert_eq!(e.to_string(), format!("FCDM_ISA: this CPU lacks `{name}`")),
            }
        }
    }
}
