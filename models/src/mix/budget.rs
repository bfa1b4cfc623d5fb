//! The choice of a form for every layer: the least error within so many bytes, or the fewest bytes within some error. Errors of layers add
//! up. Of a layer only forms on the lower convex hull of error over bytes are taken, and of all layers the step down a hull that is
//! worth most for its bytes comes first: the best there is for the bytes that it ends at (Shoham and Gersho 1988).

/// A form that a layer may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Form {
    pub bytes: u64,
    pub error: f64,
}

/// A layer goes on to a form of its, which is worth its bytes.
#[derive(Clone, Copy, Debug)]
struct Step {
    layer: usize,
    form: usize,
    more: Form,
}

/// Mixes from the smallest to the most exact: the forms of all layers at the beginning, and steps from one mix to the next.
#[derive(Clone, Debug)]
pub(super) struct Mixes {
    smallest: Vec<usize>,
    steps: Vec<Step>,
    first: Form,
}

/// A form for each layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mixed {
    pub forms: Vec<usize>,
    pub sum: Form,
}

/// The forms on the lower convex hull, the smallest first: each costs more bytes than the one before and has less error, and no step
/// is worth more than the one before.
fn hull(forms: &[Form]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..forms.len()).collect();
    order.sort_by(|&a, &b| forms[a].bytes.cmp(&forms[b].bytes).then(forms[a].error.total_cmp(&forms[b].error)));
    let mut taken: Vec<usize> = Vec::new();
    for i in order {
        if taken.last().is_some_and(|&last| forms[i].error >= forms[last].error) {
            continue;
        }
        while let [.., before, last] = taken[..] {
            if worth(forms[before], forms[last]) > worth(forms[last], forms[i]) {
                break;
            }
            taken.pop();
        }
        taken.push(i);
    }
    taken
}

/// Error that goes away for a byte.
fn worth(from: Form, to: Form) -> f64 {
    (from.error - to.error) / to.bytes.saturating_sub(from.bytes).max(1) as f64
}

impl Mixes {
    /// All mixes of layers that have these forms, at least one each.
    pub fn new(layers: &[Vec<Form>]) -> Mixes {
        let hulls: Vec<Vec<usize>> = layers.iter().map(|forms| hull(forms)).collect();
        let smallest: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
        let first = sum(layers, &smallest);
        let mut steps: Vec<(f64, Step)> = Vec::new();
        for (layer, (forms, hull)) in layers.iter().zip(&hulls).enumerate() {
            for pair in hull.windows(2) {
                let (from, to) = (forms[pair[0]], forms[pair[1]]);
                let more = Form { bytes: to.bytes - from.bytes, error: to.error - from.error };
                steps.push((worth(from, to), Step { layer, form: pair[1], more }));
            }
        }
        // The order of a layer's own steps stays as it is: they are worth less and less.
        steps.sort_by(|a, b| b.0.total_cmp(&a.0));
        Mixes { smallest, steps: steps.into_iter().map(|(_, step)| step).collect(), first }
    }

    /// The smallest.
    pub fn smallest(&self) -> Mixed {
        Mixed { forms: self.smallest.clone(), sum: self.first }
    }

    /// The most exact.
    pub fn best(&self) -> Mixed {
        self.until(|_| true)
    }

    /// The least error within so many bytes, if there is a mix as small. A step that does not fit is passed over, and all further ones of
    /// its layer with it.
    pub fn within(&self, bytes: u64) -> Option<Mixed> {
        (self.first.bytes <= bytes).then(|| self.until(|sum| sum.bytes <= bytes))
    }

    /// The fewest bytes with no more error than that, if there is a mix as good.
    pub fn no_worse(&self, error: f64) -> Option<Mixed> {
        let mut mixed = self.smallest();
        for step in &self.steps {
            if mixed.sum.error <= error {
                break;
            }
            mixed.take(step);
        }
        (mixed.sum.error <= error).then_some(mixed)
    }

    fn until(&self, fits: impl Fn(Form) -> bool) -> Mixed {
        let mut mixed = self.smallest();
        let mut ended = vec![false; self.smallest.len()];
        for step in &self.steps {
            ended[step.layer] |= !fits(add(mixed.sum, step.more));
            if !ended[step.layer] {
                mixed.take(step);
            }
        }
        mixed
    }
}

impl Mixed {
    fn take(&mut self, step: &Step) {
        self.forms[step.layer] = step.form;
        self.sum = add(self.sum, step.more);
    }
}

fn add(a: Form, b: Form) -> Form {
    Form { bytes: a.bytes + b.bytes, error: a.error + b.error }
}

fn sum(layers: &[Vec<Form>], forms: &[usize]) -> Form {
    layers.iter().zip(forms).fold(Form { bytes: 0, error: 0.0 }, |sum, (layer, &form)| add(sum, layer[form]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(bytes: u64, error: f64) -> Form {
        Form { bytes, error }
    }

    #[test]
    fn forms_that_cost_more_than_they_are_worth_are_left_out() {
        // 60 is worse than what lies between 40 and 80; 90 is no better than 80.
        let forms = [form(80, 1.0), form(60, 9.0), form(40, 10.0), form(90, 1.0), form(160, 0.0)];
        assert_eq!(hull(&forms), [2, 0, 4]);
        assert_eq!(hull(&[form(5, 1.0)]), [0]);
        assert_eq!(hull(&[form(5, 1.0), form(5, 0.5)]), [1]);
    }

    /// Against all mixes there are: at the bytes where greedy ends nothing is better, and within any bytes nothing that is as small as
    /// its own.
    #[test]
    fn nothing_is_better_at_the_same_bytes() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) % 1000 + 1
        };
        for _ in 0..50 {
            let layers: Vec<Vec<Form>> =
                (0..5).map(|_| (0..4).map(|i| form((i + 1) * next(), next() as f64 / 8f64.powi(i as i32))).collect()).collect();
            let all = (0..4usize.pow(5)).map(|i| {
                let forms: Vec<usize> = (0..5).map(|l| i / 4usize.pow(l) % 4).collect();
                sum(&layers, &forms)
            });
            let all: Vec<Form> = all.collect();
            let mixes = Mixes::new(&layers);
            assert_eq!(mixes.smallest().sum.bytes, all.iter().map(|f| f.bytes).min().unwrap_or(0));
            let best = all.iter().map(|f| f.error).fold(f64::MAX, f64::min);
            assert!((mixes.best().sum.error - best).abs() < 1e-9);
            for budget in [2000, 4000, 8000] {
                let Some(found) = mixes.within(budget) else {
                    assert!(all.iter().all(|f| f.bytes > budget));
                    continue;
                };
                assert!(found.sum.bytes <= budget);
                let listed = sum(&layers, &found.forms);
                assert!(listed.bytes == found.sum.bytes && (listed.error - found.sum.error).abs() < 1e-9);
            }
            for share in [1.0, 0.3, 0.01] {
                let wanted = best + share * (mixes.smallest().sum.error - best);
                let found = mixes.no_worse(wanted).expect("the best is as good");
                assert!(found.sum.error <= wanted + 1e-9);
                assert!(all.iter().all(|f| f.bytes >= found.sum.bytes || f.error >= found.sum.error - 1e-9), "{found:?}");
            }
            assert_eq!(mixes.no_worse(best - 1.0), None);
        }
    }
}
