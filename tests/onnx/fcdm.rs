//! An FCDM exported by PyTorch (`tests/reference/make_onnx_fcdm.py`, weights of the golden network `eps8`): composite ops are
//! recognised, and the plan is that of the checkpoint.

use std::sync::Arc;

use fcdm_compiler::assemble::{EntryPoint, assemble};
use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_compiler::in_memory::InMemory;
use fcdm_compiler::onnx::Onnx;
use fcdm_compiler::target::Target;
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::{Function, Module};
use fcdm_models::fcdm::import::Import;
use fcdm_models::fcdm::{Size, network, parameters};
use fcdm_runtime::executor::{Executor, Input, Program};
use fcdm_runtime::plan::{Operand, Step};
use fcdm_runtime::simd::Isa;

use super::{by_tract, distance, golden, run};

const CONDITION_ROWS: usize = 64;

/// The entry points of the checkpoint's own network, at the export's height and width.
fn native(import: &Import, batches: &[usize]) -> (Vec<EntryPoint>, Option<Function>) {
    let optimised = |batch| {
        let f = network(import.config(), Size { batch, height: 8, width: 12 });
        fcdm_passes::run(fcdm_passes::OPTIMISED, Module { functions: vec![f] }, &mut |_, _| {}).unwrap().0
    };
    let wide = optimised(CONDITION_ROWS);
    let mut entries = vec![EntryPoint::new(wide.function("condition").unwrap().clone(), CONDITION_ROWS)];
    entries.extend(batches.iter().map(|&rows| EntryPoint::new(optimised(rows).function("denoise").unwrap().clone(), rows)));
    (entries, wide.function(Module::WEIGHTS).cloned())
}

/// Kernels with the extents of what they read and write.
fn kernels(steps: &[Step]) -> Vec<String> {
    let shapes = |list: &[Operand]| list.iter().map(|o| format!("{:?}", o.shape)).collect::<Vec<_>>();
    steps.iter().map(|s| format!("{:?} {:?} -> {:?}", s.kernel, shapes(&s.inputs), shapes(&s.outputs))).collect()
}

fn checkpoint() -> StateDict {
    StateDict::only(&Arc::new(Checkpoint::open(golden().join("../eps8/weights.safetensors")).unwrap())).unwrap()
}

/// Seeded, in (-1.5, 1.5).
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 336.0 - 1.5).collect()
}

#[test]
fn an_exported_fcdm_has_the_plan_of_its_checkpoint() {
    let native_import = Import::new(checkpoint(), true).unwrap();
    let (entries, weights) = native(&native_import, &[1, 2]);
    let theirs = assemble(entries, weights.as_ref(), &Target::CPU).unwrap();
    // A single row has axes of extent 1 more, among which patterns must be told apart; so has a batch that is left open. The norm is one
    // node, or some; exporters write the same network in many ways.
    for name in ["fcdm1", "fcdm2", "fcdm_plain", "fcdm_batch", "fcdm_free"] {
        let import = Import::open_onnx(&golden().join(format!("{name}.onnx")), Some([8, 12]), true).unwrap_or_else(|e| panic!("{e}"));
        let (onnx, size) = import.onnx().unwrap();
        assert_eq!(size, [8, 12]);
        let compiled = onnx.conditioned(CONDITION_ROWS, &[1, 2], &fcdm_passes::Settings::default()).unwrap_or_else(|e| panic!("{e}"));
        let compiled = compiled.expect("an FCDM splits into condition and denoiser");
        let derived = compiled.derived();
        let ours = assemble(compiled.entries, derived.as_ref(), &Target::CPU).unwrap();
        for (a, b) in ours.plan.entries.iter().zip(&theirs.plan.entries) {
            assert_eq!((&a.name, a.rows, a.arena_bytes), (&b.name, b.rows, b.arena_bytes));
            assert_eq!(kernels(&a.steps), kernels(&b.steps), "{name}: {} at {} rows", a.name, a.rows);
        }
        assert!(ours.weights == theirs.weights, "{:?}\n{:?}", ours.weights, theirs.weights);
        for (stored, usage) in ours.tensors() {
            let (a, b) = (ours.bytes(usage, &stored, onnx).unwrap(), theirs.bytes(usage, &stored, &native_import).unwrap());
            assert!(a == b, "{}", stored.name);
        }
    }
}

