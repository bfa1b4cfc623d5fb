//! The example: what it says of the gradient is true.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/gradient.rs"]
mod gradient;

use fcdm_ir::eval::Tensor;

#[test]
fn the_gradient_is_the_slope() {
    let f = gradient::function().unwrap();
    let at = |values: [f64; 3]| gradient::run(&f, &Tensor::from_shape_vec(vec![1, 3], values.to_vec()).unwrap()).unwrap();
    let (x, step) = ([0.5, -1.0, 2.0], 1e-5);
    let dx = at(x).remove(1);
    for i in 0..3 {
        let moved = |by: f64| at(std::array::from_fn(|k| if k == i { x[k] + by } else { x[k] }))[0].sum();
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope - dx[[0, i]]).abs() < 1e-6 * (1.0 + slope.abs()), "{i}: {slope}, {}", dx[[0, i]]);
    }
}
