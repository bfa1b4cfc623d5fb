//! One half of an autoencoder as an ONNX model: one image goes in, and one comes out; or, of a decoder, several maps of a pyramid,
//! whose sum, upsampled bilinearly to the largest, is the picture. Pictures are RGB in [-1,1]; what latents are scaled by is not
//! in the file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use fcdm_compiler::onnx::{Onnx, OnnxError};
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_ir::flow::Copier;
use fcdm_ir::ops::{Add, Scale};
use fcdm_ir::resample::{Origin, upsample_bilinear};
use fcdm_ir::{Builder, Function, Type, Value};

use super::{Half, PICTURE_CHANNELS};
use crate::graph_roles::roles;
use crate::role::Role;

/// Height and width of the latents at which a model is looked at first.
const PROBE: usize = 16;

/// Half of an autoencoder in an ONNX model.
pub struct Graph {
    path: PathBuf,
    half: Half,
    /// Name of its input.
    input: String,
    latent_channels: usize,
    factor: usize,
    /// What the denoiser's latents are the model's times.
    scale: f64,
    prefix: String,
    /// At the size at which it was looked at first: for its weights, which are the same at all.
    probe: Onnx,
    /// By the model's names.
    roles: HashMap<String, Role>,
}

/// A model that is no such half: one line.
type Wrong = String;

impl Graph {
    /// Opens a model and finds out which half it is: one that takes three channels encodes. `scale` is what the denoiser's latents are its own
    /// times.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn open(path: &Path, scale: f64, prefix: &str) -> Result<Graph, Wrong> {
        let wrong = |text: String| format!("{}: {text}", path.display());
        let declared = Onnx::declared(path).map_err(|e| e.to_string())?;
        let [(input, extents)] = &declared[..] else {
            let names: Vec<&str> = declared.iter().map(|(n, _)| n.as_str()).collect();
            return Err(wrong(format!("expected one input, a picture or latents, found {names:?}")));
        };
        let &[_, Some(channels), _, _] = &extents[..] else {
            return Err(wrong(format!("input `{input}`: expected extents [N,C,H,W] with a number for C, found {extents:?}")));
        };
        let half = if channels == PICTURE_CHANNELS { Half::Encoder } else { Half::Decoder };
        // A picture's factor is not known before the model has been looked at; any up to this divides.
        let side = if half == Half::Encoder { 8 * PROBE } else { PROBE };
        let probe = at(path, input, channels, [side, side]).map_err(|e| e.to_string())?;
        let images: Vec<[usize; 3]> =
            probe.outputs().iter().filter_map(|o| <[usize; 4]>::try_from(&*o.ty.shape).ok()).map(|[_, h, w, c]| [h, w, c]).collect();
        let found = || probe.outputs().iter().map(|o| format!("{} {}", o.name, o.ty)).collect::<Vec<_>>().join(", ");
        let largest = images.iter().map(|i| i[0]).max().unwrap_or(0);
        let square = images.len() == probe.outputs().len() && images.iter().all(|&[h, w, _]| h == w);
        let (latent_channels, factor, fits) = match half {
            Half::Encoder => {
                (images.first().map_or(0, |i| i[2]), side / largest.max(1), images.len() == 1 && side.is_multiple_of(largest.max(1)))
            }
            Half::Decoder => {
                let divide = images.iter().all(|&[h, _, c]| c == PICTURE_CHANNELS && largest.is_multiple_of(h));
                (channels, largest / PROBE, divide && largest.is_multiple_of(PROBE))
            }
        };
        if !(square && fits && factor > 0) {
            let expected = match half {
                Half::Encoder => "one output, latents of a picture",
                Half::Decoder => "a picture of 3 channels, or a pyramid of such",
            };
            return Err(wrong(format!("expected {expected}, found {}", found())));
        }
        // Both halves may use the same names.
        let (path, input, prefix) = (path.to_owned(), input.clone(), format!("{prefix}{half}."));
        let roles = roles(probe.function(), &[]);
        Ok(Graph { path, half, input, latent_channels, factor, scale, prefix, probe, roles })
    }

    /// Which half it is.
    pub fn half(&self) -> Half {
        self.half
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        self.latent_channels
    }

    /// Pixels of a picture that a latent stands for, along either axis.
    pub fn factor(&self) -> usize {
        self.factor
    }

    /// The greatest number of values per latent position that an instruction gives.
    pub fn widest(&self) -> usize {
        let f = self.probe.function();
        let counts = f.insts().iter().flat_map(|i| &i.results).map(|&v| f.ty(v).count());
        counts.max().unwrap_or(0).div_ceil(PROBE * PROBE)
    }

    /// Names and types of the weights, as the model has them.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.probe.function().weights().map(|(_, d)| (d.name.as_str(), &d.ty))
    }

    /// What a weight is for, by its name in the IR.
    pub fn role(&self, weight: &str) -> Option<Role> {
        self.roles.get(weight.strip_prefix(self.prefix.as_str())?).copied()
    }

    /// The values of a weight, by the model's name.
    ///
    /// # Errors
    /// As [`WeightSource::load`].
    pub fn values(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.probe.load(name)
    }

    /// As [`super::Autoencoder::decode`] and [`super::Autoencoder::encode`].
    ///
    /// # Errors
    /// One line, when the model cannot be had at that size.
    pub fn function(&self, height: usize, width: usize) -> Result<Function, Wrong> {
        let (channels, times) = match self.half {
            Half::Encoder => (PICTURE_CHANNELS, self.factor),
            Half::Decoder => (self.latent_channels, 1),
        };
        let size = [height * times, width * times];
        let onnx = at(&self.path, &self.input, channels, size).map_err(|e| e.to_string())?;
        let (input, result) = match self.half {
            Half::Encoder => ("picture", "mean"),
            Half::Decoder => ("latent", "picture"),
        };
        let mut b = Builder::new(self.half.entry_name().to_string());
        let mut x = b.input(input, Type::f32([1, size[0], size[1], channels]));
        if self.half == Half::Decoder && self.scale != 1.0 {
            x = b.one(Scale { by: 1.0 / self.scale }, &[x]);
        }
        let outputs = self.spliced(&mut b, onnx.function(), x);
        let mut y = match self.half {
            Half::Encoder => outputs[0],
            Half::Decoder => pyramid(&mut b, &outputs).map_err(|e| format!("{}: {e}", self.path.display()))?,
        };
        if self.half == Half::Encoder && self.scale != 1.0 {
            y = b.one(Scale { by: self.scale }, &[y]);
        }
        Ok(b.finish(vec![(result.to_owned(), y)]))
    }

    /// Copies a function into a builder, its one input being `x`; its weights get the prefix.
    fn spliced(&self, b: &mut Builder, f: &Function, x: Value) -> Vec<Value> {
        let mut copier = Copier::new(f);
        copier.bind(f.inputs()[0], x);
        for (v, d) in f.weights() {
            copier.bind(v, b.weight(&format!("{}{}", self.prefix, d.name), d.ty.clone()));
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

/// A model at a size of its input.
fn at(path: &Path, input: &str, channels: usize, [height, width]: [usize; 2]) -> Result<Onnx, OnnxError> {
    Onnx::open_at(path, &[(input.to_owned(), vec![1, channels, height, width])])
}

impl WeightSource for Graph {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let bare = name.strip_prefix(self.prefix.as_str()).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        self.probe.load(bare)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let bare = name.strip_prefix(self.prefix.as_str()).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        self.probe.load_rows(bare, rows)
    }
}
