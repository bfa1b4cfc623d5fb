//! From optimised functions to what an artifact holds: the plan, the list of tensors, the values of each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::flow::Copier;
use fcdm_ir::{Builder, Def, Function, Module};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::plan::{self, Element, Form, Plan};
use fcdm_runtime::threads;
use thiserror::Error;

use crate::checker::{CheckErrors, check};
use crate::lower::{Kept, LowerError, lower};
use crate::prepared::Prepared;
use crate::schedule::schedule;
use crate::target::Target;
use crate::weights::{Order, Stored, WeightError, WeightSource, WeightUse, pieces};

/// A function at one batch size.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    /// The function; its name is the entry's.
    pub function: Function,
    /// Batch size.
    pub rows: usize,
    /// Inputs that are kept from one run to the next, and what they become.
    pub kept: Vec<Kept>,
}

impl EntryPoint {
    /// One that keeps nothing.
    pub fn new(function: Function, rows: usize) -> EntryPoint {
        EntryPoint { function, rows, kept: Vec::new() }
    }
}

/// Functions that cannot become a plan.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// An instruction that the runtime has no kernel for.
    #[error("{entry}: {source}")]
    Lower {
        /// The function.
        entry: String,
        /// Why.
        source: LowerError,
    },
    /// The planner placed buffers wrongly: a bug, found before it could do harm.
    #[error("{entry}: the plan is wrong: {source}")]
    Check {
        /// The function.
        entry: String,
        /// The rules that do not hold.
        source: CheckErrors,
    },
    /// Two functions disagree on a weight.
    #[error("weight `{0}` has different types in different functions")]
    WeightType(String),
}

/// Plan, tensors and text of an artifact; the tensors' bytes are made one at a time by [`Assembly::pieces`].
pub struct Assembly {
    /// The plan.
    pub plan: Plan,
    /// What the artifact holds, by the name of its first tensor.
    pub weights: BTreeMap<String, WeightUse>,
    /// The functions as text: `@weights`, then every entry as `@name.rows`.
    pub ir: String,
    /// Tensors that are not made of their weights alone.
    pub prepared: Prepared,
    /// Parts that were made beside others and are to be taken next.
    made: Mutex<BTreeMap<(String, usize), Vec<u8>>>,
    derived: Option<Function>,
}

/// Pieces of a weight that are made at once, at the most, on as many threads: memory holds them.
pub const TOGETHER: usize = 4;

/// Lowers, orders, places and checks entry points, whose weights say how they are stored. `derived` is the function that computes derived
/// weights, if there is one.
///
/// # Errors
/// See [`AssembleError`].
pub fn assemble(entries: Vec<EntryPoint>, derived: Option<&Function>, target: &Target) -> Result<Assembly, AssembleError> {
    assemble_some(entries, derived, target, &mut |_| true)
}

/// As [`assemble`], with the entry points of which `keep` says yes when it sees where they were placed.
///
/// # Errors
/// As there.
pub fn assemble_some(
    entries: Vec<EntryPoint>,
    derived: Option<&Function>,
    target: &Target,
    keep: &mut dyn FnMut(&plan::Entry) -> bool,
) -> Result<Assembly, AssembleError> {
    let mut weights: BTreeMap<String, WeightUse> = BTreeMap::new();
    let (mut placed, mut kept) = (Vec::new(), Vec::new());
    for e in entries {
        let entry = e.function.name().to_owned();
        let program = lower(&e.function, &e.kept, target).map_err(|source| AssembleError::Lower { entry: entry.clone(), source })?;
        let (order, place) = schedule(&program, &entry, e.rows);
        check(&program, &order, &place).map_err(|source| AssembleError::Check { entry, source })?;
        if !keep(&place) {
            continue;
        }
        placed.push(place);
        kept.push(e);
        for usage in program.weights {
            let known = weights.entry(usage.key()).or_insert_with(|| usage.clone());
            if *known != usage {
                return Err(AssembleError::WeightType(usage.weight));
            }
        }
    }
    let stored = stored_otherwise(weights.values());
    let stated = |f: Function| f.stored(|weight| stored.get(weight).map(|e| e.name().to_owned()));
    let renamed = |e: EntryPoint| {
        let name = format!("{}.{}", e.function.name(), e.rows);
        stated(e.function.renamed(&name))
    };
    let functions = derived.cloned().map(stated).into_iter().chain(kept.into_iter().map(renamed)).collect();
    let ir = Module { functions }.to_string();
    // Whole numbers promise the same bytes everywhere, which is worth little if what surrounds them differs.
    let reproducible = weights.values().any(|usage| matches!(usage.form, Form::Encoded(encoding) if encoding.has_integers()));
    let plan = Plan { version: plan::VERSION, reproducible, entries: placed };
    Ok(Assembly { plan, weights, ir, prepared: Prepared::default(), made: Mutex::default(), derived: derived.cloned() })
}

/// The encodings of weights that are stored in another precision than their type's, by the weight's name.
fn stored_otherwise<'a>(weights: impl Iterator<Item = &'a WeightUse>) -> BTreeMap<String, Encoding> {
    let encoded = |usage: &WeightUse| match usage.form {
        Form::Encoded(encoding) if encoding != Encoding::F32 => Some((usage.weight.clone(), encoding)),
        Form::Dense(Element::F16) => Some((usage.weight.clone(), Encoding::F16)),
        Form::Encoded(_) | Form::Dense(_) => None,
    };
    weights.filter_map(encoded).collect()
}

