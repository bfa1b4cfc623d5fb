//! What an FCDM weighs and costs: parameters by part, multiply-accumulates by stage.

use fcdm_ir::flow::depends;
use fcdm_ir::{Function, Type};
use fcdm_runtime::entry_name::EntryName;

use super::config::Config;
use super::network::parameters;
use crate::role::{LayerKind, Region, Role};

/// Parameters by kind of layer, in order of first appearance.
pub fn parameters_by_part(cfg: &Config) -> Vec<(&'static str, u64)> {
    let mut parts = Vec::new();
    for p in parameters(cfg) {
        add(&mut parts, part_of(p.role), p.count() as u64);
    }
    parts
}

/// Multiply-accumulates of one call of a network's function by stage (first component of the layer's name); the
/// work that does not see the image, its first input, is under `condition`.
pub fn macs_by_stage(f: &Function) -> Vec<(String, u64)> {
    let (mut stages, condition) = (Vec::new(), EntryName::Condition.to_string());
    let sees_image = depends(f, |v| v == f.inputs()[0]);
    for inst in f.insts() {
        let x: Vec<&Type> = inst.operands.iter().map(|&v| f.ty(v)).collect();
        let y: Vec<&Type> = inst.results.iter().map(|&v| f.ty(v)).collect();
        let macs = inst.op.cost(&x, &y).macs;
        let (value, name) = (inst.results[0], &f.value(inst.results[0]).name);
        let stage = if sees_image[value.index()] { name.split('.').next().unwrap_or(name) } else { &condition };
        if macs > 0 {
            add(&mut stages, stage.to_owned(), macs);
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

fn part_of(role: Role) -> &'static str {
    match (role.region, role.layer) {
        (Region::Timestep, _) => "timestep MLPs",
        (Region::Class, _) => "class tables",
        (Region::Modulation, _) => "adaLN projections",
        (Region::Skip, _) => "skip projections",
        (_, LayerKind::Depthwise) => "depthwise convolutions",
        (_, LayerKind::Linear) => "pointwise convolutions",
        (_, LayerKind::Grn) => "GRN",
        (_, LayerKind::Convolution | LayerKind::Norm | LayerKind::Table) => "3x3 convolutions",
    }
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
