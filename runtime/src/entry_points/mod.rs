//! What the entry points of an artifact must be, so that networks and autoencoders may take them for granted: held against each other,
//! against `fcdm.model` and `fcdm.autoencoder`, and against what is there to compute with. Whoever loads a part of an artifact has all of
//! it looked at, here and nowhere else; what is found is an error that names entry point, expected and found, and no assertion later.
//!
//! **What an entry point may ask for.** Callers provide the memory of its ports, and touch all of it, however few of its rows they have
//! a use for. A plan is a few bytes of text, so it must not decide alone how much that is. What computes a port's values is either a
//! tensor of the file or values in the arena, which in every network are wider than what goes in and comes out. So ports and state of
//! an entry point take at most [`SHARE`] times arena and tensors, and [`FREE`] bytes that small networks may have beside that. The arena
//! is what a plan declares, what `inspect` shows, and what is asked of the system.
//!
//! Two things grow beyond ports. A row of the condition is kept for every step of a run: it is the result of products, each of whose
//! values has at least a weight of its own, so it takes no more than the tensors, and [`FREE_ROW`]. A picture may be decoded in tiles
//! that are small, but its latents came from a denoiser that held all of them, and wider: it takes [`SHARE`] times the largest arena.

mod autoencoder;
mod denoiser;

pub(crate) use autoencoder::{DecoderEntry, EncoderEntry, Image, image};
pub(crate) use denoiser::{DenoiserEntries, Section};

use crate::artifact::{Artifact, AutoencoderInfo, ModelInfo, one_line};
use crate::check::{PlanError, check_plan};
use crate::memory::{bytes, f32s};
use crate::network::NetworkError;
use crate::plan::{Entry, Plan};

/// How many times more memory ports may take than arena and tensors.
const SHARE: u64 = 4;

/// Bytes that ports may take whatever arena and tensors are.
const FREE: u64 = 64 << 20;

/// Bytes that a row of the condition may take whatever the tensors are.
const FREE_ROW: u64 = 64 << 10;

/// The entry points that are looked for by name, sound but for their steps.
pub(crate) struct EntryPoints {
    /// If there is a denoiser.
    pub denoiser: Option<DenoiserEntries>,
    /// Of an autoencoder, of both kinds, in the plan's order.
    pub decoders: Vec<DecoderEntry>,
    /// Of an autoencoder.
    pub encoder: Option<EncoderEntry>,
}

impl EntryPoints {
    /// Those of an artifact.
    ///
    /// # Errors
    /// The first thing that does not go together.
    pub fn of(artifact: &Artifact) -> Result<EntryPoints, NetworkError> {
        EntryPoints::found(artifact.plan(), artifact.model(), artifact.autoencoder(), artifact.tensor_bytes())
            .map_err(|message| NetworkError::Entries { file: artifact.path().display().to_string(), message: one_line(&message) })
    }

    fn found(plan: &Plan, model: Option<&ModelInfo>, autoencoder: Option<&AutoencoderInfo>, tensors: u64) -> Result<EntryPoints, String> {
        let entries = &plan.entries;
        entries.iter().try_for_each(|entry| justified(entry, tensors))?;
        let mut found = EntryPoints { denoiser: None, decoders: Vec::new(), encoder: None };
        if let Some(model) = model {
            let denoiser = DenoiserEntries::of(entries, model)?;
            let (row, most) = (f32s(&[denoiser.widths.iter().sum()]), tensors.saturating_add(FREE_ROW));
            if row > most {
                return Err(format!(
                    "`condition`: expected outputs of at most {most} bytes a row beside {tensors} of tensors, found {row}"
                ));
            }
            found.denoiser = Some(denoiser);
        }
        if let Some(info) = autoencoder {
            found.decoders = autoencoder::decoders(entries, info, model)?;
            found.encoder = autoencoder::encoder(entries, info, model)?;
            found.pictures(entries, model, tensors)?;
        }
        Ok(found)
    }
}

impl EntryPoints {
    /// Holds the pictures of decoders against the encoder's, and against the denoiser that their latents come from.
    fn pictures(&self, entries: &[Entry], model: Option<&ModelInfo>, tensors: u64) -> Result<(), String> {
        let arena = entries.iter().map(|e| e.arena_bytes as u64).max().unwrap_or(0);
        for decoder in &self.decoders {
            let (name, [_, _, channels], found) = (decoder.kind, decoder.picture, decoder.picture);
            if let Some(encoder) = self.encoder.filter(|encoder| encoder.picture[2] != channels) {
                return Err(format!("`{name}`: expected a picture of {} channels, as `encode` takes, found {found:?}", encoder.picture[2]));
            }
            let Some(model) = model else { continue };
            let factor = decoder.picture[0] / decoder.latent[0].max(1);
            let (picture, most) = (f32s(&[model.height, model.width, factor, factor, channels]), allowed(arena, tensors));
            if picture > most {
                return Err(format!(
                    "`{name}`: expected pictures of at most {most} bytes beside an arena of {arena} and {tensors} of tensors, found {picture}"
                ));
            }
        }
        Ok(())
    }
}

/// Bytes that may be touched for an arena and tensors.
fn allowed(arena: u64, tensors: u64) -> u64 {
    arena.saturating_add(tensors).saturating_mul(SHARE).saturating_add(FREE)
}

/// Whether an artifact of these would be loaded, for whoever makes one; `tensors` are the bytes of all tensors.
///
/// # Errors
/// One line: the first thing that does not go together.
pub fn check(plan: &Plan, model: Option<&ModelInfo>, autoencoder: Option<&AutoencoderInfo>, tensors: u64) -> Result<(), String> {
    EntryPoints::found(plan, model, autoencoder, tensors).map(drop).map_err(|message| one_line(&message))
}

/// Bytes of ports and state.
fn port_bytes(entry: &Entry) -> u64 {
    let ports = entry.inputs.iter().chain(&entry.outputs).chain(&entry.state);
    ports.fold(0, |sum, port| sum.saturating_add(bytes(&port.shape, port.dtype.bytes() as u64)))
}

fn justified(entry: &Entry, tensors: u64) -> Result<(), String> {
    let (found, arena) = (port_bytes(entry), entry.arena_bytes as u64);
    let most = allowed(arena, tensors);
    if found <= most {
        return Ok(());
    }
    let name = one_line(&entry.name);
    Err(format!(
        "`{name}` of {} rows: expected ports of at most {most} bytes beside an arena of {arena} and {tensors} of tensors, found {found}",
        entry.rows
    ))
}

/// A part of an artifact's plan, its steps checked: asking what running it takes relies on that.
pub(crate) fn checked(artifact: &Artifact, entries: Vec<Entry>) -> Result<Plan, PlanError> {
    let plan = artifact.plan().with_entries(entries);
    check_plan(&plan, &|name| artifact.tensor(name).map(|(dtype, shape, _)| (dtype, shape)))?;
    Ok(plan)
}
