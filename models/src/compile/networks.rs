//! The networks that go into an artifact together: their weights, and what those are for.

use fcdm_compiler::weights::WeightSource;

use fcdm_passes::folded_from;

use crate::autoencoder::Autoencoder;
use crate::fcdm::Import;
use crate::import::{ImportError, Sources, Survey};
use crate::role::Role;

/// The networks of an artifact, any of which may be missing.
#[derive(Clone, Copy, Default)]
pub struct Networks<'a> {
    /// The denoiser.
    pub fcdm: Option<&'a Import>,
    /// From its latents to pictures, and back.
    pub autoencoder: Option<&'a Autoencoder>,
    /// A cheaper decoder of the same latents, for looking at unfinished ones.
    pub preview: Option<&'a Autoencoder>,
}

impl<'a> Networks<'a> {
    pub(super) fn autoencoders(self) -> impl Iterator<Item = &'a Autoencoder> {
        self.autoencoder.into_iter().chain(self.preview)
    }

    /// What a weight is for; of one that is computed of others, what the first of them is.
    pub fn role(self, weight: &str) -> Option<Role> {
        let weight = folded_from(weight);
        let of_fcdm = self.fcdm.and_then(|i| i.role(weight));
        of_fcdm.or_else(|| self.autoencoders().find_map(|a| a.role(weight)))
    }

    pub(super) fn sources(self) -> Sources<'a> {
        let fcdm = self.fcdm.map(|i| i as &dyn WeightSource);
        Sources(fcdm.into_iter().chain(self.autoencoders().map(|a| a as &dyn WeightSource)).collect())
    }

    /// What a look at all values finds, by the names of the fingerprints in the artifact's provenance.
    pub(super) fn surveys(self, progress: Progress<'_>) -> Result<Option<Vec<(&'static str, Survey)>>, ImportError> {
        let mut all = Vec::new();
        let mut keep = |name, found: Option<Survey>| found.map(|s| all.push((name, s))).is_some();
        let mut done = true;
        if let Some(import) = self.fcdm {
            done = keep("weights_xxh3", import.survey(progress)?);
        }
        for (name, a) in [("autoencoder_xxh3", self.autoencoder), ("preview_xxh3", self.preview)] {
            if let (true, Some(a)) = (done, a) {
                done = keep(name, a.survey(progress)?);
            }
        }
        Ok(done.then_some(all))
    }
}

/// Told how many of how many values have been read; false stops it.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;
