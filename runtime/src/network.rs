//! A loaded artifact as a network: the condition's tables, computed in batches for all steps of a schedule, and the
//! denoiser at whatever batch sizes the artifact has.
//!
//! Entry points are `condition(t, y) -> one row of modulation per (t, y)` and `denoise(x, modulation) -> output`;
//! the outputs of the one are, by name, the inputs of the other ([`crate::entry_points`]). Of a model that was specialised
//! ([`crate::artifact::Specialisation`]) the first is `condition(row)`, which looks the results up.
//!
//! More than a quarter of an FCDM's weights are the condition's alone. It is evaluated once for a whole schedule; then
//! their memory is handed back, and read again should it be evaluated again.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::artifact::{Artifact, ModelInfo};
use crate::check::PlanError;
use crate::engine::{Device, Engine, LoadError};
use crate::entry_points::{DenoiserEntries, EntryPoints, Section};
use crate::executor::{ExecutorError, Input, WeightStore};
use crate::memory::{Need, NoMemory, f32s};
use crate::plan::{Element, Entry, Form, Operand, Place};

mod guided;

pub use guided::{Class, Guided, check_guidance};

/// An artifact that cannot be run.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// Its plan.
    #[error("{file}: {source}")]
    Plan {
        /// The file.
        file: String,
        /// What is wrong.
        source: PlanError,
    },
    /// Its entry points do not fit each other or the model's description.
    #[error("{file}: fcdm.plan: {message}")]
    Entries {
        /// The file.
        file: String,
        /// Expected and found.
        message: String,
    },
    /// It lacks what is asked for.
    #[error("{file}: expected an artifact with {expected}, found none in it")]
    Lacks {
        /// The file.
        file: String,
        /// What is missing.
        expected: &'static str,
    },
    /// More memory than allowed.
    #[error("{file}: max-memory: decoding latents of {size} takes at least {needed} bytes, found {allowed}")]
    Memory {
        /// The file.
        file: String,
        /// Height and width of the latents.
        size: String,
        /// Bytes that the smallest way takes.
        needed: u64,
        /// Bytes that there may be.
        allowed: u64,
    },
    /// This machine.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The machine's memory.
    #[error("{file}: {source}")]
    NoMemory {
        /// The file.
        file: String,
        /// For what there is none.
        source: NoMemory,
    },
}

impl NetworkError {
    /// A plan of the file that is not loaded.
    pub(crate) fn load(file: &str, error: LoadError) -> NetworkError {
        match error {
            LoadError::Plan(source) => NetworkError::Plan { file: file.to_owned(), source },
            LoadError::Machine(ExecutorError::NoMemory(source)) => NetworkError::NoMemory { file: file.to_owned(), source },
            LoadError::Machine(error) => NetworkError::Executor(error),
        }
    }

    /// Asks for memory for something of the file.
    pub(crate) fn reserve(file: &str, need: &Need) -> Result<(), NetworkError> {
        need.reserve().map_err(|source| NetworkError::NoMemory { file: file.to_owned(), source })
    }
}

impl WeightStore for Artifact {
    fn tensor(&self, name: &str) -> Option<(Element, &[usize], &[u8])> {
        Artifact::tensor(self, name)
    }
}

/// A network ready to be evaluated.
pub struct Network {
    engine: Box<dyn Engine>,
    artifact: Arc<Artifact>,
    model: ModelInfo,
    condition: Section,
    /// Names of the tensors that no entry point but the condition uses.
    condition_weights: Vec<String>,
    /// By falling batch size.
    denoise: Vec<Section>,
    /// For every input of the denoiser: the condition's output of that name, `None` for the image.
    sources: Vec<Option<usize>>,
    /// Values per row of every output of the condition.
    widths: Vec<usize>,
    /// The addresses of an evaluation's inputs, kept for their memory.
    inputs: Vec<Input<'static>>,
    /// What fewer rows than the smallest entry point has are filled up in; taken while it is in use.
    padding: Option<Box<Padding>>,
}

