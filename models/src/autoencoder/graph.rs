//! One half of an autoencoder as an ONNX model: one image goes in, and one comes out; or, of a decoder, several maps of a pyramid,
//! whose sum, upsampled bilinearly to the largest, is the picture; or, of an encoder, the posterior's moments (`graph/outputs`
//! says how they are told). Pictures are RGB in [-1,1]; what latents are scaled by is not in the file.
//!
//! A function is made at the size that is asked for, and everything in it follows from that size: exporters fold into a graph
//! what follows from it. A model is looked at once before, at its own size if it has one, for what is the same at all sizes: which half it is,
//! channels, factor, the parameters. The names of weights that a size has for itself say so (`graph/held`).

mod held;
mod look;
mod outputs;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fcdm_compiler::onnx::{Model, Onnx};
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_ir::flow::Copier;
use fcdm_ir::ops::Add;
use fcdm_ir::resample::{Origin, upsample_bilinear};
use fcdm_ir::{Builder, Function, Type, Value};

use super::posterior::Scaling;
use super::{Half, PICTURE_CHANNELS};
use crate::graph_roles::roles;
use crate::role::Role;
use held::Weights;
use look::{ImageInput, at, looked_at, names};
use outputs::{Image, Posterior, decoded, encoded, images};

/// Half of an autoencoder in an ONNX model.
pub struct Graph {
    /// The file, for messages.
    file: String,
    model: Model,
    half: Half,
    input: ImageInput,
    factor: usize,
    /// Of an encoder.
    posterior: Posterior,
    latent_channels: usize,
    /// What was decided about the file that it does not say itself.
    notes: Vec<String>,
    scaling: Scaling,
    prefix: String,
    /// At the size at which it was looked at.
    look: Onnx,
    /// By the model's names.
    roles: HashMap<String, Role>,
    weights: Mutex<Weights>,
}

/// A model that is no such half: one line.
type Wrong = String;