impl Assembly {
    /// Every tensor of the artifact, with the weight that it is a part of.
    pub fn tensors(&self) -> impl Iterator<Item = (Stored, &WeightUse)> {
        self.weights.values().flat_map(|usage| usage.stored().into_iter().map(move |stored| (stored, usage)))
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// When a weight that it is made of cannot be had, or has a number that the encoding has not.
    pub fn bytes(&self, usage: &WeightUse, stored: &Stored, source: &dyn WeightSource) -> Result<Vec<u8>, WeightError> {
        let mut bytes = Vec::with_capacity(stored.bytes());
        self.pieces(usage, stored, source, &mut |piece| {
            bytes.extend(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Makes the bytes of a tensor as the artifact holds it and hands them to `take` piece by piece, in order: memory does
    /// not hold a large weight.
    ///
    /// # Errors
    /// When a weight that it is made of cannot be had; and what `take` returns.
    pub fn pieces<E: From<WeightError>>(
        &self,
        usage: &WeightUse,
        stored: &Stored,
        source: &dyn WeightSource,
        take: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut missing = stored.bytes();
        self.unpadded(usage, stored.part, source, &mut |piece: Vec<u8>| {
            missing -= piece.len();
            take(piece)
        })?;
        if missing > 0 { take(vec![0; missing]) } else { Ok(()) }
    }

    fn unpadded<E: From<WeightError>>(
        &self,
        usage: &WeightUse,
        part: usize,
        source: &dyn WeightSource,
        take: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(bytes) = self.prepared.part(&usage.key(), part) {
            return take(bytes.map_err(|e| WeightError::Read(format!("{}: what calibration made of it: {e}", usage.weight)))?);
        }
        // Parts are made together: the first tensor that asks leaves the others for those that follow.
        let known = |part: usize| (usage.key(), part);
        if let Some(bytes) = self.made.lock().expect("nobody panics with it").remove(&known(part)) {
            return take(bytes);
        }
        let mut others: BTreeMap<(String, usize), Vec<u8>> = BTreeMap::new();
        self.all_parts::<E>(usage, source, &mut |parts| {
            for (i, bytes) in parts.into_iter().enumerate() {
                if i == part {
                    take(bytes)?;
                } else if part == 0 {
                    others.entry(known(i)).or_default().extend(bytes);
                }
            }
            Ok(())
        })?;
        self.made.lock().expect("nobody panics with it").extend(others);
        Ok(())
    }

    /// All parts of a weight, piece by piece.
    fn all_parts<E: From<WeightError>>(
        &self,
        usage: &WeightUse,
        source: &dyn WeightSource,
        take: &mut dyn FnMut(Vec<Vec<u8>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let added = |values: Vec<f32>| self.prepared.added(&usage.weight, values);
        if let Some((f, v)) = self.derived.as_ref().and_then(|f| Some((f, f.result(&usage.weight)?))) {
            let mut b = Builder::new("one");
            let result = Copier::new(f).copy(&mut b, v);
            let values = evaluate_weights(&b.finish(vec![(usage.weight.clone(), result)]), source)?;
            return take(usage.encode_all(added(values))?);
        }
        let pieces = usage.pieces();
        if let [_] = pieces[..] {
            return take(usage.encode_all(added(source.load(&usage.weight)?))?);
        }
        // A panel of what is shuffled takes rows from all over the weight, which is therefore read whole.
        let whole = (usage.order != Order::Given).then(|| load_whole(source, &usage.weight, &usage.ty.shape)).transpose()?;
        let values = |rows: &Range<usize>| match &whole {
            Some(whole) => Ok(usage.order.rows(whole, usage.ty.shape[0], rows.clone())),
            None => source.load_rows(&usage.weight, rows.clone()),
        };
        for some in pieces.chunks(threads::available().clamp(1, TOGETHER)) {
            let given = some.iter().map(|rows| Ok((usage.piece(rows), values(rows)?))).collect::<Result<Vec<_>, WeightError>>()?;
            let made: Vec<Result<Vec<Vec<u8>>, WeightError>> = std::thread::scope(|scope| {
                let encode = |(usage, values): (WeightUse, Vec<f32>)| scope.spawn(move || usage.encode_all(values));
                let work: Vec<_> = given.into_iter().map(encode).collect();
                work.into_iter().map(|made| made.join().expect("encoding does not panic")).collect()
            });
            made.into_iter().try_for_each(|parts| take(parts?))?;
        }
        Ok(())
    }
}

/// A weight by its pieces: sources take more than the values of what they load.
fn load_whole(source: &dyn WeightSource, weight: &str, shape: &[usize]) -> Result<Vec<f32>, WeightError> {
    let mut values = Vec::with_capacity(shape.iter().product());
    for rows in pieces(shape) {
        values.extend(source.load_rows(weight, rows)?);
    }
    Ok(values)
}

/// Evaluates a function of weights alone, with one result.
fn evaluate_weights(f: &Function, source: &dyn WeightSource) -> Result<Vec<f32>, WeightError> {
    let mut loaded: BTreeMap<&str, Tensor> = BTreeMap::new();
    for (_, data) in f.weights() {
        debug_assert_eq!(data.def, Def::Weight);
        let values = load_whole(source, &data.name, &data.ty.shape)?.into_iter().map(f64::from).collect();
        let tensor = Tensor::from_shape_vec(data.ty.shape.clone(), values).map_err(|e| WeightError::Read(format!("{}: {e}", data.name)))?;
        loaded.insert(&data.name, tensor);
    }
    let results = evaluate(f, &[], &mut |name| loaded.remove(name)).map_err(|e| WeightError::Read(e.to_string()))?;
    Ok(results[0].iter().map(|&v| v as f32).collect())
}
