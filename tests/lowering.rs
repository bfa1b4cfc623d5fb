//! Every op, and the gradient of every op, lowered to a plan and run on the kernels that this machine picks,
//! against the reference evaluator. Cases are the functions of `tests/filetests/lower`.
#![allow(clippy::unwrap_used)]

mod loaded;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use fcdm_compiler::assemble::EntryPoint;
use fcdm_compiler::lower::{Step, lower};
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::flow::Copier;
use fcdm_ir::flow::sweep;
use fcdm_ir::ops::{Op, Tanh};
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use fcdm_ir::vjp::backward;
use fcdm_ir::{Builder, DType, Def, Function, Module, Type, Value, ValueData};
use fcdm_models::fcdm::{Preset, Size, network};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::executor::Input;
use fcdm_runtime::kernels::{Kernel, Rearrange};

/// Relative L2 distance allowed: f32 against f64 over one op and its gradient.
const TOLERANCE: f64 = 3e-6;

fn cases() -> Vec<Function> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/filetests/lower");
    let mut functions = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (module, _) = parse_module(&path.display().to_string(), &text).unwrap_or_else(|e| panic!("{e}"));
        verify_module(&module).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
        functions.extend(module.functions);
    }
    functions
}

/// A value in (-1.75, 1.75) from a name and a position; the same on every run.
fn value(name: &str, i: usize) -> f64 {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut z = seed.wrapping_add((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from((((z >> 40) as f32) / (1 << 24) as f32 - 0.5) * 3.5)
}

fn tensor(name: &str, ty: &Type) -> Tensor {
    let element = |i: usize| if ty.dtype == DType::I32 { (i % 3) as f64 } else { value(name, i) };
    Tensor::from_shape_vec(ty.shape.clone(), (0..ty.count()).map(element).collect()).unwrap()
}

/// The values of a weight as those that read it in the artifact have them.
fn as_stored(data: &ValueData, values: Tensor) -> Tensor {
    let Some(stored) = &data.stored else { return values };
    let (encoding, m) = (Encoding::named(stored).unwrap(), fcdm_compiler::weights::matrix(values.shape()));
    let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let parts = encoding.encode(&floats, m).unwrap();
    let decoded = encoding.decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), m);
    Tensor::from_shape_vec(values.shape(), decoded.into_iter().map(f64::from).collect()).unwrap()
}

struct Weights<'a>(&'a Function);

impl WeightSource for Weights<'_> {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let (_, data) = self.0.weights().find(|(_, d)| d.name == name).ok_or_else(|| WeightError::Missing(name.into()))?;
        Ok(tensor(name, &data.ty).iter().map(|&v| v as f32).collect())
    }

    fn load_rows(&self, name: &str, rows: std::ops::Range<usize>) -> Result<Vec<f32>, WeightError> {
        let (_, data) = self.0.weights().find(|(_, d)| d.name == name).ok_or_else(|| WeightError::Missing(name.into()))?;
        let row = data.ty.count() / data.ty.shape.first().copied().unwrap_or(1).max(1);
        Ok(self.load(name)?[rows.start * row..rows.end * row].to_vec())
    }
}

/// A copy in a builder, with the new values of inputs, weights and results.
fn open(f: &Function) -> (Builder, Vec<Value>, Vec<Value>) {
    let mut b = Builder::new(f.name());
    let mut copier = Copier::new(f);
    let mut leaves = Vec::new();
    for (v, data) in f.values() {
        let new = match data.def {
            Def::Input(_) => b.input(&data.name, data.ty.clone()),
            Def::Weight => b.weight(&data.name, data.ty.clone()),
            Def::Result { .. } => continue,
        };
        copier.bind(v, new);
        leaves.push(new);
    }
    let results = f.results().iter().map(|(_, v)| copier.copy(&mut b, *v)).collect();
    (b, leaves, results)
}

/// The gradients of a weighted sum of the results, if there are any.
fn gradient(f: &Function) -> Option<Function> {
    let (mut b, leaves, results) = open(f);
    let cotangents: Vec<(Value, Value)> = results
        .iter()
        .enumerate()
        .map(|(i, &r)| {
            let ty = b.ty(r).clone();
            (r, b.input(&format!("d{i}"), ty))
        })
        .collect();
    let wrt: Vec<Value> = leaves.into_iter().filter(|&v| b.ty(v).dtype.is_float()).collect();
    let grads: Vec<Value> = backward(&mut b, &cotangents, &wrt).into_iter().flatten().collect();
    if grads.is_empty() {
        return None;
    }
    let named = grads.into_iter().enumerate().map(|(i, g)| (format!("g{i}"), g)).collect();
    Some(sweep(&b.finish(named)))
}

fn compare(f: &Function, what: &str, path: &std::path::Path, worst: &Cell<f64>) {
    compare_with(f, what, path, Winograd::Never, worst);
}

