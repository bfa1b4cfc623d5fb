//! A type for every layer by what it costs in pictures: of each layer the effect of rounding it to few bits on what the network generates is
//! measured ([`effects`]), and the bytes there are go where they are worth most ([`budget`]).

mod budget;
mod effects;
mod gains;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use fcdm_compiler::compiled::BuildError;
use fcdm_compiler::rounding::{Feedback, Inputs, round};
use fcdm_compiler::weights::{Order, WeightSource, WeightUse, matrix};
use fcdm_runtime::artifact::{Artifact, WriteError};
use fcdm_runtime::encoding::{Encoding, Matrix};
use fcdm_runtime::plan::{self, ALIGN};
use fcdm_runtime::threads;
use serde_json::{Value, json};

use crate::calibrate::Calibration;
use crate::calibrate::observe::{Observed, Product};
use crate::calibrate::records::Records;
use crate::calibrate::states::{States, floats, in_floats};
use crate::compile::{CompileError, Networks, Observer, Phase, planned};
use crate::fcdm::Import;
use crate::options::{OptionError, Options};
use crate::role::{LayerKind, Region, Role};
use crate::types::{Types, WeightType};
use budget::{Form, Mixed, Mixes};
use effects::Course;
pub(crate) use verify::verify;

/// What a mix is chosen for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// What it is to hold.
    pub goal: Goal,
    /// Whether images are multiplied as codes wherever weights are whole numbers.
    pub codes: bool,
}

/// What a mix is to hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// As exact as a file of so many bytes can be.
    Bytes(u64),
    /// As small as a model can be that is that close, dB: the signal-to-noise ratio of what is generated, or the PSNR of pictures if that is
    /// pictures.
    Decibels(f64),
}

/// What a layer may have, the smallest first.
const FORMS: [Encoding; 4] = [Encoding::I4, Encoding::I6, Encoding::I8, Encoding::F16];

/// Multiply-accumulates that measuring may take, about: some minutes of two cores.
const BUDGET: u64 = 20_000_000_000_000;

/// The error of `i8` from that of `i6`, as the square of the width of a step: it has 255 numbers where `i6` has 63. Measured it is that within
/// a tenth for most layers.
const I8_OF_I6: f64 = (31.0 / 127.0) * (31.0 / 127.0);

/// Forms that are measured.
const MEASURED: usize = 3;

/// A layer, what each of [`FORMS`] takes and what it does: the mean square of the error of what is generated.
#[derive(Clone, Debug)]
struct Layer {
    weight: String,
    forms: Vec<Form>,
}

/// What was measured of all layers.
pub(crate) struct Effects {
    layers: Vec<Layer>,
    scale: Scale,
    floats: Option<Arc<Artifact>>,
}

/// How errors are told: in dB below what.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// The mean square of what is generated.
    power: f64,
    /// Whether that is pictures, of -1 to 1 and shown in 8 bits.
    pictures: bool,
}

/// The step of pictures of 8 bits, for states of -1 to 1.
const STEP: f64 = 2.0 / 255.0;

/// Where, in steps, rounding goes over from what it does to small errors to what it does to great ones.
const GREAT: f64 = 0.4;

/// The mean square of what pictures of 8 bits differ by whose states differ by a normal error of that mean square: a small one moves a value
/// to the next with a probability of its size over a step, `E|e| step`; a great one has the rounding of both on top, `step^2 / 6`.
fn shown(error: f64) -> f64 {
    let steps = error.max(0.0).sqrt() / STEP;
    let shown = if steps < GREAT { (2.0 / std::f64::consts::PI).sqrt() * steps } else { steps * steps + 1.0 / 6.0 };
    shown * STEP * STEP
}

/// The inverse of [`shown`].
fn before_shown(difference: f64) -> f64 {
    let squares = difference / (STEP * STEP);
    let small = squares / (2.0 / std::f64::consts::PI).sqrt();
    STEP * STEP * if small < GREAT { small * small } else { (squares - 1.0 / 6.0).max(GREAT * GREAT) }
}

impl Scale {
    fn decibels(&self, error: f64) -> f64 {
        let (signal, noise) = if self.pictures { (4.0, shown(error)) } else { (self.power, error) };
        10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10()
    }

    /// The mean square of an error of so many dB.
    fn error(&self, decibels: f64) -> f64 {
        let of = |signal: f64| signal / 10f64.powf(decibels / 10.0);
        if self.pictures { before_shown(of(4.0)) } else { of(self.power) }
    }
}

/// A choice.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The type of every layer that was measured.
    pub types: BTreeMap<String, WeightType>,
    /// How close what is generated will be, dB.
    pub predicted: f64,
    /// Of each layer: bytes, and how close it would be if that layer alone were rounded, dB.
    layers: Vec<(String, u64, f64)>,
    unit: &'static str,
}

