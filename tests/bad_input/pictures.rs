//! Autoencoders and pictures that do not fit.

use crate::process::Folder;
use fcdm_models::pictures::{Picture, write_png};

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/weights");

fn flat(f: &Folder, name: &str, width: usize, height: usize) {
    write_png(&f.path(name), &Picture { width, height, channels: 3, pixels: vec![90; width * height * 3] }, &[]).unwrap();
}

#[test]
fn autoencoders() {
    let f = Folder::new();
    let refused = |code, line: &str, expected: &str| {
        let message = f.fails(code, line);
        assert!(message.contains(expected), "{line}\n{message}");
        assert!(!f.path("a.fcdm").exists(), "{line}");
    };
    let line = format!("compile GOLDEN/eps8/0000003.pt --vae {WEIGHTS}/taef2 -o a.fcdm");
    refused(2, &line, "vae: expected latents of 4 channels, as the FCDM has, found 32 of the autoencoder (TAESD)");
    refused(3, "compile --vae GOLDEN/eps8/0000003.safetensors -o a.fcdm", "expected half of a TAESD");
    refused(3, "compile --vae nothing -o a.fcdm", "nothing: ");
    std::fs::create_dir(f.path("empty")).unwrap();
    refused(3, "compile --vae empty -o a.fcdm", "empty: expected config.json (diffusers), or files whose names contain");
    let line = format!("compile --vae {WEIGHTS}/taef2/taef2_encoder.pth -o a.fcdm");
    f.ok(&line);
    std::fs::remove_file(f.path("a.fcdm")).unwrap();
    std::fs::create_dir(f.path("half")).unwrap();
    std::fs::copy(format!("{WEIGHTS}/taef2/taef2_encoder.pth"), f.path("half/taef2_encoder.pth")).unwrap();
    refused(2, "compile --vae half -o a.fcdm", "vae: the decoder is missing");

    std::fs::create_dir(f.path("kl")).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kl8");
    let config = std::fs::read_to_string(format!("{golden}/config.json")).unwrap();
    for (from, to, code, expected) in [
        ("AutoencoderKL", "VQModel", 3, "kl/config.json: _class_name: expected AutoencoderKL or AutoencoderTiny, found `VQModel`"),
        ("\"norm_num_groups\": 4", "\"norm_num_groups\": 5", 3, "kl/config.json: block_out_channels: expected multiples of 5"),
        ("0.18215", "0", 3, "kl/config.json: scaling_factor: expected a number other than 0, found 0"),
        ("\"latent_channels\": 4", "\"latent_channels\": 1000000000000", 3, "kl/config.json: latent_channels: expected 1 to 1024"),
        ("{", "", 3, "kl/config.json: expected an autoencoder's description"),
        ("\"act_fn\": \"silu\"", "\"act_fn\": \"relu\"", 3, "kl/config.json: act_fn: expected silu, found relu"),
        ("\"in_channels\": 3", "\"in_channels\": 4", 3, "kl/config.json: in_channels: expected 3, found 4"),
        ("\"DownEncoderBlock2D\"", "\"AttnDownEncoderBlock2D\"", 3, "kl/config.json: down_block_types: expected ["),
        (
            "\"latents_mean\": null",
            "\"latents_mean\": [0.5]",
            3,
            "kl/config.json: latents_mean: expected 4 numbers, one for each channel of the latents, found [0.5]",
        ),
        (
            "\"latents_mean\": null",
            "\"latents_mean\": [0.5,1,2,3]",
            3,
            "kl/config.json: latents_std: expected beside latents_mean, found none",
        ),
        ("\"force_upcast\"", "\"force\\nupcast\"", 3, "kl/config.json: force\\nupcast: expected no such field, found true"),
        ("\"use_quant_conv\": true", "\"use_quant_conv\": 1", 3, "kl/config.json: use_quant_conv: expected true or false, found 1"),
        (
            "\"use_quant_conv\": true",
            "\"use_quant_conv\": false",
            3,
            "2 tensors do not belong to this AutoencoderKL, the first is `quant_conv.bias`",
        ),
        (
            "\"mid_block_add_attention\": true",
            "\"mid_block_add_attention\": false",
            3,
            "20 tensors do not belong to this AutoencoderKL, the first is `decoder.mid_block.attentions.0.",
        ),
        ("x", "x", 3, "kl: expected diffusion_pytorch_model.safetensors or diffusion_pytorch_model.bin, found neither"),
    ] {
        f.write("kl/config.json", config.replacen(from, to, 1));
        if from != "x" {
            std::fs::copy(format!("{golden}/diffusion_pytorch_model.safetensors"), f.path("kl/diffusion_pytorch_model.safetensors"))
                .unwrap();
        } else {
            std::fs::remove_file(f.path("kl/diffusion_pytorch_model.safetensors")).unwrap();
        }
        refused(code, "compile --vae kl -o a.fcdm", expected);
    }
    std::fs::copy(format!("{golden}/diffusion_pytorch_model.safetensors"), f.path("kl/diffusion_pytorch_model.safetensors")).unwrap();
    for (fields, expected) in [
        ("\"act_fn\":\"silu\"", "kl/config.json: act_fn: expected relu, found silu"),
        ("\"scaling_factor\":0.5", "kl/config.json: scaling_factor: expected 1, found 0.5"),
        ("\"shift_factor\":-1", "kl/config.json: shift_factor: expected 0, found -1"),
        ("\"num_decoder_blocks\":[3,3,3,3]", "kl/config.json: num_decoder_blocks: expected [3,3,3,1], found [3,3,3,3]"),
        ("\"act_fn\":\"relu\",\"sample_size\":64", "tensor `encoder.layers.0.weight` is missing: is this the encoder of a TAESD?"),
    ] {
        f.write("kl/config.json", format!("{{\"_class_name\":\"AutoencoderTiny\",{fields}}}"));
        refused(3, "compile --vae kl -o a.fcdm", expected);
    }
    f.write("kl/config.json", config.replace("\"layers_per_block\": 2", "\"layers_per_block\": 3"));
    std::fs::copy(format!("{golden}/diffusion_pytorch_model.safetensors"), f.path("kl/diffusion_pytorch_model.safetensors")).unwrap();
    refused(3, "compile --vae kl -o a.fcdm", "tensors of this AutoencoderKL are missing, the first is `encoder.down_blocks.0.resnets.2.");
    // An artifact without an autoencoder, and latents of another.
    f.ok("compile GOLDEN/eps8/0000003.pt --size 8x8 -o b.fcdm");
    f.ok("generate b.fcdm -c 1 --steps 1 -o o --save-latents l.safetensors");
    let line = f.fails(2, "decode l.safetensors --vae b.fcdm -o n");
    assert_eq!(line, "error: b.fcdm: expected an artifact with a decoder, found none in it");
    let line = f.fails(2, "decode l.safetensors -o n");
    assert_eq!(line, "error: l.safetensors: expected latents of 32 channels, as the autoencoder has, found 4");
}

