//! A training step as a plan of entry points over state that the engine keeps:
//!
//! - `gradient(x, noise, t, y, coefficients)`: forward, loss, backward; the gradients go to the states `grad.NAME`, in the place of what is
//!   there or added to it;
//! - `loss(x, noise, t, y, coefficients)` and `loss.ema.` of the same: the losses alone;
//! - `norm()`: the sum of all gradients' squares;
//! - `update(rates)`: AdamW and the averages, in one pass over memory, of the states `NAME`, `exp_avg.NAME`, `exp_avg_sq.NAME`, `ema.NAME`.
//!
//! Between them the caller looks at what came out: a step that is not finite is not taken.

use std::collections::HashSet;
use std::sync::Arc;

use fcdm_compiler::assemble::{AssembleError, Assembly, EntryPoint, assemble};
use fcdm_compiler::in_memory::InMemory;
use fcdm_compiler::lower::Kept;
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_ir::flow::Copier;
use fcdm_ir::ops::{Adamw, Add, Rate, Reshape, Sum, SumSquares};
use fcdm_ir::{Builder, Def, Function, Inst, Module, Type, Value};
use fcdm_passes::{GRADIENT, PassError, Settings, TRAINING, candidates, run_with};
use fcdm_runtime::engine::{Device, Engine, LoadError};
use fcdm_runtime::executor::Input;
use fcdm_runtime::memory::size;
use fcdm_runtime::plan::Plan;
use thiserror::Error;

#[cfg(doc)]
use super::loss::Column;
use super::loss::training_loss;
use crate::fcdm::{Config, Size, network, parameters};
use crate::parameter::Parameter;

/// The states beside a weight: its name behind one of these.
pub const MEAN: &str = "exp_avg.";
/// The mean of its gradient's squares.
pub const SQUARE: &str = "exp_avg_sq.";

/// Why there is no step.
#[derive(Debug, Error)]
pub enum StepError {
    /// A pass left invalid IR: a bug.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The functions have no plan: a bug.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The plan cannot be loaded: memory or threads.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It takes more than is allowed, whatever is computed once more.
    #[error("max-memory: expected at least {} for passes of {samples} samples, found {}; --micro-batch takes fewer", size(*least), size(*most))]
    Memory {
        /// Bytes that it takes.
        least: u64,
        /// Bytes that are allowed.
        most: u64,
        /// Samples of a pass.
        samples: usize,
    },
}

/// What a step is made for.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// Samples of a pass through the network, and their size.
    pub size: Size,
    /// Of the gradient's mean.
    pub beta1: f64,
    /// Of its squares'.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Names of the running averages' states, which stand before those of the weights: `ema.`.
    pub averages: Vec<String>,
    /// Weights that are trained; the others stay as they are.
    pub trained: Vec<String>,
    /// Whether gradients of several passes are added up.
    pub accumulate: bool,
    /// Whether losses are wanted without gradients, of the weights and of the averages.
    pub validate: bool,
    /// Bytes that the step may take: for these values are computed once more, in place of being kept.
    pub max_memory: Option<u64>,
}

/// What came out of a pass: by sample, in the order of the batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// What is minimised; the sum is the batch's loss.
    pub loss: Vec<f32>,
    /// Mean squared error.
    pub mse: Vec<f32>,
    /// The variational term, in bits by dimension; empty without learned variance.
    pub vb: Vec<f32>,
}

impl Losses {
    fn outputs(&mut self) -> Vec<&mut [f32]> {
        let Losses { loss, mse, vb } = self;
        let mut outputs: Vec<&mut [f32]> = vec![loss, mse];
        if !vb.is_empty() {
            outputs.push(vb);
        }
        outputs
    }
}

/// A batch: channels last, `n` samples.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Clean images `[n,H,W,C]`.
    pub x: &'a [f32],
    /// Noise like x.
    pub noise: &'a [f32],
    /// Times, as the network is told.
    pub t: &'a [f32],
    /// Labels.
    pub y: &'a [i32],
    /// `[n, Column::COUNT]`.
    pub coefficients: &'a [f32],
}