/// The smallest batch of the denoiser: its states, its condition and its outputs.
struct Padding {
    states: Vec<f32>,
    condition: Condition,
    outputs: Vec<f32>,
}

/// The condition's outputs for many pairs (t, y), one table per output.
pub struct Condition {
    rows: usize,
    tables: Vec<Vec<f32>>,
}

impl Condition {
    /// Number of pairs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Moves rows towards others, `(row, its end, weight of the end)`, in a straight line: `(1 - w) row + w end`. Then drops all
    /// but the first `kept` rows.
    fn mix(&mut self, ways: &[(usize, usize, f64)], kept: usize) {
        for table in &mut self.tables {
            let width = table.len() / self.rows;
            for &(row, end, weight) in ways {
                for column in 0..width {
                    let (from, to) = (f64::from(table[row * width + column]), f64::from(table[end * width + column]));
                    table[row * width + column] = ((1.0 - weight) * from + weight * to) as f32;
                }
            }
            table.truncate(kept * width);
        }
        self.rows = kept;
    }
}

impl Network {
    /// Checks the plan of condition and denoiser, maps the weights and reserves the memory that evaluations need.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn new(artifact: impl Into<Arc<Artifact>>, device: &dyn Device) -> Result<Network, NetworkError> {
        let artifact = artifact.into();
        let weights = artifact.clone();
        Network::with_weights(artifact, weights, device)
    }

    /// As [`Network::new`], with weights in the place of the artifact's: tensors of the same names, elements and extents.
    ///
    /// # Errors
    /// As there.
    pub fn with_weights(
        artifact: Arc<Artifact>,
        weights: Arc<dyn WeightStore + Send + Sync>,
        device: &dyn Device,
    ) -> Result<Network, NetworkError> {
        let file = artifact.path().display().to_string();
        let points = EntryPoints::of(&artifact)?;
        let (Some(model), Some(found)) = (artifact.model().cloned(), points.denoiser) else {
            return Err(NetworkError::Lacks { file, expected: "a denoiser" });
        };
        let DenoiserEntries { places, condition, denoise, sources, widths } = found;
        let entries: Vec<Entry> = places.iter().map(|&i| artifact.plan().entries[i].clone()).collect();
        let plan = artifact.plan().with_entries(entries);
        let engine = device.load(plan, weights).map_err(|e| NetworkError::load(&file, e))?;
        let condition_weights = weights_of(engine.entries(), condition.entry);
        // Rows of a table are the condition's only input, labels are its second.
        let limit = engine.label_limits(condition.entry).last().copied().flatten();
        let classes = model.num_classes + usize::from(model.null_class);
        let wrong = match &model.specialisation {
            Some(held) => limit.filter(|&rows| rows != held.rows()).map(|rows| {
                let (times, classes) = (held.times.len(), held.classes.len());
                format!("`condition`: expected {} rows for {times} times and {classes} classes, found {rows}", held.rows())
            }),
            None => limit.filter(|&rows| rows < classes).map(|rows| format!("`condition`: expected {classes} classes, found {rows}")),
        };
        if let Some(message) = wrong {
            return Err(NetworkError::Entries { file, message });
        }
        let inputs = Vec::with_capacity(sources.len());
        let mut network =
            Network { engine, artifact, model, condition, condition_weights, denoise, sources, widths, inputs, padding: None };
        if network.smallest().rows > 1 {
            NetworkError::reserve(&file, &Need::of("filling up a batch").with("states, condition and outputs", network.padding_bytes()))?;
            network.padding = Some(Box::new(network.padding()));
        }
        Ok(network)
    }

    /// The entry point of the smallest batch.
    fn smallest(&self) -> Section {
        *self.denoise.last().expect("there is an entry point")
    }

    fn padding(&self) -> Padding {
        let rows = self.smallest().rows;
        let zeros = |row: usize| vec![0.0; rows * row];
        let condition = Condition { rows, tables: self.widths.iter().map(|&w| zeros(w)).collect() };
        Padding { states: zeros(self.state_len()), condition, outputs: zeros(self.output_len()) }
    }

    fn padding_bytes(&self) -> u64 {
        let row = self.widths.iter().fold((self.state_len() + self.output_len()) as u64, |sum, &w| sum.saturating_add(w as u64));
        f32s(&[self.smallest().rows]).saturating_mul(row)
    }

    /// Bytes that are held from load on: what the engine holds, and the batch that few rows are filled up in.
    pub fn held_bytes(&self) -> u64 {
        let (values, scratch) = self.engine.memory();
        let padding = if self.padding.is_some() { self.padding_bytes() } else { 0 };
        padding.saturating_add(values as u64).saturating_add(scratch as u64)
    }

    /// The model's description.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// What runs its entry points, for measuring them.
    pub fn engine(&mut self) -> &mut dyn Engine {
        &mut *self.engine
    }

    /// Values of one state, `[H,W,C]`.
    pub fn state_len(&self) -> usize {
        self.model.height * self.model.width * self.model.in_channels
    }

    /// Values of one row of the output.
    pub fn output_len(&self) -> usize {
        self.model.height * self.model.width * self.model.out_channels
    }

    /// Bytes of the condition's outputs for so many pairs of timestep and class, while they are computed.
    pub fn condition_bytes(&self, pairs: usize) -> u64 {
        let width: u64 = self.widths.iter().map(|&w| w as u64).sum();
        (pairs.checked_next_multiple_of(self.condition.rows).unwrap_or(usize::MAX) as u64).saturating_mul(4 * width)
    }

    /// Evaluates the condition for pairs of timestep and class, in batches, so that its weights are read once per
    /// batch and not once per step. They are not kept in memory afterwards.
    ///
    /// # Panics
    /// If the lengths differ, a label is not a row of the class tables, or a model that was specialised does not hold a pair
    /// ([`ModelInfo::check_times`], [`ModelInfo::check_labels`]).
    pub fn condition(&mut self, t: &[f32], y: &[i32]) -> Condition {
        assert_eq!(t.len(), y.len(), "a timestep for every label");
        let classes = self.model.num_classes + usize::from(self.model.null_class);
        assert!(y.iter().all(|&y| usize::try_from(y).is_ok_and(|y| y < classes)), "labels are rows of the class tables");
        let held = self.model.specialisation.as_ref();
        let row = |(&t, &y): (&f32, &i32)| held.map_or(y, |held| held.row(t, y).expect("the model was compiled for it") as i32);
        let labels: Vec<i32> = t.iter().zip(y).map(row).collect();
        let is_table = held.is_some();
        let Section { entry, rows } = self.condition;
        let padded = t.len().next_multiple_of(rows);
        let mut tables: Vec<Vec<f32>> = self.widths.iter().map(|w| vec![0.0; padded * w]).collect();
        let (mut t_chunk, mut chunk) = (vec![0.0f32; rows], vec![0i32; rows]);
        for first in (0..t.len()).step_by(rows) {
            let count = rows.min(t.len() - first);
            t_chunk[..count].copy_from_slice(&t[first..first + count]);
            chunk[..count].copy_from_slice(&labels[first..first + count]);
            let mut outputs: Vec<&mut [f32]> =
                tables.iter_mut().zip(&self.widths).map(|(table, w)| &mut table[first * w..(first + rows) * w]).collect();
            let inputs = [Input::F32(&t_chunk), Input::I32(&chunk)];
            self.engine.run(entry, &inputs[usize::from(is_table)..], &mut outputs);
        }
        self.release_condition();
        for (table, w) in tables.iter_mut().zip(&self.widths) {
            table.truncate(t.len() * w);
            table.shrink_to_fit();
        }
        Condition { rows: t.len(), tables }
    }

    /// Hands the memory of weights that only the condition uses back to the system, which reads them again when they are
    /// next used.
    pub(crate) fn release_condition(&self) {
        self.artifact.hand_back(self.condition_weights.iter().map(String::as_str));
    }

    /// Evaluates the denoiser on `x`, any number of rows `[H,W,C]`; row i takes row `first + i` of the condition. Allocates nothing.
    ///
    /// # Panics
    /// If `x` or `out` is not a whole number of rows, or the condition has too few.
    pub fn denoise(&mut self, x: &[f32], condition: &Condition, first: usize, out: &mut [f32]) {
        let (state, output) = (self.state_len(), self.output_len());
        let rows = x.len() / state;
        assert_eq!((x.len(), out.len()), (rows * state, rows * output), "whole rows");
        assert!(first + rows <= condition.rows, "a row of the condition for every row of x");
        let mut done = 0;
        while done < rows {
            let left = rows - done;
            let fitting = self.denoise.iter().find(|s| s.rows <= left);
            let at = first + done;
            match fitting.copied() {
                Some(section) => {
                    let n = section.rows;
                    let x = &x[done * state..(done + n) * state];
                    self.run(section, x, condition, at, &mut out[done * output..(done + n) * output]);
                    done += n;
                }
                None => {
                    self.run_padded(&x[done * state..], condition, at, &mut out[done * output..]);
                    done = rows;
                }
            }
        }
    }

    fn run(&mut self, section: Section, x: &[f32], condition: &Condition, at: usize, out: &mut [f32]) {
        let mut inputs = emptied(std::mem::take(&mut self.inputs));
        let table = |i: usize| &condition.tables[i][at * self.widths[i]..(at + section.rows) * self.widths[i]];
        inputs.extend(self.sources.iter().map(|s| Input::F32(s.map_or(x, table))));
        self.engine.run(section.entry, &inputs, &mut [out]);
        self.inputs = emptied(inputs);
    }

    /// Fewer rows than the smallest entry point has: the last is repeated and the surplus dropped.
    fn run_padded(&mut self, x: &[f32], condition: &Condition, at: usize, out: &mut [f32]) {
        let section = self.smallest();
        let mut padding = self.padding.take().expect("no batch is smaller than one row");
        let rows = x.len() / self.state_len();
        repeat(x, rows, &mut padding.states, section.rows);
        let tables = condition.tables.iter().zip(&mut padding.condition.tables).zip(&self.widths);
        tables.for_each(|((from, to), &w)| repeat(&from[at * w..], rows, to, section.rows));
        self.run(section, &padding.states, &padding.condition, 0, &mut padding.outputs);
        out.copy_from_slice(&padding.outputs[..out.len()]);
        self.padding = Some(padding);
    }
}

