//! What an FCDM weighs and costs: parameters by part, multiply-accumulates by stage.

use fcdm_ir::{Function, Type};

use super::config::Config;
use super::parameters::parameters;

/// Parameters by kind of layer, in order of first appearance.
pub fn parameters_by_part(cfg: &Config) -> Vec<(&'static str, u64)> {
    let mut parts = Vec::new();
    for p in parameters(cfg) {
        add(&mut parts, part_of(&p.name), p.count() as u64);
    }
    parts
}

/// Multiply-accumulates of one call of a network's function by stage (first component of the layer's name); the
/// work that sees only timestep and class is under `condition`.
pub fn macs_by_stage(f: &Function) -> Vec<(String, u64)> {
    let mut stages = Vec::new();
    for inst in f.insts() {
        let x: Vec<&Type> = inst.operands.iter().map(|&v| f.ty(v)).collect();
        let y: Vec<&Type> = inst.results.iter().map(|&v| f.ty(v)).collect();
        let macs = inst.op.cost(&x, &y).macs;
        if macs > 0 {
            add(&mut stages, stage_of(&f.value(inst.results[0]).name), macs);
        }
    }
    stages
}

fn add<K: PartialEq>(list: &mut Vec<(K, u64)>, key: K, n: u64) {
    match list.iter_mut().find(|(k, _)| *k == key) {
        Some((_, sum)) => *sum += n,
        None => list.push((key, n)),
    }
}

fn part_of(name: &str) -> &'static str {
    if name.starts_with("t_embedder") {
        "timestep MLPs"
    } else if name.starts_with("y_embedder") {
        "class tables"
    } else if name.contains("adaLN_modulation") {
        "adaLN projections"
    } else if name.contains("dwconv") {
        "depthwise convolutions"
    } else if name.contains("pwconv") {
        "pointwise convolutions"
    } else if name.contains(".grn.") {
        "GRN"
    } else if name.starts_with("reduce_chans") {
        "skip projections"
    } else {
        "3x3 convolutions"
    }
}

fn stage_of(value: &str) -> String {
    if value.starts_with("t_embedder") || value.contains("adaLN_modulation") {
        return "condition".to_owned();
    }
    value.split('.').next().unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcdm::{Preset, Size, network};

    /// The paper's table, as counted by the reference (GMAC at 32x32; parameters with 1000 classes and the null class).
    #[test]
    fn presets_match_the_paper() {
        let expected = [
            (Preset::S, 32_699_912, 3_073),
            (Preset::B, 127_675_400, 12_136),
            (Preset::L, 504_453_128, 48_231),
            (Preset::XL, 698_754_056, 64_530),
        ];
        for (preset, count, mmacs) in expected {
            let cfg = preset.config();
            let total: u64 = parameters_by_part(&cfg).iter().map(|(_, n)| n).sum();
            assert_eq!(total, count, "{}", preset.name());
            let f = network(&cfg, Size { batch: 1, height: 32, width: 32 });
            let macs: u64 = macs_by_stage(&f).iter().map(|(_, n)| n).sum();
            assert_eq!((macs + 500_000) / 1_000_000, mmacs, "{}", preset.name());
        }
    }
}
