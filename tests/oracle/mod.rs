//! Golden files from PyTorch (`tests/golden`, format in its manifest): inputs, float64 results, and the distance of
//! PyTorch's own float32 run from them, which sets the tolerance.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_ir::eval::Tensor;
use fcdm_runtime::sampler::{DiffusionForm, Guidance, GuidedChannels, LastStep, Method, Solver};
use fcdm_runtime::schedule::Spacing;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

/// Names of the networks.
pub const NETS: [&str; 3] = ["eps8", "flow16", "wide20"];

/// A result may be this many times as far from float64 as PyTorch's float32 is ...
const FACTOR: f64 = 4.0;

/// ... or this far, where that is less.
const FLOOR: f64 = 1e-6;

pub fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub fn manifest() -> Json {
    serde_json::from_slice(&std::fs::read(golden().join("manifest.json")).unwrap()).unwrap()
}

/// A tensor of a golden file, widened to f64, in PyTorch's order of axes.
#[derive(Clone, Debug)]
pub struct Golden {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Golden {
    /// `[N,C,H,W]`, or any number of leading axes, to channels last.
    pub fn channels_last(&self) -> Golden {
        let [lead @ .., c, h, w] = &self.shape[..] else { panic!("an image has three axes at least: {:?}", self.shape) };
        let n: usize = lead.iter().product();
        let mut values = Vec::with_capacity(self.values.len());
        for i in 0..n {
            for p in 0..h * w {
                values.extend((0..*c).map(|k| self.values[(i * c + k) * h * w + p]));
            }
        }
        Golden { shape: [lead, &[*h, *w, *c]].concat(), values }
    }

    pub fn tensor(&self) -> Tensor {
        Tensor::from_shape_vec(self.shape.clone(), self.values.clone()).unwrap()
    }

    pub fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    pub fn i32(&self) -> Vec<i32> {
        self.values.iter().map(|&v| v as i32).collect()
    }
}

/// One golden file of one network with its tolerances.
pub struct File {
    pub net: String,
    tensors: BTreeMap<String, Golden>,
    f32_distance: BTreeMap<String, f64>,
}

impl File {
    pub fn open(net: &str, stem: &str) -> File {
        let path = golden().join(net).join(format!("{stem}.safetensors"));
        let listed = &manifest()["nets"][net]["files"][stem]["f32"];
        let f32_distance = listed.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_f64().unwrap())).collect();
        File { net: net.to_owned(), tensors: read(&path), f32_distance }
    }

    pub fn get(&self, name: &str) -> &Golden {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor `{name}`", self.net))
    }

    /// Names of the results, in order.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        self.f32_distance.keys().map(String::as_str)
    }

    /// Holds a result, in PyTorch's order of axes, against the file. Prints the distance in units of the tolerance.
    pub fn check(&self, name: &str, values: &[f64], who: &str) {
        self.check_within(1.0, name, values, who);
    }

    /// As [`File::check`], with `times` the tolerance.
    pub fn check_within(&self, times: f64, name: &str, values: &[f64], who: &str) {
        let tolerance = times * (FACTOR * self.f32_distance[name]).max(FLOOR);
        let distance = match self.tensors.get(name) {
            Some(whole) => relative(values, &whole.values),
            None => {
                let sample = &self.get(&format!("{name}#sample")).values;
                let stride = values.len().div_ceil(512) | 1;
                let picked: Vec<f64> = values.iter().copied().step_by(stride).collect();
                let norm = self.get(&format!("{name}#norm")).values[0];
                let off = (values.iter().map(|v| v * v).sum::<f64>().sqrt() - norm).abs() / norm;
                relative(&picked, sample).max(off)
            }
        };
        println!("{} {who}: {name}: {distance:.2e}, {:.0} % of the tolerance", self.net, 100.0 * distance / tolerance);
        assert!(distance <= tolerance, "{} {who}: {name}: relative L2 distance {distance:.3e} > {tolerance:.3e}", self.net);
    }

    /// As [`File::check`], for the last of a trajectory's states where all are stored; each state has the shape of `start`.
    pub fn check_end(&self, name: &str, values: &[f64], who: &str) {
        let stored = &self.get(name).values;
        let tolerance = (FACTOR * self.f32_distance[name]).max(FLOOR);
        let distance = relative(values, &stored[stored.len() - values.len()..]);
        assert!(distance <= tolerance, "{} {who}: {name}: relative L2 distance {distance:.3e} > {tolerance:.3e}", self.net);
    }
}

