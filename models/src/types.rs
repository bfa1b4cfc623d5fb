//! How weights are stored and multiplied: a type for all, and rules for some by their names.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use fcdm_runtime::encoding::Encoding;
use regex_lite::Regex;
use thiserror::Error;

use crate::role::{LayerKind, Region, Resolution, Role};

/// How the weights of a product are stored, and whether its other factor is rounded to codes as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightType {
    /// How they are stored.
    pub encoding: Encoding,
    /// Whether images are multiplied as codes, in whole numbers: of 7 bits, of 8 where GRN has scaled them.
    pub codes: bool,
}

impl Default for WeightType {
    fn default() -> Self {
        WeightType::F32
    }
}

impl WeightType {
    /// f32.
    pub const F32: WeightType = WeightType { encoding: Encoding::F32, codes: false };

    /// It, or the same of another encoding of whole numbers if that is finer.
    fn or_finer(self, other: Encoding) -> WeightType {
        let most = |encoding: Encoding| encoding.range().map_or(f32::INFINITY, |r| r[1]);
        if most(other) > most(self.encoding) { WeightType { encoding: other, ..self } } else { self }
    }

    /// All there are: the encodings, and those of whole numbers times codes.
    pub fn all() -> impl Iterator<Item = WeightType> {
        let with = |codes| move |&encoding: &Encoding| WeightType { encoding, codes };
        Encoding::ALL.iter().map(with(false)).chain(Encoding::ALL.iter().filter(|e| e.has_integers()).map(with(true)))
    }

    /// Its name: an encoding's, or `w8a8` of `i8` and codes.
    pub fn name(self) -> String {
        let name = self.encoding.name();
        if self.codes { format!("w{}a8", name.trim_start_matches('i')) } else { name.to_owned() }
    }

    /// The type of that name, which may be what stable-diffusion.cpp calls the nearest to it.
    pub fn named(name: &str) -> Option<WeightType> {
        let name = name.to_ascii_lowercase();
        let own = match name.as_str() {
            "q8_0" => "i8",
            "q6_k" | "q5_0" | "q5_1" | "q5_k" => "i6",
            "q4_0" | "q4_1" | "q4_k" => "i4",
            name => name,
        };
        WeightType::all().find(|ty| ty.name() == own)
    }
}

impl FromStr for WeightType {
    type Err = TypeError;

