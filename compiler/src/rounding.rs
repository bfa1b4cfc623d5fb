//! Rounding of weights that minimises the error of what a product computes, not that of the weights themselves: GPTQ (arXiv 2210.17323)
//! in the form of LDLQ (arXiv 2307.13304).
//!
//! A row w multiplies inputs x. With q in its place the squared error over all inputs is `(w - q) H (w - q)^T`, `H = sum x x^T`. With `H = L
//! L^T`, L lower triangular, it is `|e L|^2`, `e = w - q`, whose element j is `e_j L_jj + sum over k > j of e_k L_kj`: column by column,
//! the last first, q_j is what is nearest to `w_j + sum over k > j of e_k L_kj / L_jj`, so that each column makes up for the errors of
//! those before it. A convolution's columns are its taps times its channels, all of which go into one H. Columns of very wide products are
//! in blocks that know nothing of each other, for H grows as their square.
//!
//! The error of column j counts `L_jj^2` in the end: steps are those of the least error so weighed. Columns are taken in the order of `H_jj`,
//! so that the greatest are rounded while all others can still make up for them; of four bits that is worth 0.5 to 5 dB of a product.

use std::ops::Range;

use fcdm_runtime::encoding::{Encoding, Matrix, Steps};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayBase, ArrayViewMut2, Axis, Ix2, RawData, Slice};

/// Another number than before wherever the same inputs are rounded otherwise: what was kept is made anew then.
pub const METHOD: u32 = 2;

/// What is added to the diagonal, of its mean: inputs that were not seen are not free to be anything.
const DAMPING: f32 = 0.01;

/// Columns that are rounded before the others hear of their errors.
const BLOCK: usize = 64;

/// Rows of a matrix that are rounded together.
const ROWS: usize = 128;

/// Columns of a block, at the most.
const WIDEST: usize = 8192;

/// Columns whose products with those behind them are summed together.
const SUMMED: usize = 256;

/// The blocks of so many columns: as few as may be, of equal width but for the last.
fn blocks(columns: usize) -> impl Iterator<Item = Range<usize>> {
    let width = columns.div_ceil(columns.div_ceil(WIDEST).max(1)).max(1);
    (0..columns).step_by(width).map(move |first| first..columns.min(first + width))
}

/// What is known of the inputs of a product: sums over rows that were seen, by their weights.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `sum x x^T` of every block of columns; above the diagonal there is nothing.
    products: Vec<Array2<f32>>,
    /// `sum x`.
    sums: Vec<f64>,
    /// Of how much, by the weights that rows have.
    weight: f64,
}

impl Inputs {
    /// Of inputs of so many elements, none of which were seen.
    pub fn new(columns: usize) -> Inputs {
        let products = blocks(columns).map(|block| Array2::zeros((block.len(), block.len()))).collect();
        Inputs { products, sums: vec![0.0; columns], weight: 0.0 }
    }

    /// Bytes of those of so many columns.
    pub fn bytes(columns: usize) -> usize {
        blocks(columns).map(|block| 4 * block.len() * block.len()).sum::<usize>() + 8 * columns
    }

    /// Elements of an input.
    pub fn columns(&self) -> usize {
        self.sums.len()
    }

    /// Takes in rows `[n, K]`, whose errors count so much each.
    ///
    /// # Panics
    /// If these are no whole rows, or other than there are weights.
    pub fn see(&mut self, rows: &[f32], weights: &[f32]) {
        let k = self.columns();
        assert_eq!(rows.len(), k * weights.len(), "as many rows as weights");
        let mut x = Array2::from_shape_vec((weights.len(), k), rows.to_vec()).expect("whole rows");
        for (mut row, &weight) in x.rows_mut().into_iter().zip(weights) {
            self.sums.iter_mut().zip(&row).for_each(|(sum, &v)| *sum += f64::from(v * weight));
            self.weight += f64::from(weight);
            row.mapv_inplace(|v| v * weight.sqrt());
        }
        for (block, products) in blocks(k).zip(&mut self.products) {
            let n = block.len();
            let x = part(x.view(), 0..weights.len(), block);
            for first in (0..n).step_by(SUMMED) {
                let end = (first + SUMMED).min(n);
                let behind = part(x.view(), 0..weights.len(), first..n);
                let these = part(x.view(), 0..weights.len(), first..end);
                general_mat_mul(1.0, &behind.t(), &these, 1.0, &mut part(products.view_mut(), first..n, first..end));
            }
        }
    }

