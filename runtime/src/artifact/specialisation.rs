//! A schedule and classes that a model was compiled for: its condition is a table of what timesteps and classes came to, a row for every
//! pair of those, and the weights that make it for any others are not in the file.

use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::keys;
use super::model::{ModelInfo, Prediction, few};
use crate::request::{CLASSES, RequestError};
use crate::sampler::{MAX_FLOW_STEPS, SamplerKind};
use crate::schedule::Spacing;

/// A step asks twice at the most.
const MAX_TIMES: usize = 2 * MAX_FLOW_STEPS;

/// What a model was specialised to. Rows of its table go class by class, and within a class time by time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specialisation {
    /// The sampler that was asked for; any other that asks at no other times does as well.
    pub sampler: SamplerKind,
    /// Its steps, of diffusion with their spacing: `even20`, `ddim20`, `logsnr20`; of flow a number.
    pub steps: String,
    /// The times at which the network may be asked, as it sees them, in the order of sampling.
    pub times: Vec<f32>,
    /// The classes, ascending. The null class, which is the last, is among them if the model has one.
    pub classes: Vec<usize>,
}

impl Specialisation {
    /// Rows of the table.
    pub fn rows(&self) -> usize {
        self.times.len().saturating_mul(self.classes.len())
    }

    /// The row of a time and a class, if there is one.
    pub fn row(&self, t: f32, label: i32) -> Option<usize> {
        let class = usize::try_from(label).ok().and_then(|label| self.classes.binary_search(&label).ok())?;
        let time = self.times.iter().position(|&known| known == t)?;
        Some(class * self.times.len() + time)
    }

    /// The classes that are generated where nobody names any: all but the null class, if there are others.
    pub fn labels(&self, model: &ModelInfo) -> Vec<i32> {
        let named = self.classes.iter().filter(|&&c| c < model.num_classes || self.classes.len() == 1);
        named.map(|&c| c as i32).collect()
    }

    /// The classes as people ask for them: by name, or by number where there are no names, and `null`.
    pub fn class_names(&self, model: &ModelInfo) -> Vec<String> {
        self.classes.iter().map(|&class| asked(model, class)).collect()
    }

    /// `20 steps of ddim`.
    pub fn schedule(&self) -> String {
        let bare = self.steps.strip_prefix(self.sampler.bare_spacing()).unwrap_or(&self.steps);
        format!("{bare} steps of {}", self.sampler.name())
    }

    /// Checks ranges, and that it goes with the model.
    pub(super) fn validate(&self, model: &ModelInfo) -> Result<(), Fault> {
        let field = |name: &str| format!("{}.specialisation.{name}", keys::MODEL);
        let wrong = |name: &str, expected: String, found: String| Err(Fault::field(field(name), expected, found));
        if self.sampler.is_diffusion() != (model.prediction == Prediction::EpsVariance) {
            return wrong("sampler", "one of the model's prediction".into(), self.sampler.name().into());
        }
        let known = match self.sampler.is_diffusion() {
            true => self.steps.parse::<Spacing>().is_ok_and(|s| s.timesteps().is_ok()),
            false => self.steps.parse().is_ok_and(|n| (1..=MAX_FLOW_STEPS).contains(&n)),
        };
        if !known {
            return wrong("steps", "steps of the sampler".into(), format!("{:?}", self.steps.chars().take(40).collect::<String>()));
        }
        if !(1..=MAX_TIMES).contains(&self.times.len()) {
            return wrong("times", format!("1 to {MAX_TIMES}"), self.times.len().to_string());
        }
        let mut times = self.times.clone();
        times.sort_by(f32::total_cmp);
        let twice = times.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        if let Some(t) = times.iter().copied().find(|t| !t.is_finite()).or(twice) {
            return wrong("times", "finite numbers, each once".into(), t.to_string());
        }
        let (null, most) = (model.num_classes, model.num_classes - usize::from(!model.null_class));
        if let Some(pair) = self.classes.windows(2).find(|pair| pair[0] >= pair[1]) {
            return wrong("classes", "ascending numbers".into(), format!("{} before {}", pair[0], pair[1]));
        }
        match self.classes.last() {
            None => wrong("classes", "at least one".into(), "none".into()),
            Some(&last) if last > most => wrong("classes", format!("0 to {most}"), last.to_string()),
            Some(&last) if model.null_class && last != null => {
                wrong("classes", format!("the null class {null} among them"), last.to_string())
            }
            // Rows are asked for by labels, which have 32 bits.
            _ if i32::try_from(self.rows()).is_err() => wrong("times", "2147483647 rows at most".into(), self.rows().to_string()),
            _ => Ok(()),
        }
    }
}

impl ModelInfo {
    /// Whether the network can be asked at these times, as it sees them. `asked` says what asks, by the name of an option and what it was.
    ///
    /// # Errors
    /// If the model was specialised to others: with what it was specialised to.
    pub fn check_times(
        &self,
        times: impl IntoIterator<Item = f32>,
        asked: impl Fn(f32) -> (&'static str, String),
    ) -> Result<(), RequestError> {
        let Some(held) = &self.specialisation else { return Ok(()) };
        match times.into_iter().find(|t| !held.times.contains(t)) {
            Some(t) => Err(self.not_held(held, asked(t))),
            None => Ok(()),
        }
    }

    /// Whether the network can be asked for these classes, which it has.
    ///
    /// # Errors
    /// As [`ModelInfo::check_times`].
    pub fn check_labels(&self, labels: impl IntoIterator<Item = i32>) -> Result<(), RequestError> {
        let Some(held) = &self.specialisation else { return Ok(()) };
        let missing = |label: &i32| !usize::try_from(*label).is_ok_and(|label| held.classes.binary_search(&label).is_ok());
        match labels.into_iter().find(missing) {
            Some(label) => Err(self.not_held(held, (CLASSES, asked(self, label as usize)))),
            None => Ok(()),
        }
    }

    fn not_held(&self, held: &Specialisation, (option, found): (&'static str, String)) -> RequestError {
        let held = format!("{} and the classes {}", held.schedule(), few(&held.class_names(self)));
        RequestError::NotHeld { option, held, found }
    }
}

/// A class as people ask for it.
fn asked(model: &ModelInfo, class: usize) -> String {
    match model.class_names.get(class) {
        None if class != model.num_classes => class.to_string(),
        _ => model.class_name(class as i32),
    }
}
