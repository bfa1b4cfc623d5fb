//! How a picture was made, in words: for the picture itself, its name, and to see whether one that is there already is the one that
//! is asked for.

use super::job::Job;
use crate::artifact::ModelInfo;
use crate::sampler::{Guidance, GuidedChannels, Method, Solver};
use crate::schedule::Spacing;

/// Characters of a class's name that a file's has. Two of four bytes each leave room for the rest.
const LONGEST: usize = 24;

/// What all pictures of an order have in common.
pub struct Description<'a> {
    /// The sampler.
    pub method: Method,
    /// Guidance.
    pub guidance: Guidance,
    /// What it began from, as text for the end of the line, if not from noise alone.
    pub init: Option<String>,
    /// Whether the noise was given, so that seeds say nothing.
    pub given_noise: bool,
    /// Height and width of pictures.
    pub size: [usize; 2],
    /// The model.
    pub model: &'a ModelInfo,
    /// Checksum of the artifact.
    pub checksum: &'a str,
}

impl Description<'_> {
    /// Number of the sampler's steps that are asked for.
    pub fn steps(&self) -> usize {
        match self.method {
            Method::Ddim { spacing, .. } | Method::Ddpm { spacing } | Method::DpmSolver { spacing } | Method::UniPc { spacing } => {
                let (Spacing::Even(n) | Spacing::Strided(n) | Spacing::LogSnr(n)) = spacing;
                n
            }
            Method::Ode { steps, .. } | Method::Sde { steps, .. } => steps,
        }
    }

    /// How a diffusion sampler's steps are spaced, by the name that goes before their number.
    pub fn spacing(&self) -> Option<&'static str> {
        match self.method {
            Method::Ddim { spacing, .. } | Method::Ddpm { spacing } | Method::DpmSolver { spacing } | Method::UniPc { spacing } => {
                Some(match spacing {
                    Spacing::Even(_) => "even",
                    Spacing::Strided(_) => "ddim",
                    Spacing::LogSnr(_) => "logsnr",
                })
            }
            Method::Ode { .. } | Method::Sde { .. } => None,
        }
    }

    /// The sampler's name and steps, as [`super::Choice`] takes them.
    pub fn sampler(&self) -> (String, String) {
        named(self.method)
    }

    /// The text that a picture carries under `parameters`, in the form that pictures of other generators do.
    pub fn text(&self, job: &Job) -> String {
        let towards = job.towards.map_or_else(String::new, |(label, seed, weight)| {
            format!(", Towards: {label} ({}), seed {seed}, by {weight}", self.model.class_name(label))
        });
        self.about(&job.seed.to_string(), &format!("{} ({})", job.label, self.model.class_name(job.label)), &towards)
    }

    /// The text of a sheet of all of these pictures.
    pub fn of_all(&self, jobs: &[Job]) -> String {
        let seeds: Vec<u64> = jobs.iter().map(|job| job.seed).collect();
        let labels: Vec<u64> = jobs.iter().map(|job| job.label as u64).collect();
        let frames = jobs.iter().any(|job| job.towards.is_some());
        let pictures =
            if frames { format!(", Pictures: {}, with ways between them", jobs.len()) } else { format!(", Pictures: {}", jobs.len()) };
        self.about(&runs(&seeds), &runs(&labels), &pictures)
    }

    /// The text of what has these seeds and classes; `more` goes behind guidance.
    fn about(&self, seed: &str, class: &str, more: &str) -> String {
        let (sampler, steps) = self.sampler();
        let g = self.guidance;
        let seed = if self.given_noise { "none (noise given)" } else { seed };
        let mut text = format!(
            "Steps: {steps}, Sampler: {sampler}, CFG scale: {}, Seed: {seed}, Size: {}x{}, Class: {class}, Artifact: {}",
            g.scale, self.size[1], self.size[0], self.checksum
        );
        if g.channels == GuidedChannels::AllEps {
            text.push_str(", CFG channels: all");
        }
        if let Some((lo, hi)) = g.interval {
            text.push_str(&format!(", CFG interval: {lo}-{hi}"));
        }
        text.push_str(more);
        text.push_str(self.init.as_deref().unwrap_or_default());
        text.push_str(concat!(", Version: fcdm ", env!("CARGO_PKG_VERSION")));
        text
    }

    /// Number and name of a picture, for a file, whose name may not be as long as a class's.
    pub fn name(&self, job: &Job) -> String {
        let name = |label: i32, seed: u64| {
            let class: String =
                self.model.class_name(label).chars().take(LONGEST).map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
            if self.given_noise { class } else { format!("{class}-seed{seed}") }
        };
        let towards = job.towards.map_or_else(String::new, |(label, seed, weight)| format!("-to-{}-{weight:.3}", name(label, seed)));
        format!("{:06}-{}{towards}", job.index, name(job.label, job.seed))
    }
}

/// A sampler's name and steps.
pub(super) fn named(method: Method) -> (String, String) {
    let few = |spacing: Spacing| match spacing {
        Spacing::LogSnr(n) => n.to_string(),
        Spacing::Even(n) => format!("even{n}"),
        Spacing::Strided(_) => spacing.to_string(),
    };
    match method {
        Method::Ddim { spacing, eta: 0.0 } => ("ddim".into(), spacing.to_string()),
        Method::Ddim { spacing, eta } => (format!("ddim eta {eta}"), spacing.to_string()),
        Method::Ddpm { spacing } => ("ddpm".into(), spacing.to_string()),
        Method::DpmSolver { spacing } => ("dpm++2m".into(), few(spacing)),
        Method::UniPc { spacing } => ("unipc".into(), few(spacing)),
        Method::Ode { steps, solver: Solver::Euler } => ("euler".into(), steps.to_string()),
        Method::Ode { steps, solver: Solver::Heun } => ("heun".into(), steps.to_string()),
        Method::Sde { steps, solver, form, norm, last, last_size } => {
            let solver = if solver == Solver::Heun { "heun" } else { "euler" };
            (format!("sde {solver} {form} norm {norm} last {last} {last_size}"), steps.to_string())
        }
    }
}

/// Numbers in order, those that follow one another or are equal as one: `0-9,12`.
fn runs(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &n in numbers {
        match runs.last_mut() {
            Some((_, last)) if n == *last || Some(n) == last.checked_add(1) => *last = n,
            _ => runs.push((n, n)),
        }
    }
    let run = |&(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn runs_of_numbers() {
        assert_eq!(runs(&[0, 1, 2, 2, 3, 7, 5, 6]), "0-3,7,5-6");
        assert_eq!(runs(&[u64::MAX, 0]), format!("{},0", u64::MAX));
        assert_eq!(runs(&[]), "");
    }
}