    /// Whether every sum is a number.
    pub fn is_finite(&self) -> bool {
        self.products.iter().flatten().all(|v| v.is_finite())
    }

    /// The mean input.
    pub fn mean(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| if self.weight > 0.0 { sum / self.weight } else { 0.0 }).collect()
    }

    /// What rounding needs of it. Works on so many threads.
    pub fn feedback(self, threads: usize) -> Feedback {
        Feedback(self.products.into_iter().map(|h| ColumnFeedback::of(h, threads)).collect())
    }
}

/// Puts the columns of a symmetric matrix, of which only the lower triangle counts, and its rows into ascending order of the diagonal; returns
/// which column is where.
fn ascending(h: &mut Array2<f32>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..h.nrows()).collect();
    order.sort_by(|&a, &b| h[[a, a]].total_cmp(&h[[b, b]]));
    let mut at: Vec<usize> = (0..order.len()).collect();
    let mut place = at.clone();
    for (p, &column) in order.iter().enumerate() {
        let q = place[column];
        exchange(h, p, q);
        at.swap(p, q);
        place[at[q]] = q;
        place[at[p]] = p;
    }
    order
}

/// Exchanges columns and rows p and q, p <= q, of such a matrix.
fn exchange(h: &mut Array2<f32>, p: usize, q: usize) {
    if p == q {
        return;
    }
    h.swap([p, p], [q, q]);
    (0..p).for_each(|i| h.swap([p, i], [q, i]));
    (p + 1..q).for_each(|i| h.swap([i, p], [q, i]));
    (q + 1..h.nrows()).for_each(|i| h.swap([i, p], [i, q]));
}

/// Some rows and columns of a view.
fn part<S: RawData<Elem = f32>>(mut a: ArrayBase<S, Ix2>, rows: Range<usize>, columns: Range<usize>) -> ArrayBase<S, Ix2> {
    a.slice_axis_inplace(Axis(0), Slice::from(rows));
    a.slice_axis_inplace(Axis(1), Slice::from(columns));
    a
}

/// The lower triangle of a positive definite matrix becomes its factor L (Cholesky), block by block; what is above the diagonal stays.
fn factorise(h: &mut Array2<f32>, threads: usize) {
    let n = h.nrows();
    for first in (0..n).step_by(BLOCK) {
        let end = (first + BLOCK).min(n);
        let (done, mut rest) = h.view_mut().split_at(Axis(1), first);
        // What the columns before take away, of all rows from here on.
        let (below, these) = (part(done.view(), first..n, 0..first), part(done.view(), first..end, 0..first));
        let mut block = part(rest.view_mut(), first..n, 0..end - first);
        let each = (n - first).div_ceil(threads.max(1)).next_multiple_of(BLOCK);
        std::thread::scope(|scope| {
            for (below, mut block) in below.axis_chunks_iter(Axis(0), each).zip(block.axis_chunks_iter_mut(Axis(0), each)) {
                let these = these.t();
                scope.spawn(move || general_mat_mul(-1.0, &below, &these, 1.0, &mut block));
            }
        });
        factorise_columns(block);
    }
}