/// What one update multiplies with; see [`Rate`] and the op `adamw`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay, by unit of learning rate.
    pub weight_decay: f64,
    /// Number of the update, from 1.
    pub step: u64,
    /// What the gradient is multiplied by.
    pub clip: f64,
    /// Decay of each average.
    pub decays: Vec<f64>,
}

/// A step ready to run: an engine with the weights and all that is kept of training.
pub struct Step {
    engine: Box<dyn Engine>,
    options: StepOptions,
    parameters: Vec<Parameter>,
    losses: Losses,
    /// Indices of the entries: gradient, gradient added, norm, update.
    entries: [Option<usize>; 4],
    /// Index of the entry that computes losses with the weights, and with each of the averages.
    validations: Vec<usize>,
}

/// No tensors: all weights are state.
struct Nothing;

impl WeightSource for Nothing {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        Err(WeightError::Missing(name.to_owned()))
    }

    fn load_rows(&self, name: &str, _: std::ops::Range<usize>) -> Result<Vec<f32>, WeightError> {
        self.load(name)
    }
}

const GRADIENTS: &str = "gradient";
const ADDED: &str = "gradient.added";
const NORM: &str = "norm";
const UPDATE: &str = "update";
const VALIDATION: &str = "loss.";

/// The plan of a step of a network, in the memory that is allowed on that device.
///
/// # Errors
/// [`StepError::Memory`]; [`StepError::Pass`] and [`StepError::Assemble`] are bugs.
pub fn plan(config: &Config, options: &StepOptions, device: &dyn Device) -> Result<Assembly, StepError> {
    let parts = Parts::new(config, options)?;
    let whole = parts.assemble(&[])?;
    match options.max_memory {
        Some(most) if memory(&whole.plan, device) > most => parts.within(most, device),
        _ => Ok(whole),
    }
}

/// Bytes that a plan takes: state, values and scratch.
pub fn memory(plan: &Plan, device: &dyn Device) -> u64 {
    let mut names = HashSet::new();
    let ports = plan.entries.iter().flat_map(|e| &e.state).filter(|port| names.insert(&port.name));
    let state: usize = ports.map(|port| port.shape.iter().product::<usize>() * port.dtype.bytes()).sum();
    let entries: Vec<(usize, usize)> = plan.entries.iter().map(|e| device.memory_of(e)).collect();
    let most = |of: &dyn Fn(&(usize, usize)) -> usize| entries.iter().map(of).max().unwrap_or(0);
    state as u64 + most(&|e| e.0) as u64 + most(&|e| e.1) as u64
}

/// What a plan is made of, before it is decided what the backward pass computes once more.
struct Parts<'a> {
    options: &'a StepOptions,
    differentiated: Function,
    loss: Function,
    list: Vec<Parameter>,
}

/// Values of fewer bytes are always kept.
const WORTH_FREEING: usize = 1 << 10;