/// A vector without values, in the memory of one whose values lived for another time: collecting what no value is left of makes
/// use of the vector that it came from.
fn emptied<'a>(mut inputs: Vec<Input<'_>>) -> Vec<Input<'a>> {
    inputs.clear();
    inputs.into_iter().map(|_| unreachable!("it is empty")).collect()
}

/// The first `rows` rows of `from`, and then the last of them again and again until there are `wanted`.
fn repeat(from: &[f32], rows: usize, to: &mut [f32], wanted: usize) {
    let row = to.len() / wanted;
    for (i, to) in to.chunks_exact_mut(row.max(1)).enumerate() {
        to.copy_from_slice(&from[i.min(rows - 1) * row..][..row]);
    }
}

/// Names of the tensors that an entry of a plan, which was checked, uses and no other does.
fn weights_of(plan: &[Entry], entry: usize) -> Vec<String> {
    let used = |e: &Entry| -> BTreeSet<String> { e.steps.iter().flat_map(|s| &s.inputs).flat_map(tensors_of).collect() };
    let others: BTreeSet<String> = plan.iter().enumerate().filter(|(i, _)| *i != entry).flat_map(|(_, e)| used(e)).collect();
    used(&plan[entry]).difference(&others).cloned().collect()
}

/// Names of the tensors that an operand is made of, if it is a weight: an encoded one has a tensor for each of its parts.
fn tensors_of(operand: &Operand) -> Vec<String> {
    let Place::Weight(name) = &operand.at else { return Vec::new() };
    match (operand.form, operand.matrix()) {
        (Form::Encoded(encoding), Some(matrix)) => encoding.parts(matrix).iter().map(|part| format!("{name}{}", part.suffix)).collect(),
        _ => vec![name.clone()],
    }
}
