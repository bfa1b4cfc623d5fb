//! What this CPU can do, found once: which vectors of f32 it has, and which products beside those of f32. A program is loaded
//! for one such set, and every kernel's body is chosen then. `FCDM_ISA` with a name of [`Isa::NAMES`] forces one.
//!
//! Two lists say all there is: `vectors`, and, for a further kind of product, `bf16_products`. A line has the token that proves
//! the instructions, the architecture, what has to be enabled to compile a body for it, and a product's tile in registers, as
//! rows and vectors. [`SETS`] gives names to what is used together.

use std::fmt;

use super::bf16::{Bf16Products, Emulated};
use super::bytes::ByteProducts;
use super::{FusedScalar, Scalar, Simd};

/// Hands every implementation of [`Simd`] but [`Scalar`], fastest first, to a macro, behind what is given with its name.
macro_rules! vectors {
    ($($then:ident)::+ { $($given:tt)* }) => {
        $($then)::+! { $($given)* Avx512 ("x86_64", "avx512f,avx512bw", [12, 2]) }
        $($then)::+! { $($given)* Avx2 ("x86_64", "avx2,fma,f16c", [6, 2]) }
    };
}
pub(crate) use vectors;

/// As [`vectors`], the implementations of [`Bf16Products`] but [`Emulated`].
macro_rules! bf16_products {
    ($($then:ident)::+ { $($given:tt)* }) => {
        $($then)::+! { $($given)* Avx512Bf16 ("x86_64", "avx512f,avx512bf16", [12, 2]) }
    };
}
pub(crate) use bf16_products;

/// As [`vectors`], the implementations of [`ByteProducts`] but [`Scalar`].
macro_rules! byte_products {
    ($($then:ident)::+ { $($given:tt)* }) => {
        $($then)::+! { $($given)* Avx512Vnni ("x86_64", "avx512f,avx512bw,avx512vnni", [12, 2]) }
        $($then)::+! { $($given)* AvxVnni ("x86_64", "avx2,fma,f16c,avxvnni", [6, 2]) }
        $($then)::+! { $($given)* Avx2 ("x86_64", "avx2,fma,f16c", [4, 2]) }
    };
}
pub(crate) use byte_products;

/// The name of plain scalar code, as vectors and as products.
const SCALAR: &str = <Scalar as Simd>::NAME;

/// A set by its name, the names of its vectors, of its products of bf16 and of those of bytes, fastest first.
const SETS: &[(&str, &str, Option<&str>, &str)] = &[
    ("avx512bf16", "avx512", Some("avx512bf16"), "avx512vnni"),
    ("avx512vnni", "avx512", None, "avx512vnni"),
    ("avx512", "avx512", None, "avx2"),
    ("avxvnni", "avx2", None, "avxvnni"),
    ("avx2", "avx2", None, "avx2"),
    ("scalar", SCALAR, None, SCALAR),
];

/// A set of instructions that this CPU has; there is no other way to make one than to detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa {
    name: &'static str,
    vectors: &'static str,
    bf16: Option<&'static str>,
    bytes: &'static str,
}

/// `FCDM_ISA` asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// Not a name of [`Isa::NAMES`].
    #[error("FCDM_ISA: expected one of {}, found `{found}`", listed())]
    Unknown {
        /// What was asked for.
        found: String,
    },
    /// A name that this CPU cannot honour.
    #[error("FCDM_ISA: this CPU lacks `{0}`")]
    Unavailable(String),
}

/// The names, plainest first.
fn listed() -> String {
    Isa::NAMES.iter().rev().copied().collect::<Vec<_>>().join(", ")
}

/// Answers whether this CPU has the implementation of that name.
macro_rules! detect {
    ($capability:ident $name:ident $set:ident ($arch:tt, $features:tt, $tile:tt)) => {
        #[cfg(target_arch = $arch)]
        if $name == <super::$set as $capability>::NAME {
            return super::$set::detect().is_some();
        }
    };
}

fn has_vectors(name: &str) -> bool {
    vectors! { detect { Simd name } }
    name == SCALAR
}

fn has_bf16(name: &str) -> bool {
    bf16_products! { detect { Bf16Products name } }
    name == Emulated::<Scalar>::NAME
}

fn has_bytes(name: &str) -> bool {
    byte_products! { detect { ByteProducts name } }
    name == <Scalar as ByteProducts>::NAME
}

impl Isa {
    /// Every name, fastest first.
    pub const NAMES: &'static [&'static str] = &{
        let mut names = [""; SETS.len()];
        let mut i = 0;
        while i < names.len() {
            names[i] = SETS[i].0;
            i += 1;
        }
        names
    };

    /// What every CPU has.
    pub const SCALAR: Isa = Isa { name: SCALAR, vectors: SCALAR, bf16: None, bytes: SCALAR };

    /// The set of that name, if this CPU has it.
    pub fn named(name: &str) -> Option<Isa> {
        let &(name, vectors, bf16, bytes) = SETS.iter().find(|set| set.0 == name)?;
        (has_vectors(vectors) && bf16.is_none_or(has_bf16) && has_bytes(bytes)).then_some(Isa { name, vectors, bf16, bytes })
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
            Some(name) => Err(IsaError::Unknown { found: name.chars().take(40).flat_map(char::escape_debug).collect() }),
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
        self.name
    }

    /// The name of its vectors of f32.
    pub(crate) fn vectors(self) -> &'static str {
        self.vectors
    }

    /// The name of its products of bf16, if products with bf16 weights round the other factor to bf16 as well.
    pub(crate) fn bf16(self) -> Option<&'static str> {
        self.bf16
    }

    /// The name of its products of bytes.
    pub(crate) fn bytes(self) -> &'static str {
        self.bytes
    }

    /// The same, multiplying pairs of bf16: where the CPU has no instruction for it, by f32.
    pub(crate) fn with_bf16(self) -> Isa {
        Isa { bf16: self.bf16.or(Some(Emulated::<Scalar>::NAME)), ..self }
    }

    /// The set as reproducible plans run on it ([`crate::plan::Plan::reproducible`]): its multiply-adds round once, and it multiplies
    /// no pairs of bf16.
    pub fn reproducible(self) -> Isa {
        let fused = |name| if name == SCALAR { <FusedScalar as Simd>::NAME } else { name };
        Isa { vectors: fused(self.vectors), bf16: None, bytes: fused(self.bytes), ..self }
    }

    /// Every set this CPU has, fastest first; for tests, which print those it lacks.
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
    fn reproducible_sets_keep_their_names_and_have_no_other_products() {
        for isa in Isa::all() {
            for isa in [isa, isa.with_bf16()] {
                let reproducible = isa.reproducible();
                assert_eq!((reproducible.name(), reproducible.bf16()), (isa.name(), None));
                assert_eq!(reproducible.reproducible(), reproducible);
            }
        }
    }

    #[test]
    fn requests() {
        assert_eq!(Isa::select(Some("scalar")), Ok(Isa::SCALAR));
        assert_eq!(Isa::select(None), Ok(Isa::best()));
        let e = Isa::select(Some("sse9")).expect_err("no such name");
        let names: Vec<&str> = Isa::NAMES.iter().rev().copied().collect();
        assert_eq!(e.to_string(), format!("FCDM_ISA: expected one of {}, found `sse9`", names.join(", ")));
        for name in Isa::NAMES {
            match Isa::select(Some(name)) {
                Ok(isa) => assert_eq!(isa.name(), *name),
                Err(e) => assert_eq!(e.to_string(), format!("FCDM_ISA: this CPU lacks `{name}`")),
            }
        }
    }
}
