//! What the network is conditioned on: timesteps and labels. Small; the point here is the exact definition.

use serde::{Deserialize, Serialize};

use super::{Args, KernelDef, Kind, Needs, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, matrix, rank, shape};
use crate::cost::{Cost, size};
use crate::encoding::{At, Encoding, EncodingDef, Matrix, Parts, encodings, of_encoding};
use crate::plan::{Form, Operand, PANEL};
use crate::simd::{Isa, Simd, variants};

/// `t [N] -> [N,dim]`: `cos(t f)`, then `sin(t f)`, `f_i = exp(-ln(10000) i / half)`, `half = dim / 2`.
/// Exponent, f and t f are f32 by definition; cosine and sine of that product are computed in f64 and rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestepEmbedding {}

/// `-> f [dim/2]`, the frequencies of [`TimestepEmbedding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestepFrequencies {}

/// `table [R,W], labels [N] i32 -> [N,W]`. The table is a matrix `[R, 1, W]` in an encoding. A label outside of it is the caller's error,
/// refused before `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embedding {}

/// `labels [N] i32 -> [N,depth]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneHot {}

impl KernelDef for TimestepEmbedding {
    fn signature(&self) -> Signature {
        Signature::of(&["t"], &["y"])
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let ([n], [_, dim]) = (rank("timestep_embedding.1", "t", &x[0])?, rank("timestep_embedding.2", "y", &y[0])?);
        ensure("timestep_embedding.3", dim % 2 == 0, "an even width", dim)?;
        shape("timestep_embedding.4", "y", &y[0], &[n, dim])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], _: Isa) -> Box<dyn Task> {
        Box::new(Angles { rows: y[0].shape[0], frequencies: frequencies(y[0].shape[1] / 2) })
    }
}

impl KernelDef for TimestepFrequencies {
    fn signature(&self) -> Signature {
        Signature::of(&[], &["f"])
    }

    fn check(&self, _: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        rank::<1>("timestep_frequencies.1", "f", &y[0]).map(|_| ())
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], _: Isa) -> Box<dyn Task> {
        Box::new(Frequencies(frequencies(y[0].shape[0])))
    }
}

impl KernelDef for Embedding {
    fn signature(&self) -> Signature {
        Signature::of(&["table", "labels"], &["y"]).with("table", Kind::Matrix).with("labels", Kind::Labels(|x, _| x[0].shape[0]))
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let ([rows, _, width], [n]) = (rank("embedding.1", "table", &x[0])?, rank("embedding.2", "labels", &x[1])?);
        matrix("embedding.1", &x[0], Matrix { rows, taps: 1, channels: width })?;
        shape("embedding.3", "y", &y[0], &[n, width])
    }

    /// The rows that are looked up, not the table.
    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost { macs: 0, bytes: size(&y[0]).saturating_mul(2).saturating_add(size(&x[1])) }
    }

    fn task(&self, x: &[Operand], y: &[Operand], isa: Isa) -> Box<dyn Task> {
        let (Form::Encoded(encoding), Some(table)) = (x[0].form, x[0].matrix()) else { unreachable!("checked: the table is encoded") };
        Box::new(Lookup { rows: y[0].shape[0], encoding, table, run: row_of(isa) })
    }
}

impl KernelDef for OneHot {
    fn signature(&self) -> Signature {
        Signature::of(&["labels"], &["y"]).with("labels", Kind::Labels(|_, y| y[0].shape[1]))
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let ([n], [_, depth]) = (rank("one_hot.1", "labels", &x[0])?, rank("one_hot.2", "y", &y[0])?);
        shape("one_hot.3", "y", &y[0], &[n, depth])
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], _: Isa) -> Box<dyn Task> {
        Box::new(Hot { rows: y[0].shape[0], depth: y[0].shape[1] })
    }
}

struct Angles {
    rows: usize,
    frequencies: Vec<f32>,
}

struct Frequencies(Vec<f32>);

struct Lookup {
    rows: usize,
    encoding: Encoding,
    table: Matrix,
    run: RowOf,
}

variants! {
    /// A row of a matrix with one tap.
    ///
    /// # Safety
    /// - The parts are those of the matrix, which has that row; `out` is as long as a row.
    unsafe fn row_of(parts: &Parts, row: usize, out: &mut [f32]) as RowOf = row_of_body
}

#[inline(always)]
unsafe fn row_of_body<S: Simd>(s: S, parts: &Parts, row: usize, out: &mut [f32]) {
    let (panel, lane) = (row / PANEL, row % PANEL);
    let (first, lane) = (lane / S::LANES * S::LANES, lane % S::LANES);
    let mut lanes = [0.0; PANEL];
    for (channel, out) in out.iter_mut().enumerate() {
        let at = At { panel, tap: 0, channel };
        // SAFETY: the caller's contract; no vector is longer than a panel.
        unsafe { s.store(lanes.as_mut_ptr(), encodings! { of_encoding { (parts.encoding) E => E::lanes(s, parts, at, first); } }) };
        *out = lanes[lane];
    }
}