#[test]
fn extents_that_an_exported_fcdm_leaves_open() {
    let open =
        |name: &str, size| Import::open_onnx(&golden().join(name), size, true).map(|i| i.onnx().unwrap().1).map_err(|e| e.to_string());
    let path = golden().join("fcdm_free.onnx").display().to_string();
    let line = format!("{path}: input `x`: expected its height, found a dynamic dimension: give the size, as in --size 32x32");
    assert_eq!(open("fcdm_free.onnx", None), Err(line));
    assert_eq!(open("fcdm_free.onnx", Some([16, 8])), Ok([16, 8]));
    assert_eq!(open("fcdm_batch.onnx", None), Ok([8, 12]));
    let line = open("ops/conv.onnx", None).unwrap_err();
    assert!(line.contains("expected the inputs x [N,C,H,W], t [N], y [N] of an FCDM and one image, found "), "{line}");
    // Sizes are read off graphs of any kind.
    let models = std::fs::read_dir(golden().join("ops")).unwrap().map(|e| e.unwrap().path());
    for path in models.filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        assert!(Import::open_onnx(&path, Some([8, 8]), true).is_err(), "{}", path.display());
    }
}

#[test]
fn the_weights_of_an_exported_fcdm_have_the_roles_of_its_checkpoint() {
    let native = Import::new(checkpoint(), true).unwrap();
    let onnx = Onnx::open(&golden().join("fcdm2.onnx")).unwrap();
    let exported = Import::from_onnx(onnx, "fcdm2.onnx", true).unwrap();
    for p in parameters(native.config()) {
        assert_eq!((exported.role(&p.name), native.role(&p.name)), (Some(p.role), Some(p.role)), "{}", p.name);
    }
}

#[test]
fn an_exported_fcdm_computes_what_its_checkpoint_does() {
    let path = golden().join("fcdm2.onnx");
    let onnx = Onnx::open(&path).unwrap_or_else(|e| panic!("{e}"));
    let (x, t, y) = (noise(2 * 4 * 8 * 12), [437.0f32, 3.0], [1.0f32, 4.0]);
    let given = [(false, x.clone()), (true, t.to_vec()), (true, y.to_vec())];
    let whole = run(&onnx, &given).remove(0);
    let tract = by_tract(&path, &[], &given).unwrap_or_else(|e| panic!("{e}")).remove(0);
    assert!(distance(&whole, &tract) < 1e-5, "{:.1e} from tract", distance(&whole, &tract));

    let checkpoint = checkpoint();
    let import = Import::new(checkpoint, true).unwrap();
    let f = network(import.config(), Size { batch: 2, height: 8, width: 12 });
    let (m, _) = fcdm_passes::run(&["simplify"], Module { functions: vec![f] }, &mut |_, _| {}).unwrap();
    let entries = vec![EntryPoint::new(m.functions[0].clone(), 2)];
    let assembly = assemble(entries, None, &Target::CPU.with_winograd(Winograd::Never)).unwrap();
    let weights = InMemory::new(&assembly, &import).unwrap();
    let mut ex = Executor::new(Arc::new(Program::load(assembly.plan, Arc::new(weights), Isa::from_env().unwrap()).unwrap()), 2).unwrap();
    let mut out = vec![f32::NAN; whole.len()];
    ex.run(0, &[Input::F32(&onnx.inputs()[0].to_function(&x)), Input::F32(&t), Input::I32(&y.map(|y| y as i32))], &mut [&mut out]);
    let native = onnx.outputs()[0].to_model(&out);
    assert!(distance(&whole, &native) < 1e-5, "{:.1e} from the checkpoint's own network", distance(&whole, &native));
}