impl Chosen {
    /// Bytes of these layers.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|(_, bytes, _)| bytes).sum()
    }

    /// For the artifact's report.
    pub(crate) fn to_json(&self) -> Value {
        let rounded = |v: f64| (v * 100.0).round() / 100.0;
        let layer = |(weight, bytes, alone): &(String, u64, f64)| json!({ "weight": weight, "type": self.types[weight].name(), "bytes": bytes, "db": rounded(*alone) });
        let layers: Vec<Value> = self.layers.iter().map(layer).collect();
        json!({ "unit": self.unit, "predicted_db": rounded(self.predicted), "layers": layers })
    }
}

/// Whether a weight is one that a type is chosen for: matrices, convolutions and tables, but for those that make the times that the network
/// sees, of which it has few and trusts all. A rule that is about it has chosen already.
fn is_open(weight: &str, role: Option<Role>, types: &Types) -> bool {
    let Some(role) = role else { return false };
    let product = matches!(role.layer, LayerKind::Linear | LayerKind::Convolution | LayerKind::Table);
    product && role.region != Region::Timestep && !types.rules.iter().any(|rule| rule.matches(weight))
}

/// Measures the effect of every layer on the network's own trajectories, of which `held` says that the artifact has it. What records
/// have is taken.
///
/// # Errors
/// When the network generates what is not finite, or the machine has not the memory.
pub(crate) fn effects(
    import: &Import,
    options: &Options,
    states: &States,
    calibration: Calibration,
    held: &dyn Fn(&str) -> bool,
    records: &Records,
    observer: &mut dyn Observer,
) -> Result<Effects, CompileError> {
    let assembly = planned(Networks { fcdm: Some(import), ..Networks::default() }, &in_floats(options))?;
    let is_matrix = |usage: &&WeightUse| {
        let weight = &usage.weight;
        matches!(usage.form, plan::Form::Encoded(_)) && held(weight) && is_open(weight, import.role(weight), &options.types)
    };
    let uses: BTreeMap<String, WeightUse> = assembly.weights.values().filter(is_matrix).map(|u| (u.weight.clone(), u.clone())).collect();
    let mut observed = Observed::new(import, options, &|weight| uses.contains_key(weight))?;
    let course = Course::new(import, states.floats.clone(), assembly, MEASURED * uses.len(), BUDGET, observer)?;
    let mut measuring = Measuring { import, course: &course, records, observer, done: 0, total: uses.len() as u64 };
    let mut found: BTreeMap<String, Measured> =
        uses.keys().filter_map(|weight| Some((weight.clone(), measuring.recorded(weight)?))).collect();
    measuring.go_on(found.len() as u64);
    let groups = observed.groups();
    let products: Vec<String> = groups.iter().flatten().map(|product| product.weight.clone()).collect();
    let tables: Vec<String> = uses.keys().filter(|weight| !products.contains(weight)).cloned().collect();
    for group in groups {
        let group: Vec<Product> = group.into_iter().filter(|product| !found.contains_key(&product.weight)).collect();
        if group.is_empty() {
            continue;
        }
        let inputs = observed.look(&group, states, calibration.rows, &mut |_| measuring.go_on(0))?;
        for (product, inputs) in group.iter().zip(inputs) {
            let measured = measuring.layer(&uses[&product.weight], Some((product.bias.as_deref(), inputs)))?;
            found.insert(product.weight.clone(), measured);
        }
    }
    for weight in &tables {
        if !found.contains_key(weight) {
            found.insert(weight.clone(), measuring.layer(&uses[weight], None)?);
        }
    }
    let layers = products.into_iter().chain(tables).map(|weight| {
        let (m, measured) = (matrix(&uses[&weight].ty.shape), found[&weight]);
        Layer::new(weight, m, measured)
    });
    let layers: Vec<Layer> = layers.collect();
    let scale = Scale { power: course.power, pictures: course.is_of_pictures() };
    Ok(Effects { layers, scale, floats: Some(course.floats) })
}

/// Errors of what is generated with one layer as `i4`, as `i6`, as `f16`: mean squares, infinite where it cannot be stored so.
type Measured = [f64; MEASURED];

impl Layer {
    fn new(weight: String, m: Matrix, [i4, i6, f16]: Measured) -> Layer {
        let i6 = i6.min(i4);
        let i8 = i6 * I8_OF_I6;
        let forms = FORMS.iter().zip([i4, i6, i8, f16.min(i8)]);
        Layer { weight, forms: forms.map(|(encoding, error)| Form { bytes: encoding.bytes(m, ALIGN) as u64, error }).collect() }
    }
}

