//! How a product is parted among threads: a grid of row ranges by panel ranges, chosen by a small model of the
//! cost. The choice moves whole units of rows and whole panels; it cannot change results.

use std::ops::Range;

use crate::kernels::part;

/// Threads along rows and along panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    rows: usize,
    panels: usize,
}

impl Grid {
    /// The grid under which the busiest of `threads` threads has least to do, for `units` of `unit` rows each.
    ///
    /// Costs in cycles per k: 2 for a row of a panel (32 multiply-adds at 16 a cycle), 1 to gather a row's
    /// element, 8 to bring in a panel's 32 weights.
    pub fn choose(units: usize, unit: usize, panels: usize, threads: usize) -> Grid {
        let cost = |g: Grid| {
            let (rows, panels) = (units.div_ceil(g.rows) * unit, panels.div_ceil(g.panels));
            rows * panels * 2 + rows + panels * 8
        };
        let grids = (1..=threads).map(|rows| Grid { rows, panels: threads / rows });
        grids.min_by_key(|&g| cost(g)).unwrap_or(Grid { rows: 1, panels: 1 })
    }

    /// The units and the panels of thread `thread`; none for threads outside of the grid.
    pub fn share(self, thread: usize, units: usize, panels: usize) -> (Range<usize>, Range<usize>) {
        if thread >= self.rows * self.panels {
            return (0..0, 0..0);
        }
        (part(units, thread / self.panels, self.rows), part(panels, thread % self.panels, self.panels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_once() {
        for threads in 1..=17 {
            for (units, panels) in [(1, 1), (1, 48), (85, 1), (6, 128), (7, 5)] {
                let grid = Grid::choose(units, 12, panels, threads);
                let mut cells = vec![0; units * panels];
                for t in 0..threads {
                    let (u, p) = grid.share(t, units, panels);
                    u.for_each(|u| p.clone().for_each(|p| cells[u * panels + p] += 1));
                }
                assert!(cells.iter().all(|&n| n == 1), "{threads} threads, {units} x {panels}");
            }
        }
    }

    #[test]
    fn one_row_is_parted_by_panels_and_a_narrow_product_by_rows() {
        assert_eq!(Grid::choose(1, 12, 48, 2), Grid { rows: 1, panels: 2 });
        assert_eq!(Grid::choose(85, 12, 1, 4), Grid { rows: 4, panels: 1 });
    }
}
