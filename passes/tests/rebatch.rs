//! Another number of rows: every row of the result is what the function made of that row before.
#![allow(clippy::unwrap_used)]

use fcdm_ir::Function;
use fcdm_ir::eval::{Tensor, evaluate};
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;
use fcdm_passes::rebatch;

const WEIGHTS: &str = "weight @w : f32[4,4]\nweight @b : f32[4]\nweight @k : f32[8,3,3,4]\nweight @d : f32[3,3,4]\nweight @r : f32[2,4]\n";

/// `@f(%x [rows,2,2,4], %c [rows,4], %t [rows], %y [rows])`.
fn function(lines: &str, rows: usize) -> Function {
    let lines = lines.replace("N,", &format!("{rows},"));
    let text =
        format!("{WEIGHTS}fn @f(%x: f32[{rows},2,2,4], %c: f32[{rows},4], %t: f32[{rows}], %y: i32[{rows}]) {{ {lines} return %z }}");
    let (m, _) = parse_module("rebatch", &text).unwrap_or_else(|e| panic!("{e}"));
    verify_module(&m).unwrap_or_else(|e| panic!("{lines}: {e:?}"));
    m.functions.into_iter().next().unwrap()
}

fn values(name: &str, shape: &[usize]) -> Tensor {
    let seed = name.bytes().map(usize::from).sum::<usize>();
    let label = name == "y";
    let value = |i: usize| if label { ((i + seed) % 3) as f64 } else { ((i * 7919 + seed * 31) % 211) as f64 / 100.0 - 1.0 };
    Tensor::from_shape_vec(shape.to_vec(), (0..shape.iter().product()).map(value).collect()).unwrap()
}

/// The result for the first rows of the same inputs.
fn result(f: &Function) -> Tensor {
    let inputs: Vec<Tensor> = f.inputs().iter().map(|&v| values(&f.value(v).name, &f.ty(v).shape)).collect();
    let weight = |name: &str| f.weights().find(|(_, d)| d.name == name).map(|(_, d)| values(name, &d.ty.shape));
    evaluate(f, &inputs, &mut |n| weight(n)).unwrap().remove(0)
}

const ALIKE: [&str; 8] = [
    "%h = conv2d %x, @k {stride=1, pad=[1,1,1,1]} : f32[N,2,2,8] %z = pixel_shuffle %h {factor=2} : f32[N,4,4,2]",
    "%h = dwconv2d %x, @d, @b {pad=1} : f32[N,2,2,4] %n = layer_norm %h {eps=0.01} : f32[N,2,2,4] %z = modulate %n, %c, %c : f32[N,2,2,4]",
    "%g = grn %x, @b, @b {eps=0.01} : f32[N,2,2,4] %l = linear %g, @w, @b : f32[N,2,2,4] %z = gated_add %x, %l, %c : f32[N,2,2,4]",
    "%e = timestep_embedding %t {dim=4} : f32[N,4] %v = embedding @w, %y : f32[N,4] %z = add %e, %v : f32[N,4]",
    "%s = slice %c {axis=1, start=0, len=2} : f32[N,2] %r = reshape %s {shape=[N,1,2,1]} : f32[N,1,2,1] %z = broadcast %r {shape=[N,3,2,2]} : f32[N,3,2,2]",
    "%r = reshape @b {shape=[1,1,1,4]} : f32[1,1,1,4] %v = broadcast %r {shape=[N,2,2,4]} : f32[N,2,2,4] %z = mul %x, %v : f32[N,2,2,4]",
    "%k = fill {value=2.0, dtype=f32, shape=[N,4]} : f32[N,4] %q = concat %c, %k {axis=1} : f32[N,8] %z = neg %q : f32[N,8]",
    "%f = reshape %x {shape=[N,4,4]} : f32[N,4,4] %u = transpose %f {perm=[0,2,1]} : f32[N,4,4] %z = matmul %f, %u : f32[N,4,4]",
];

#[test]
fn rows_stay_what_they_were() {
    for lines in ALIKE {
        for (from, to) in [(1, 3), (3, 1), (2, 5)] {
            let f = rebatch(&function(lines, from), to).unwrap_or_else(|| panic!("{lines}: refused"));
            let m = fcdm_ir::Module { functions: vec![f.clone()] };
            verify_module(&m).unwrap_or_else(|e| panic!("{lines}: {e:?}\n{m}"));
            let whole = function(lines, to);
            assert_eq!(m.functions[0].ty(f.results()[0].1), whole.ty(whole.results()[0].1));
            let (found, expected) = (result(&f), result(&whole));
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{lines}: {from} to {to} rows");
        }
    }
}

/// A constant that a batch of one has as its only row is every row's of a larger batch.
#[test]
fn a_single_row_of_a_constant_is_repeated() {
    let one = "%r = reshape @b {shape=[1,4]} : f32[1,4] %z = add %c, %r : f32[1,4]";
    let three = "%r = reshape @b {shape=[1,4]} : f32[1,4] %v = broadcast %r {shape=[3,4]} : f32[3,4] %z = add %c, %v : f32[3,4]";
    let f = rebatch(&function(one, 1), 3).unwrap();
    assert_eq!(result(&f), result(&function(three, 3)));
}

#[test]
fn what_mixes_rows_or_tells_them_apart_is_refused() {
    for lines in [
        "%z = flip %c {axes=[0]} : f32[N,4]",
        "%s = sum %c {axes=[0]} : f32[1,4] %z = broadcast %s {shape=[N,4]} : f32[N,4]",
        "%z = add %c, @r : f32[N,4]",
        "%u = transpose %c {perm=[1,0]} : f32[4,2] %z = reshape %u {shape=[N,4]} : f32[N,4]",
        "%z = softmax %t : f32[2]",
        "%z = reshape %c {shape=[4,2]} : f32[4,2]",
    ] {
        assert!(rebatch(&function(lines, 2), 3).is_none(), "{lines}");
    }
    assert!(rebatch(&function(ALIKE[0], 2), 0).is_none());
}
