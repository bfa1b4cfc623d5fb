//! Artifacts with sound checksums and hostile plans: `generate` and `run` refuse them before a step is run, `inspect` shows them.

use std::path::Path;

use crate::process::{Folder, Tensors};
use fcdm_runtime::artifact::{Artifact, ArtifactContents, ModelInfo, TensorSource, keys, write};
use fcdm_runtime::kernels::{Activation, Copy, GroupNorm, Product, Rearrange, Softmax, Window};
use fcdm_runtime::plan::{Form, Place, Plan};

/// Rewrites an artifact with a changed plan and description.
fn tamper(from: &Path, to: &Path, change: impl Fn(&mut Plan, &mut ModelInfo)) {
    let a = Artifact::open(from).unwrap();
    let (mut plan, mut model) = (a.plan().clone(), a.model().unwrap().clone());
    change(&mut plan, &mut model);
    let contents = ArtifactContents { ir: a.metadata(keys::IR).map(str::to_owned), ..ArtifactContents::new(plan, Some(model)) };
    let tensors = a.tensors().map(|(name, dtype, shape, bytes)| TensorSource::bytes(name, dtype, shape.to_vec(), bytes));
    write(to, &contents, tensors.collect(), &|| false, &mut |_, _| {}).unwrap();
}

fn compiled() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1");
    f.write("in", Tensors::default().f32("x", &[1, 4, 4, 4], &[0.0; 64]).f32("t", &[1], &[0.0]).f32("y", &[1], &[0.0]).bytes());
    f
}

const RUNNERS: [&str; 2] = ["generate bad.fcdm -c 1 --steps 1 -o o", "run bad.fcdm --inputs in --outputs out"];

#[track_caller]
fn refused(f: &Folder, what: &str, change: impl Fn(&mut Plan, &mut ModelInfo)) {
    tamper(&f.path("a.fcdm"), &f.path("bad.fcdm"), change);
    for line in RUNNERS {
        let message = f.fails(4, line);
        assert!(message.starts_with("error: bad.fcdm: "), "{what}: {message}");
    }
    // To look at it is how one finds out what is wrong with it.
    for line in
        ["inspect bad.fcdm", "inspect bad.fcdm --plan", "inspect bad.fcdm --json", "inspect bad.fcdm --dot", "inspect bad.fcdm --ir"]
    {
        let ran = f.run(line);
        assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
    }
}

/// The first operand of the denoiser that is in the arena.
fn in_arena(plan: &mut Plan) -> &mut fcdm_runtime::plan::Operand {
    let steps = plan.entries[1].steps.iter_mut();
    steps.flat_map(|s| s.outputs.iter_mut()).find(|o| matches!(o.at, Place::Arena(_))).unwrap()
}

#[test]
fn places_out_of_range() {
    let f = compiled();
    for offset in [1 << 30, usize::MAX, usize::MAX - 63, usize::MAX / 64 * 64, 4] {
        refused(&f, "arena", |p, _| in_arena(p).at = Place::Arena(offset));
    }
    for port in [1000, usize::MAX] {
        refused(&f, "input", |p, _| in_arena(p).at = Place::Input(port));
        refused(&f, "output", |p, _| in_arena(p).at = Place::Output(port));
        refused(&f, "input read", |p, _| p.entries[1].steps[0].inputs[0].at = Place::Input(port));
    }
    refused(&f, "weight", |p, _| p.entries[1].steps[0].inputs[0].at = Place::Weight("nosuch\n\u{1b}[31m".into()));
    refused(&f, "weight written", |p, _| in_arena(p).at = Place::Weight("x_embedder.bias".into()));
    refused(&f, "arena too small", |p, _| p.entries[1].arena_bytes = 64);
    refused(&f, "arena too large", |p, _| p.entries[1].arena_bytes = usize::MAX);
}

#[test]
fn shapes_that_cannot_be() {
    let f = compiled();
    for shape in [vec![], vec![0], vec![0; 4], vec![usize::MAX; 4], vec![1 << 40], vec![1; 1000], vec![3, 5, 7, 11]] {
        refused(&f, "operand", |p, _| in_arena(p).shape.clone_from(&shape));
        refused(&f, "input", |p, _| p.entries[1].inputs[0].shape.clone_from(&shape));
        refused(&f, "output", |p, _| p.entries[1].outputs[0].shape.clone_from(&shape));
        refused(&f, "condition", |p, _| p.entries[0].outputs[0].shape.clone_from(&shape));
        refused(&f, "condition's labels", |p, _| p.entries[0].inputs[1].shape.clone_from(&shape));
    }
    refused(&f, "element type", |p, _| in_arena(p).form = Form::I32);
    refused(&f, "rows", |p, _| p.entries[1].rows = 0);
    refused(&f, "rows", |p, _| p.entries[1].rows = usize::MAX);
    refused(&f, "condition's rows", |p, _| p.entries[0].rows = 0);
}