impl Graph {
    /// Opens a model and finds out which half it is: one that takes three channels, and gives no larger images, encodes. `scale` is what
    /// the denoiser's latents are its own times.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn open(path: &Path, scale: f64, prefix: &str) -> Result<Graph, Wrong> {
        let file = path.display().to_string();
        let wrong = |text: String| format!("{file}: {text}");
        let model = Model::open(path).map_err(|e| e.to_string())?;
        let input = ImageInput::of(&model, &file)?;
        let (size, look) = looked_at(&model, &input).map_err(|e| e.to_string())?;
        let found = || look.outputs().iter().map(|o| format!("{} {}", o.name, o.ty)).collect::<Vec<_>>().join(", ");
        let images = images(look.function(), &names(&look)).unwrap_or_default();
        let half = match encoded(&images, size) {
            Some(_) if input.channels == PICTURE_CHANNELS => Half::Encoder,
            _ => Half::Decoder,
        };
        let (factor, expected) = match half {
            Half::Encoder => (encoded(&images, size), "latents of a picture"),
            Half::Decoder => (decoded(&images, size), "a picture of 3 channels, or a pyramid of such"),
        };
        let factor = factor.ok_or_else(|| wrong(format!("expected {expected}, found {}", found())))?;
        let roles = roles(look.function(), &[]);
        Ok(Graph {
            half,
            factor,
            posterior: Posterior::Mean(0),
            latent_channels: input.channels,
            input,
            notes: Vec::new(),
            scaling: Scaling::by(scale),
            // Both halves may use the same names.
            prefix: format!("{prefix}{half}."),
            look,
            roles,
            weights: Mutex::default(),
            file,
            model,
        })
    }

    /// Decides what an encoder's outputs are; `latents` are the channels that a decoder beside it takes.
    ///
    /// # Errors
    /// One line, if that cannot be told.
    pub fn settle(&mut self, latents: Option<usize>) -> Result<(), Wrong> {
        if self.half == Half::Decoder {
            return Ok(());
        }
        let images = images(self.look.function(), &names(&self.look)).unwrap_or_default();
        let (posterior, why) = outputs::posterior(&images, self.look.function(), latents).map_err(|e| format!("{}: {e}", self.file))?;
        let (first, what) = match posterior {
            Posterior::Mean(i) => (i, "latents"),
            Posterior::Moments(i) => (i, "means and log-variances"),
            Posterior::MeanAndLogVariance(i, _) => (i, "means, with log-variances beside them"),
            Posterior::MeanAndDeviation(i, _) => (i, "means, with deviations beside them"),
        };
        let Image { name, channels, .. } = &images[first];
        self.latent_channels = if matches!(posterior, Posterior::Moments(_)) { channels / 2 } else { *channels };
        self.posterior = posterior;
        self.notes = vec![format!("{}: the {channels} channels of `{name}` are {what}: {why}", self.file)];
        Ok(())
    }

    /// Which half it is.
    pub fn half(&self) -> Half {
        self.half
    }

    /// What was decided about the file that it does not say itself, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        self.latent_channels
    }

    /// Pixels of a picture that a latent stands for, along either axis.
    pub fn factor(&self) -> usize {
        self.factor
    }

    /// Pixels of the input that a latent stands for.
    fn times(&self) -> usize {
        if self.half == Half::Encoder { self.factor } else { 1 }
    }

    /// Height and width of the latents, where the file fixes them.
    pub fn own_size(&self) -> [Option<usize>; 2] {
        self.input.fixed.map(|f| f.map(|n| n / self.times()))
    }

    /// The greatest number of values per latent position that an instruction gives.
    pub fn widest(&self) -> usize {
        let f = self.look.function();
        let input = self.look.inputs()[0].ty.shape[1..3].iter().product::<usize>();
        let counts = f.insts().iter().flat_map(|i| &i.results).map(|&v| f.ty(v).count());
        counts.max().unwrap_or(0).div_ceil((input / (self.times() * self.times())).max(1))
    }

    /// Names and types of the parameters, as the model has them: of all weights that are the same at every size.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &Type)> {
        let all = self.look.function().weights().map(|(_, d)| (d.name.as_str(), &d.ty));
        all.filter(|(name, _)| self.look.weight(name).is_some_and(|w| !w.of_size()))
    }

    /// What a weight is for, by its name in the IR.
    pub fn role(&self, weight: &str) -> Option<Role> {
        let name = weight.strip_prefix(self.prefix.as_str())?;
        self.held().role(name).or_else(|| self.roles.get(name).copied())
    }

    /// The values of a parameter, by the model's name.
    ///
    /// # Errors
    /// As [`WeightSource::load`].
    pub fn values(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.look.load(name)
    }

    fn held(&self) -> MutexGuard<'_, Weights> {
        // A panic elsewhere leaves a list as it is.
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no function at that height and width of the latents, if the file says so.
    pub fn refuses(&self, height: usize, width: usize) -> Option<Wrong> {
        let own = self.own_size();
        if own[0].is_none_or(|h| h == height) && own[1].is_none_or(|w| w == width) {
            return None;
        }
        let shown = |n: Option<usize>| n.map_or("any".to_owned(), |n| n.to_string());
        let [[h, w], [high, wide]] = [own.map(shown), own.map(|n| shown(n.map(|n| n * self.factor)))];
        let half = self.half;
        Some(format!(
            "size: {} is the {half} of latents of {h}x{w}, pictures of {high}x{wide}, for which it was exported, found latents of \
             {height}x{width}: ask for that size, or export it with dynamic height and width",
            self.file
        ))
    }

    /// As [`super::Autoencoder::decode`] and [`super::Autoencoder::encode`].
    ///
    /// # Errors
    /// One line, when the model cannot be had at that size.
    pub fn function(&self, height: usize, width: usize) -> Result<Function, Wrong> {
        if let Some(wrong) = self.refuses(height, width) {
            return Err(wrong);
        }
        let size = [height * self.times(), width * self.times()];
        let onnx = at(&self.model, &self.input, size).map_err(|e| e.to_string())?;
        let there = images(onnx.function(), &names(&onnx)).unwrap_or_default();
        let factor = if self.half == Half::Encoder { encoded(&there, size) } else { decoded(&there, size) };
        if factor != Some(self.factor) {
            let found = onnx.outputs().iter().map(|o| format!("{} {}", o.name, o.ty)).collect::<Vec<_>>().join(", ");
            let (file, factor) = (&self.file, self.factor);
            return Err(format!("{file}: latents of {height}x{width}: expected pictures {factor} times as large, found {found}"));
        }
        let input = if self.half == Half::Encoder { "picture" } else { "latent" };
        let mut b = Builder::new(self.half.entry_name().to_string());
        let x = b.input(input, Type::f32([1, size[0], size[1], self.input.channels]));
        let results = match self.half {
            Half::Encoder => {
                let outputs = self.spliced(&mut b, &onnx, [height, width], x);
                self.gaussian(&mut b, &outputs)
            }
            Half::Decoder => {
                let x = self.scaling.decoded(&mut b, x);
                let outputs = self.spliced(&mut b, &onnx, [height, width], x);
                vec![("picture", pyramid(&mut b, &outputs).map_err(|e| format!("{}: {e}", self.file))?)]
            }
        };
        Ok(b.finish(results.into_iter().map(|(name, v)| (name.to_owned(), v)).collect()))
    }

    /// Mean, and deviation where there is one, as the denoiser has them.
    fn gaussian(&self, b: &mut Builder, outputs: &[Value]) -> Vec<(&'static str, Value)> {
        let scaling = &self.scaling;
        let (mean, std) = match self.posterior {
            Posterior::Mean(i) => (scaling.encoded(b, outputs[i]), None),
            Posterior::Moments(i) => {
                let [mean, std] = scaling.moments(b, outputs[i]);
                (mean, Some(std))
            }
            Posterior::MeanAndLogVariance(i, k) => (scaling.encoded(b, outputs[i]), Some(scaling.deviation_of_log(b, outputs[k]))),
            Posterior::MeanAndDeviation(i, k) => (scaling.encoded(b, outputs[i]), Some(scaling.deviation(b, outputs[k]))),
        };
        [("mean", Some(mean)), ("std", std)].into_iter().filter_map(|(name, v)| Some((name, v?))).collect()
    }

    /// Copies a model into a builder, its one input being `x`; its weights get the prefix, and those of the size a name of their own.
    fn spliced(&self, b: &mut Builder, onnx: &Onnx, size: [usize; 2], x: Value) -> Vec<Value> {
        let f = onnx.function();
        let roles = roles(f, &[]);
        let mut copier = Copier::new(f);
        copier.bind(f.inputs()[0], x);
        let mut held = self.held();
        for (v, d) in f.weights() {
            let weight = onnx.weight(&d.name).expect("an import has the weights of its function");
            let name = held.hold(&d.name, size, weight, roles.get(&d.name).copied());
            copier.bind(v, b.weight(&format!("{}{name}", self.prefix), d.ty.clone()));
        }
        f.results().iter().map(|&(_, v)| copier.copy(b, v)).collect()
    }
}

/// The sum of images, each upsampled to the largest.
fn pyramid(b: &mut Builder, images: &[Value]) -> Result<Value, fcdm_ir::TypeError> {
    let side = |b: &Builder, v: Value| b.ty(v).shape[1];
    let largest = images.iter().map(|&v| side(b, v)).max().unwrap_or(1);
    let mut sum = None;
    for &v in images {
        let factor = largest / side(b, v);
        let v = upsample_bilinear(b, v, [factor, factor], Origin::Centre)?;
        sum = Some(match sum {
            None => v,
            Some(s) => b.try_emit(Add {}, &[s, v])?[0],
        });
    }
    Ok(sum.expect("a decoder has an output"))
}

impl WeightSource for Graph {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let bare = name.strip_prefix(self.prefix.as_str()).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        self.held().get(bare).map(|w| w.values()).ok_or_else(|| WeightError::Missing(name.to_owned()))
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let bare = name.strip_prefix(self.prefix.as_str()).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        self.held().get(bare).map(|w| w.rows(rows)).ok_or_else(|| WeightError::Missing(name.to_owned()))
    }
}