    fn from_str(name: &str) -> Result<WeightType, TypeError> {
        WeightType::named(name).ok_or_else(|| TypeError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A rule that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TypeError {
    /// Not the name of a type.
    #[error("expected a type ({list}), found `{0}`", list = listed())]
    Unknown(String),
    /// Not `PATTERN=TYPE`.
    #[error("expected PATTERN=TYPE, such as latent.*=i4, found `{0}`")]
    Rule(String),
    /// Not a pattern.
    #[error("expected a regular expression in the rule `{rule}`: {why}")]
    Pattern {
        /// The rule.
        rule: String,
        /// What is wrong with its pattern.
        why: String,
    },
}

fn listed() -> String {
    WeightType::all().map(WeightType::name).collect::<Vec<_>>().join(", ")
}

/// The type of weights whose names contain what a pattern stands for.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    pattern: Regex,
    /// The type.
    pub ty: WeightType,
}

impl Rule {
    /// Whether it is about a weight of that name.
    pub fn matches(&self, weight: &str) -> bool {
        self.pattern.is_match(weight)
    }

    fn parse(text: &str) -> Result<Rule, TypeError> {
        let (pattern, ty) = text.rsplit_once('=').filter(|(p, _)| !p.is_empty()).ok_or_else(|| TypeError::Rule(text.to_owned()))?;
        let ty = ty.parse()?;
        let wrong = |e: regex_lite::Error| TypeError::Pattern { rule: text.to_owned(), why: e.to_string() };
        Ok(Rule { text: text.to_owned(), pattern: Regex::new(pattern).map_err(wrong)?, ty })
    }
}

/// Parses `PATTERN=TYPE,..`, where a pattern is a regular expression that is looked for anywhere in a name.
///
/// # Errors
/// The first that is none.
pub fn parse_rules(text: &str) -> Result<Vec<Rule>, TypeError> {
    text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(Rule::parse).collect()
}

/// A type for all weights, and rules for some.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// What no rule is about.
    pub default: WeightType,
    /// Of several that are about a weight, the first counts.
    pub rules: Vec<Rule>,
    /// What was chosen for weights by measuring ([`crate::mix`]), by their names: it counts where no rule does.
    pub chosen: BTreeMap<String, WeightType>,
}

impl From<Encoding> for Types {
    fn from(encoding: Encoding) -> Types {
        Types { default: WeightType { encoding, codes: false }, ..Types::default() }
    }
}

impl Types {
    /// The type of a weight; `None` as its role is of a weight that no network names. A default of whole numbers is that of most bytes, not of
    /// all layers; what is said of dB is of clothing-pixel and clothing-latent.
    pub fn of(&self, weight: &str, role: Option<Role>) -> WeightType {
        if let Some(rule) = self.rules.iter().find(|rule| rule.matches(weight)) {
            return rule.ty;
        }
        if let Some(&ty) = self.chosen.get(weight) {
            return ty;
        }
        let Some(role) = role else { return self.default };
        let plain = |encoding: Encoding| WeightType { encoding, codes: false };
        if !self.default.encoding.has_integers() {
            return if role.region == Region::Timestep { WeightType::F32 } else { self.default };
        }
        match (role.region, role.layer, role.resolution) {
            // Few, and the image passes through all of them.
            (Region::Input | Region::Output, ..) | (_, LayerKind::Depthwise, _) => plain(Encoding::F16),
            // Times are few and the network is smooth in them: at 8 bits nothing is lost, calibrated or not, of a tenth of a small network.
            (Region::Timestep, ..) => plain(Encoding::I8),
            // Errors of what joins a skip connection cost more than those of any other layer: 1.8 dB for 0.1 % of the bytes.
            (Region::Skip, ..) if self.default.encoding == Encoding::I8 => plain(Encoding::F16),
            // Of fewer bits those go to weights that are used at every pixel, and to rows of tables, for which no other makes up. For as many
            // bytes as `i4` without this a network is 9 and 6 dB better.
            (Region::Skip | Region::Class, ..) | (_, LayerKind::Convolution, Resolution::Full) => self.default.or_finer(Encoding::I8),
            (.., Resolution::Full | Resolution::ToFull) => {
                self.default.or_finer(if self.default.encoding == Encoding::I4 { Encoding::I6 } else { Encoding::I8 })
            }
            _ => self.default,
        }
    }

    /// The types of an autoencoder's weights: of whole numbers none of fewer than 8 bits but by rules, for all that it makes is shown, and it is
    /// small beside a denoiser. TAEF2's decoder is at 43 dB in `i8`, at 33 in `i6`, at 28 in `i4`.
    pub fn of_autoencoders(&self) -> Types {
        Types { default: self.default.or_finer(Encoding::I8), rules: self.rules.clone(), chosen: BTreeMap::new() }
    }