/// The work, as far as it is.
struct Measuring<'a> {
    import: &'a Import,
    course: &'a Course,
    records: &'a Records,
    observer: &'a mut dyn Observer,
    done: u64,
    total: u64,
}

impl Measuring<'_> {
    fn go_on(&mut self, more: u64) -> bool {
        self.done += more;
        self.observer.progress(Phase::Measuring, self.done, self.total)
    }

    /// What the record of a layer is called: the course is as long as all of them let it be.
    fn named(&self, weight: &str) -> String {
        format!("{weight} alone, of {}", self.total)
    }

    /// What was measured of a layer before.
    fn recorded(&self, weight: &str) -> Option<Measured> {
        let [record] = &self.records.get(&self.named(weight), &[size_of::<Measured>()])?[..] else { return None };
        let bytes = record.read().ok()?;
        let mut values = bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes")));
        Some(std::array::from_fn(|_| values.next().expect("the record's length was asked for")))
    }

    /// Of a weight, with what its product sees, if it has one, and the bias behind.
    fn layer(&mut self, usage: &WeightUse, seen: Option<(Option<&str>, Inputs)>) -> Result<Measured, CompileError> {
        let m = matrix(&usage.ty.shape);
        let values = usage.order.rows(&self.import.load(&usage.weight).map_err(BuildError::from)?, m.rows, 0..m.rows);
        let seen =
            seen.map(|(bias, inputs)| (bias.filter(|_| usage.order == Order::Given), inputs.mean(), inputs.feedback(threads::available())));
        let mut effect = |encoding: Encoding| -> Result<f64, CompileError> {
            if !self.go_on(0) {
                return Err(CompileError::Cancelled);
            }
            let Some((rounded, bias)) = rounded(&values, m, encoding, seen.as_ref()) else { return Ok(f64::INFINITY) };
            let mut changed = vec![self.course.changed(usage, rounded)?];
            if let Some((bias, more)) = bias {
                changed.extend(self.course.added(bias, &more)?);
            }
            self.course.effect(changed)
        };
        let measured = [effect(Encoding::I4)?, effect(Encoding::I6)?, effect(Encoding::F16)?];
        if !measured[0].is_finite() {
            return Err(self.import.wrong(&format!("expected finite outputs with `{}` rounded, found others", usage.weight)).into());
        }
        let bytes = measured.iter().flat_map(|error| error.to_le_bytes()).collect();
        self.records.put(&self.named(&usage.weight), vec![bytes]).map_err(WriteError::from)?;
        if self.go_on(1) { Ok(measured) } else { Err(CompileError::Cancelled) }
    }
}

/// Values as an encoding has them, and what is added to which bias.
type Rounded<'a> = (Vec<f32>, Option<(&'a str, Vec<f64>)>);

/// What a product sees: the bias behind it, its mean input, how its columns make up for each other.
type Sight<'a> = (Option<&'a str>, Vec<f64>, Feedback);

/// Rounds values; `None` if the encoding has them not.
fn rounded<'a>(values: &[f32], m: Matrix, encoding: Encoding, seen: Option<&Sight<'a>>) -> Option<Rounded<'a>> {
    let Some((bias, mean, feedback)) = seen.filter(|_| encoding.has_integers()) else {
        let parts = encoding.encode(values, m).ok()?;
        return Some((encoding.decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), m), None));
    };
    let rounded = round(values, m, encoding, feedback, threads::available());
    let shortfall = bias.map(|bias| (bias, rounded.shortfall(mean)));
    Some((values.iter().zip(&rounded.errors).map(|(v, e)| v - e).collect(), shortfall))
}

impl Effects {
    /// The network in f32, if it was measured and not made up.
    pub fn floats(&self) -> Option<&Arc<Artifact>> {
        self.floats.as_ref()
    }

    /// The smallest mix.
    pub fn smallest(&self, codes: bool) -> Chosen {
        self.chosen(codes, &self.mixes().smallest())
    }

    fn mixes(&self) -> Mixes {
        Mixes::new(&self.layers.iter().map(|layer| layer.forms.clone()).collect::<Vec<_>>())
    }

    /// The best mix for a goal. `others` are the bytes of a file that are not these layers'.
    ///
    /// # Errors
    /// When no mix is as small, or none as good: says the smallest, or the best.
    pub fn choose(&self, mix: Mix, others: u64) -> Result<Chosen, OptionError> {
        let mixes = self.mixes();
        let found = match mix.goal {
            Goal::Bytes(bytes) => mixes.within(bytes.saturating_sub(others)).ok_or_else(|| {
                let least = mixes.smallest().sum.bytes + others;
                OptionError(format!("budget: expected at least {least} bytes, what the smallest mix takes, found {bytes}"))
            })?,
            Goal::Decibels(db) => mixes.no_worse(self.scale.error(db)).ok_or_else(|| {
                let best = self.scale.decibels(mixes.best().sum.error);
                OptionError(format!("min-psnr: expected at most {best:.1} dB, what the best mix comes to, found {db}"))
            })?,
        };
        Ok(self.chosen(mix.codes, &found))
    }

