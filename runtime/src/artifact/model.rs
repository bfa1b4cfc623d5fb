//! What an artifact says of its model: all that a sampler and a user interface need to know besides the plan.

use serde::{Deserialize, Serialize};

use super::error::{Fault, one_line};
use super::keys;
use super::specialisation::Specialisation;
use crate::request::{CLASSES, RequestError};

/// What the network predicts, and hence which samplers go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// Diffusion with learned sigma: eps in the first `in_channels` channels, the variance's interpolation in the rest.
    EpsVariance,
    /// Flow matching on the linear path: velocity `data - noise`.
    Velocity,
}

/// The model's description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// What the network predicts.
    pub prediction: Prediction,
    /// Channels of the state.
    pub in_channels: usize,
    /// Channels of the network's output: twice as many for [`Prediction::EpsVariance`], else as many.
    pub out_channels: usize,
    /// Classes, not counting the null class.
    pub num_classes: usize,
    /// Whether class index `num_classes` is the null class of classifier-free guidance.
    pub null_class: bool,
    /// One name a class, or none at all.
    pub class_names: Vec<String>,
    /// Width of the first stage.
    pub hidden: usize,
    /// Blocks of the five stages.
    pub depths: Vec<usize>,
    /// Expansion of the blocks.
    pub mlp_ratio: f64,
    /// Rows of the state, a multiple of 4.
    pub height: usize,
    /// Columns of the state, a multiple of 4.
    pub width: usize,
    /// How to sample where nobody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The schedule and the classes that it can be asked for, if these are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<Specialisation>,
}

/// What a model is best sampled with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Number of steps.
    pub steps: usize,
    /// Scale of guidance.
    pub cfg_scale: f64,
    /// Guide all channels that predict, not the first three alone.
    pub all_channels: bool,
}

impl ModelInfo {
    /// Checks ranges and the relations between fields.
    ///
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), Fault> {
        let field = |name: &str| format!("{}.{name}", keys::MODEL);
        let within = |name: &str, value: usize, lo: usize, hi: usize| {
            if (lo..=hi).contains(&value) { Ok(()) } else { Err(Fault::field(field(name), format!("{lo} to {hi}"), value)) }
        };
        within("in_channels", self.in_channels, 1, 1024)?;
        let out_channels = match self.prediction {
            Prediction::EpsVariance => 2 * self.in_channels,
            Prediction::Velocity => self.in_channels,
        };
        within("out_channels", self.out_channels, out_channels, out_channels)?;
        within("num_classes", self.num_classes, 1, 1_000_000)?;
        let names = self.class_names.len();
        if names != 0 && names != self.num_classes {
            return Err(Fault::field(field("class_names"), format!("none or {} names", self.num_classes), names));
        }
        within("hidden", self.hidden, 1, 1 << 16)?;
        if self.depths.len() != 5 {
            return Err(Fault::field(field("depths"), "5 stages", self.depths.len()));
        }
        for &depth in &self.depths {
            within("depths", depth, 0, 1000)?;
        }
        if !(self.mlp_ratio > 0.0 && self.mlp_ratio <= 64.0) {
            return Err(Fault::field(field("mlp_ratio"), "more than 0, at most 64", self.mlp_ratio));
        }
        for (name, value) in [("height", self.height), ("width", self.width)] {
            within(name, value, 4, 1 << 14)?;
            if value % 4 != 0 {
                return Err(Fault::field(field(name), "a multiple of 4", value));
            }
        }
        if let Some(s) = &self.sampling {
            within("sampling.steps", s.steps, 1, 1_000_000)?;
            if !s.cfg_scale.is_finite() {
                return Err(Fault::field(field("sampling.cfg_scale"), "a number", s.cfg_scale));
            }
        }
        self.specialisation.as_ref().map_or(Ok(()), |held| held.validate(self))
    }

    /// The label of a class, by name or number; `null` is the null class.
    ///
    /// # Errors
    /// With the classes that there are.
    pub fn label(&self, text: &str) -> Result<i32, RequestError> {
        if text == "null" && self.null_class {
            return Ok(self.num_classes as i32);
        }
        let named = |same: &dyn Fn(&str) -> bool| self.class_names.iter().position(|n| same(n));
        // Names may differ by case alone: as written comes first.
        let lower = text.to_lowercase();
        if let Some(i) = named(&|n| n == text).or_else(|| named(&|n| n.to_lowercase() == lower)) {
            return Ok(i as i32);
        }
        match text.parse::<usize>() {
            Ok(i) if i < self.num_classes => Ok(i as i32),
            Ok(i) => Err(RequestError::new(CLASSES, format!("0 to {}", self.num_classes - 1), i)),
            Err(_) if self.class_names.is_empty() => {
                let found = format!("`{text}`; the artifact has no class names");
                Err(RequestError::new(CLASSES, format!("0 to {}", self.num_classes - 1), found))
            }
            Err(_) => {
                let meant = self.meant(text).map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
                Err(RequestError::new(CLASSES, format!("one of {}", few(&self.class_names)), format!("`{text}`{meant}")))
            }
        }
    }

    /// The class name that somebody may have meant: equal in letters and digits, or one that begins with these or has them in it.
    fn meant(&self, text: &str) -> Option<&str> {
        let letters = |s: &str| s.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
        let asked = letters(text);
        let close: [&dyn Fn(&str) -> bool; 4] =
            [&|n| n == asked, &|n| n.starts_with(&asked), &|n| asked.starts_with(n), &|n| n.contains(&asked)];
        let find = |close: &&dyn Fn(&str) -> bool| self.class_names.iter().find(|n| close(&letters(n)));
        if asked.is_empty() { None } else { close.iter().find_map(find).map(String::as_str) }
    }

    /// A class as people call it.
    pub fn class_name(&self, label: i32) -> String {
        let index = label as usize;
        match self.class_names.get(index) {
            Some(name) => name.clone(),
            None if index == self.num_classes => "null".to_owned(),
            None => format!("class{index}"),
        }
    }

    /// Reads and validates the value of `fcdm.model`.
    pub(super) fn from_json(json: &str) -> Result<Self, Fault> {
        let model: Self =
            serde_json::from_str(json).map_err(|e| Fault::field(keys::MODEL, "a model's description", one_line(&e.to_string())))?;
        model.validate()?;
        Ok(model)
    }
}

