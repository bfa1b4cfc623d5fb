//! The entry points of an autoencoder: `decode` at the size of the latents and at that of tiles, `encode`.
//!
//! A decoder of tiles makes pictures of any size in bounded memory, and memory is known when the plan is made: with
//! `max_memory`, decoders that would take more are left out, and if none is left the compilation is refused.

use fcdm_compiler::assemble::EntryPoint;
use fcdm_compiler::compiled::Compiled;
use fcdm_ir::{Function, Module};
use fcdm_passes::PassError;
use fcdm_runtime::artifact::AutoencoderInfo;
use fcdm_runtime::autoencoder::decoding_bytes;
use fcdm_runtime::check::MAX_COUNT;
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::{DecoderKind, EntryName};
use fcdm_runtime::plan::Entry;
use fcdm_runtime::simd::Isa;

use super::{Autoencoder, Half};
use crate::compile::CompileError;
use crate::import::ImportError;
use crate::options::{AfterPass, OptionError, Options, WeightTypes};

/// Sides of tiles, in latents. The smallest is twice what diffusers' tiles overlap by.
const TILES: [usize; 3] = [64, 32, 16];

/// Threads whose scratch memory is counted when memory is bounded: an artifact does not depend on the machine that makes it.
/// What is loaded with more threads counts anew.
const THREADS: usize = 4;

impl Autoencoder {
    /// What the artifact says of it.
    pub(crate) fn info(&self) -> AutoencoderInfo {
        AutoencoderInfo { family: self.family().to_owned(), latent_channels: self.latent_channels(), factor: self.factor() }
    }
}

/// Sizes of decoders: all of the latents, then tiles that are smaller.
fn sizes(height: usize, width: usize) -> Vec<[usize; 2]> {
    let mut sizes = vec![[height, width]];
    sizes.extend(TILES.map(|t| [height.min(t), width.min(t)]));
    sizes.dedup();
    sizes
}

/// Adds decoders of a kind: that of all of the latents, and those of tiles.
///
/// # Errors
/// [`PassError`] if a pass has a bug.
pub(crate) fn decoders(
    a: &Autoencoder,
    kind: DecoderKind,
    options: &Options,
    types: WeightTypes<'_>,
    all: &mut Compiled,
    observe: AfterPass<'_>,
) -> Result<(), PassError> {
    for (i, [h, w]) in sizes(options.height, options.width).into_iter().enumerate() {
        // An ONNX model may have one size only.
        let Ok(function) = a.decode(h, w) else { continue };
        let name = EntryName::Decode(kind, (i > 0).then_some([h, w]));
        add(function, name, options, types, all, observe)?;
    }
    Ok(())
}

/// Adds the encoder.
///
/// # Errors
/// As [`decoders`].
pub(crate) fn encoder(
    a: &Autoencoder,
    options: &Options,
    types: WeightTypes<'_>,
    all: &mut Compiled,
    observe: AfterPass<'_>,
) -> Result<(), PassError> {
    let function = a.encode(options.height, options.width).expect("checked to have an encoder of that size");
    add(function, Half::Encoder.entry_name(), options, types, all, observe)
}

fn add(
    f: Function,
    name: EntryName,
    options: &Options,
    types: WeightTypes<'_>,
    all: &mut Compiled,
    observe: AfterPass<'_>,
) -> Result<(), PassError> {
    let name = name.to_string();
    let watch = all.report.is_none();
    let (m, report) = options.optimised(f.renamed(&name), types, &mut |p, m| {
        if watch {
            observe(p, m);
        }
    })?;
    all.report.get_or_insert(report);
    all.weights.extend(m.function(Module::WEIGHTS).cloned());
    let function = m.function(&name).expect("no pass splits a function without a condition").clone();
    all.entries.push(EntryPoint::new(function, 1));
    Ok(())
}

/// Whether an autoencoder can be compiled so, for a denoiser of that many channels.
pub(crate) fn check(a: &Autoencoder, denoiser: Option<usize>, options: &Options) -> Result<(), CompileError> {
    let wrong = |text: String| Err(OptionError(text).into());
    let (channels, factor) = (a.latent_channels(), a.factor());
    if let Some(n) = denoiser.filter(|&n| n != channels) {
        return wrong(format!(
            "vae: expected latents of {n} channels, as the FCDM has, found {channels} of the autoencoder ({})",
            a.family()
        ));
    }
    for (what, value) in [("height", options.height), ("width", options.width)] {
        if value == 0 || value.saturating_mul(factor) > 1 << 14 {
            return wrong(format!("size: {what} of the latents must be 1 to {}, found {value}", (1 << 14) / factor));
        }
    }
    if (options.height * options.width).checked_mul(a.widest()).is_none_or(|n| n > MAX_COUNT) {
        let (h, w, widest) = (options.height, options.width, a.widest());
        return wrong(format!(
            "size: expected values inside of the autoencoder of at most {MAX_COUNT} elements, found {h} x {w} x {widest}"
        ));
    }
    if options.decoder {
        there_is(a, Half::Decoder, options, |h, w| a.decode(h, w))?;
    }
    if options.encoder {
        there_is(a, Half::Encoder, options, |h, w| a.encode(h, w))?;
    }
    Ok(())
}

/// Whether there is a half at the size asked for. That its file has one size only, or that it is missing, is for who asked; that an ONNX
/// model does not become a function is the file's fault.
fn there_is(
    a: &Autoencoder,
    half: Half,
    options: &Options,
    made: impl Fn(usize, usize) -> Result<Function, String>,
) -> Result<(), CompileError> {
    let (h, w) = (options.height, options.width);
    match (a.refuses(half, h, w), made(h, w)) {
        (Some(wrong), _) => Err(OptionError(wrong).into()),
        (None, Err(wrong)) if a.has(half) => Err(ImportError::Model(wrong).into()),
        (None, Err(wrong)) => Err(OptionError(wrong).into()),
        (None, Ok(_)) => Ok(()),
    }
}

/// Which decoders take no more memory than is allowed: asked about every entry point as it is placed.
pub(crate) struct Fitting<'a> {
    options: &'a Options,
    /// Of every kind of decoder that there is, the bytes that its smallest takes.
    least: Vec<(DecoderKind, u64)>,
}

impl Fitting<'_> {
    pub fn new(options: &Options) -> Fitting<'_> {
        Fitting { options, least: Vec::new() }
    }

    /// Whether an entry point may stay. What is no decoder may.
    pub fn fits(&mut self, entry: &Entry) -> bool {
        let (Some(kind), Some(most)) = (entry.decoder_kind(), self.options.max_memory) else { return true };
        let device = Cpu { threads: THREADS, isa: Isa::SCALAR };
        let need = decoding_bytes(entry, [self.options.height, self.options.width], &device);
        match self.least.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, least)) => *least = need.min(*least),
            None => self.least.push((kind, need)),
        }
        need <= most
    }

    /// Whether every kind of decoder has one left.
    ///
    /// # Errors
    /// When one has not: with the bytes that its smallest takes.
    pub fn finish(self) -> Result<(), OptionError> {
        let most = self.options.max_memory.unwrap_or(u64::MAX);
        match self.least.iter().find(|(_, least)| *least > most) {
            Some((kind, least)) => Err(OptionError(format!("max-memory: `{kind}` takes at least {least} bytes, found {most}"))),
            None => Ok(()),
        }
    }
}