fn compare_with(f: &Function, what: &str, path: &std::path::Path, winograd: Winograd, worst: &Cell<f64>) {
    let inputs: Vec<Tensor> = f.inputs().iter().map(|&v| tensor(&f.value(v).name, f.ty(v))).collect();
    let find = |name: &str| f.weights().find(|(_, d)| d.name == name).map(|(_, d)| as_stored(d, tensor(name, &d.ty)));
    let want = evaluate(f, &inputs, &mut |n| find(n)).unwrap_or_else(|e| panic!("@{} {what}: {e}", f.name()));
    let mut ex = loaded::executor(path, vec![EntryPoint::new(f.clone(), 1)], None, &Weights(f), winograd, 2);
    let floats: Vec<Vec<f32>> = inputs.iter().map(|t| t.iter().map(|&v| v as f32).collect()).collect();
    let labels: Vec<Vec<i32>> = inputs.iter().map(|t| t.iter().map(|&v| v as i32).collect()).collect();
    let given = f.inputs().iter().enumerate().map(|(i, &v)| match f.ty(v).dtype {
        DType::I32 => Input::I32(&labels[i]),
        _ => Input::F32(&floats[i]),
    });
    let mut got: Vec<Vec<f32>> = want.iter().map(|t| vec![f32::NAN; t.len()]).collect();
    let mut slots: Vec<&mut [f32]> = got.iter_mut().map(|v| &mut v[..]).collect();
    ex.run(0, &given.collect::<Vec<_>>(), &mut slots);
    for ((name, _), (got, want)) in f.results().iter().zip(got.iter().zip(&want)) {
        let (mut diff, mut norm) = (0.0, 0.0);
        for (&g, &w) in got.iter().zip(want) {
            diff += (f64::from(g) - w).powi(2);
            norm += w * w;
        }
        let distance = if norm == 0.0 { diff.sqrt() } else { (diff / norm).sqrt() };
        worst.set(worst.get().max(distance));
        assert!(distance <= TOLERANCE, "@{} {what}: result `{name}`: relative L2 distance {distance:.2e}", f.name());
    }
}

#[test]
fn every_op_is_covered() {
    let mut seen = BTreeSet::new();
    for f in cases() {
        seen.extend(f.insts().iter().map(|i| i.op.name()));
    }
    let missing: Vec<_> = Op::NAMES.iter().filter(|n| !seen.contains(*n)).collect();
    assert!(missing.is_empty(), "no case lowers {missing:?}");
}

#[test]
fn plans_compute_what_functions_mean() {
    let folder = tempfile::tempdir().unwrap();
    let worst = Cell::new(0.0);
    let mut gradients = 0;
    for f in cases() {
        let path = folder.path().join("f");
        compare(&f, "itself", &path, &worst);
        if let Some(g) = gradient(&f) {
            gradients += 1;
            compare(&g, "gradient", &path, &worst);
        }
    }
    println!("worst relative L2 distance {:.2e}, {gradients} gradients", worst.get());
    assert!(gradients > 60);
}

/// Convolutions by Winograd, wherever one can be.
#[test]
fn winograd_convolutions_compute_what_functions_mean() {
    let folder = tempfile::tempdir().unwrap();
    let worst = Cell::new(0.0);
    let suits = |f: &Function| f.insts().iter().any(|inst| Winograd::Always.algorithm(f, inst, &Target::CPU).is_winograd());
    let eligible: Vec<Function> = cases().into_iter().filter(suits).collect();
    for f in &eligible {
        compare_with(f, "by Winograd", &folder.path().join("f"), Winograd::Always, &worst);
    }
    println!("worst relative L2 distance {:.2e}, {} functions", worst.get(), eligible.len());
    assert!(eligible.len() >= 4);
}

/// Skips are read and shuffled pixels written in place.
#[test]
fn the_optimised_denoiser_copies_nothing() {
    for preset in Preset::ALL {
        let f = network(&preset.config(), Size { batch: 2, height: 32, width: 32 });
        let (m, _) = fcdm_passes::run(fcdm_passes::OPTIMISED, Module { functions: vec![f] }, &mut |_, _| {}).unwrap();
        let denoise = m.function("denoise").unwrap();
        let program = lower(denoise, &[], &Target::CPU).unwrap();
        let by_winograd = |s: &&Step| matches!(&s.kernel, Kernel::Product(p) if p.algorithm.is_winograd());
        let rearranged: Vec<_> = program.steps.iter().filter(by_winograd).map(|s| s.kernel.clone()).collect();
        let has = |which: fn(Rearrange) -> bool| rearranged.iter().any(|k| matches!(k, Kernel::Product(p) if which(p.rearrange)));
        assert!(has(|r| matches!(r, Rearrange::Shuffle { .. })) && has(|r| matches!(r, Rearrange::Unshuffle { .. })));
        let copies: Vec<_> = program.steps.iter().filter(|s| matches!(s.kernel, Kernel::Copy(_))).map(|s| &s.label).collect();
        assert!(copies.is_empty(), "{}: {copies:?}", preset.name());
    }
}

/// A result that is also used further on is read from the caller's buffer.
#[test]
fn a_result_may_be_an_operand() {
    let mut b = Builder::new("f");
    let x = b.input("x", Type::f32([2, 3]));
    let y = b.one(Tanh {}, &[x]);
    let z = b.one(Tanh {}, &[y]);
    let f = b.finish(vec![("y".into(), y), ("z".into(), z)]);
    compare(&f, "itself", &tempfile::tempdir().unwrap().path().join("f"), &Cell::new(0.0));
}