/// The same of some columns, from the diagonal down, of which nothing is to be taken away any more but by each other.
fn factorise_columns(mut block: ArrayViewMut2<'_, f32>) {
    for j in 0..block.ncols() {
        let taken: f32 = (0..j).map(|i| block[[j, i]] * block[[j, i]]).sum();
        // Rounding may leave less than nothing of a column that those before make up almost all of.
        let diagonal = (block[[j, j]] - taken).max(f32::MIN_POSITIVE).sqrt();
        block[[j, j]] = diagonal;
        for r in j + 1..block.nrows() {
            let taken: f32 = (0..j).map(|i| block[[r, i]] * block[[j, i]]).sum();
            block[[r, j]] = (block[[r, j]] - taken) / diagonal;
        }
    }
}

/// How the error of a column is made up for by those before it, of every block of columns.
#[derive(Clone, Debug)]
pub struct Feedback(Vec<ColumnFeedback>);

/// Of a block.
#[derive(Clone, Debug)]
struct ColumnFeedback {
    /// Its columns, in the order in which L has them.
    order: Vec<usize>,
    /// `L_kj / L_jj`, k > j.
    rates: Array2<f32>,
    /// `L_jj^2`.
    importance: Vec<f32>,
}

impl ColumnFeedback {
    fn of(mut h: Array2<f32>, threads: usize) -> ColumnFeedback {
        let k = h.nrows();
        let mean = (0..k).map(|i| f64::from(h[[i, i]])).sum::<f64>() / k.max(1) as f64;
        // Of inputs that were all zero nothing is known.
        let damping = if mean > 0.0 { DAMPING * mean as f32 } else { 1.0 };
        (0..k).for_each(|i| h[[i, i]] += damping);
        let order = ascending(&mut h);
        factorise(&mut h, threads);
        let importance = h.diag().mapv(|v| v * v).to_vec();
        for j in 0..k {
            let rate = 1.0 / h[[j, j]];
            part(h.view_mut(), j..k, j..j + 1).mapv_inplace(|v| v * rate);
        }
        ColumnFeedback { order, rates: h, importance }
    }
}

impl Feedback {
    /// What the error of every column counts.
    fn importance(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.0.iter().map(|block| block.order.len()).sum()];
        let mut first = 0;
        for block in &self.0 {
            block.order.iter().zip(&block.importance).for_each(|(&column, &importance)| all[first + column] = importance);
            first += block.order.len();
        }
        all
    }
}

/// A matrix of whole numbers.
#[derive(Clone, Debug)]
pub struct Rounded {
    /// `[rows, taps, channels]`.
    pub numbers: Vec<i8>,
    /// What they are worth.
    pub steps: Steps,
    /// What was rounded away, `values - numbers * steps`.
    pub errors: Vec<f32>,
}

impl Rounded {
    /// What a row's product is short of on average, for inputs of that mean: what belongs into its bias.
    pub fn shortfall(&self, mean: &[f64]) -> Vec<f64> {
        self.errors.chunks_exact(mean.len().max(1)).map(|row| row.iter().zip(mean).map(|(&e, m)| f64::from(e) * m).sum()).collect()
    }
}

/// Rounds values `[rows, taps, channels]` to an encoding's whole numbers.
///
/// # Panics
/// If the encoding is of floats, or the inputs had another number of elements.
pub fn round(values: &[f32], m: Matrix, encoding: Encoding, feedback: &Feedback, threads: usize) -> Rounded {
    let (k, importance) = (m.columns(), feedback.importance());
    assert_eq!(importance.len(), k, "columns of {m:?}");
    let (steps, range) = encoding.steps(values, m, &importance).zip(encoding.range()).expect("an encoding of whole numbers");
    let (mut numbers, mut errors) = (vec![0i8; values.len()], vec![0.0f32; values.len()]);
    let each = m.rows.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (part, (numbers, errors)) in numbers.chunks_mut(each * k).zip(errors.chunks_mut(each * k)).enumerate() {
            let (steps, values) = (&steps, &values[part * each * k..]);
            scope.spawn(move || {
                for (chunk, (numbers, errors)) in numbers.chunks_mut(ROWS * k).zip(errors.chunks_mut(ROWS * k)).enumerate() {
                    let first = part * each + chunk * ROWS;
                    let values = &values[chunk * ROWS * k..][..numbers.len()];
                    round_rows(values, first, m, steps, range, feedback, numbers, errors);
                }
            });
        }
    });
    Rounded { numbers, steps, errors }
}