#[test]
fn entries_that_do_not_fit() {
    let f = compiled();
    refused(&f, "no denoise", |p, _| drop(p.entries.remove(1)));
    refused(&f, "no condition", |p, _| drop(p.entries.remove(0)));
    refused(&f, "nothing", |p, _| p.entries.clear());
    refused(&f, "twice", |p, _| p.entries.push(p.entries[1].clone()));
    refused(&f, "another name", |p, _| p.entries[1].inputs[1].name = "y".into());
    refused(&f, "no outputs", |p, _| p.entries[1].outputs.clear());
    refused(&f, "no inputs", |p, _| p.entries[1].inputs.clear());
    refused(&f, "height", |_, m| m.height = 8);
    refused(&f, "channels", |_, m| (m.in_channels, m.out_channels) = (8, 16));
    refused(&f, "classes", |_, m| m.num_classes = 1000);
    refused(&f, "classes", |_, m| m.num_classes = 11);
}

#[test]
fn kernels_that_cannot_be() {
    let f = compiled();
    refused(&f, "no operands", |p, _| p.entries[1].steps[0].inputs.clear());
    refused(&f, "no results", |p, _| p.entries[1].steps[0].outputs.clear());
    refused(&f, "too many", |p, _| {
        let s = &mut p.entries[1].steps[0];
        s.inputs = vec![s.inputs[0].clone(); 1000];
    });
    refused(&f, "another kernel", |p, _| p.entries[1].steps[0].kernel = Softmax {}.into());
    refused(&f, "division by zero", |p, _| {
        p.entries[1].steps[0].kernel = GroupNorm { groups: 0, eps: 0.0, activation: Activation::None }.into()
    });
    refused(&f, "stride", |p, _| {
        p.entries[1].steps[0].kernel = Product::conv2d(Window { stride: 0, pad: [1; 4], ..Window::square(3) }).into()
    });
    refused(&f, "huge", |p, _| {
        p.entries[1].steps[0].kernel =
            Product::conv2d(Window { kernel: [usize::MAX; 2], stride: usize::MAX, pad: [usize::MAX; 4], upsample: usize::MAX }).into()
    });
    for factor in [0, 1 << 32, usize::MAX] {
        for rearrange in [Rearrange::Shuffle { factor }, Rearrange::Unshuffle { factor }] {
            refused(&f, "rearranged", |p, _| {
                p.entries[1].steps[0].kernel = Product { rearrange, ..Product::conv2d(Window { pad: [1; 4], ..Window::square(3) }) }.into()
            });
        }
    }
    refused(&f, "copy", |p, _| {
        let (extents, x_strides, y_strides) = (vec![usize::MAX; 3], vec![isize::MIN; 3], vec![isize::MAX; 3]);
        p.entries[1].steps[0].kernel = Copy { extents, from: usize::MAX, x_strides, to: usize::MAX, y_strides }.into();
    });
}

/// The IR is for people; no command but `inspect` reads it.
#[test]
fn wrong_ir_inside() {
    let f = compiled();
    let a = Artifact::open(f.path("a.fcdm")).unwrap();
    for ir in [Some("nonsense".to_owned()), None] {
        let contents = ArtifactContents { ir: ir.clone(), ..ArtifactContents::new(a.plan().clone(), a.model().cloned()) };
        let tensors = a.tensors().map(|(name, dtype, shape, bytes)| TensorSource::bytes(name, dtype, shape.to_vec(), bytes));
        write(&f.path("bad.fcdm"), &contents, tensors.collect(), &|| false, &mut |_, _| {}).unwrap();
        let ran = f.run("inspect bad.fcdm --dot");
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert!(ran.err.starts_with("error: bad.fcdm: "), "{ran:?}");
        f.ok("inspect bad.fcdm");
        f.ok("generate bad.fcdm -c 1 --steps 1 -o o");
    }
}
