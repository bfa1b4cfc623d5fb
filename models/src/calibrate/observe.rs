//! Looks at what the products of a network multiply: a function whose results are the inputs of some products, run on states.

use std::sync::Arc;

use fcdm_compiler::assemble::{Assembly, EntryPoint, assemble};
use fcdm_compiler::compiled::BuildError;
use fcdm_compiler::in_memory::{InMemory, Replaced};
use fcdm_compiler::rounding::Inputs;
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::{Stored, WeightError, WeightSource};
use fcdm_ir::flow::Copier;
use fcdm_ir::ops::Conv2d;
use fcdm_ir::{Builder, Def, Function, Module, Op, Value};
use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::engine::{Cpu, Device, Engine};
use fcdm_runtime::executor::Input;
use fcdm_runtime::threads;
use ndarray::{Array2, ArrayView2};

use super::states::States;
use crate::compile::CompileError;
use crate::fcdm::{self, Import};
use crate::options::{OptionError, Options};

/// What makes the products and their biases those of the artifact, and nothing else.
const PASSES: &[&str] = &["simplify", "fold_grn_bias", "fold_weights"];

/// States that are looked at together.
const BATCH: usize = 4;

/// Bytes of what is kept of the products that are looked at together.
const GROUP_BYTES: usize = 500 << 20;

/// Bytes of the inputs of these for a batch.
const GROUP_INPUTS: usize = 200 << 20;

/// Rows that are gathered before they are taken in.
const CHUNK: usize = 512;

/// A product of a weight.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    /// Its weight.
    pub weight: String,
    /// Its bias, if it has one.
    pub bias: Option<String>,
    /// What it multiplies.
    x: Value,
    /// What errors of a row are compared with.
    compared: Compared,
    window: Option<Window>,
    columns: usize,
}

/// What the errors of a row are compared with: what follows is normalised pixel by pixel, and pixels differ in size.
#[derive(Clone, Copy, Debug)]
enum Compared {
    /// Nothing: every row counts alike.
    Nothing,
    /// The product itself: what is not added to anything. Its deviation from the mean, where only that is used.
    Product { deviation: bool },
    /// What the product is added to by a gate: residual and gate.
    Residual(Value, Value),
}

/// A convolution's window.
#[derive(Clone, Copy, Debug)]
struct Window {
    kernel: [usize; 2],
    stride: usize,
    top: usize,
    left: usize,
    out: [usize; 2],
}

/// The network, ready to be looked at.
pub(crate) struct Observed<'a> {
    import: &'a Import,
    function: Function,
    derived: Option<Function>,
    products: Vec<Product>,
}

