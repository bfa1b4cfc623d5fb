//! Every parameter of an FCDM. The order of the list is the order of registration in the official trainer, by which an
//! optimiser state numbers its entries.

use super::config::{Config, FREQUENCIES, STAGES};
use crate::parameter::{Layout, Parameter, ParameterList};

/// All parameters, in the order of registration.
pub fn parameters(cfg: &Config) -> Vec<Parameter> {
    let mut list = ParameterList::default();
    let d = cfg.hidden;
    for level in 0..3 {
        let w = cfg.width(level);
        list.linear(&format!("t_embedder_{}.mlp.0", level + 1), w, FREQUENCIES);
        list.linear(&format!("t_embedder_{}.mlp.2", level + 1), w, w);
        list.add(format!("y_embedder_{}.embedding_table.weight", level + 1), vec![cfg.class_rows(), w], Layout::Same);
    }
    list.convolution("x_embedder", d, cfg.in_channels, true);
    stage(&mut list, cfg, 0);
    list.convolution("down1_2.conv.0", d / 2, d, false);
    stage(&mut list, cfg, 1);
    list.convolution("down2_3.conv.0", d, 2 * d, false);
    stage(&mut list, cfg, 2);
    list.convolution("up3_2.conv.0", 8 * d, 4 * d, false);
    list.pointwise("reduce_chans_2", 2 * d, 4 * d, true);
    stage(&mut list, cfg, 3);
    list.convolution("up2_1.conv.0", 4 * d, 2 * d, false);
    list.pointwise("reduce_chans_1", d, 2 * d, true);
    stage(&mut list, cfg, 4);
    list.convolution("output_layer", d, d, true);
    list.linear("final_layer.adaLN_modulation.1", 2 * d, d);
    list.convolution("final_layer.conv", cfg.out_channels(), d, true);
    list.0
}

fn stage(list: &mut ParameterList, cfg: &Config, index: usize) {
    let stage = STAGES[index];
    let (w, wide) = (cfg.width(stage.level), cfg.expanded[stage.level]);
    for n in 0..cfg.depths[index] {
        let p = format!("{}.{n}", stage.prefix);
        list.add(format!("{p}.dwconv.weight"), vec![w, 1, 7, 7], Layout::Depthwise);
        list.bias(&format!("{p}.dwconv"), w);
        list.pointwise(&format!("{p}.pwconv1"), wide, w, true);
        list.add(format!("{p}.grn.gamma"), vec![1, wide, 1, 1], Layout::Channels);
        list.add(format!("{p}.grn.beta"), vec![1, wide, 1, 1], Layout::Channels);
        list.pointwise(&format!("{p}.pwconv2"), w, wide, true);
        list.linear(&format!("{p}.adaLN_modulation.1"), 3 * w, w);
    }
}
