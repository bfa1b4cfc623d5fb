//! Files of tensors for `generate --noise` and `run --inputs`.

use crate::process::{Folder, Tensors};

fn compiled() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x8 --batch 1");
    f
}

#[test]
fn noise() {
    let f = compiled();
    let two = "generate a.fcdm -c 1,2 --noise n --steps 4 -o o";
    let wrong = |line: &str, tensors: Tensors| {
        f.write("n", tensors.bytes());
        f.fails(3, line)
    };
    let noise = |shape: &[usize]| Tensors::default().f32("noise", shape, &vec![0.5; shape.iter().product()]);
    for shape in [&[1, 4, 4, 8][..], &[3, 4, 4, 8], &[2, 4, 8, 4], &[2, 3, 4, 8], &[2, 4, 32], &[256], &[2, 0, 4, 8], &[]] {
        assert_eq!(wrong(two, noise(shape)), format!("error: n: tensor `noise`: expected shape [2, 4, 4, 8], found {shape:?}"));
    }
    let line = wrong(two, Tensors::default().f32("start", &[2, 4, 4, 8], &[0.0; 256]));
    assert!(line.contains("tensor `noise`"), "{line}");
    let line = wrong(two, Tensors::default().i64("noise", &[2, 4, 4, 8], &[0; 256]));
    assert!(line.contains("tensor `noise`: expected f32") && line.contains("found i64"), "{line}");
    // The noise of the steps: three of four steps have some.
    let steps = |shape: &[usize]| noise(&[2, 4, 4, 8]).f32("step_noise", shape, &vec![0.5; shape.iter().product()]);
    let ddpm = format!("{two} --ddpm");
    let line = wrong(&ddpm, steps(&[2, 2, 4, 4, 8]));
    assert_eq!(line, "error: n: tensor `step_noise`: expected shape [>=3, 2, 4, 4, 8], found [2, 2, 4, 4, 8]");
    wrong(&ddpm, steps(&[4, 1, 4, 4, 8]));
    f.write("n", b"no tensors at all");
    assert!(f.fails(3, two).starts_with("error: n: expected "));
    f.misused("generate a.fcdm -c 1 --noise n --seeds 1");
    assert!(!f.path("o").exists());
}

#[test]
fn inputs() {
    let f = compiled();
    let run = "run a.fcdm --inputs in --outputs out";
    let wrong = |tensors: Tensors| {
        f.write("in", tensors.bytes());
        f.fails(3, run)
    };
    let x = || Tensors::default().f32("x", &[2, 4, 4, 8], &[0.5; 256]);
    let t = || x().f32("t", &[2], &[1.0, 2.0]);
    assert_eq!(wrong(t().f32("y", &[3], &[0.0; 3])), "error: in: tensor `y`: expected shape [2], found [3]");
    assert_eq!(wrong(t().i64("y", &[2], &[0, 11])), "error: in: tensor `y`: expected classes from 0 to 10, found 11");
    for label in [-1.0, 0.5, f32::NAN, f32::INFINITY, 1e30] {
        assert!(wrong(t().f32("y", &[2], &[0.0, label])).contains("expected classes from 0 to 10"));
    }
    for label in [-1, i64::MIN, i64::MAX, 1 << 32] {
        assert!(wrong(t().i64("y", &[2], &[label, 0])).contains("expected classes from 0 to 10"));
    }
    assert!(wrong(t()).contains("tensor `y`"));
    assert!(wrong(x().f32("y", &[2], &[0.0; 2])).contains("tensor `t`"));
    assert!(wrong(Tensors::default().f32("t", &[2], &[0.0; 2])).contains("tensor `x`"));
    assert_eq!(
        wrong(Tensors::default().f32("x", &[0, 4, 4, 8], &[])),
        "error: in: tensor `x`: expected shape [N, 4, 4, 8], found [0, 4, 4, 8]"
    );
    assert!(wrong(Tensors::default().i64("x", &[1, 4, 4, 8], &[0; 128])).contains("expected f32"));
    f.misused("run a.fcdm --outputs out");
}
