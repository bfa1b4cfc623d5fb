//! An autoencoder in one file without a description: its kind and sizes follow from names and shapes, as far as they do. What does
//! not (what latents are scaled by) is asked for, or is that of Stable Diffusion where four channels say so, which is told.

use fcdm_compiler::checkpoint::StateDict;
use serde_json::{Map, Value, json};

/// The tensors by which an autoencoder is recognised: of diffusers' and CompVis' AutoencoderKL, of either half.
pub(super) const ANCHORS: [&str; 2] = ["decoder.conv_in.weight", "encoder.conv_in.weight"];

/// Groups of all published ones; no shape tells.
const GROUPS: usize = 32;

/// What the latents of Stable Diffusion 1 and 2 are scaled by.
const STABLE_DIFFUSION: f64 = 0.18215;

/// diffusers' name of a tensor that CompVis calls `name`, for a network of `levels`; `None` for what is not of the autoencoder.
pub(super) fn of_compvis(name: &str, levels: usize) -> Option<String> {
    let (half, rest) = name.split_once('.')?;
    if matches!(half, "quant_conv" | "post_quant_conv") {
        return Some(name.to_owned());
    }
    if !matches!(half, "encoder" | "decoder") {
        return None;
    }
    let parts: Vec<&str> = rest.split('.').collect();
    let level = |at: &str| at.parse::<usize>().ok().filter(|&i| i < levels);
    let rest = match parts[..] {
        ["mid", "block_1", ref tail @ ..] => format!("mid_block.resnets.0.{}", tail.join(".")),
        ["mid", "block_2", ref tail @ ..] => format!("mid_block.resnets.1.{}", tail.join(".")),
        ["mid", "attn_1", part, end] => {
            let part = match part {
                "norm" => "group_norm",
                "q" => "to_q",
                "k" => "to_k",
                "v" => "to_v",
                "proj_out" => "to_out.0",
                _ => return None,
            };
            format!("mid_block.attentions.0.{part}.{end}")
        }
        ["down", i, "block", j, ref tail @ ..] => format!("down_blocks.{}.resnets.{j}.{}", level(i)?, tail.join(".")),
        ["down", i, "downsample", "conv", end] => format!("down_blocks.{}.downsamplers.0.conv.{end}", level(i)?),
        ["up", i, "block", j, ref tail @ ..] => format!("up_blocks.{}.resnets.{j}.{}", levels - 1 - level(i)?, tail.join(".")),
        ["up", i, "upsample", "conv", end] => format!("up_blocks.{}.upsamplers.0.conv.{end}", levels - 1 - level(i)?),
        ["norm_out", end] => format!("conv_norm_out.{end}"),
        _ => rest.to_owned(),
    };
    Some(format!("{half}.{}", rest.replace("nin_shortcut", "conv_shortcut")))
}

/// Levels of a network in CompVis' names, if these are such.
pub(super) fn compvis_levels(weights: &StateDict) -> Option<usize> {
    let level =
        |name: &str| name.strip_prefix("decoder.up.").or_else(|| name.strip_prefix("encoder.down."))?.split('.').next()?.parse().ok();
    weights.names().filter_map(level).max().filter(|&last: &usize| last < 16).map(|last| last + 1)
}

/// What a description beside the file would say; and what there is to tell of it.
///
/// # Errors
/// One line, about what the file does not tell.
pub(super) fn description(weights: &StateDict, scale: Option<f64>) -> Result<(Map<String, Value>, Option<String>), String> {
    let shape = |name: &str| weights.tensor(name).map(|t| t.shape.clone());
    let get = |name: &str, axis: usize| {
        let found = shape(name).and_then(|s| s.get(axis).copied());
        found.ok_or_else(|| format!("tensor `{name}` is missing: is this an AutoencoderKL?"))
    };
    let mut widths = Vec::new();
    while let Some(&[w, ..]) = shape(&format!("encoder.down_blocks.{}.resnets.0.conv1.weight", widths.len())).as_deref() {
        widths.push(w);
    }
    let per_block = (0..).take_while(|j| shape(&format!("encoder.down_blocks.0.resnets.{j}.conv1.weight")).is_some()).count();
    let channels = get("decoder.conv_in.weight", 1)?;
    if let Some(w) = widths.iter().find(|w| !w.is_multiple_of(GROUPS)) {
        let line =
            format!("norm_num_groups: expected config.json beside the file, found none, and a width of {w}, which has no {GROUPS} groups");
        return Err(line);
    }
    let (scale, note) = match (scale, channels) {
        (Some(scale), _) => (scale, None),
        (None, 4) => {
            let note = format!("the file does not say what latents are scaled by: {STABLE_DIFFUSION}, as in Stable Diffusion 1 and 2");
            (STABLE_DIFFUSION, Some(format!("{note}; --vae-scale 0.13025 for SDXL's")))
        }
        (None, n) => {
            let line = format!("expected --vae-scale, or config.json beside the file: it does not say what its {n} channels are scaled by");
            return Err(line);
        }
    };
    let described = json!({
        "block_out_channels": widths,
        "layers_per_block": per_block,
        "latent_channels": channels,
        "norm_num_groups": GROUPS,
        "scaling_factor": scale,
        "mid_block_add_attention": weights.names().any(|n| n.starts_with("decoder.mid_block.attentions.")),
        "use_quant_conv": shape("quant_conv.weight").is_some(),
        "use_post_quant_conv": shape("post_quant_conv.weight").is_some(),
    });
    let Value::Object(fields) = described else { unreachable!("built as an object") };
    Ok((fields, note))
}

#[cfg(test)]
mod tests {
    use super::of_compvis;

    #[test]
    fn names_of_compvis() {
        for (theirs, ours) in [
            ("encoder.down.0.block.1.nin_shortcut.weight", Some("encoder.down_blocks.0.resnets.1.conv_shortcut.weight")),
            ("encoder.down.2.downsample.conv.bias", Some("encoder.down_blocks.2.downsamplers.0.conv.bias")),
            ("decoder.up.0.block.2.norm1.weight", Some("decoder.up_blocks.3.resnets.2.norm1.weight")),
            ("decoder.up.3.upsample.conv.weight", Some("decoder.up_blocks.0.upsamplers.0.conv.weight")),
            ("decoder.mid.attn_1.proj_out.bias", Some("decoder.mid_block.attentions.0.to_out.0.bias")),
            ("decoder.mid.block_2.conv1.weight", Some("decoder.mid_block.resnets.1.conv1.weight")),
            ("encoder.norm_out.bias", Some("encoder.conv_norm_out.bias")),
            ("decoder.conv_in.weight", Some("decoder.conv_in.weight")),
            ("post_quant_conv.weight", Some("post_quant_conv.weight")),
            ("loss.discriminator.main.0.weight", None),
            ("decoder.up.9.block.0.conv1.weight", None),
        ] {
            assert_eq!(of_compvis(theirs, 4).as_deref(), ours, "{theirs}");
        }
    }
}
