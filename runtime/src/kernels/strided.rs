//! Elements at regular distances, and the runs of neighbours that they are: what a kernel writes that leaves a part of its output alone.

use std::ops::Range;

/// The elements `first + i . strides` of a tensor, for every i of the index space `extents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The element at index 0.
    pub first: usize,
    /// The index space.
    pub extents: Vec<usize>,
    /// Step per axis.
    pub strides: Vec<isize>,
}

impl Strided {
    /// The elements as ranges in ascending order with gaps between them; `None` if one is outside of `0 .. count`. Takes as long as there
    /// are ranges to make, up to one an element: not for numbers that may be hostile.
    pub fn runs(&self, count: usize) -> Option<Vec<Range<usize>>> {
        if self.extents.contains(&0) {
            return Some(Vec::new());
        }
        let (mut first, mut last) = (self.first as i128, self.first as i128);
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for (&extent, &stride) in self.extents.iter().zip(&self.strides).filter(|(e, s)| **e > 1 && **s != 0) {
            let reach = (extent as i128 - 1) * stride as i128;
            if reach < 0 {
                first += reach
            } else {
                last += reach
            }
            axes.push((stride.unsigned_abs(), extent));
        }
        if first < 0 || last >= count as i128 {
            return None;
        }
        // All that follows is below `count`. Steps no longer than a run continue it.
        axes.sort_unstable();
        let mut axes = axes.into_iter().peekable();
        let mut run = 1;
        while let Some((stride, extent)) = axes.next_if(|&(stride, _)| stride <= run) {
            run += stride * (extent - 1);
        }
        // The longest step outermost: in order, where the axes are nested.
        let mut starts = vec![first as usize];
        for (stride, extent) in axes.rev() {
            starts = starts.iter().flat_map(|&s| (0..extent).map(move |i| s + i * stride)).collect();
        }
        starts.sort_unstable();
        let mut runs: Vec<Range<usize>> = Vec::with_capacity(starts.len());
        for start in starts {
            match runs.last_mut() {
                Some(before) if start <= before.end => before.end = start + run,
                _ => runs.push(start..start + run),
            }
        }
        Some(runs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn strided(first: usize, extents: &[usize], strides: &[isize]) -> Strided {
        Strided { first, extents: extents.to_vec(), strides: strides.to_vec() }
    }

    /// One element after the other.
    fn elements(s: &Strided) -> BTreeSet<isize> {
        let axes = s.extents.iter().zip(&s.strides);
        axes.fold(BTreeSet::from([s.first as isize]), |set, (&extent, &stride)| {
            set.iter().flat_map(|&e| (0..extent as isize).map(move |i| e + i * stride)).collect()
        })
    }

    #[test]
    fn runs_are_the_elements() {
        let extents: [&[usize]; 4] = [&[3, 2, 4], &[2, 3, 1], &[1, 4, 3], &[2, 2, 5]];
        let choices: [isize; 9] = [-12, -4, -1, 0, 1, 2, 3, 4, 12];
        let mut seen = BTreeSet::new();
        for e in extents {
            for n in 0..9 * 9 * 9 {
                let s = strided(80, e, &[choices[n / 81], choices[n / 9 % 9], choices[n % 9]]);
                let runs = s.runs(200).unwrap();
                assert!(runs.windows(2).all(|w| w[0].end < w[1].start), "{s:?}: {runs:?}");
                assert_eq!(runs.iter().cloned().flatten().map(|e| e as isize).collect::<BTreeSet<_>>(), elements(&s), "{s:?}");
                seen.insert(runs.len());
            }
        }
        assert!(seen.contains(&1) && seen.len() > 10, "{seen:?}");
    }

    fn one(run: Range<usize>) -> Option<Vec<Range<usize>>> {
        Some(std::iter::once(run).collect())
    }

    /// Whatever order a transposition or shuffle writes them in.
    #[test]
    fn all_of_a_tensor_is_one_run() {
        assert_eq!(strided(0, &[7, 5, 3], &[15, 3, 1]).runs(105), one(0..105));
        assert_eq!(strided(0, &[3, 7, 5], &[1, 15, 3]).runs(105), one(0..105));
        assert_eq!(strided(104, &[105], &[-1]).runs(105), one(0..105));
    }

    #[test]
    fn elements_outside_are_none() {
        assert_eq!(strided(0, &[3], &[2]).runs(5), Some(vec![0..1, 2..3, 4..5]));
        assert_eq!(strided(0, &[3], &[2]).runs(4), None);
        assert_eq!(strided(1, &[3], &[-1]).runs(4), None);
        assert_eq!(strided(usize::MAX, &[usize::MAX], &[isize::MIN]).runs(4), None);
        assert_eq!(strided(9, &[3, 0], &[2, 1]).runs(4), Some(vec![]));
    }
}