/// Longest side of a picture that is made of a denoiser's latents. What decodes tiles may be small, so that it does not say how large
/// a picture is sane.
pub const MAX_SIDE: usize = 1 << 14;

/// Names for a message, which a person reads: the first of them.
pub(crate) fn few(names: &[String]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| one_line(name)).collect();
    let more = names.len().saturating_sub(MOST);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// What an artifact says of its autoencoder. Everything else is in the ports of its entry points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderInfo {
    /// What people call it.
    pub family: String,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Pixels of a picture that a latent stands for, along either axis.
    pub factor: usize,
}

impl AutoencoderInfo {
    /// Checks ranges, and that it goes with the denoiser, if there is one.
    ///
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn validate(&self, model: Option<&ModelInfo>) -> Result<(), Fault> {
        let field = |name: &str| format!("{}.{name}", keys::AUTOENCODER);
        if !(1..=1024).contains(&self.latent_channels) {
            return Err(Fault::field(field("latent_channels"), "1 to 1024", self.latent_channels));
        }
        if !(1..=256).contains(&self.factor) {
            return Err(Fault::field(field("factor"), "1 to 256", self.factor));
        }
        let Some(model) = model else { return Ok(()) };
        if self.latent_channels != model.in_channels {
            let expected = format!("{}, as the denoiser has", model.in_channels);
            return Err(Fault::field(field("latent_channels"), expected, self.latent_channels));
        }
        let pixels = model.height.max(model.width).saturating_mul(self.factor);
        if pixels > MAX_SIDE {
            let expected = format!("pictures of at most {MAX_SIDE} pixels aside");
            return Err(Fault::field(field("factor"), expected, format!("{}, which makes {pixels}", self.factor)));
        }
        Ok(())
    }

    /// Reads the value of `fcdm.autoencoder`.
    pub(super) fn from_json(json: &str, model: Option<&ModelInfo>) -> Result<Self, Fault> {
        let info: Self = serde_json::from_str(json)
            .map_err(|e| Fault::field(keys::AUTOENCODER, "an autoencoder's description", one_line(&e.to_string())))?;
        info.validate(model)?;
        Ok(info)
    }
}