impl Parts<'_> {
    fn new<'a>(config: &Config, options: &'a StepOptions) -> Result<Parts<'a>, StepError> {
        let loss = training_loss(&network(config, options.size));
        let trained = |name: &str| options.trained.iter().any(|t| t == name);
        let settings = Settings { trained: &trained, ..Settings::default() };
        let differentiated = passed(TRAINING, loss.clone(), &settings)?;
        let forward: Vec<&str> = TRAINING.iter().copied().filter(|pass| *pass != "differentiate").collect();
        let loss = passed(&forward, loss, &settings)?;
        let list = parameters(config).into_iter().filter(|p| trained(&p.name)).collect();
        Ok(Parts { options, differentiated, loss, list })
    }

    /// The plan in which the backward pass computes these instructions of the forward pass once more.
    fn assemble(&self, again: &[&Inst]) -> Result<Assembly, StepError> {
        let chosen = |_: &Function, inst: &Inst| again.iter().any(|a| a.results == inst.results);
        let settings = Settings { recomputed: &chosen, ..Settings::default() };
        let f = match again {
            [] => self.differentiated.clone(),
            _ => passed(&["recompute"], self.differentiated.clone(), &settings)?,
        };
        let mut entries = vec![gradient(&f, self.options, false)];
        if self.options.accumulate {
            entries.push(gradient(&f, self.options, true));
        }
        if self.options.validate {
            entries.extend(weights_of(self.options).map(|prefix| validation(&self.loss, self.options, prefix)));
        }
        entries.push(norm(&self.list));
        entries.push(update(&self.list, self.options));
        Ok(assemble(entries, None, &Target::CPU)?)
    }

    /// The plan that takes no more than `most` bytes and computes as little as that needs once more: what frees most bytes for its time first.
    fn within(&self, most: u64, device: &dyn Device) -> Result<Assembly, StepError> {
        let f = &self.differentiated;
        let bytes = |values: &[Value]| values.iter().map(|&v| f.ty(v).bytes()).sum::<usize>();
        let seconds = |inst: &Inst| {
            let types = |values: &[Value]| values.iter().map(|&v| f.ty(v)).collect::<Vec<_>>();
            let macs = inst.op.cost(&types(&inst.operands), &types(&inst.results)).macs as f64;
            let moved = (bytes(&inst.operands) + bytes(&inst.results)) as f64;
            macs / Target::CPU.macs_per_second + moved / Target::CPU.memory_bytes_per_second
        };
        let mut worth: Vec<(f64, &Inst)> = candidates(f)
            .filter(|inst| bytes(&inst.results) >= WORTH_FREEING)
            .map(|inst| (bytes(&inst.results) as f64 / seconds(inst), inst))
            .collect();
        worth.sort_by(|a, b| b.0.total_cmp(&a.0));
        let order: Vec<&Inst> = worth.into_iter().map(|(_, inst)| inst).collect();
        let of = |n: usize| {
            let assembly = self.assemble(&order[..n])?;
            Ok::<_, StepError>((memory(&assembly.plan, device), assembly))
        };
        // The least that fits lies between one that does not and one that does.
        let (mut few, mut many) = (0, order.len());
        let (least, mut best) = of(many)?;
        if least > most {
            return Err(StepError::Memory { least, most, samples: self.options.size.batch });
        }
        while many - few > 1 {
            let middle = few.midpoint(many);
            let (needs, assembly) = of(middle)?;
            if needs <= most {
                (many, best) = (middle, assembly);
            } else {
                few = middle;
            }
        }
        Ok(best)
    }
}

/// A function behind some passes.
fn passed(passes: &[&str], f: Function, settings: &Settings<'_>) -> Result<Function, StepError> {
    let (mut module, _) = run_with(passes, Module { functions: vec![f] }, settings, &mut |_, _| {})?;
    Ok(module.functions.pop().expect("passes of functions keep their number"))
}

/// Weights become state, and so do their gradients.
fn gradient(f: &Function, options: &StepOptions, add: bool) -> EntryPoint {
    let mut b = Builder::new(if add { ADDED } else { GRADIENTS });
    let mut copier = Copier::with_inputs(f, &mut b);
    let mut kept = Vec::new();
    let mut results = Vec::new();
    for (v, data) in f.values().filter(|(_, data)| data.def == Def::Weight) {
        let weight = b.input(&data.name, data.ty.clone());
        copier.bind(v, weight);
        kept.push(Kept { input: data.name.clone(), result: data.name.clone() });
        results.push((data.name.clone(), weight));
    }
    for (name, v) in f.results() {
        let mut value = copier.copy(&mut b, *v);
        if name.starts_with(GRADIENT) {
            let old = b.input(name, f.ty(*v).clone());
            value = if add { b.one(Add {}, &[value, old]) } else { value };
            kept.push(Kept { input: name.clone(), result: name.clone() });
        }
        results.push((name.clone(), value));
    }
    EntryPoint { function: b.finish(results), rows: options.size.batch, kept }
}

