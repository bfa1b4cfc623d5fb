//! Autoencoders in the forms that people have them in: one file without a description, under diffusers' names or CompVis', alone or
//! among other networks; parts with an index; variants; a pipeline's folder.

use crate::process::{Folder, Tensors};

const WIDTH: usize = 32;

/// A tensor's name and shape.
type Shaped = (String, Vec<usize>);

fn conv(name: &str, o: usize, i: usize, k: usize) -> [Shaped; 2] {
    [(format!("{name}.weight"), vec![o, i, k, k]), (format!("{name}.bias"), vec![o])]
}

fn norm(name: &str) -> [Shaped; 2] {
    ["weight", "bias"].map(|what| (format!("{name}.{what}"), vec![WIDTH]))
}

fn resnet(name: &str) -> Vec<Shaped> {
    let part = |n: usize| [norm(&format!("{name}.norm{n}")), conv(&format!("{name}.conv{n}"), WIDTH, WIDTH, 3)].concat();
    [part(1), part(2)].concat()
}

/// An AutoencoderKL of two levels of 32 channels without attention, under diffusers' names or CompVis'.
fn shapes(compvis: bool) -> Vec<Shaped> {
    let name = |theirs: &str, ours: &str| if compvis { theirs.to_owned() } else { ours.to_owned() };
    let mut all = [conv("quant_conv", 8, 8, 1), conv("post_quant_conv", 4, 4, 1)].concat();
    for (half, [from, to], count) in [("encoder", [3, 8], 1), ("decoder", [4, 3], 2)] {
        all.extend(conv(&format!("{half}.conv_in"), WIDTH, from, 3));
        all.extend(conv(&format!("{half}.conv_out"), to, WIDTH, 3));
        all.extend(norm(&format!("{half}.{}", name("norm_out", "conv_norm_out"))));
        for n in 0..2 {
            all.extend(resnet(&format!("{half}.{}", name(&format!("mid.block_{}", n + 1), &format!("mid_block.resnets.{n}")))));
            for j in 0..count {
                // CompVis counts levels by resolution in both halves, diffusers in the order of the data.
                let block = match half {
                    "encoder" => name(&format!("down.{n}.block.{j}"), &format!("down_blocks.{n}.resnets.{j}")),
                    _ => name(&format!("up.{}.block.{j}", 1 - n), &format!("up_blocks.{n}.resnets.{j}")),
                };
                all.extend(resnet(&format!("{half}.{block}")));
            }
        }
    }
    all.extend(conv(&name("encoder.down.0.downsample.conv", "encoder.down_blocks.0.downsamplers.0.conv"), WIDTH, WIDTH, 3));
    all.extend(conv(&name("decoder.up.1.upsample.conv", "decoder.up_blocks.0.upsamplers.0.conv"), WIDTH, WIDTH, 3));
    all
}

/// Numbers that are as good as any, the same for a tensor of the same place in the list.
fn file<'a>(tensors: impl Iterator<Item = (usize, &'a Shaped)>, prefix: &str) -> Vec<u8> {
    let mut all = Tensors::default();
    for (at, (name, shape)) in tensors {
        let count: usize = shape.iter().product();
        let size = if shape.len() == 1 { 1.0 } else { 0.1 };
        let values: Vec<f32> = (0..count).map(|i| (((i * 7919 + at * 104_729) % 1009) as f32 / 504.0 - 1.0) * size).collect();
        all = all.f32(&format!("{prefix}{name}"), shape, &values);
    }
    all.bytes()
}

const CONFIG: &str = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [32, 32], "layers_per_block": 1, "latent_channels": 4,
    "mid_block_add_attention": false, "scaling_factor": 0.5}"#;

#[test]
fn one_file_a_variant_parts_or_a_pipeline() {
    let f = Folder::new();
    let latents: Vec<f32> = (0..4 * 64).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect();
    f.write("z.safetensors", Tensors::default().f32("latents", &[1, 4, 8, 8], &latents).bytes());
    let (ours, theirs) = (shapes(false), shapes(true));
    for folder in ["pipeline/vae", "variant", "parts"] {
        std::fs::create_dir_all(f.path(folder)).unwrap();
        f.write(&format!("{folder}/config.json"), CONFIG);
    }
    let all = |list: &[Shaped], prefix: &str| file(list.iter().enumerate(), prefix);
    f.write("pipeline/vae/diffusion_pytorch_model.safetensors", all(&ours, ""));
    f.write("variant/diffusion_pytorch_model.fp16.safetensors", all(&ours, ""));
    let mut map = serde_json::Map::new();
    for part in 0..3 {
        let name = format!("diffusion_pytorch_model-{part:05}-of-00003.safetensors");
        let tensors: Vec<(usize, &Shaped)> = ours.iter().enumerate().filter(|(i, _)| i % 3 == part).collect();
        map.extend(tensors.iter().map(|(_, (n, _))| (n.clone(), name.clone().into())));
        f.write(&format!("parts/{name}"), file(tensors.into_iter(), ""));
    }
    let index = |map: serde_json::Map<String, serde_json::Value>| serde_json::json!({ "weight_map": map }).to_string();
    f.write("parts/diffusion_pytorch_model.safetensors.index.json", index(map.clone()));
    f.write("kl.safetensors", all(&ours, ""));
    f.write("compvis.safetensors", all(&theirs, ""));
    f.write("inside.safetensors", all(&theirs, "first_stage_model."));
    let decoded = |vae: &str| {
        f.ok(&format!("decode z.safetensors --vae {vae} --npz o.npz -o o --force"));
        f.bytes("o.npz")
    };
    let whole = decoded("pipeline");
    for vae in ["pipeline/vae", "variant", "variant/diffusion_pytorch_model.fp16.safetensors", "parts"] {
        assert!(decoded(vae) == whole, "{vae}");
    }
    for vae in ["kl", "compvis", "inside"] {
        assert!(decoded(&format!("{vae}.safetensors --vae-scale 0.5")) == whole, "{vae}");
        let ran = f.run(&format!("decode z.safetensors --vae {vae}.safetensors -o o --force"));
        assert!(ran.code == Some(0) && ran.err.contains("does not say what latents are scaled by: 0.18215"), "{ran:?}");
    }
    let line = f.fails(3, "decode z.safetensors --vae pipeline --vae-scale 0.5 -o p");
    assert!(line.contains("pipeline: vae-scale: it is for ONNX autoencoders and files without a description"), "{line}");
    // An index names files beside it, which are there.
    map.insert("quant_conv.bias".into(), "../kl.safetensors".into());
    f.write("parts/diffusion_pytorch_model.safetensors.index.json", index(map));
    let line = f.fails(3, "decode z.safetensors --vae parts -o p");
    assert!(line.ends_with("weight_map: expected names of files beside it, found \"../kl.safetensors\""), "{line}");
    std::fs::remove_file(f.path("variant/diffusion_pytorch_model.fp16.safetensors")).unwrap();
    let line = f.fails(3, "decode z.safetensors --vae variant -o p");
    assert!(line.ends_with("expected diffusion_pytorch_model.safetensors or diffusion_pytorch_model.bin, found neither"), "{line}");
}
