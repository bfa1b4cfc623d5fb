//! Runs one step on every variant of this CPU and on several numbers of threads, for the kernels' tests.

use super::{Activation, Args, Epilogue, Kernel, Kind, Scratch, Split, Worker, task};
use crate::arena::Arena;
use crate::encoding::{Encoding, Matrix};
use crate::plan::{Form, Operand, Place, Step};
use crate::simd::Isa;

/// A step with operands of those shapes; where they are does not matter here. Matrices are encoded as lines of f32.
pub fn step(kernel: impl Into<Kernel>, inputs: &[&[usize]], outputs: &[&[usize]]) -> Step {
    step_with(kernel, inputs, outputs, Encoding::F32)
}

/// As [`step`], matrices being encoded so.
pub fn step_with(kernel: impl Into<Kernel>, inputs: &[&[usize]], outputs: &[&[usize]], encoding: Encoding) -> Step {
    let kernel = kernel.into();
    let signature = kernel.signature();
    // Tests of the check give too many or too few.
    let kinds = signature.inputs_of(inputs.len()).unwrap_or(signature.inputs);
    let inputs = inputs.iter().enumerate().map(|(i, s)| Operand {
        at: Place::Input(i),
        form: match kinds.get(i).map(|input| input.kind) {
            Some(Kind::F32 | Kind::Floats) | None => Form::F32,
            Some(Kind::Labels(_)) => Form::I32,
            Some(Kind::Matrix) => Form::Encoded(encoding),
        },
        shape: s.to_vec(),
    });
    let outputs = outputs.iter().zip(&signature.outputs).enumerate().map(|(i, (s, output))| Operand {
        at: Place::Output(i),
        form: output.form,
        shape: s.to_vec(),
    });
    Step { label: "test".into(), inputs: inputs.collect(), outputs: outputs.collect(), kernel }
}

/// Random bits, the same for the same seed.
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Numbers in -2 .. 2, the same for the same seed.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut next = random(seed);
    (0..count).map(|_| (next() >> 40) as f32 / (1u64 << 22) as f32 - 2.0).collect()
}

/// A matrix of `o` rows as lines of f32. How its columns are parted into taps and channels does not matter.
pub fn panels(w: &[f32], o: usize) -> Vec<f32> {
    stored(Encoding::F32, w, [o, 1, w.len() / o]).1
}

/// A matrix `[rows, taps, channels]` as its encoding has it, and the parts, each of whole cache lines.
pub fn stored(encoding: Encoding, w: &[f32], [rows, taps, channels]: [usize; 3]) -> (Vec<f64>, Vec<f32>) {
    let m = Matrix { rows, taps, channels };
    let (decoded, mut parts) = crate::encoding::tests::stored(encoding, w, m);
    parts.iter_mut().for_each(|p| p.resize(p.len().next_multiple_of(LINE), 0.0));
    (decoded, parts.concat())
}

/// f32 of a cache line.
const LINE: usize = 16;

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