    /// What they are called together.
    pub fn name(&self) -> String {
        let rules = self.rules.iter().map(|rule| rule.text.as_str());
        let default = if self.chosen.is_empty() { self.default.name() } else { "auto".to_owned() };
        std::iter::once(default.as_str()).chain(rules).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::role::ParameterKind;

    fn named(name: &str) -> WeightType {
        WeightType::named(name).unwrap()
    }

    #[test]
    fn types_by_name() {
        for ty in WeightType::all() {
            assert_eq!(WeightType::named(&ty.name()), Some(ty));
        }
        assert_eq!(named("w4a8"), WeightType { encoding: Encoding::I4, codes: true });
        assert_eq!((named("q8_0"), named("Q4_K"), named("q5_1")), (named("i8"), named("i4"), named("i6")));
        assert_eq!(WeightType::named("w16a8"), None);
    }

    #[test]
    fn rules_are_looked_for_in_order() {
        let types = Types {
            default: named("i8"),
            rules: parse_rules(r"^latent.*=i4, output_layer=f32,\.pwconv1=w8a8").unwrap(),
            ..Types::default()
        };
        let role = |region, layer| Some(Role { layer, part: ParameterKind::Weight, region, resolution: Resolution::Reduced });
        let linear = |region| role(region, LayerKind::Linear);
        assert_eq!(types.of("latent.0.pwconv1.weight", None), named("i4"));
        assert_eq!(types.of("decoder.0.pwconv1.weight", None), named("w8a8"));
        assert_eq!(types.of("output_layer.weight", linear(Region::Trunk)), named("f32"));
        assert_eq!(types.of("decoder.latent", linear(Region::Trunk)), named("i8"));
        assert_eq!(types.of("encoder.0.dwconv.weight", role(Region::Trunk, LayerKind::Depthwise)), named("f16"));
    }

    #[test]
    fn a_default_is_not_that_of_all_layers() {
        let role = |region, resolution| Some(Role { layer: LayerKind::Linear, part: ParameterKind::Weight, region, resolution });
        let types = |default: &str| Types { default: named(default), ..Types::default() };
        let of = |default: &str, region, resolution| types(default).of("w", role(region, resolution)).name();
        let reduced = Resolution::Reduced;
        for (default, timestep, first, skip, full) in [
            ("f16", "f32", "f16", "f16", "f16"),
            ("bf16", "f32", "bf16", "bf16", "bf16"),
            ("i8", "i8", "f16", "f16", "i8"),
            ("w8a8", "i8", "f16", "f16", "w8a8"),
            ("i6", "i8", "f16", "i8", "i8"),
            ("i4", "i8", "f16", "i8", "i6"),
            ("w4a8", "i8", "f16", "w8a8", "w6a8"),
        ] {
            assert_eq!(of(default, Region::Timestep, reduced), timestep, "{default}");
            assert_eq!(of(default, Region::Input, Resolution::Full), first, "{default}");
            assert_eq!(of(default, Region::Output, Resolution::Full), first, "{default}");
            assert_eq!(of(default, Region::Skip, reduced), skip, "{default}");
            assert_eq!(of(default, Region::Trunk, Resolution::Full), full, "{default}");
            assert_eq!(of(default, Region::Modulation, Resolution::Full), full, "{default}");
            assert_eq!(of(default, Region::Trunk, Resolution::ToFull), full, "{default}");
            assert_eq!(of(default, Region::Trunk, reduced), default);
        }
        assert_eq!(of("w4a8", Region::Class, reduced), "w8a8");
        let (layer, resolution) = (LayerKind::Convolution, Resolution::Full);
        let convolution = Role { layer, part: ParameterKind::Weight, region: Region::Trunk, resolution };
        assert_eq!(types("i4").of("w", Some(convolution)).name(), "i8");
        for (default, of_autoencoders) in [("f32", "f32"), ("f16", "f16"), ("i8", "i8"), ("i6", "i8"), ("w4a8", "w8a8")] {
            assert_eq!(types(default).of_autoencoders().default.name(), of_autoencoders);
        }
    }

    #[test]
    fn what_is_no_rule() {
        let e = |text: &str| parse_rules(text).unwrap_err().to_string();
        assert_eq!(e("a=i3"), "expected a type (f32, f16, bf16, i8, i6, i4, w8a8, w6a8, w4a8), found `i3`");
        assert_eq!(e("i8"), "expected PATTERN=TYPE, such as latent.*=i4, found `i8`");
        assert!(e("a(=i8").starts_with("expected a regular expression in the rule `a(=i8`: "), "{}", e("a(=i8"));
    }
}
