//! Sums over the pixels of a sample, by channel, as blocks of pixels are passed over: partial sums in memory that all threads share, in f32 over
//! a block and in f64 over blocks, in an order that follows from the shapes alone.

use std::ops::Range;

use super::Worker;

/// Pixels of a block.
const PIXELS: usize = 32;

/// Sums of `width` columns for each of `samples` samples of `pixels` pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSums {
    pub samples: usize,
    pub pixels: usize,
    pub width: usize,
}

impl BlockSums {
    fn blocks(&self) -> usize {
        self.pixels.div_ceil(PIXELS)
    }

    /// Blocks of all samples: the units of work.
    pub fn units(&self) -> usize {
        self.samples * self.blocks()
    }

    /// f32 of shared scratch, at its beginning.
    pub fn shared(&self) -> usize {
        self.units() * self.width
    }

    /// The sample of a block, and its rows, counted over all samples.
    pub fn rows(&self, unit: usize) -> (usize, Range<usize>) {
        let (sample, block) = (unit / self.blocks(), unit % self.blocks());
        let first = sample * self.pixels;
        (sample, first + block * PIXELS..first + (block * PIXELS + PIXELS).min(self.pixels))
    }

    /// Where the sums of a block are.
    ///
    /// # Safety
    /// - The unit is this thread's in this phase.
    pub unsafe fn partial<'a>(&self, worker: &Worker<'a>, unit: usize) -> &'a mut [f32] {
        // SAFETY: the caller's contract.
        unsafe { worker.shared.write(unit * self.width..(unit + 1) * self.width) }
    }

    /// Columns `first ..` of a sample's sums.
    ///
    /// # Safety
    /// - The phase in which the blocks were summed has ended.
    pub unsafe fn total(&self, worker: &Worker<'_>, sample: usize, first: usize, sums: &mut [f32]) {
        // SAFETY: nobody writes the partial sums in this phase.
        let partials = unsafe { worker.shared.read(0..self.shared()) };
        for (c, sum) in sums.iter_mut().enumerate() {
            let parts = (0..self.blocks()).map(|b| partials[(sample * self.blocks() + b) * self.width + first + c]);
            *sum = parts.map(f64::from).sum::<f64>() as f32;
        }
    }
}
