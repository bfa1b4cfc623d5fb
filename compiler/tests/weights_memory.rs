//! Making the tensors of an artifact takes memory for a piece of a weight, not for the weight. A test of its own, since the
//! allocator's count is the whole process's.
#![allow(clippy::unwrap_used)]
#![forbid(unsafe_code)]

use std::ops::Range;

use fcdm_compiler::assemble::{EntryPoint, TOGETHER, assemble};
use fcdm_compiler::target::Target;
use fcdm_compiler::weights::{WeightError, WeightSource};
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::text::parse_module;
use fcdm_runtime::plan::PANEL;
use fcdm_runtime::threads;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Panels of 8000 output channels of 3 x 3 x 300 inputs, and a dense table of 9000 x 1000.
const IR: &str = "weight @w : f32[8000,3,3,300]
weight @table : f32[9000,1000]

fn @denoise(%x: f32[1,4,4,300], %y: i32[1]) {
  %c = conv2d %x, @w {stride=1, pad=[1,1,1,1]} : f32[1,4,4,8000]
  %e = embedding @table, %y : f32[1,1000]
  return c=%c, e=%e
}
";

/// What memory may hold at most: for every thread a piece as it is read and what is made of it, and one more in passing, 4 MB each.
fn most() -> usize {
    (2 * threads::available().clamp(1, TOGETHER) + 1) * (1 << 22) + (1 << 20)
}

/// Element i of a weight is i, as far as f32 has it.
struct Counting;

impl WeightSource for Counting {
    fn load(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        Err(WeightError::Missing(format!("{name}, all at once")))
    }

    fn load_rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, WeightError> {
        let row = if name == "w" { 2700 } else { 1000 };
        Ok((rows.start * row..rows.end * row).map(|i| i as f32).collect())
    }
}

#[test]
fn weights_are_made_in_pieces() {
    let (module, _) = parse_module("test", IR).unwrap();
    let entries = module.functions.into_iter().map(|function| EntryPoint::new(function, 1)).collect();
    let assembly = assemble(entries, None, &Target::CPU.with_winograd(Winograd::Never)).unwrap();
    for (name, o, row) in [("w.panels", 8000, 2700), ("table.panels", 9008, 1000)] {
        let usage = &assembly.weights[name];
        let stored = &usage.stored()[0];
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut done = 0;
        let mut take = |piece: Vec<u8>| {
            for (i, v) in piece.chunks_exact(4).enumerate() {
                let v = f32::from_le_bytes(v.try_into().unwrap());
                let at = done + i;
                let (panel, k, lane) = (at / (PANEL * row), at / PANEL % row, at % PANEL);
                let expected = (panel * PANEL + lane) * row + k;
                // The table's last panel has rows that there are not.
                let there = panel * PANEL + lane < usage.ty.shape[0];
                assert_eq!(v, if there { expected as f32 } else { 0.0 }, "{name}: {at}");
            }
            done += piece.len() / 4;
            Ok::<(), WeightError>(())
        };
        assembly.pieces(usage, stored, &Counting, &mut take).unwrap();
        assert_eq!(done, o * row, "{name}");
        let peak = ALLOCATOR.peak_usage() - before;
        assert!(peak <= most(), "{name}: {peak} bytes for {} of the weight", 4 * done);
    }
}