struct Hot {
    rows: usize,
    depth: usize,
}

/// Of FCDM's 128 frequencies, those where PyTorch's float32 exponential (CPU, 2.x) lies one unit in the last place
/// above the correctly rounded one. Networks were trained and evaluated with PyTorch's values; at t = 999 one unit
/// moves a feature by 5e-5.
const PYTORCH_ONE_UP: [usize; 2] = [12, 106];

/// Exponential, cosine and sine are `libm`'s, whose bits are the same on every machine.
fn frequencies(half: usize) -> Vec<f32> {
    let rate = (-libm::log(10000.0) / half as f64) as f32;
    let frequency = |i: usize| {
        let f = libm::exp(f64::from(i as f32 * rate)) as f32;
        if half == 128 && PYTORCH_ONE_UP.contains(&i) { f.next_up() } else { f }
    };
    (0..half).map(frequency).collect()
}

impl Task for Angles {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        // SAFETY: the task's contract.
        let t = unsafe { args.input(0, self.rows) };
        let half = self.frequencies.len();
        for n in worker.units(self.rows) {
            // SAFETY: the task's contract; row n is this thread's.
            let (cos, sin) = unsafe { args.output_range(0, n * 2 * half..(n + 1) * 2 * half) }.split_at_mut(half);
            for ((cos, sin), f) in cos.iter_mut().zip(sin).zip(&self.frequencies) {
                let angle = f64::from(t[n] * f);
                *cos = libm::cos(angle) as f32;
                *sin = libm::sin(angle) as f32;
            }
        }
    }
}

impl Task for Frequencies {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        for part in worker.units(1) {
            debug_assert_eq!(part, 0);
            // SAFETY: the task's contract; the one unit is this thread's.
            unsafe { args.output_range(0, 0..self.0.len()) }.copy_from_slice(&self.0);
        }
    }
}

impl Task for Lookup {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        // SAFETY: the task's contract.
        let y = unsafe { args.labels(1, self.rows) };
        let (table, width) = (Parts { encoding: self.encoding, matrix: self.table, addresses: args.inputs[0] }, self.table.channels);
        for n in worker.units(self.rows) {
            // SAFETY: the task's contract; labels are rows of the table; row n is this thread's.
            unsafe { (self.run)(&table, y[n] as usize, args.output_range(0, n * width..(n + 1) * width)) };
        }
    }
}

impl Task for Hot {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        // SAFETY: the task's contract.
        let y = unsafe { args.labels(0, self.rows) };
        for n in worker.units(self.rows) {
            // SAFETY: the task's contract; row n is this thread's.
            let row = unsafe { args.output_range(0, n * self.depth..(n + 1) * self.depth) };
            row.fill(0.0);
            row[y[n] as usize] = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, run_all, step, step_with, stored, values};
    use super::*;

    #[test]
    fn timesteps() {
        let t = [0.0, 0.5, 999.0];
        let s = step(TimestepEmbedding {}, &[&[3]], &[&[3, 256]]);
        run_all(&s, &[&t], |y, what| {
            let f = frequencies(128);
            let angle = |n: usize, i: usize| f64::from(t[n] * f[i]);
            let want = (0..3 * 256).map(|k| {
                let (n, i) = (k / 256, k % 256);
                if i < 128 { angle(n, i).cos() } else { angle(n, i - 128).sin() }
            });
            close(&y[0], &want.collect::<Vec<_>>(), 1e-7, what);
        });
        run_all(&step(TimestepFrequencies {}, &[], &[&[128]]), &[], |y, what| assert_eq!(y[0], frequencies(128), "{what}"));
        assert_eq!(frequencies(128)[0], 1.0);
        assert!((f64::from(frequencies(128)[64]) - 0.01).abs() < 1e-8);
    }

    /// Labels travel as the bits of f32 in the tests' inputs.
    fn labels(y: &[i32]) -> Vec<f32> {
        y.iter().map(|&y| f32::from_bits(y as u32)).collect()
    }

    #[test]
    fn rows_of_the_table() {
        for &encoding in Encoding::ALL {
            let (table, stored) = stored(encoding, &values(35 * 7, 1), [35, 1, 7]);
            let s = step_with(Embedding {}, &[&[35, 1, 7], &[4]], &[&[4, 7]], encoding);
            run_all(&s, &[&stored, &labels(&[34, 0, 19, 19])], |y, what| {
                let want: Vec<f64> = [34, 0, 19, 19].iter().flat_map(|&r| table[r * 7..r * 7 + 7].to_vec()).collect();
                assert_eq!(y[0].iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), want, "{encoding:?} {what}");
            });
        }
        let s = step(OneHot {}, &[&[2]], &[&[2, 3]]);
        run_all(&s, &[&labels(&[2, 0])], |y, _| assert_eq!(y[0], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]));
    }
}