/// The losses with the weights whose names begin so, which are state.
fn validation(f: &Function, options: &StepOptions, prefix: &str) -> EntryPoint {
    let mut b = Builder::new(format!("{VALIDATION}{prefix}"));
    let mut copier = Copier::with_inputs(f, &mut b);
    let (mut kept, mut results) = (Vec::new(), Vec::new());
    for (v, data) in f.weights() {
        // Those that are not trained have no average.
        let prefix = if options.trained.contains(&data.name) { prefix } else { "" };
        let name = format!("{prefix}{}", data.name);
        let weight = b.input(&name, data.ty.clone());
        copier.bind(v, weight);
        kept.push(Kept { input: name.clone(), result: name.clone() });
        results.push((name, weight));
    }
    results.extend(f.results().iter().map(|(name, v)| (name.clone(), copier.copy(&mut b, *v))));
    EntryPoint { function: b.finish(results), rows: options.size.batch, kept }
}

/// The squares of all gradients: one number.
fn norm(list: &[Parameter]) -> EntryPoint {
    let mut b = Builder::new(NORM);
    let (mut kept, mut results, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for p in list {
        let (name, ty) = (format!("{GRADIENT}{}", p.name), p.ty());
        let g = b.input(&name, ty.clone());
        let c = ty.channels();
        let image = b.one(Reshape { shape: vec![1, 1, ty.count() / c, c] }, &[g]);
        let squares = b.one(SumSquares {}, &[image]);
        sums.push(b.one(Sum { axes: vec![1] }, &[squares]));
        kept.push(Kept { input: name.clone(), result: name.clone() });
        results.push((name, g));
    }
    // In pairs, and pairs of those: the error grows with the logarithm of their number.
    while sums.len() > 1 {
        sums = sums.chunks(2).map(|pair| if let &[x, y] = pair { b.one(Add {}, &[x, y]) } else { pair[0] }).collect();
    }
    results.extend(sums.first().map(|&v| (NORM.to_owned(), v)));
    EntryPoint { function: b.finish(results), rows: 1, kept }
}

fn update(list: &[Parameter], options: &StepOptions) -> EntryPoint {
    let mut b = Builder::new(UPDATE);
    let rates = b.input("rates", Type::f32([Rate::count(options.averages.len())]));
    let (mut kept, mut results) = (Vec::new(), Vec::new());
    let mut state = |b: &mut Builder, name: String, ty: &Type| {
        kept.push(Kept { input: name.clone(), result: name.clone() });
        b.input(&name, ty.clone())
    };
    let adamw = Adamw { beta1: options.beta1, beta2: options.beta2, eps: options.eps };
    for p in list {
        let ty = p.ty();
        let gradient = format!("{GRADIENT}{}", p.name);
        let names: Vec<String> = states(options).map(|prefix| format!("{prefix}{}", p.name)).collect();
        let old: Vec<Value> = names.iter().map(|name| state(&mut b, name.clone(), &ty)).collect();
        let g = state(&mut b, gradient.clone(), &ty);
        let operands: Vec<Value> = [old[0], g, old[1], old[2], rates].into_iter().chain(old[3..].iter().copied()).collect();
        results.extend(names.into_iter().zip(b.emit(adamw.clone(), &operands)));
        results.push((gradient, g));
    }
    EntryPoint { function: b.finish(results), rows: 1, kept }
}

/// What stands before a weight's name in the names of the states that an update writes; nothing before the weight itself.
fn states(options: &StepOptions) -> impl Iterator<Item = &str> {
    ["", MEAN, SQUARE].into_iter().chain(options.averages.iter().map(String::as_str))
}

/// What stands before a weight's name in those of weights that can be evaluated.
fn weights_of(options: &StepOptions) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(options.averages.iter().map(String::as_str))
}

impl Step {
    /// Plans a step and reserves what it takes. All state is zero.
    ///
    /// # Errors
    /// See [`StepError`].
    pub fn new(config: &Config, options: StepOptions, device: &dyn Device) -> Result<Step, StepError> {
        let assembly = plan(config, &options, device)?;
        let weights = InMemory::new(&assembly, &Nothing).expect("weights are state: there is nothing to load");
        let engine = device.load(assembly.plan, Arc::new(weights))?;
        let n = options.size.batch;
        let index = |name: &str| engine.entries().iter().position(|e| e.name == name);
        let entries = [GRADIENTS, ADDED, NORM, UPDATE].map(index);
        let named = |prefix| index(&format!("{VALIDATION}{prefix}"));
        let validations = weights_of(&options).filter_map(named).collect();
        let vb = if config.learn_sigma { vec![0.0; n] } else { Vec::new() };
        let losses = Losses { loss: vec![0.0; n], mse: vec![0.0; n], vb };
        Ok(Step { engine, parameters: parameters(config), options, losses, entries, validations })
    }