    fn chosen(&self, codes: bool, found: &Mixed) -> Chosen {
        let ty = |form: usize| WeightType { encoding: FORMS[form], codes: codes && FORMS[form].has_integers() };
        let all = || self.layers.iter().zip(&found.forms);
        Chosen {
            types: all().map(|(layer, &form)| (layer.weight.clone(), ty(form))).collect(),
            predicted: self.scale.decibels(found.sum.error),
            layers: all().map(|(l, &form)| (l.weight.clone(), l.forms[form].bytes, self.scale.decibels(l.forms[form].error))).collect(),
            unit: if self.scale.pictures { "psnr" } else { "snr" },
        }
    }
}

/// How close what is generated stays with these weights alone as they are stored, each rounded to the nearest numbers: dB of each.
///
/// # Errors
/// As of [`effects`].
pub(crate) fn alone(
    import: &Import,
    options: &Options,
    weights: &BTreeMap<String, WeightType>,
    observer: &mut dyn Observer,
) -> Result<BTreeMap<String, f64>, CompileError> {
    let assembly = planned(Networks { fcdm: Some(import), ..Networks::default() }, &in_floats(options))?;
    let course = Course::new(import, floats(import, options)?, assembly, weights.len(), BUDGET / 20, observer)?;
    let scale = Scale { power: course.power, pictures: course.is_of_pictures() };
    let mut found = BTreeMap::new();
    for (weight, ty) in weights {
        let Some(usage) = course.uses(weight).next() else { continue };
        let m = matrix(&usage.ty.shape);
        let values = usage.order.rows(&import.load(weight).map_err(BuildError::from)?, m.rows, 0..m.rows);
        let Some((rounded, _)) = rounded(&values, m, ty.encoding, None) else { continue };
        found.insert(weight.clone(), scale.decibels(course.effect(vec![course.changed(usage, rounded)?])?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decibels_and_errors_are_inverse() {
        for scale in [Scale { power: 0.3, pictures: false }, Scale { power: 0.3, pictures: true }] {
            for db in [5.0, 30.0, 50.0, 70.0] {
                assert!((scale.decibels(scale.error(db)) - db).abs() < 0.1, "{scale:?} {db}: {}", scale.decibels(scale.error(db)));
            }
        }
    }

    /// Against pictures that are rounded.
    #[test]
    fn what_rounding_to_eight_bits_does() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for steps in [0.05, 0.2, 0.7, 3.0] {
            let mut sum = 0.0;
            for _ in 0..20_000 {
                let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
                let x = 100.0 * uniform();
                sum += ((x + steps * normal).round() - x.round()).powi(2);
            }
            let (found, told) = (sum / 20_000.0, shown((steps * STEP).powi(2)) / (STEP * STEP));
            assert!((found / told - 1.0).abs() < 0.15, "{steps}: {found} {told}");
        }
    }

    fn effects() -> Effects {
        let layer = |weight: &str, errors: [f64; 4]| Layer {
            weight: weight.to_owned(),
            forms: errors.into_iter().zip([40, 60, 80, 160]).map(|(error, bytes)| Form { bytes, error }).collect(),
        };
        let layers = vec![layer("fine", [1e-4, 1e-5, 1e-6, 0.0]), layer("coarse", [1e-1, 1e-2, 1e-3, 0.0])];
        Effects { layers, scale: Scale { power: 1.0, pictures: false }, floats: None }
    }

    #[test]
    fn bytes_go_where_they_are_worth_most() {
        let effects = effects();
        let chosen = |goal| effects.choose(Mix { goal, codes: true }, 1000);
        let types = |c: &Chosen| ["fine", "coarse"].map(|w| c.types[w].name());
        let found = chosen(Goal::Bytes(1200)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(types(&found), ["w4a8", "f16"]);
        assert!((found.predicted - 40.0).abs() < 0.1);
        let found = chosen(Goal::Decibels(29.0)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(types(&found), ["w4a8", "w8a8"]);
        let e = |goal| chosen(goal).err().map_or_else(String::new, |e| e.to_string());
        assert_eq!(e(Goal::Bytes(1079)), "budget: expected at least 1080 bytes, what the smallest mix takes, found 1079");
    }
}
