//! Specialisation: all that timestep MLPs, class tables and adaLN projections make of a schedule and some classes is a table, a row for
//! every time and class, which an artifact may hold in the place of their weights where it is smaller.
//!
//! `@condition(t, y)` becomes `@condition(row)`, a look-up for each of its results. Their values come from weights in f32, whatever the
//! artifact would have stored those as, and by the function that would have run later: a table in f32 changes no bit of a model in f32. The
//! plan that makes them is reproducible, so that equal weights give equal files on every machine.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fcdm_compiler::assemble::{EntryPoint, assemble};
use fcdm_compiler::compiled::{BuildError, Compiled};
use fcdm_compiler::in_memory::InMemory;
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_ir::ops::Embedding;
use fcdm_ir::{Builder, DType, Function, Type};
use fcdm_runtime::artifact::{ModelInfo, Specialisation};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::engine::{Cpu, Device, LoadError};
use fcdm_runtime::entry_name::EntryName;
use fcdm_runtime::executor::{ExecutorError, Input};
use fcdm_runtime::generate::labels;
use fcdm_runtime::memory::{Need, f32s};
use fcdm_runtime::sampler::{Layout, Method, Sampler, SamplerKind, Solver};
use fcdm_runtime::schedule::Spacing;
use fcdm_runtime::threads;
use serde_json::{Value, json};

use super::{CompileError, Observer, Phase};
use crate::options::{OptionError, Options, Specialise};
use crate::types::WeightType;

/// What stands before the name of a result of the condition in the name of its table.
const PREFIX: &str = "condition.";

/// The condition as a table and as the weights that make it.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The schedule and the classes.
    pub specialisation: Specialisation,
    /// Bytes of the table.
    pub table_bytes: u64,
    /// Bytes of the weights of the condition, as the artifact would store them.
    pub weight_bytes: u64,
    /// What makes the table.
    makes: EntryPoint,
    /// What looks it up.
    looks_up: EntryPoint,
    derived: Option<Function>,
}

impl Condition {
    /// What options ask for, held against the condition that is there, which makes way for the table if that is smaller.
    ///
    /// # Errors
    /// If the model has no such sampler, steps or classes.
    pub(super) fn new(
        asked: &Specialise,
        model: &ModelInfo,
        options: &Options,
        compiled: &mut Compiled,
    ) -> Result<Condition, CompileError> {
        let specialisation = specialisation(asked, model).map_err(|e| OptionError(e.to_string()))?;
        let rows = specialisation.rows();
        if i32::try_from(rows).is_err() {
            return Err(OptionError(format!("steps and classes: expected a table of 2147483647 rows at most, found {rows}")).into());
        }
        let derived = compiled.derived();
        let is_condition = |e: &&mut EntryPoint| e.function.name() == EntryName::Condition.to_string();
        let entry = compiled.entries.iter_mut().find(is_condition).expect("an FCDM has a condition");
        let looks_up = EntryPoint::new(look_up(&entry.function, entry.rows, rows, options), entry.rows);
        let bytes = |entry: &EntryPoint| -> Result<u64, BuildError> {
            let assembly = assemble(vec![entry.clone()], None, &options.target())?;
            Ok(assembly.tensors().map(|(stored, _)| stored.bytes() as u64).sum())
        };
        let (table_bytes, weight_bytes) = (bytes(&looks_up)?, bytes(entry)?);
        let makes = EntryPoint::new(entry.function.clone().stored(|_| None), entry.rows);
        let condition = Condition { specialisation, table_bytes, weight_bytes, makes, looks_up, derived };
        if condition.is_table() {
            *entry = condition.looks_up.clone();
        }
        Ok(condition)
    }

    /// The condition in both ways.
    pub(super) fn functions(&self) -> [&Function; 2] {
        [&self.makes.function, &self.looks_up.function]
    }

    /// Whether the artifact has the table.
    pub fn is_table(&self) -> bool {
        self.table_bytes < self.weight_bytes
    }

    /// For reports: how many times and classes, both sizes, and whether the table was taken.
    pub fn to_json(&self) -> Value {
        let Specialisation { times, classes, .. } = &self.specialisation;
        json!({ "times": times.len(), "classes": classes.len(), "table_bytes": self.table_bytes, "weight_bytes": self.weight_bytes,
                "table": self.is_table() })
    }