    /// What it was made for.
    pub fn options(&self) -> &StepOptions {
        &self.options
    }

    /// All parameters of the network, in the order of registration.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The engine, to look at.
    pub fn engine(&mut self) -> &mut dyn Engine {
        &mut *self.engine
    }

    /// Copies a state's values out, in the IR's order.
    ///
    /// # Panics
    /// If there is no state of that name, or it has another count.
    pub fn read(&self, name: &str, values: &mut [f32]) {
        self.engine.read_state(name, values);
    }

    /// Copies a state's values in, in the IR's order.
    ///
    /// # Panics
    /// As of [`Step::read`].
    pub fn write(&mut self, name: &str, values: &[f32]) {
        self.engine.write_state(name, values);
    }

    /// Gradients of a batch, in the place of those that are there, or added to them.
    ///
    /// # Panics
    /// If the batch has another size than the step, or `add` without accumulation.
    pub fn gradient(&mut self, batch: &Batch<'_>, add: bool) -> &Losses {
        self.losses_of(self.entries[usize::from(add)].expect("made to accumulate"), batch)
    }

    /// Losses of a batch with the weights (0) or an average of them (from 1), without gradients.
    ///
    /// # Panics
    /// If the batch has another size than the step, or the step was not made to validate, or there is no such average.
    pub fn validate(&mut self, batch: &Batch<'_>, weights: usize) -> &Losses {
        self.losses_of(self.validations[weights], batch)
    }

    fn losses_of(&mut self, entry: usize, batch: &Batch<'_>) -> &Losses {
        self.engine.run(entry, &Self::inputs(batch), &mut self.losses.outputs());
        &self.losses
    }

    /// What of a batch's gradient, computed once more, is the first that is not finite: the value, and the kernel that made it. Nothing if
    /// all is, or the engine does not know.
    ///
    /// # Panics
    /// As of [`Step::gradient`].
    pub fn first_not_finite(&mut self, batch: &Batch<'_>) -> Option<(String, &'static str)> {
        let entry = self.entries[0].expect("every plan has it");
        let executor = self.engine.as_executor()?;
        let step = executor.first_not_finite(entry, &Self::inputs(batch), &mut self.losses.outputs())?;
        Some((step.label, step.kernel.name()))
    }

    fn inputs<'a>(batch: &Batch<'a>) -> [Input<'a>; 5] {
        let &Batch { x, noise, t, y, coefficients } = batch;
        [Input::F32(x), Input::F32(noise), Input::F32(t), Input::I32(y), Input::F32(coefficients)]
    }

    /// The gradients' norm.
    pub fn norm(&mut self) -> f32 {
        let entry = self.entries[2].expect("every plan has it");
        let mut square = [0.0];
        self.engine.run(entry, &[], &mut [&mut square]);
        square[0].sqrt()
    }

    /// Takes a step.
    ///
    /// # Panics
    /// If there are not as many decays as averages.
    pub fn update(&mut self, rates: &Rates) {
        let entry = self.entries[3].expect("every plan has it");
        let Rates { lr, weight_decay, step, clip, decays } = rates;
        assert_eq!(decays.len(), self.options.averages.len(), "decays");
        let power = |beta: f64| 1.0 - libm::pow(beta, *step as f64);
        let first = [*clip, 1.0 - lr * weight_decay, lr / power(self.options.beta1), 1.0 / power(self.options.beta2).sqrt()];
        let pairs = decays.iter().flat_map(|d| [*d, 1.0 - d]);
        let values: Vec<f32> = first.into_iter().chain(pairs).map(|v| v as f32).collect();
        self.engine.run(entry, &[Input::F32(&values)], &mut []);
    }
}
