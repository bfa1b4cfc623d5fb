//! The evaluator against values computed by hand or by another formula.
#![allow(clippy::unwrap_used)]

use fcdm_ir::eval::{EvalError, Tensor, evaluate, evaluate_all};
use fcdm_ir::ops::*;
use fcdm_ir::{Builder, DType, Function, Op, Type};

fn none(_: &str) -> Option<Tensor> {
    None
}

fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap()
}

/// 0, 1, 2, ...
fn counting(shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    tensor(shape, &(0..n).map(|i| i as f64).collect::<Vec<_>>())
}

fn single(op: impl Into<Op>, types: &[Type]) -> Function {
    let mut b = Builder::new("f");
    let x: Vec<_> = types.iter().map(|t| b.input("x", t.clone())).collect();
    let y = b.emit(op, &x);
    b.finish(y.into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect())
}

fn run(op: impl Into<Op>, x: &[Tensor]) -> Tensor {
    let f = single(op, &x.iter().map(|t| Type::f32(t.shape())).collect::<Vec<_>>());
    evaluate(&f, x, &mut none).unwrap().remove(0)
}

fn assert_close(found: &Tensor, shape: &[usize], expected: &[f64]) {
    assert_eq!(found.shape(), shape);
    let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs()));
    assert!(close, "found {found}, expected {expected:?}");
}