#[test]
fn pictures() {
    let f = Folder::new();
    flat(&f, "small.png", 64, 64);
    flat(&f, "right.png", 128, 128);
    f.write("none.png", "no picture");
    let refused = |line: &str, code, expected: &str| {
        let message = f.fails(code, &format!("generate -c 1 --steps 1 -o o {line}"));
        assert!(message.contains(expected), "{line}\n{message}");
        assert!(!f.path("o").exists(), "{line}");
    };
    f.run("generate -c 1 --steps 1 -o warm");
    refused("--init-image none.png", 6, "none.png: expected a picture (PNG, JPEG, WebP, BMP, GIF, TIFF), found a text file");
    let line = "small.png: expected a mask of 128 x 128 pixels, as right.png has, found 64 x 64";
    refused("--init-image right.png --mask small.png", 6, line);
    refused("--init-image right.png --strength 0", 2, "strength: expected more than 0, at most 1, found 0");
    refused("--strength 0.5", 2, "strength: expected with --init-image or --init-latents");
    refused("--init-image gone.png", 6, "gone.png: ");
    std::fs::create_dir(f.path("in")).unwrap();
    assert!(f.fails(2, "encode in -o l").ends_with("in: expected pictures (PNG, JPEG, WebP, BMP, GIF, TIFF), found none"));
    f.write("in/one.avif", b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf");
    assert!(
        f.fails(6, "encode in -o l --size 64")
            .contains("one.avif: expected a picture (PNG, JPEG, WebP, BMP, GIF, TIFF), found AVIF, which")
    );
    std::fs::remove_file(f.path("in/one.avif")).unwrap();
    std::fs::copy(f.path("none.png"), f.path("in/none.png")).unwrap();
    assert!(f.fails(6, "encode in -o l --size 64").contains("none.png: expected a picture"));
    assert!(f.fails(6, "encode in -o l --size 64 --skip-bad").ends_with("in: none of its pictures can be read"));
    flat(&f, "in/one.png", 64, 64);
    f.write("in/two.heic", b"\0\0\0\x18ftypheic");
    let line = f.fails(6, "encode in -o l --size 64");
    assert!(line.contains("none.png: expected a picture") && line.ends_with(", and 1 others; --skip-bad leaves such out"), "{line}");
    std::fs::remove_file(f.path("in/none.png")).unwrap();
    let line = f.fails(6, "encode in -o l --size 64");
    assert!(
        line.contains("two.heic: expected a picture (") && line.contains("found HEIC, which is not read: convert it to PNG or JPEG first")
    );
    assert!(f.fails(2, "encode in -o l --size 63").ends_with("size: expected a multiple of 8, found 63"));
    for class in ["a", "b"] {
        std::fs::create_dir_all(f.path("classes").join(class)).unwrap();
    }
    flat(&f, "classes/a/1.png", 64, 64);
    let line = f.fails(6, "encode classes -o l --size 64");
    assert!(line.contains("in every sub-folder, found none in `b`; --skip-bad"), "{line}");
    assert!(f.misused("encode classes -o l --seed 3").contains("--samples"));
    assert!(f.fails(1, "encode gone -o l").starts_with("error: gone: "));
}
