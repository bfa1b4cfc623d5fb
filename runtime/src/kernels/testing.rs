//! Runs one step on every variant of this CPU and on several numbers of threads, for the kernels' tests.

use super::gemm::{pack_pairs, pack_panels};
use super::{Args, MAX_INPUTS, MAX_OUTPUTS, Scratch, Split, Worker, task};
use crate::arena::Arena;
use crate::plan::{Activation, Element, Epilogue, Kernel, Operand, PANEL, Place, Step};
use crate::simd::Isa;

/// A step with operands of those shapes; where they are does not matter here.
pub fn step(kernel: Kernel, inputs: &[&[usize]], outputs: &[&[usize]]) -> Step {
    let labels = matches!(kernel, Kernel::Embedding | Kernel::OneHot).then(|| inputs.len() - 1);
    let inputs = inputs.iter().enumerate().map(|(i, s)| Operand {
        at: Place::Input(i),
        dtype: if labels == Some(i) { Element::I32 } else { Element::F32 },
        shape: s.to_vec(),
    });
    let outputs = outputs.iter().enumerate().map(|(i, s)| Operand { at: Place::Output(i), dtype: Element::F32, shape: s.to_vec() });
    Step { label: "test".into(), kernel, inputs: inputs.collect(), outputs: outputs.collect() }
}

/// Numbers in -2 .. 2, the same for the same seed.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    (0..count).map(|_| next()).collect()
}

/// Extents of packed weights.
pub fn packed(o: usize, k: usize) -> [usize; 3] {
    [o.div_ceil(PANEL), k, PANEL]
}

/// A matrix of `o` rows rounded to the type, and its panels; two halves an f32.
pub fn stored(element: Element, w: &[f32], o: usize, taps: usize, channels: usize) -> (Vec<f64>, Vec<f32>) {
    let (rounded, packed): (Vec<f64>, Vec<u16>) = match element {
        Element::F16 => {
            let halves: Vec<half::f16> = w.iter().map(|&w| half::f16::from_f32(w)).collect();
            let bits: Vec<u16> = halves.iter().map(|h| h.to_bits()).collect();
            (halves.iter().map(|h| h.to_f64()).collect(), pack_panels(&bits, o, taps * channels))
        }
        _ => {
            let halves: Vec<half::bf16> = w.iter().map(|&w| half::bf16::from_f32(w)).collect();
            let bits: Vec<u16> = halves.iter().map(|h| h.to_bits()).collect();
            (halves.iter().map(|h| h.to_f64()).collect(), pack_pairs(&bits, o, taps, channels))
        }
    };
    let two = |p: &[u16]| f32::from_bits(u32::from(p[0]) | u32::from(p[1]) << 16);
    (rounded, packed.chunks_exact(2).map(two).collect())
}

/// A convolution of `[n, h, w, i]` with `[o, kh, kw, i]`, and the height and width of the result.
pub fn convolve(
    x: &[f32],
    [n, h, w, i]: [usize; 4],
    weights: &[f32],
    b: Option<&[f32]>,
    [kh, kw]: [usize; 2],
    stride: usize,
    pad: [usize; 4],
) -> (Vec<f64>, [usize; 2]) {
    let o = weights.len() / (kh * kw * i);
    let (oh, ow) = ((h + pad[0] + pad[2] - kh) / stride + 1, (w + pad[1] + pad[3] - kw) / stride + 1);
    let element = |e: usize| {
        let (c, ox, oy, s) = (e % o, e / o % ow, e / o / ow % oh, e / o / ow / oh);
        let mut sum = b.map_or(0.0, |b| f64::from(b[c]));
        for t in 0..kh * kw * i {
            let (y, at) = ((oy * stride + t / i / kw).wrapping_sub(pad[0]), (ox * stride + t / i % kw).wrapping_sub(pad[1]));
            if y < h && at < w {
                sum += f64::from(x[((s * h + y) * w + at) * i + t % i]) * f64::from(weights[c * kh * kw * i + t]);
            }
        }
        sum
    };
    ((0..n * oh * ow * o).map(element).collect(), [oh, ow])
}

/// `[n, h, w, c]` with every pixel `f` by `f` times.
pub fn upsampled(x: &[f32], [n, h, w, c]: [usize; 4], f: usize) -> Vec<f32> {
    let element = |e: usize| {
        let (ch, px, line) = (e % c, e / c % (w * f), e / c / (w * f));
        x[((line / (h * f) * h + line % (h * f) / f) * w + px / f) * c + ch]
    };
    (0..n * h * f * w * f * c).map(element).collect()
}

/// The epilogues that a convolution may have, and what each makes of a sum and a residual.
pub fn epilogues() -> Vec<(Epilogue, impl Fn(f64, f64) -> f64)> {
    let both = [false, true].into_iter();
    let all = both
        .flat_map(|residual| [Activation::None, Activation::Relu, Activation::Silu].map(|activation| Epilogue { residual, activation }));
    let meaning = |e: Epilogue| {
        move |v: f64, r: f64| {
            let sum = if e.residual { v + r } else { v };
            match e.activation {
                Activation::None => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Silu => sum / (1.0 + (-sum).exp()),
            }
        }
    };
    all.map(|e| (e, meaning(e))).collect()
}