#[test]
fn pixel_shuffle_takes_channel_c4_dy2_dx() {
    // One pixel, two channels of four: channel c*4 + dy*2 + dx goes to pixel (dy, dx), channel c.
    let y = run(PixelShuffle { factor: 2 }, &[counting(&[1, 1, 1, 8])]);
    assert_close(&y, &[1, 2, 2, 2], &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    let x = counting(&[2, 4, 6, 3]);
    let there = run(PixelUnshuffle { factor: 2 }, std::slice::from_ref(&x));
    assert_eq!(there.shape(), [2, 2, 3, 12]);
    // Sample 0, rows 0 and 1, columns 0 and 1, channel 0.
    assert_eq!(there.iter().take(4).copied().collect::<Vec<_>>(), [0.0, 3.0, 18.0, 21.0]);
    assert_eq!(run(PixelShuffle { factor: 2 }, &[there]), x);
}

#[test]
fn conv2d_pads_top_left_bottom_right() {
    // A 2x2 kernel over a 2x2 image, one row of padding on top, two columns on the right.
    let x = tensor(&[1, 2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
    let w = tensor(&[1, 2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let y = run(Conv2d { stride: 1, pad: vec![1, 0, 0, 2] }, &[x.clone(), w.clone()]);
    assert_close(&y, &[1, 2, 3, 1], &[2100.0, 200.0, 0.0, 4321.0, 402.0, 0.0]);
    let strided = run(Conv2d { stride: 2, pad: vec![1, 0, 0, 2] }, &[x, w, tensor(&[1], &[0.5])]);
    assert_close(&strided, &[1, 1, 2, 1], &[2100.5, 0.5]);
}

#[test]
fn linear_of_one_channel_keeps_row_major_order() {
    let y = run(Linear {}, &[tensor(&[3, 1], &[1.0, 2.0, 3.0]), tensor(&[2, 1], &[1.0, 10.0]), tensor(&[2], &[0.5, 0.0])]);
    assert_close(&y, &[3, 2], &[1.5, 10.0, 2.5, 20.0, 3.5, 30.0]);
    let y = run(Linear {}, &[tensor(&[1, 2, 2, 1], &[1.0, 2.0, 3.0, 4.0]), tensor(&[2, 1], &[1.0, 10.0])]);
    assert_close(&y, &[1, 2, 2, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]);
}

#[test]
fn conv2d_sums_over_input_channels() {
    let x = tensor(&[1, 1, 1, 2], &[2.0, 3.0]);
    let w = tensor(&[3, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    assert_close(&run(Conv2d { stride: 1, pad: vec![0; 4] }, &[x, w]), &[1, 1, 1, 3], &[2.0, 3.0, 5.0]);
}

#[test]
fn conv_transpose2d_spreads_the_kernel() {
    // Stride 2, kernel 2: every pixel becomes its own copy of the kernel.
    let x = tensor(&[1, 1, 2, 1], &[1.0, 2.0]);
    let w = tensor(&[1, 2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
    let op = ConvTranspose2d { stride: 2, pad: vec![0; 4], output: vec![2, 4] };
    assert_close(&run(op, &[x, w.clone()]), &[1, 2, 4, 1], &[1.0, 2.0, 2.0, 4.0, 3.0, 4.0, 6.0, 8.0]);
    // Padding crops: with pad 1 on the left the first column falls off.
    let x = tensor(&[1, 1, 2, 1], &[1.0, 2.0]);
    let op = ConvTranspose2d { stride: 2, pad: vec![0, 1, 0, 0], output: vec![2, 3] };
    assert_close(&run(op, &[x, w]), &[1, 2, 3, 1], &[2.0, 2.0, 4.0, 4.0, 6.0, 8.0]);
}

#[test]
fn convolutions_are_adjoint() {
    // <conv(x), y> = <x, conv_transpose(y)> = <w, weight_grad(x, y)>, asymmetric and strided.
    let (stride, pad) = (2, vec![1, 0, 2, 1]);
    let wave = |shape: &[usize], rate: f64| counting(shape).mapv(|v| (v * rate).sin());
    let (x, w) = (wave(&[2, 5, 6, 2], 1.3), wave(&[3, 3, 2, 2], 0.7));
    let y = run(Conv2d { stride, pad: pad.clone() }, &[x.clone(), w.clone()]);
    let dy = wave(y.shape(), 2.1);
    let back = run(ConvTranspose2d { stride, pad: pad.clone(), output: vec![5, 6] }, &[dy.clone(), w.clone()]);
    let dw = run(Conv2dWeightGrad { stride, pad, kernel: vec![3, 2] }, &[x.clone(), dy.clone()]);
    let (forward, image, weight) = ((&y * &dy).sum(), (&x * &back).sum(), (&w * &dw).sum());
    assert!((forward - image).abs() < 1e-9 && (forward - weight).abs() < 1e-9, "{forward} {image} {weight}");
}

#[test]
fn dwconv2d_keeps_channels_apart() {
    let x = tensor(&[1, 1, 2, 2], &[1.0, 10.0, 2.0, 20.0]);
    let mut w = Tensor::zeros(vec![3, 3, 2]);
    (w[[1, 0, 0]], w[[1, 2, 1]]) = (1.0, 1.0);
    // Channel 0 sees its left neighbour, channel 1 its right.
    assert_close(&run(DwConv2d { pad: 1 }, &[x, w, tensor(&[2], &[0.5, 0.0])]), &[1, 1, 2, 2], &[0.5, 20.0, 1.5, 0.0]);
}

#[test]
fn group_norm_normalises_neighbouring_channels_together() {
    // Two groups of two channels: {1, 3} and {10, 10}, one pixel.
    let x = tensor(&[1, 1, 1, 4], &[1.0, 3.0, 10.0, 10.0]);
    let (gamma, beta) = (tensor(&[4], &[1.0, 2.0, 1.0, 1.0]), tensor(&[4], &[0.0, 0.0, 5.0, 0.0]));
    let unit = 1.0 / (1.0f64 + 1e-5).sqrt();
    assert_close(&run(GroupNorm { groups: 2, eps: 1e-5 }, &[x, gamma, beta]), &[1, 1, 1, 4], &[-unit, 2.0 * unit, 5.0, 0.0]);
}

#[test]
fn layer_norm_has_biased_variance() {
    let y = run(LayerNorm { eps: 1e-6 }, &[tensor(&[1, 2], &[1.0, 5.0])]);
    let unit = 2.0 / (4.0f64 + 1e-6).sqrt();
    assert_close(&y, &[1, 2], &[-unit, unit]);
}

#[test]
fn rows_are_rounded_to_codes_of_their_own_range() {
    // Ranges -1 .. 50, whose zero is code 5; 0 .. 3, which has 0 in it; one of zeros; one that is not finite.
    let nan = f64::NAN;
    let x = tensor(&[5, 3], &[-1.0, 50.0, 0.11, 3.0, 3.0, 1.0, 0.0, 0.0, 0.0, 1.0, nan, 2.0, -2.0, -1.0, 0.0]);
    let y = run(QuantiseRows { bits: 8 }, &[x]);
    let want = [-1.0, 50.0, 0.2, 3.0, 3.0, 1.0, 0.0, 0.0, 0.0, nan, nan, nan, -2.0, -1.0 - 1.0 / 255.0, 0.0];
    for (y, want) in y.iter().zip(want) {
        assert!((y - want).abs() < 1e-12 || y.is_nan() && want.is_nan(), "{y} {want}");
    }
    // Of seven bits, a step is twice as large: zero of -1 .. 126 is code 1, and 2.6 is code 4.
    let y = run(QuantiseRows { bits: 7 }, &[tensor(&[3], &[-1.0, 126.0, 2.6])]);
    assert_close(&y, &[3], &[-1.0, 126.0, 3.0]);
}

#[test]
fn grn_divides_by_the_mean_norm() {
    // Norms over the two pixels: 5 and 0; mean 2.5; N = 2, 0.
    let x = tensor(&[1, 1, 2, 2], &[3.0, 0.0, 4.0, 0.0]);
    let (gamma, beta) = (tensor(&[2], &[0.5, 1.0]), tensor(&[2], &[0.25, -1.0]));
    let n = 5.0 / (2.5 + 1e-6);
    let y = run(Grn { eps: 1e-6 }, &[x, gamma, beta]);
    assert_close(&y, &[1, 1, 2, 2], &[1.5 * n + 3.25, -1.0, 2.0 * n + 4.25, -1.0]);
}

#[test]
fn timestep_embedding_is_cosines_then_sines_of_float32_angles() {
    let y = run(TimestepEmbedding { dim: 256 }, &[tensor(&[2], &[0.0, 999.0])]);
    assert!(y.iter().take(128).all(|&v| v == 1.0) && y.iter().skip(128).take(128).all(|&v| v == 0.0));
    assert_eq!((y[[1, 0]], y[[1, 128]]), (999f64.cos(), 999f64.sin()));
    let rate = (-(10000f64.ln()) / 128.0) as f32;
    let angle = 999f32 * (f64::from(77f32 * rate).exp() as f32);
    assert_eq!((y[[1, 77]], y[[1, 128 + 77]]), (f64::from(angle).cos(), f64::from(angle).sin()));
}

#[test]
fn erf_and_gelu() {
    // Abramowitz & Stegun, table 7.1.
    let y = run(Erf {}, &[tensor(&[5], &[0.0, 0.5, -1.0, 2.0, 30.0])]);
    assert_close(&y, &[5], &[0.0, 0.520_499_877_813_046_5, -0.842_700_792_949_714_9, 0.995_322_265_018_952_7, 1.0]);
    let y = run(Gelu {}, &[tensor(&[2], &[1.0, -1.0])]);
    assert_close(&y, &[2], &[0.841_344_746_068_542_9, -0.158_655_253_931_457_05]);
}

#[test]
fn cosine_and_sine() {
    let x = tensor(&[3], &[0.0, std::f64::consts::FRAC_PI_2, std::f64::consts::PI]);
    assert_close(&run(Cos {}, std::slice::from_ref(&x)), &[3], &[1.0, 0.0, -1.0]);
    assert_close(&run(Sin {}, &[x]), &[3], &[0.0, 1.0, 0.0]);
}

#[test]
fn no_activation_hides_a_nan() {
    let x = tensor(&[3], &[f64::NAN, -2.0, 2.0]);
    for y in [run(Relu {}, std::slice::from_ref(&x)), run(Clamp { min: 0.0, max: 5.0 }, std::slice::from_ref(&x))] {
        assert!(y[[0]].is_nan() && y[[1]] == 0.0 && y[[2]] == 2.0, "{y}");
    }
}

#[test]
fn matmul_and_linear() {
    let (a, b) = (counting(&[2, 2, 3]), counting(&[2, 3, 1]));
    assert_close(&run(Matmul {}, &[a, b]), &[2, 2, 1], &[5.0, 14.0, 86.0, 122.0]);
    let y = run(Linear {}, &[tensor(&[1, 2], &[1.0, 2.0]), counting(&[3, 2]), tensor(&[3], &[0.0, 0.0, 1.0])]);
    assert_close(&y, &[1, 3], &[2.0, 8.0, 15.0]);
}

#[test]
fn moved_elements() {
    let x = counting(&[2, 3]);
    assert_close(&run(Transpose { perm: vec![1, 0] }, std::slice::from_ref(&x)), &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_close(&run(Flip { axes: vec![1] }, std::slice::from_ref(&x)), &[2, 3], &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    assert_close(&run(Slice { axis: 1, start: 1, len: 2 }, std::slice::from_ref(&x)), &[2, 2], &[1.0, 2.0, 4.0, 5.0]);
    assert_close(&run(Concat { axis: 1 }, &[x, tensor(&[2, 1], &[9.0, 8.0])]), &[2, 4], &[0.0, 1.0, 2.0, 9.0, 3.0, 4.0, 5.0, 8.0]);
    assert_close(&run(Broadcast { shape: vec![2, 2] }, &[tensor(&[2, 1], &[1.0, 2.0])]), &[2, 2], &[1.0, 1.0, 2.0, 2.0]);
    assert_close(&run(UpsampleNearest { factor: 2 }, &[counting(&[1, 1, 2, 1])]), &[1, 2, 4, 1], &[0., 0., 1., 1., 0., 0., 1., 1.]);
    assert_close(&run(AvgPool2d { size: 2 }, &[counting(&[1, 2, 4, 1])]), &[1, 1, 2, 1], &[2.5, 4.5]);
}

#[test]
fn embedding_takes_rows_and_refuses_others() {
    let f = single(Embedding {}, &[Type::f32([3, 2]), Type::new(DType::I32, [2])]);
    let y = evaluate(&f, &[counting(&[3, 2]), tensor(&[2], &[2.0, 0.0])], &mut none).unwrap();
    assert_close(&y[0], &[2, 2], &[4.0, 5.0, 0.0, 1.0]);
    for wrong in [3.0, -1.0] {
        let e = evaluate(&f, &[counting(&[3, 2]), tensor(&[2], &[2.0, wrong])], &mut none).unwrap_err();
        assert_eq!(e, EvalError::Label { label: wrong as i64, rows: 3 });
    }
    let e = evaluate(&f, &[counting(&[3, 2]), tensor(&[2], &[0.5, 0.0])], &mut none).unwrap_err();
    assert_eq!(e, EvalError::NotInteger { name: "%x.1".into() });
}

#[test]
fn errors_name_what_is_wrong() {
    let mut b = Builder::new("f");
    let x = b.input("x", Type::f32([2]));
    let w = b.weight("w", Type::f32([2]));
    let y = b.one(Add {}, &[x, w]);
    let f = b.finish(vec![("y".into(), y), ("x".into(), x)]);
    let message = |inputs: &[Tensor], weight: Option<Tensor>| evaluate(&f, inputs, &mut |_| weight.clone()).unwrap_err().to_string();
    assert_eq!(message(&[], None), "expected 1 inputs, found 0");
    assert_eq!(message(&[counting(&[2])], None), "there is no weight @w");
    assert_eq!(message(&[counting(&[3])], None), "%x must be f32[2], found shape [3]");
    assert_eq!(message(&[counting(&[2])], Some(counting(&[1, 2]))), "@w must be f32[2], found shape [1, 2]");
    let all = evaluate_all(&f, &[counting(&[2])], &mut |_| Some(counting(&[2]))).unwrap();
    assert_eq!(all[y.index()], tensor(&[2], &[0.0, 2.0]));
    assert_eq!(evaluate(&f, &[counting(&[2])], &mut |_| Some(counting(&[2]))).unwrap(), [all[y.index()].clone(), counting(&[2])]);
}

/// MACs of FCDM's op kinds; a transposed convolution costs what its adjoint does.
#[test]
fn costs() {
    let mac = |op: Op, shapes: &[&[usize]]| {
        let f = single(op, &shapes.iter().map(|&s| Type::f32(s)).collect::<Vec<_>>());
        fcdm_ir::graph::cost(&f).macs
    };
    assert_eq!(mac(Linear {}.into(), &[&[1, 8, 8, 16], &[48, 16]]), 64 * 16 * 48);
    assert_eq!(mac(Conv2d { stride: 2, pad: vec![1; 4] }.into(), &[&[1, 8, 8, 16], &[4, 3, 3, 16]]), 16 * 4 * 9 * 16);
    let op = ConvTranspose2d { stride: 2, pad: vec![1; 4], output: vec![8, 8] };
    assert_eq!(mac(op.into(), &[&[1, 4, 4, 4], &[4, 3, 3, 16]]), 16 * 4 * 9 * 16);
    assert_eq!(mac(DwConv2d { pad: 3 }.into(), &[&[1, 8, 8, 16], &[7, 7, 16]]), 64 * 16 * 49);
    assert_eq!(mac(LinearGeluSumsq {}.into(), &[&[1, 8, 8, 16], &[48, 16], &[48]]), 64 * 16 * 48);
}

/// 200 million MACs take about 0.1 s (AMD Zen 3); the bound is loose because other tests run beside this one.
#[test]
fn blocks_of_network_size_are_evaluated() {
    let mut b = Builder::new("blocks");
    let (n, h, w, c) = (2, 24, 16, 64);
    let mut x = b.input("x", Type::f32([n, h, w, c]));
    for i in 0..4 {
        let d = b.weight("d", Type::f32([7, 7, c]));
        let up = b.weight("up", Type::f32([3 * c, c]));
        let down = b.weight("down", Type::f32([c, 3 * c]));
        let conv = b.weight("conv", Type::f32([c, 3, 3, c]));
        let g = b.one(DwConv2d { pad: 3 }, &[x, d]);
        let g = b.one(LayerNorm { eps: 1e-6 }, &[g]);
        let g = b.one(Linear {}, &[g, up]);
        let g = b.one(Gelu {}, &[g]);
        let g = b.one(Linear {}, &[g, down]);
        let g = b.one(Conv2d { stride: 1, pad: vec![1; 4] }, &[g, conv]);
        x = b.one(Add {}, &[x, g]);
        b.name(x, &format!("block.{i}"));
    }
    let f = b.finish(vec![("y".into(), x)]);
    let shapes: std::collections::HashMap<String, Vec<usize>> = f.weights().map(|(_, d)| (d.name.clone(), d.ty.shape.clone())).collect();
    let image = counting(&[n, h, w, c]).mapv(f64::sin);
    let y = evaluate(&f, &[image], &mut |name| Some(counting(&shapes[name]).mapv(|v| v.cos() * 0.1))).unwrap();
    assert!(y[0].iter().all(|v| v.is_finite()));
    assert!(fcdm_ir::graph::cost(&f).macs > 100_000_000);
}