    /// Makes the table.
    ///
    /// # Errors
    /// When a weight cannot be had, or the machine has not the memory.
    pub(super) fn table(&self, options: &Options, weights: &dyn WeightSource, observer: &mut dyn Observer) -> Result<Table, CompileError> {
        let mut assembly = assemble(vec![self.makes.clone()], self.derived.as_ref(), &options.target()).map_err(BuildError::from)?;
        assembly.plan.reproducible = true;
        let (batch, rows) = (self.makes.rows, self.specialisation.rows().next_multiple_of(self.makes.rows));
        let widths: Vec<usize> = assembly.plan.entries[0].outputs.iter().map(|port| port.shape[1]).collect();
        Need::of("the condition as a table")
            .with("its weights", assembly.tensors().map(|(stored, _)| stored.bytes() as u64).sum())
            .with("the table", f32s(&[rows, widths.iter().sum()]))
            .reserve()
            .map_err(|e| LoadError::Machine(ExecutorError::NoMemory(e)))?;
        let names: Vec<String> = assembly.plan.entries[0].outputs.iter().map(|port| format!("{PREFIX}{}", port.name)).collect();
        let tensors = InMemory::new(&assembly, weights).map_err(BuildError::from)?;
        let cpu = Cpu::new(threads::available()).map_err(LoadError::from)?;
        let mut engine = cpu.load(assembly.plan, Arc::new(tensors))?;
        let mut values: Vec<Vec<f32>> = widths.iter().map(|width| vec![0.0; rows * width]).collect();
        let Specialisation { times, classes, .. } = &self.specialisation;
        let mut pairs = classes.iter().flat_map(|&class| times.iter().map(move |&t| (t, class as i32)));
        let row_bytes = f32s(&[widths.iter().sum()]);
        for first in (0..rows).step_by(batch) {
            if !observer.progress(Phase::Specialising, first as u64 * row_bytes, rows as u64 * row_bytes) {
                return Err(CompileError::Cancelled);
            }
            let (mut t, mut y): (Vec<f32>, Vec<i32>) = pairs.by_ref().take(batch).unzip();
            t.resize(batch, times[0]);
            y.resize(batch, classes[0] as i32);
            let mut outputs: Vec<&mut [f32]> =
                values.iter_mut().zip(&widths).map(|(v, w)| &mut v[first * w..(first + batch) * w]).collect();
            engine.run(0, &[Input::F32(&t), Input::I32(&y)], &mut outputs);
        }
        let count = self.specialisation.rows();
        values.iter_mut().zip(&widths).for_each(|(v, width)| v.truncate(count * width));
        Ok(Table { rows: count, values: names.into_iter().zip(values).collect() })
    }
}

/// The values of a condition, by the names of its tables.
pub(super) struct Table {
    rows: usize,
    values: BTreeMap<String, Vec<f32>>,
}

impl WeightSource for Table {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        self.load_rows(name, 0..self.rows)
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let values = self.values.get(name).ok_or_else(|| WeightError::Missing(name.to_owned()))?;
        let width = values.len() / self.rows;
        Ok(values[rows.start * width..rows.end * width].to_vec())
    }
}

/// What is asked for, as the artifact says it.
fn specialisation(asked: &Specialise, model: &ModelInfo) -> Result<Specialisation, fcdm_runtime::request::RequestError> {
    let method = asked.sampler.method(model)?;
    let layout = Layout { states: 1, positions: 1, channels: model.in_channels, out_channels: model.out_channels };
    let mut times: Vec<f32> = Sampler::new(method, layout)?.evaluations().into_iter().map(|t| t as f32).collect();
    // The end of a step of Heun's rule is the beginning of the next.
    times.dedup();
    let all = |names: &[String]| matches!(names, [name] if name == "all" && !model.class_names.contains(name));
    let mut classes: Vec<usize> = match &asked.classes[..] {
        names if all(names) => (0..model.num_classes).collect(),
        names => labels(names, model)?.into_iter().map(|label| label as usize).collect(),
    };
    classes.extend(model.null_class.then_some(model.num_classes));
    classes.sort_unstable();
    classes.dedup();
    let (sampler, steps) = named(method);
    Ok(Specialisation { sampler, steps, times, classes })
}

/// The sampler, and its steps with their spacing, whatever the sampler would take a bare number for.
fn named(method: Method) -> (SamplerKind, String) {
    let spaced = |spacing| match spacing {
        Spacing::Even(n) => format!("even{n}"),
        Spacing::Strided(_) | Spacing::LogSnr(_) => spacing.to_string(),
    };
    match method {
        Method::Ddim { spacing, .. } => (SamplerKind::Ddim, spaced(spacing)),
        Method::Ddpm { spacing } => (SamplerKind::Ddpm, spaced(spacing)),
        Method::DpmSolver { spacing } => (SamplerKind::DpmSolver, spaced(spacing)),
        Method::UniPc { spacing } => (SamplerKind::UniPc, spaced(spacing)),
        Method::Ode { steps, solver: Solver::Euler } => (SamplerKind::Euler, steps.to_string()),
        Method::Ode { steps, solver: Solver::Heun } => (SamplerKind::Heun, steps.to_string()),
        Method::Sde { steps, .. } => (SamplerKind::Sde, steps.to_string()),
    }
}

/// The condition as a look-up, for `rows` rows at once, in a table of `table_rows`. What rules say of a table counts; else it is f32 where all
/// weights are, i8 where they are of fewer bits than that, which would make it far less exact than that does, and f16 otherwise.
fn look_up(condition: &Function, rows: usize, table_rows: usize, options: &Options) -> Function {
    let types = &options.types;
    let is_f32 = std::iter::once(types.default).chain(types.rules.iter().map(|rule| rule.ty)).all(|ty| ty == WeightType::F32);
    let usual = match types.default.encoding {
        _ if is_f32 => Encoding::F32,
        Encoding::I4 | Encoding::I6 => Encoding::I8,
        _ => Encoding::F16,
    };
    let encoding = |name: &str| types.rules.iter().find(|rule| rule.matches(name)).map_or(usual, |rule| rule.ty.encoding);
    let mut b = Builder::new(condition.name());
    let row = b.input("row", Type::new(DType::I32, [rows]));
    let mut result = |name: &String, width: usize| {
        let table = format!("{PREFIX}{name}");
        let weight = b.weight(&table, Type::f32([table_rows, width]));
        b.store(weight, Some(encoding(&table)).filter(|e| *e != Encoding::F32).map(|e| e.name().to_owned()));
        (name.clone(), b.one(Embedding {}, &[weight, row]))
    };
    let results = condition.results().iter().map(|(name, v)| result(name, condition.ty(*v).shape[1])).collect();
    b.finish(results)
}
