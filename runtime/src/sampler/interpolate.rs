//! Between two starting noises, spherically (Shoemake 1985): normal noise in many dimensions lies close to a sphere, which a
//! straight line would leave, towards a flat grey. For deterministic samplers the picture follows smoothly.

use super::noise::initial_state;

/// `sin((1-w) a) / sin(a) from + sin(w a) / sin(a) to` with a the angle between them, in f64, rounded once. Where the angle
/// is close to 0 or to a half turn, which leaves no way to choose, the straight line. Weights 0 and 1 give the ends, bit by
/// bit.
///
/// # Panics
/// When the lengths differ.
pub fn slerp(from: &[f32], to: &[f32], weight: f64, out: &mut [f32]) {
    assert_eq!((from.len(), to.len()), (out.len(), out.len()), "both ends and the result have one length");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let cosine = dot(from, to) / (dot(from, from) * dot(to, to)).sqrt();
    // Not a number, for an end of length 0, is the straight line's too.
    let angle = libm::acos(cosine.clamp(-1.0, 1.0));
    let sine = libm::sin(angle);
    let (a, b) = match weight {
        w if w == 0.0 || w == 1.0 || sine.is_nan() || sine < 1e-6 => (1.0 - w, w),
        w => (libm::sin((1.0 - w) * angle) / sine, libm::sin(w * angle) / sine),
    };
    for ((out, &from), &to) in out.iter_mut().zip(from).zip(to) {
        *out = (a * f64::from(from) + b * f64::from(to)) as f32;
    }
}

/// The states that sampling starts from, one for each pair of seeds and the weight of the second, in `out`. Weights are 0 to
/// 1. The noise of a stochastic sampler's steps is not interpolated.
///
/// # Panics
/// When `out` does not divide into as many states.
pub fn initial_state_between(seeds: &[(u64, u64, f64)], out: &mut [f32]) {
    if seeds.is_empty() && out.is_empty() {
        return;
    }
    assert!(!seeds.is_empty() && out.len().is_multiple_of(seeds.len()), "{} pairs for {} elements", seeds.len(), out.len());
    let each = out.len() / seeds.len();
    let (mut from, mut to) = (vec![0.0; each], vec![0.0; each]);
    for (&(first, second, weight), state) in seeds.iter().zip(out.chunks_exact_mut(each)) {
        initial_state(&[first], &mut from);
        initial_state(&[second], &mut to);
        slerp(&from, &to, weight, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_circle() {
        let mut out = [0.0; 2];
        slerp(&[2.0, 0.0], &[0.0, 3.0], 1.0 / 3.0, &mut out);
        let (a, b) = (60f64.to_radians().sin() * 2.0, 30f64.to_radians().sin() * 3.0);
        assert!((f64::from(out[0]) - a).abs() < 1e-6 && (f64::from(out[1]) - b).abs() < 1e-6, "{out:?}");
    }

    #[test]
    fn parallel_and_opposite_ends_are_joined_by_the_line() {
        let mut out = [0.0; 2];
        for (to, expected) in [([1.0, 2.0], [1.0, 2.0]), ([3.0, 6.0], [2.0, 4.0]), ([-1.0, -2.0], [0.0, 0.0]), ([0.0, 0.0], [0.5, 1.0])] {
            slerp(&[1.0, 2.0], &to, 0.5, &mut out);
            assert_eq!(out, expected, "{to:?}");
        }
    }

    #[test]
    fn between_seeds() {
        let len = 3 * 1024;
        let (mut start, mut end, mut way) = (vec![0.0; len], vec![0.0; len], vec![0.0; 3 * len]);
        initial_state(&[7], &mut start);
        initial_state(&[8], &mut end);
        initial_state_between(&[(7, 8, 0.0), (7, 8, 0.5), (7, 8, 1.0)], &mut way);
        assert_eq!((&way[..len], &way[2 * len..]), (&start[..], &end[..]), "the ends, bit by bit");
        let deviation = |x: &[f32]| (x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / len as f64).sqrt();
        // The straight line's middle would have 1/sqrt(2).
        assert!((deviation(&way[len..2 * len]) - 1.0).abs() < 0.05, "{}", deviation(&way[len..2 * len]));
        let mut alone = vec![0.0; len];
        initial_state_between(&[(7, 8, 0.5)], &mut alone);
        assert_eq!(alone, way[len..2 * len], "a state does not depend on its batch");
    }
}
