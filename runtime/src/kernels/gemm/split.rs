//! In which order a product visits rows and columns, and so how it is parted among threads: chosen by a small model of
//! the cost. Whole units of rows and whole groups of columns move; the choice cannot change results.

use super::micro::GROUP;

/// The order, from the outside in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A thread takes a block of rows, which stays in its L2 while all weights pass over it: for many rows.
    RowsFirst,
    /// A thread takes a group of columns, whose weights are read once for all rows of one of `parts` parts: for few rows.
    ColumnsFirst { parts: usize },
}

/// Extents of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub rows: usize,
    /// Units of rows, of at most `unit` rows each.
    pub units: usize,
    pub unit: usize,
    /// Groups of columns.
    pub groups: usize,
    pub k: usize,
    /// Rows of a block under [`Order::RowsFirst`].
    pub block: usize,
}

impl Order {
    /// The order under which the busiest of `threads` threads has least to do.
    ///
    /// Costs in cycles per k: 2 for a row of a group (32 multiply-adds at 16 a cycle); to bring in a group's 32 weights,
    /// 8 from memory, 16 if every thread does, and 4 from a cache; to bring in a row's element once more, 1/8 from L2 and 1/4 from L3.
    pub fn choose(e: Extents, threads: usize) -> Order {
        let cost = |order: Order| match order {
            Order::RowsFirst => {
                let rows = (e.units.div_ceil(threads) * e.unit).min(e.rows);
                rows * e.groups * 2 + e.groups * (16 + 4 * rows.div_ceil(e.block))
            }
            Order::ColumnsFirst { parts } => {
                let rows = (e.units.div_ceil(parts) * e.unit).min(e.rows);
                let again = if rows * e.k * 4 <= 1 << 18 { rows / 8 } else { rows / 4 };
                (parts * e.groups).div_ceil(threads) * (rows * 2 + 8 + again)
            }
        };
        let columns = (1..=threads.min(e.units)).map(|parts| Order::ColumnsFirst { parts });
        columns.chain([Order::RowsFirst]).min_by_key(|&o| cost(o)).unwrap_or(Order::RowsFirst)
    }
}

impl Extents {
    /// Columns rounded up to whole groups.
    pub fn groups(columns: usize) -> usize {
        columns.div_ceil(GROUP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(rows: usize, columns: usize, k: usize, threads: usize) -> Order {
        Order::choose(Extents { rows, units: rows.div_ceil(12), unit: 12, groups: Extents::groups(columns), k, block: 48 }, threads)
    }

    #[test]
    fn few_rows_read_their_weights_once_and_many_rows_stay_in_cache() {
        assert_eq!(choose(64, 6144, 2048, 2), Order::ColumnsFirst { parts: 1 });
        assert_eq!(choose(1, 1536, 512, 2), Order::ColumnsFirst { parts: 1 });
        assert_eq!(choose(1024, 384, 128, 2), Order::RowsFirst);
        assert_eq!(choose(4096, 1536, 512, 2), Order::RowsFirst);
    }

    #[test]
    fn few_columns_are_parted_by_rows_too() {
        assert!(matches!(choose(64, 64, 4096, 8), Order::ColumnsFirst { parts: 3.. } | Order::RowsFirst));
    }
}
