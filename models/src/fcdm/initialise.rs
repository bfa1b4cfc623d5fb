//! Fresh weights, as training from scratch starts: every convolution and linear layer uniform after Glorot and
//! Bengio (bound `sqrt(6 / (fan_in + fan_out))`), biases zero; timestep MLPs and class tables normal with standard
//! deviation 0.02; adaLN projections, GRN and the last convolution zero, so that every block starts as the identity.

use fcdm_runtime::rng::{Purpose, Stream, normals, uniform};

use crate::parameter::Parameter;
use crate::role::{LayerKind, ParameterKind, Region, Role};

/// Standard deviation of embeddings.
const EMBEDDING_DEVIATION: f32 = 0.02;

/// Values of a parameter, in checkpoint order. `index` is its position in [`super::parameters`].
pub fn initialise(p: &Parameter, index: usize, seed: u64) -> Vec<f32> {
    let stream = Stream { purpose: Purpose::Weights, item: index as u32, step: 0 };
    let Role { layer, part, region, .. } = p.role;
    match (layer, part, region) {
        (_, ParameterKind::Bias, _) | (LayerKind::Grn, ..) | (.., Region::Modulation | Region::Output) => vec![0.0; p.count()],
        (LayerKind::Norm, ParameterKind::Weight, _) => vec![1.0; p.count()],
        (.., Region::Timestep | Region::Class) => {
            let mut values = vec![0.0; p.count()];
            normals(seed, stream, &mut values);
            values.iter_mut().for_each(|v| *v *= EMBEDDING_DEVIATION);
            values
        }
        (.., Region::Input | Region::Trunk | Region::Skip) => {
            let bound = glorot_bound(p);
            (0..p.count() as u64).map(|i| (bound * (2.0 * uniform(seed, stream, i) - 1.0)) as f32).collect()
        }
    }
}

/// `sqrt(6 / (fan_in + fan_out))`; a kernel's taps count in both fans. The first convolution is taken as the matrix
/// `[O, I*KH*KW]`, as patch embeddings are.
fn glorot_bound(p: &Parameter) -> f64 {
    let s = &p.shape;
    let taps: usize = s[2..].iter().product();
    let (fan_in, fan_out) = if p.role.region == Region::Input { (s[1] * taps, s[0]) } else { (s[1] * taps, s[0] * taps) };
    (6.0 / (fan_in + fan_out) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcdm::{Config, parameters};

    #[test]
    fn kinds_of_parameters_start_as_the_paper_says() {
        let cfg = Config {
            hidden: 16,
            depths: [1; 5],
            expanded: [48, 96, 192],
            num_classes: 10,
            null_class: true,
            in_channels: 4,
            learn_sigma: true,
        };
        for (i, p) in parameters(&cfg).iter().enumerate() {
            let v = initialise(p, i, 7);
            assert_eq!(v.len(), p.count());
            let rms = (v.iter().map(|v| f64::from(v * v)).sum::<f64>() / v.len() as f64).sqrt();
            let expected = match p.name.as_str() {
                n if n.ends_with("bias") || n.contains("grn") || n.contains("adaLN") || n.starts_with("final_layer") => 0.0,
                n if n.contains("embedder_") => 0.02,
                "x_embedder.weight" => (2.0f64 / (4.0 * 9.0 + 16.0)).sqrt(),
                _ => {
                    let taps: usize = p.shape[2..].iter().product();
                    (2.0 / (taps * (p.shape[0] + p.shape[1])) as f64).sqrt()
                }
            };
            assert!((rms - expected).abs() <= 0.1 * expected, "{}: rms {rms}, expected {expected}", p.name);
        }
    }
}