impl<'a> Observed<'a> {
    /// Products of weights of which `wanted` says yes.
    pub fn new(import: &'a Import, options: &Options, wanted: &dyn Fn(&str) -> bool) -> Result<Observed<'a>, CompileError> {
        let size = fcdm::Size { batch: BATCH, height: options.height, width: options.width };
        let f = fcdm::network(import.config(), size);
        let name = f.name().to_owned();
        let (m, _) = fcdm_passes::run(PASSES, Module { functions: vec![f] }, &mut |_, _| {}).map_err(BuildError::from)?;
        let derived = m.function(Module::WEIGHTS).cloned();
        let function = m.function(&name).expect("no pass splits it").clone();
        let products = function.insts().iter().filter_map(|inst| product(&function, inst)).filter(|p| wanted(&p.weight)).collect();
        Ok(Observed { import, function, derived, products })
    }

    /// The products, in groups of which enough memory is there for what is kept.
    pub fn groups(&self) -> Vec<Vec<Product>> {
        let mut groups: Vec<Vec<Product>> = Vec::new();
        let (mut kept, mut inputs) = (0, 0);
        for product in &self.products {
            let (more, more_inputs) = (Inputs::bytes(product.columns), self.function.ty(product.x).bytes());
            if groups.is_empty() || kept + more > GROUP_BYTES || inputs + more_inputs > GROUP_INPUTS {
                groups.push(Vec::new());
                (kept, inputs) = (0, 0);
            }
            (kept, inputs) = (kept + more, inputs + more_inputs);
            groups.last_mut().expect("there is a group").push(product.clone());
        }
        groups
    }

    /// The inputs of the products of a group on all states, about `rows` of each, from all over the images. `progress` says no to stop it.
    pub fn look(
        &mut self,
        group: &[Product],
        states: &States,
        rows: usize,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Vec<Inputs>, CompileError> {
        let mut engine = self.engine(group, &states.floats)?;
        let (count, state) = (states.t.len(), states.x.len() / states.t.len().max(1));
        let seen = |p: &Product| Seen::new(p, rows.div_ceil(count.max(1)), self.import);
        let mut seen: Vec<Seen> = group.iter().map(seen).collect::<Result<_, _>>().map_err(BuildError::from)?;
        // Behind the inputs come what some are compared with, two for each.
        let mut next = group.len();
        let around: Vec<Option<[usize; 2]>> = group
            .iter()
            .map(|p| {
                around(p).map(|_| {
                    next += 2;
                    [next - 2, next - 1]
                })
            })
            .collect();
        let shapes: Vec<Vec<usize>> = engine.entries()[0].outputs.iter().map(|port| port.shape.clone()).collect();
        let mut outputs: Vec<Vec<f32>> = shapes.iter().map(|shape| vec![0.0; shape.iter().product()]).collect();
        for first in (0..count).step_by(BATCH) {
            // The last batch is filled up with states from before, which are looked at twice.
            let first = first.min(count.saturating_sub(BATCH));
            let index = |i: usize| (first + i).min(count - 1);
            let x: Vec<f32> = (0..BATCH).flat_map(|i| &states.x[index(i) * state..][..state]).copied().collect();
            let t: Vec<f32> = (0..BATCH).map(|i| states.t[index(i)]).collect();
            let y: Vec<i32> = (0..BATCH).map(|i| states.y[index(i)]).collect();
            let given: Vec<Input<'_>> = engine.entries()[0]
                .inputs
                .iter()
                .map(|port| match port.name.as_str() {
                    "x" => Input::F32(&x),
                    "t" => Input::F32(&t),
                    _ => Input::I32(&y),
                })
                .collect();
            let mut slots: Vec<&mut [f32]> = outputs.iter_mut().map(|v| &mut v[..]).collect();
            engine.run(0, &given, &mut slots);
            let counts: Vec<f32> = (0..BATCH).map(|i| states.weight[index(i)]).collect();
            let each = group.len().div_ceil(threads::available()).max(1);
            std::thread::scope(|scope| {
                for (part, seen) in seen.chunks_mut(each).enumerate() {
                    let (outputs, shapes, around, counts) = (&outputs, &shapes, &around, &counts);
                    scope.spawn(move || {
                        for (i, seen) in (part * each..).zip(seen) {
                            let around = around[i].map(|at| at.map(|at| &outputs[at][..]));
                            seen.take(&group[i], &outputs[i], &shapes[i], around, first, counts);
                        }
                    });
                }
            });
            if !progress((first + BATCH).min(count) as f64 / count as f64) {
                return Err(CompileError::Cancelled);
            }
        }
        Ok(seen.into_iter().map(Seen::finish).collect())
    }

    /// What runs a function whose results are the inputs of these products.
    fn engine(&self, group: &[Product], floats: &Arc<Artifact>) -> Result<Box<dyn Engine>, CompileError> {
        let f = &self.function;
        let mut b = Builder::new("observe");
        let mut copier = Copier::with_inputs(f, &mut b);
        let mut wanted: Vec<Value> = group.iter().map(|p| p.x).collect();
        wanted.extend(group.iter().flat_map(around).flatten());
        let results = wanted.iter().enumerate().map(|(i, &v)| (format!("x{i}"), copier.copy(&mut b, v))).collect();
        let entry = EntryPoint::new(b.finish(results), BATCH);
        let assembly: Assembly = assemble(vec![entry], self.derived.as_ref(), &Target::CPU).map_err(BuildError::from)?;
        // Nearly all weights are those of the network in f32, whose file is mapped.
        let known = |stored: &Stored| floats.tensor(&stored.name).is_some_and(|(e, shape, _)| e == stored.element && shape == stored.shape);
        let over = InMemory::beside(&assembly, self.import, &known).map_err(BuildError::from)?;
        let weights = Replaced { under: floats.clone(), over };
        let wrong = |e: &dyn std::fmt::Display| CompileError::from(OptionError(format!("calibrate: {e}")));
        let device = Cpu::new(threads::available()).map_err(|e| wrong(&e))?;
        device.load(assembly.plan, Arc::new(weights)).map_err(|e| wrong(&e))
    }
}

/// What the errors of a product are compared with, if it is neither the product itself nor nothing.
fn around(product: &Product) -> Option<[Value; 2]> {
    if let Compared::Residual(residual, gate) = product.compared { Some([residual, gate]) } else { None }
}

/// The mean of squares, or of squared deviations from the mean; never 0.
fn size(values: impl Iterator<Item = f32> + Clone, deviation: bool) -> f32 {
    let count = values.clone().count().max(1) as f32;
    let mean = if deviation { values.clone().sum::<f32>() / count } else { 0.0 };
    values.map(|v| (v - mean) * (v - mean)).sum::<f32>() / count + 1e-6
}

/// The product that an instruction is, if its matrix is a weight.
fn product(f: &Function, inst: &fcdm_ir::Inst) -> Option<Product> {
    if !matches!(inst.op, Op::Linear(_) | Op::Conv2d(_)) {
        return None;
    }
    let (x, w) = (inst.operands[0], f.value(inst.operands[1]));
    if w.def != Def::Weight {
        return None;
    }
    let bias = inst.operands.get(2).map(|&b| f.value(b)).filter(|b| b.def == Def::Weight).map(|b| b.name.clone());
    let window = inst.op.get::<Conv2d>().map(|conv| {
        let y = &f.ty(inst.results[0]).shape;
        let kernel = [w.ty.shape[1], w.ty.shape[2]];
        Window { kernel, stride: conv.stride, top: conv.pad[0], left: conv.pad[1], out: [y[1], y[2]] }
    });
    let joined = f.def_inst(x).is_some_and(|inst| matches!(inst.op, Op::Concat(_)));
    let users = |v: Value| f.insts().iter().filter(move |inst| inst.operands.contains(&v));
    let deviation = users(inst.results[0]).any(|user| matches!(user.op, Op::LayerNorm(_)));
    let compared = match gated(f, inst.results[0]) {
        _ if window.is_some() || joined => Compared::Product { deviation },
        Some((residual, gate)) => Compared::Residual(residual, gate),
        None => Compared::Nothing,
    };
    Some(Product { weight: w.name.clone(), bias, x, compared, window, columns: w.ty.shape[1..].iter().product() })
}

/// The residual and the gate of the sum that a value goes into before anything else is joined, if there is one: of either product of a
/// block.
fn gated(f: &Function, v: Value) -> Option<(Value, Value)> {
    let mut reached = vec![v];
    for inst in f.insts() {
        let Some(at) = inst.operands.iter().position(|o| reached.contains(o)) else { continue };
        match inst.op {
            Op::GatedAdd(_) => return (at == 1).then(|| (inst.operands[0], inst.operands[2])),
            Op::Concat(_) | Op::Add(_) => return None,
            _ => reached.extend(&inst.results),
        }
    }
    None
}

/// What is seen of a product's inputs.
struct Seen {
    inputs: Inputs,
    /// Weight and bias, if the product itself is wanted.
    product: Option<(Array2<f32>, Vec<f32>)>,
    deviation: bool,
    /// How much each of the rows that are gathered counts.
    weights: Vec<f32>,
    /// Rows of every state.
    each: usize,
    rows: Vec<f32>,
}

impl Seen {
    fn new(product: &Product, each: usize, source: &dyn WeightSource) -> Result<Seen, WeightError> {
        let (mut values, mut deviation) = (None, false);
        if let Compared::Product { deviation: own } = product.compared {
            let weight = source.load(&product.weight)?;
            let rows = weight.len() / product.columns;
            let bias = product.bias.as_ref().map_or_else(|| Ok(vec![0.0; rows]), |bias| source.load(bias))?;
            values = Some((Array2::from_shape_vec((rows, product.columns), weight).expect("whole rows"), bias));
            deviation = own;
        }
        let inputs = Inputs::new(product.columns);
        Ok(Seen { inputs, product: values, deviation, weights: Vec::new(), each, rows: Vec::new() })
    }

    /// Takes in the rows that are gathered.
    fn flush(&mut self) {
        if let Some((w, bias)) = &self.product {
            let x = ArrayView2::from_shape((self.weights.len(), w.ncols()), &self.rows).expect("whole rows");
            for (weight, y) in self.weights.iter_mut().zip(x.dot(&w.t()).rows()) {
                *weight /= size(y.iter().zip(bias).map(|(y, b)| y + b), self.deviation);
            }
        }
        self.inputs.see(&self.rows, &self.weights);
        self.rows.clear();
        self.weights.clear();
    }

    /// Rows of a batch of inputs of that shape, whose first state is number `first`, and which count so much. `around` are the residual and
    /// the gate of the block, where errors are compared with these.
    fn take(&mut self, product: &Product, x: &[f32], shape: &[usize], around: Option<[&[f32]; 2]>, first: usize, counts: &[f32]) {
        let (samples, image) = (shape[0], x.len() / shape[0]);
        for (sample, x) in x.chunks_exact(image).enumerate() {
            let pixels = product.window.map_or(image / product.columns, |w| w.out[0] * w.out[1]);
            let each = self.each.min(pixels);
            // Evenly over the image, from another pixel on for every state.
            let offset = (first + sample).wrapping_mul(0x9e37_79b9) % pixels;
            for i in 0..each {
                let pixel = (i * pixels / each + offset) % pixels;
                self.row(product, x, shape, pixel);
                let compared = around.map_or(1.0, |[residual, gate]| {
                    let channels = gate.len() / samples;
                    let [gate, residual] = [&gate[sample * channels..], &residual[(sample * pixels + pixel) * channels..]];
                    size(gate[..channels].iter().copied(), false) / size(residual[..channels].iter().copied(), false)
                });
                self.weights.push(counts[sample] * compared);
            }
        }
        if self.rows.len() >= CHUNK * product.columns {
            self.flush();
        }
    }

    fn row(&mut self, product: &Product, x: &[f32], shape: &[usize], pixel: usize) {
        let Some(w) = product.window else {
            self.rows.extend_from_slice(&x[pixel * product.columns..][..product.columns]);
            return;
        };
        let [_, height, width, channels] = shape else { unreachable!("a convolution's input is an image") };
        let (oy, ox) = (pixel / w.out[1], pixel % w.out[1]);
        for tap in 0..w.kernel[0] * w.kernel[1] {
            let y = (oy * w.stride + tap / w.kernel[1]).wrapping_sub(w.top);
            let at = (ox * w.stride + tap % w.kernel[1]).wrapping_sub(w.left);
            if y < *height && at < *width {
                self.rows.extend_from_slice(&x[(y * width + at) * channels..][..*channels]);
            } else {
                self.rows.resize(self.rows.len() + channels, 0.0);
            }
        }
    }

    fn finish(mut self) -> Inputs {
        self.flush();
        self.inputs
    }
}
