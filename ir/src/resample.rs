//! Bilinear upsampling, written in plain ops: there is none of its own in the table, for no FCDM needs it.

use crate::function::{Builder, Value};
use crate::ops::{Add, Concat, Reshape, Scale, Slice};
use crate::types::{Type, TypeError, ensure};

/// Where the phases of a pixel lie, the pixels that it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Around its centre: phase p at `(p + 1/2) / f - 1/2` (PyTorch's `align_corners=False`).
    Centre,
    /// From it on: phase p at `p / f`.
    FirstPhase,
}

/// `x [N,H,W,C] -> [N,fH,gW,C]`, `factors` being f and g; the border is repeated.
///
/// # Errors
/// A factor of 0, or an x that is no image.
pub fn upsample_bilinear(b: &mut Builder, x: Value, factors: [usize; 2], origin: Origin) -> Result<Value, TypeError> {
    let ty: Type = b.ty(x).clone();
    ensure!("upsample_bilinear.1", ty.rank() == 4, "x must be an image [N,H,W,C], found {ty}");
    ensure!("upsample_bilinear.2", factors.iter().all(|&f| f > 0), "factors must be at least 1");
    let rows = interpolated(b, x, 1, factors[0], origin)?;
    interpolated(b, rows, 2, factors[1], origin)
}

/// Along an axis. A phase lies towards one neighbour or the other.
fn interpolated(b: &mut Builder, x: Value, at: usize, f: usize, origin: Origin) -> Result<Value, TypeError> {
    if f == 1 {
        return Ok(x);
    }
    let shape = b.ty(x).shape.clone();
    let (before, after) = (shifted(b, x, at, true)?, shifted(b, x, at, false)?);
    let mut tiles = shape.clone();
    tiles.insert(at + 1, 1);
    let mut phases: Option<Value> = None;
    for p in 0..f {
        let distance = match origin {
            Origin::Centre => (p as f64 + 0.5) / f as f64 - 0.5,
            Origin::FirstPhase => p as f64 / f as f64,
        };
        let own = b.try_one(Scale { by: 1.0 - distance.abs() }, x)?;
        let other = b.try_one(Scale { by: distance.abs() }, if distance < 0.0 { before } else { after })?;
        let phase = b.try_emit(Add {}, &[own, other])?[0];
        let phase = b.try_one(Reshape { shape: tiles.clone() }, phase)?;
        phases = Some(match phases {
            None => phase,
            Some(joined) => b.try_emit(Concat { axis: at + 1 }, &[joined, phase])?[0],
        });
    }
    let mut wide = shape;
    wide[at] *= f;
    b.try_one(Reshape { shape: wide }, phases.expect("there is a phase"))
}

/// Every pixel is its neighbour before, or after, along an axis; the one at the border is itself.
fn shifted(b: &mut Builder, x: Value, at: usize, before: bool) -> Result<Value, TypeError> {
    let extent = b.ty(x).shape[at];
    if extent == 1 {
        return Ok(x);
    }
    let (edge, start) = if before { (0, 0) } else { (extent - 1, 1) };
    let edge = b.try_one(Slice { axis: at, start: edge, len: 1 }, x)?;
    let rest = b.try_one(Slice { axis: at, start, len: extent - 1 }, x)?;
    Ok(b.try_emit(Concat { axis: at }, &if before { [edge, rest] } else { [rest, edge] })?[0])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::eval::{Tensor, evaluate};

    fn upsampled(shape: [usize; 4], values: &[f64], factors: [usize; 2]) -> Vec<f64> {
        with_origin(shape, values, factors, Origin::Centre)
    }

    fn with_origin(shape: [usize; 4], values: &[f64], factors: [usize; 2], origin: Origin) -> Vec<f64> {
        let mut b = Builder::new("f");
        let x = b.input("x", Type::f32(shape));
        let y = upsample_bilinear(&mut b, x, factors, origin).unwrap();
        let f = b.finish(vec![("y".into(), y)]);
        let x = Tensor::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap();
        evaluate(&f, &[x], &mut |_| None).unwrap()[0].iter().copied().collect()
    }

    #[test]
    fn between_centres_values_change_by_equal_steps() {
        assert_eq!(upsampled([1, 1, 2, 1], &[0.0, 4.0], [1, 2]), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(upsampled([1, 2, 1, 1], &[0.0, 8.0], [4, 1]), [0.0, 0.0, 1.0, 3.0, 5.0, 7.0, 8.0, 8.0]);
        assert_eq!(upsampled([1, 1, 1, 2], &[3.0, 5.0], [2, 2]), [3.0, 5.0].repeat(4));
        // Odd factors have a phase at the centre itself.
        let thirds = upsampled([1, 1, 2, 1], &[0.0, 3.0], [1, 3]);
        assert!(thirds.iter().zip([0.0, 0.0, 1.0, 2.0, 3.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{thirds:?}");
    }

    #[test]
    fn from_the_first_phase_on_values_change_towards_the_next_pixel() {
        assert_eq!(with_origin([1, 1, 2, 1], &[0.0, 4.0], [1, 2], Origin::FirstPhase), [0.0, 2.0, 4.0, 4.0]);
        assert_eq!(with_origin([1, 2, 1, 1], &[0.0, 8.0], [4, 1], Origin::FirstPhase), [0.0, 2.0, 4.0, 6.0, 8.0, 8.0, 8.0, 8.0]);
    }
}