/// Rows from `first` on.
#[allow(clippy::too_many_arguments)]
fn round_rows(
    values: &[f32],
    first: usize,
    m: Matrix,
    steps: &Steps,
    [least, most]: [f32; 2],
    feedback: &Feedback,
    numbers: &mut [i8],
    errors: &mut [f32],
) {
    let k = m.columns();
    let rows = values.len() / k;
    for (columns, ColumnFeedback { order, rates, .. }) in blocks(k).zip(&feedback.0) {
        let n = order.len();
        let place = |r: usize, i: usize| r * k + columns.start + order[i];
        let mut wanted = Array2::from_shape_fn((rows, n), |(r, i)| values[place(r, i)]);
        let mut known = Array2::<f32>::zeros((rows, n));
        for start in (0..n).step_by(BLOCK).collect::<Vec<_>>().into_iter().rev() {
            let end = (start + BLOCK).min(n);
            let mut wanted = part(wanted.view_mut(), 0..rows, start..end);
            general_mat_mul(1.0, &part(known.view(), 0..rows, end..n), &part(rates.view(), end..n, start..end), 1.0, &mut wanted);
            for (r, (mut wanted, mut known)) in wanted.rows_mut().into_iter().zip(known.rows_mut()).enumerate() {
                let wanted = wanted.as_slice_mut().expect("a row is in one piece");
                for i in (start..end).rev() {
                    let (at, column) = (place(r, i), columns.start + order[i]);
                    let step = steps.at(m, first + r, column / m.channels, column % m.channels);
                    // Without steps there is 0 alone; NaN becomes 0, in a row whose scale is NaN.
                    let number = if step > 0.0 { (wanted[i - start] / step).round_ties_even().clamp(least, most) } else { 0.0 };
                    let error = values[at] - number * step;
                    let error = if error.is_finite() { error } else { 0.0 };
                    numbers[at] = number as i8;
                    (errors[at], known[i]) = (error, error);
                    let rates = rates.row(i);
                    let rates = &rates.to_slice().expect("a row is in one piece")[start..i];
                    wanted.iter_mut().zip(rates).for_each(|(wanted, rate)| *wanted += error * rate);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in -1 .. 1, the same every time.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Inputs whose elements go together: each is a mixture of a few.
    fn mixtures(rows: usize, k: usize) -> Vec<f32> {
        let (few, mix) = (8, noise(8 * k, 7));
        let sources = noise(rows * few, 8);
        let own = noise(rows * k, 9);
        let at = |i: usize| (0..few).map(|f| sources[i / k * few + f] * mix[f * k + i % k]).sum::<f32>() + 0.1 * own[i];
        (0..rows * k).map(at).collect()
    }

    #[test]
    fn factors_multiply_to_what_they_are_of() {
        for n in [1, 5, 64, 65, 150] {
            let x = Array2::from_shape_vec((2 * n, n), noise(2 * n * n, 3)).expect("as many");
            let mut h = x.t().dot(&x);
            (0..n).for_each(|i| h[[i, i]] += 0.1);
            let mut l = h.clone();
            factorise(&mut l, 2);
            for i in 0..n {
                for j in 0..=i {
                    let product: f64 = (0..=j).map(|t| f64::from(l[[i, t]]) * f64::from(l[[j, t]])).sum();
                    let want = f64::from(h[[i, j]]);
                    assert!((product - want).abs() < 1e-4 * n as f64, "{n}: {i} {j}: {product} {want}");
                }
            }
        }
    }

    #[test]
    fn very_wide_products_are_in_blocks() {
        assert_eq!(blocks(5).map(|b| (b.start, b.end)).collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(blocks(18_432).collect::<Vec<_>>(), [0..6144, 6144..12_288, 12_288..18_432]);
        assert_eq!(blocks(8193).map(|b| b.len()).collect::<Vec<_>>(), [4097, 4096]);
        let inputs = Inputs::new(8194);
        assert_eq!((inputs.columns(), inputs.products.len(), Inputs::bytes(8194)), (8194, 2, 2 * 4 * 4097 * 4097 + 8 * 8194));
        // Nothing was seen: the nearest numbers, in either block.
        let m = Matrix { rows: 1, taps: 2, channels: 4097 };
        let values = noise(8194, 5);
        let rounded = round(&values, m, Encoding::I8, &inputs.feedback(2), 1);
        let parts = Encoding::I8.pack(&rounded.numbers, &rounded.steps, m).expect("whole numbers");
        assert_eq!(parts, Encoding::I8.encode(&values, m).expect("any value has a number"));
    }

    #[test]
    fn products_are_nearer_than_by_the_nearest_numbers() {
        let m = Matrix { rows: 20, taps: 3, channels: 50 };
        let k = m.columns();
        let (values, x) = (noise(m.rows * k, 1), mixtures(600, k));
        let mut inputs = Inputs::new(k);
        x.chunks(100 * k).for_each(|rows| inputs.see(rows, &[0.5; 100]));
        assert_eq!(inputs.columns(), k);
        let mean = inputs.mean();
        let column = x.iter().step_by(k).map(|&v| f64::from(v)).sum::<f64>() / 600.0;
        assert!((mean[0] - column).abs() < 1e-6);
        let feedback = inputs.feedback(2);
        for (encoding, better) in [(Encoding::I8, 2.0), (Encoding::I6, 2.0), (Encoding::I4, 2.0)] {
            let plain = encoding.encode(&values, m).expect("any value has a number");
            let plain = encoding.decode(&plain.iter().map(Vec::as_slice).collect::<Vec<_>>(), m);
            let rounded = round(&values, m, encoding, &feedback, 2);
            let parts = encoding.pack(&rounded.numbers, &rounded.steps, m).expect("whole numbers");
            let decoded = encoding.decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>(), m);
            for ((v, d), e) in values.iter().zip(&decoded).zip(&rounded.errors) {
                assert!((v - d - e).abs() < 1e-5, "{encoding:?}: errors are what is missing");
            }
            let error = |q: &[f32]| -> f64 {
                let row = |(w, q): (&[f32], &[f32])| -> f64 {
                    let of = |x: &[f32]| x.iter().zip(w.iter().zip(q)).map(|(x, (w, q))| f64::from(x * (w - q))).sum::<f64>();
                    x.chunks_exact(k).map(|x| of(x).powi(2)).sum()
                };
                values.chunks_exact(k).zip(q.chunks_exact(k)).map(row).sum()
            };
            let (by_feedback, by_nearest) = (error(&decoded), error(&plain));
            assert!(by_feedback * better < by_nearest, "{encoding:?}: {by_feedback:.3e} {by_nearest:.3e}");
            // As many threads as one likes give the same.
            assert_eq!(round(&values, m, encoding, &feedback, 1).numbers, rounded.numbers);
            assert_eq!(rounded.shortfall(&mean).len(), m.rows);
        }
    }

    #[test]
    fn inputs_that_are_zero_leave_the_nearest_numbers() {
        let m = Matrix { rows: 3, taps: 1, channels: 40 };
        let values = noise(120, 1);
        let mut inputs = Inputs::new(40);
        inputs.see(&[0.0; 80], &[1.0; 2]);
        let rounded = round(&values, m, Encoding::I8, &inputs.feedback(1), 1);
        let parts = Encoding::I8.pack(&rounded.numbers, &rounded.steps, m).expect("whole numbers");
        assert_eq!(parts, Encoding::I8.encode(&values, m).expect("any value has a number"));
    }
}
