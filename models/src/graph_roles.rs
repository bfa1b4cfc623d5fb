//! Roles of the weights of an imported graph, whose layers nobody has declared: by the first op that takes a weight, and by what
//! that op sees of the graph's inputs, and by the size of the images that it makes.

use std::collections::HashMap;

use fcdm_ir::flow::depends;
use fcdm_ir::{Def, Function, Op, Value};

use crate::parameter::Parameter;
use crate::role::{LayerKind, ParameterKind, Region, Resolution, Role};

/// The role of every weight that an op takes. The graph's inputs are an image, and of a denoiser timestep and class after it. A
/// weight with the name and as many values as one in `declared` has its role.
pub(crate) fn roles(f: &Function, declared: &[Parameter]) -> HashMap<String, Role> {
    let declared: HashMap<&str, &Parameter> = declared.iter().map(|p| (p.name.as_str(), p)).collect();
    let seen = [0, 1, 2].map(|i| depends(f, |v| f.inputs().get(i) == Some(&v)));
    let resolutions = resolutions(f, &seen[0]);
    let mut roles = HashMap::new();
    for inst in f.insts() {
        let [image, timestep, class] = [0, 1, 2].map(|i| seen[i][inst.results[0].index()]);
        let region = match (image, timestep, class) {
            (false, true, true) => Region::Modulation,
            (false, true, false) => Region::Timestep,
            (false, false, true) => Region::Class,
            _ => Region::Trunk,
        };
        let resolution = resolutions[inst.results[0].index()];
        for (operand, &v) in inst.operands.iter().enumerate() {
            let data = f.value(v);
            if data.def == Def::Weight {
                let (layer, part) = of_operand(&inst.op, operand);
                let known = declared.get(data.name.as_str()).filter(|p| p.count() == data.ty.count()).map(|p| p.role);
                roles.entry(data.name.clone()).or_insert(known.unwrap_or(Role { layer, part, region, resolution }));
            }
        }
    }
    roles
}

/// For every value, by index: the size of the image that it is, or of those that are the first to see it. `image` says which see the graph's.
fn resolutions(f: &Function, image: &[bool]) -> Vec<Resolution> {
    let pixels = |v: Value| match f.ty(v).shape[..] {
        [_, height, width, _] if image[v.index()] => Some(height * width),
        _ => None,
    };
    let full = f.values().filter_map(|(v, _)| pixels(v)).max();
    let mut found = vec![Resolution::Reduced; f.value_count()];
    let mut users = vec![Users { any: false, full: true, shuffles: true }; f.value_count()];
    for inst in f.insts().iter().rev() {
        for &v in &inst.results {
            let Users { any, full: at_full, shuffles } = users[v.index()];
            found[v.index()] = match pixels(v) {
                pixels if pixels.is_some() && pixels == full => Resolution::Full,
                Some(_) if any && at_full && shuffles => Resolution::ToFull,
                None if any && at_full => Resolution::Full,
                _ => Resolution::Reduced,
            };
        }
        let is_full = inst.results.iter().all(|r| found[r.index()] == Resolution::Full);
        for v in &inst.operands {
            let users = &mut users[v.index()];
            users.any = true;
            users.full &= is_full;
            users.shuffles &= matches!(inst.op, Op::PixelShuffle(_));
        }
    }
    found
}

/// Of the instructions that use a value: whether there are any, and whether all results are at the full size, and all pixel shuffles.
#[derive(Clone, Copy)]
struct Users {
    any: bool,
    full: bool,
    shuffles: bool,
}

/// What an op does with an operand. Exporters write biases as sums and scales as products.
fn of_operand(op: &Op, operand: usize) -> (LayerKind, ParameterKind) {
    let part = if operand < 2 { ParameterKind::Weight } else { ParameterKind::Bias };
    match op {
        Op::Conv2d(_) => (LayerKind::Convolution, part),
        Op::DwConv2d(_) => (LayerKind::Depthwise, part),
        Op::GroupNorm(_) => (LayerKind::Norm, part),
        Op::Grn(_) => (LayerKind::Grn, part),
        Op::Embedding(_) => (LayerKind::Table, ParameterKind::Weight),
        Op::Mul(_) => (LayerKind::Norm, ParameterKind::Weight),
        Op::Add(_) => (LayerKind::Linear, ParameterKind::Bias),
        _ => (LayerKind::Linear, part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fcdm::{Preset, Size, network, parameters};

    /// Without names the graph tells what was declared, but for which layers of the trunk stand first, last or behind a skip.
    #[test]
    fn graphs_tell_what_layers_declare() {
        let cfg = Preset::S.config();
        let f = network(&cfg, Size { batch: 2, height: 8, width: 8 });
        let (told, known) = (roles(&f, &[]), roles(&f, &parameters(&cfg)));
        for p in parameters(&cfg) {
            assert_eq!(known[&p.name], p.role, "{}", p.name);
            let region = match p.role.region {
                Region::Input | Region::Skip | Region::Output => Region::Trunk,
                region => region,
            };
            assert_eq!(told[&p.name], Role { region, ..p.role }, "{}", p.name);
        }
    }
}