/// Relative L2 distance of `a` from `b`.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "elements of a result");
    let (mut diff, mut norm) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        diff += (a - b) * (a - b);
        norm += b * b;
    }
    (diff / norm).sqrt()
}

/// Every tensor of a safetensors file of floats and integers.
pub fn read(path: &std::path::Path) -> BTreeMap<String, Golden> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let convert = |t: safetensors::tensor::TensorView<'_>| -> Vec<f64> {
        let d = t.data();
        match t.dtype() {
            Dtype::F32 => d.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            Dtype::F64 => d.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::U8 => d.iter().map(|&b| f64::from(b)).collect(),
            Dtype::I64 => d.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            other => panic!("{other:?}"),
        }
    };
    file.tensors().into_iter().map(|(n, t)| (n, Golden { shape: t.shape().to_vec(), values: convert(t) })).collect()
}

/// The weights of a network.
pub fn checkpoint(net: &str) -> StateDict {
    StateDict::only(&Arc::new(Checkpoint::open(golden().join(net).join("weights.safetensors")).unwrap())).unwrap()
}

/// Channels-last values `[N,H,W,C]` in PyTorch's order.
pub fn channels_first(values: &[f64], shape: &[usize]) -> Vec<f64> {
    let [n, h, w, c] = shape[..] else { return values.to_vec() };
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n {
        for k in 0..c {
            out.extend((0..h * w).map(|p| values[(i * h * w + p) * c + k]));
        }
    }
    out
}

/// The guidance of a golden result named `cfg.SCALE.channelsN`.
pub fn guidance(name: &str) -> Guidance {
    let (scale, channels) = name.strip_prefix("cfg.").unwrap().split_once(".channels").unwrap();
    let channels = if channels == "3" { GuidedChannels::First3 } else { GuidedChannels::AllEps };
    Guidance { scale: scale.parse().unwrap(), channels, interval: None }
}

/// The sampler of a golden result's name: method, guidance, whether all states are stored.
pub fn method(name: &str) -> (Method, Guidance, bool) {
    let parts: Vec<&str> = name.split('.').collect();
    let scale = parts.iter().find_map(|p| p.strip_prefix("cfg")).map_or(1.0, |s| s.parse().unwrap());
    let channels = if name.contains("channels4") { GuidedChannels::AllEps } else { GuidedChannels::First3 };
    let sde = |solver, form, last| Method::Sde { steps: 10, solver, form, norm: 1.0, last, last_size: 0.04 };
    let method = match (parts[0], parts[1]) {
        ("ddpm10", _) => Method::Ddpm { spacing: Spacing::Even(10) },
        ("ddpm7", _) => Method::Ddpm { spacing: Spacing::Even(7) },
        ("ddim10", "eta0") => Method::Ddim { spacing: Spacing::Even(10), eta: 0.7 },
        ("ddim10", "strided") => Method::Ddim { spacing: Spacing::Strided(10), eta: 0.0 },
        ("ddim10", _) => Method::Ddim { spacing: Spacing::Even(10), eta: 0.0 },
        ("ode10", "heun") => Method::Ode { steps: 10, solver: Solver::Heun },
        ("ode10", _) => Method::Ode { steps: 10, solver: Solver::Euler },
        ("sde10", "heun") => sde(Solver::Heun, DiffusionForm::Sigma, LastStep::Mean),
        ("sde10", "last_euler") => sde(Solver::Euler, DiffusionForm::Sigma, LastStep::Euler),
        ("sde10", "last_tweedie") => sde(Solver::Euler, DiffusionForm::Sigma, LastStep::Tweedie),
        ("sde10", "last_none") => sde(Solver::Euler, DiffusionForm::Sigma, LastStep::None),
        ("sde10", "constant") => sde(Solver::Euler, DiffusionForm::Constant, LastStep::Mean),
        ("sde10", "decreasing") => sde(Solver::Euler, DiffusionForm::Decreasing, LastStep::Mean),
        ("sde10", "increasing-decreasing") => sde(Solver::Euler, DiffusionForm::IncreasingDecreasing, LastStep::Mean),
        ("sde10", _) => sde(Solver::Euler, DiffusionForm::Sigma, LastStep::Mean),
        other => panic!("{other:?}"),
    };
    (method, Guidance { scale, channels, interval: None }, name.ends_with(".states"))
}