/// The epilogues that a convolution may have, whether there is a residual, and what each makes of a sum and a residual.
pub fn epilogues() -> Vec<(Epilogue, bool, impl Fn(f64, f64) -> f64)> {
    let activations = [Activation::None, Activation::Relu, Activation::Silu];
    let all = [false, true].into_iter().flat_map(|residual| activations.map(|activation| (residual, activation)));
    let meaning = |(residual, activation): (bool, Activation)| {
        move |v: f64, r: f64| {
            let sum = if residual { v + r } else { v };
            match activation {
                Activation::None => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Silu => sum / (1.0 + (-sum).exp()),
            }
        }
    };
    all.map(|(residual, activation)| (Epilogue::Activate { residual, activation }, residual, meaning((residual, activation)))).collect()
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
/// by bit, and hands the outputs and a description to `check`. Outputs start as NaN and have canaries behind. Then
/// as [`reproducible`].
pub fn run_all(step: &Step, inputs: &[&[f32]], check: impl Fn(&[Vec<f32>], &str)) {
    run_on(&Isa::all(), step, inputs, check);
    reproducible(step, inputs);
}

/// Asserts that every set of this CPU gives the same bits where the plan is reproducible, of NaN but that they are NaN.
pub fn reproducible(step: &Step, inputs: &[&[f32]]) {
    let scalar = Isa::SCALAR.reproducible();
    let want = run(step, inputs, scalar, 1);
    for isa in Isa::all().into_iter().map(Isa::reproducible) {
        for (found, want) in run(step, inputs, isa, 2).iter().zip(&want) {
            for (i, (f, w)) in found.iter().zip(want).enumerate() {
                let same = f.to_bits() == w.to_bits() || f.is_nan() && w.is_nan();
                assert!(same, "{isa}, reproducible: {:?}: element {i}: {scalar} gives {w:e}, found {f:e}", step.kernel);
            }
        }
    }
}

/// Runs the step on those variants, as [`run_all`] does.
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

/// Runs the step with its output where each of the inputs is whose place it may take, and compares with the output apart.
pub fn run_in_place(step: &Step, inputs: &[&[f32]]) {
    let takes = step.kernel.signature().outputs[0].takes;
    assert!(!takes.is_empty(), "{:?} takes no input's place", step.kernel);
    for isa in Isa::all() {
        let apart = run(step, inputs, isa, 1);
        for &input in takes.iter().filter(|&&i| inputs[i].len() == apart[0].len()) {
            for threads in [1, 2] {
                let within = run_at(step, inputs, isa, threads, Some(input));
                let same = apart[0].iter().zip(&within[0]).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa}: {:?} in place of input {input}", step.kernel);
            }
        }
    }
}

/// The outputs of the step with that many threads, which here take turns.
pub fn run(step: &Step, inputs: &[&[f32]], isa: Isa, threads: usize) -> Vec<Vec<f32>> {
    run_at(step, inputs, isa, threads, None)
}

/// As [`run`], the first output lying where that input is.
fn run_at(step: &Step, inputs: &[&[f32]], isa: Isa, threads: usize, within: Option<usize>) -> Vec<Vec<f32>> {
    const CANARY: f32 = 1234.5;
    let task = task(step, isa);
    let needs = task.needs(threads);
    let owns: Vec<Arena> = (0..threads).map(|_| Arena::new(needs.own * 4).expect("memory for a test")).collect();
    let shared = Arena::new(needs.shared * 4).expect("memory for a test");
    let mut outputs: Vec<Vec<f32>> = step.outputs.iter().map(|o| vec![f32::NAN; o.bytes() / 4 + 16]).collect();
    if let Some(input) = within {
        outputs[0][..inputs[input].len()].copy_from_slice(inputs[input]);
    }
    outputs.iter_mut().for_each(|o| {
        let n = o.len();
        o[n - 16..].fill(CANARY);
    });
    let mut args = Args::NONE;
    for (i, y) in outputs.iter_mut().enumerate() {
        args.outputs[i] = y.as_mut_ptr().cast();
    }
    for (i, (x, operand)) in inputs.iter().zip(&step.inputs).enumerate() {
        args.inputs[i][0] = if within == Some(i) { args.outputs[0].cast_const() } else { x.as_ptr().cast() };
        if let (Form::Encoded(encoding), Some(m)) = (operand.form, operand.matrix()) {
            let mut at = 0;
            for (part, address) in encoding.parts(m).iter().zip(&mut args.inputs[i]) {
                *address = x[at..].as_ptr().cast();
                at += (part.bytes() / 4).next_multiple_of(LINE);
            }
            assert_eq!(at, x.len(), "input {i}");
        } else {
            assert_eq!(size_of_val(*x), operand.bytes(), "input {i}");
        }
    }
    for phase in 0..needs.phases {
        for (thread, own) in owns.iter().enumerate() {
            // SAFETY: the arena holds that many f32; this is its only user now.
            let own = unsafe { std::slice::from_raw_parts_mut(own.as_ptr().cast(), needs.own) };
            own.fill(f32::NAN);
            let shared = Scratch::new(shared.as_ptr().cast(), needs.shared);
            // SAFETY: operands of the step's sizes; one thread at a time.
            unsafe { task.run(phase, &args, &mut Worker { threads, own, shared, split: Split::Fixed { thread, taken: 0 } }) };
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