/// Elements of `[n, h, w, f f c]` as `[n, f h, f w, c]`.
pub fn shuffled(x: &[f64], [h, w, c]: [usize; 3], f: usize) -> Vec<f64> {
    let element = |e: usize| {
        let (ch, px, line) = (e % c, e / c % (w * f), e / c / (w * f));
        let (sample, py) = (line / (h * f), line % (h * f));
        x[((sample * h + py / f) * w + px / f) * c * f * f + ch * f * f + py % f * f + px % f]
    };
    (0..x.len()).map(element).collect()
}

/// Elements of `[n, f h, f w, c]` as `[n, h, w, f f c]`.
pub fn unshuffled(x: &[f64], [h, w, c]: [usize; 3], f: usize) -> Vec<f64> {
    let from = shuffled(&(0..x.len()).map(|i| i as f64).collect::<Vec<_>>(), [h, w, c], f);
    let mut y = vec![0.0; x.len()];
    from.iter().zip(x).for_each(|(&to, &x)| y[to as usize] = x);
    y
}

/// Rows `(c, t)` of a matrix in the order `(t, c)`.
pub fn tiles_first(w: &[f32], o: usize, tiles: usize) -> Vec<f32> {
    let (row, c) = (w.len() / o, o / tiles);
    (0..o).flat_map(|to| w[(to % c * tiles + to / c) * row..][..row].to_vec()).collect()
}

/// Runs the step on every variant with 1, 2 and 5 threads, compares the outputs of the numbers of threads bit
/// by bit, and hands the outputs and a description to `check`. Outputs start as NaN and have canaries behind.
pub fn run_all(step: &Step, inputs: &[&[f32]], check: impl Fn(&[Vec<f32>], &str)) {
    run_on(&Isa::all(), step, inputs, check);
}

/// As [`run_all`], on those variants.
pub fn run_on(isas: &[Isa], step: &Step, inputs: &[&[f32]], check: impl Fn(&[Vec<f32>], &str)) {
    for &isa in isas {
        let outputs = run(step, inputs, isa, 1);
        check(&outputs, &format!("{isa} {:?}", step.outputs[0].shape));
        for threads in [2, 5] {
            let again = run(step, inputs, isa, threads);
            for (a, b) in outputs.iter().zip(&again) {
                let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa}: {threads} threads give other bits than 1 for {:?}", step.kernel);
            }
        }
    }
}

/// The outputs of the step with that many threads, which here take turns.
pub fn run(step: &Step, inputs: &[&[f32]], isa: Isa, threads: usize) -> Vec<Vec<f32>> {
    const CANARY: f32 = 1234.5;
    let task = task(step);
    let needs = task.needs(threads);
    let owns: Vec<Arena> = (0..threads).map(|_| Arena::new(needs.own * 4).expect("memory for a test")).collect();
    let shared = Arena::new(needs.shared * 4).expect("memory for a test");
    let mut outputs: Vec<Vec<f32>> = step.outputs.iter().map(|o| vec![f32::NAN; o.count() + 16]).collect();
    outputs.iter_mut().for_each(|o| {
        let n = o.len();
        o[n - 16..].fill(CANARY);
    });
    let mut args = Args { inputs: [std::ptr::null(); MAX_INPUTS], outputs: [std::ptr::null_mut(); MAX_OUTPUTS] };
    for (i, x) in inputs.iter().enumerate() {
        assert_eq!(size_of_val(*x), step.inputs[i].bytes(), "input {i}");
        args.inputs[i] = x.as_ptr().cast();
    }
    for (i, y) in outputs.iter_mut().enumerate() {
        args.outputs[i] = y.as_mut_ptr().cast();
    }
    for phase in 0..needs.phases {
        for (thread, own) in owns.iter().enumerate() {
            // SAFETY: the arena holds that many f32; this is its only user now.
            let own = unsafe { std::slice::from_raw_parts_mut(own.as_ptr().cast(), needs.own) };
            own.fill(f32::NAN);
            let shared = Scratch::new(shared.as_ptr().cast(), needs.shared);
            // SAFETY: operands of the step's sizes; one thread at a time.
            unsafe { task.run(phase, &args, &mut Worker { isa, threads, own, shared, split: Split::Fixed { thread, taken: 0 } }) };
        }
    }
    for y in &mut outputs {
        let n = y.len() - 16;
        assert!(y[n..].iter().all(|&v| v == CANARY), "written past the end");
        y.truncate(n);
    }
    outputs
}

/// Asserts that every element is within `tolerance` times the magnitude of the whole (its root mean square, or
/// the element's own magnitude if that is greater).
pub fn close(y: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(y.len(), want.len(), "{what}");
    let rms = (want.iter().map(|w| w * w).sum::<f64>() / want.len() as f64).sqrt();
    for (i, (&y, &w)) in y.iter().zip(want).enumerate() {
        let error = (f64::from(y) - w).abs();
        assert!(error <= tolerance * w.abs().max(rms).max(1e-30), "{what}: element {i}: expected {w}, found {y}");
    }
}
