//! Encodes a matrix that is known only at run time, as lines of f32: the weights of a product that are themselves computed.

use serde::{Deserialize, Serialize};

use super::{Args, KernelDef, Needs, Rearrange, Signature, Task, Worker};
use crate::check::Fault;
use crate::check::rule::{ensure, rank};
use crate::cost::Cost;
use crate::encoding::{Encoding, Matrix};
use crate::plan::{Form, Operand, PANEL};
use crate::simd::Isa;

/// `x [O, taps * channels] -> W [O, taps, channels]`, encoded as [`Encoding::F32`]. For a convolution whose result is shuffled, rows
/// `(c, dy, dx)` of x become rows `(dy, dx, c)`. Or `x [channels, taps, O] -> W`, taps being in reverse: the weights of a product's gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// The rearrangement of the convolution that has these weights.
    #[serde(default)]
    pub rearrange: Rearrange,
    /// Whether x has rows and channels exchanged and its taps in reverse.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transposed: bool,
}

impl KernelDef for Pack {
    fn signature(&self) -> Signature {
        let mut signature = Signature::of(&["x"], &["W"]);
        signature.outputs[0].form = Form::Encoded(Encoding::F32);
        signature
    }

    fn check(&self, x: &[Operand], y: &[Operand]) -> Result<(), Fault> {
        let [o, taps, channels] = rank("pack.1", "W", &y[0])?;
        let count = o.checked_mul(taps).and_then(|n| n.checked_mul(channels));
        ensure("pack.2", count == Some(x[0].count()), format!("{:?} elements", count), x[0].count())?;
        let tiles = self.tiles();
        ensure("pack.3", tiles.is_some_and(|t| o.is_multiple_of(t)), format!("rows that {tiles:?} divides"), o)?;
        ensure("pack.4", !self.transposed || tiles == Some(1), "rows in their order, of what is transposed", self.rearrange)
    }

    fn cost(&self, x: &[Operand], y: &[Operand]) -> Cost {
        Cost::whole(0, x, y)
    }

    fn task(&self, _: &[Operand], y: &[Operand], _: Isa) -> Box<dyn Task> {
        let matrix = y[0].matrix().expect("checked: W is a matrix");
        if self.transposed {
            return Box::new(Transposed { matrix });
        }
        Box::new(Rows { matrix, tiles: self.tiles().expect("checked: it is a number") })
    }
}

impl Pack {
    /// Pixels that a pixel becomes.
    fn tiles(self) -> Option<usize> {
        match self.rearrange {
            Rearrange::Shuffle { factor } => factor.checked_mul(factor).filter(|&t| t > 0),
            Rearrange::Keep | Rearrange::Unshuffle { .. } => Some(1),
        }
    }
}

/// Lines of a block: 4 KB.
const LINES: usize = 64;

struct Rows {
    matrix: Matrix,
    tiles: usize,
}

impl Task for Rows {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    /// A unit of work is a panel.
    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let Matrix { rows, .. } = self.matrix;
        let k = self.matrix.columns();
        // SAFETY: the task's contract.
        let x = unsafe { args.input(0, rows * k) };
        for panel in worker.units(self.matrix.panels()) {
            // SAFETY: the panel is this thread's.
            let lines = unsafe { args.output_range(0, panel * k * PANEL..(panel + 1) * k * PANEL) };
            // Lines that stay in the nearest cache until all of their lanes are there.
            for (block, lines) in lines.chunks_mut(LINES * PANEL).enumerate() {
                for lane in 0..PANEL {
                    let row = panel * PANEL + lane;
                    // The row of x that becomes this one; there may be none.
                    let source = row % (rows / self.tiles) * self.tiles + row / (rows / self.tiles);
                    let lanes = lines.iter_mut().skip(lane).step_by(PANEL);
                    if row < rows {
                        let values = &x[source * k + block * LINES..(source + 1) * k];
                        lanes.zip(values).for_each(|(to, &v)| *to = v);
                    } else {
                        lanes.for_each(|to| *to = 0.0);
                    }
                }
            }
        }
    }
}

struct Transposed {
    matrix: Matrix,
}

impl Task for Transposed {
    fn needs(&self, _threads: usize) -> Needs {
        Needs::PLAIN
    }

    /// A unit of work is a panel.
    unsafe fn run(&self, _phase: usize, args: &Args, worker: &mut Worker<'_>) {
        let Matrix { rows, taps, channels } = self.matrix;
        let k = self.matrix.columns();
        // SAFETY: the task's contract.
        let x = unsafe { args.input(0, rows * k) };
        for panel in worker.units(self.matrix.panels()) {
            // SAFETY: the panel is this thread's.
            let lines = unsafe { args.output_range(0, panel * k * PANEL..(panel + 1) * k * PANEL) };
            let (first, n) = (panel * PANEL, PANEL.min(rows - panel * PANEL));
            for (i, line) in lines.chunks_exact_mut(PANEL).enumerate() {
                let (tap, channel) = (taps - 1 - i / channels, i % channels);
                line[..n].copy_from_slice(&x[(channel * taps + tap) * rows + first..][..n]);
                line[n..].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run_all, step, tiles_first, values};
    use super::*;

    #[test]
    fn panels_are_those_of_the_artifact() {
        for (o, taps, channels) in [(1, 1, 1), (16, 1, 5), (40, 9, 3), (36, 4, 2)] {
            let m = Matrix { rows: o, taps, channels };
            let x = values(o * taps * channels, 1);
            let bytes = |w: &[f32]| Encoding::F32.encode(w, m).expect("f32 has every number").remove(0);
            let check = |kernel: Pack, want: Vec<u8>| {
                let mut s = step(kernel, &[&[o, taps * channels]], &[&[o, taps, channels]]);
                s.outputs[0].form = Form::Encoded(Encoding::F32);
                run_all(&s, &[&x], |y, what| {
                    assert_eq!(y[0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(), want, "{what}");
                });
            };
            check(Pack::default(), bytes(&x));
            let exchanged: Vec<f32> = (0..x.len())
                .map(|i| {
                    let (tap, channel) = (i / channels % taps, i % channels);
                    x[(channel * taps + taps - 1 - tap) * o + i / channels / taps]
                })
                .collect();
            check(Pack { transposed: true, ..Pack::default() }, bytes(&exchanged));
            if o.is_multiple_of(4) {
                check(Pack { rearrange: Rearrange::Shuffle { factor: 2 }, ..Pack::default() }, bytes(&tiles_first(&x, o, 4)));
            }
        }
    }
}
