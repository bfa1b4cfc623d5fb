//! Autoencoders against PyTorch: every block of both families, both naming schemes of attention, whole pictures by every kind of
//! plan, tiles, and trajectories from noise to pixels.
#![allow(clippy::unwrap_used)]

mod loaded;
mod oracle;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fcdm_compiler::assemble::EntryPoint;
use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use fcdm_compiler::weights::WeightSource;
use fcdm_compiler::winograd::Winograd;
use fcdm_ir::flow::Copier;
use fcdm_ir::{Builder, Function, Module};
use fcdm_models::autoencoder::{Autoencoder, PREFIX, open, open_all};
use fcdm_models::bundled;
use fcdm_models::compile::{Networks, Options, Silent, compile};
use fcdm_models::fcdm::Import;
use fcdm_models::pictures::{Picture, load};
use fcdm_passes::{OPTIMISED, run};
use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::autoencoder::{Decoder, Encoder};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::DecoderKind;
use fcdm_runtime::executor::Input;
use fcdm_runtime::generate::{Progress, Request, sample};
use fcdm_runtime::network::{Class, Network};
use fcdm_runtime::sampler::{Guidance, GuidedChannels, Method, NoNoise, Solver};
use loaded::executor;
use oracle::{File, Golden, channels_first, golden};

/// What the denoiser's latents are kl8's times.
const SCALE: f64 = 0.18215;

fn taef2() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/weights/taef2")
}

/// The function with every value as a result whose name, without the prefix, the file has.
fn traced(f: &Function, file: &File) -> Function {
    let mut b = Builder::new(f.name());
    let mut copier = Copier::new(f);
    for &v in f.inputs() {
        copier.input(&mut b, v);
    }
    let mut results = Vec::new();
    for (v, d) in f.values() {
        if let Some(name) = d.name.strip_prefix(PREFIX).filter(|name| file.results().any(|r| r == *name)) {
            results.push((name.to_owned(), copier.copy(&mut b, v)));
        }
    }
    results.extend(f.results().iter().map(|(n, v)| (n.clone(), copier.copy(&mut b, *v))));
    b.finish(results)
}

/// Runs a function of one image and gives its results by name.
fn results(
    path: &Path,
    f: Function,
    derived: Option<&Function>,
    weights: &dyn WeightSource,
    winograd: Winograd,
    x: &[f32],
) -> Vec<(String, Vec<f64>)> {
    let outputs: Vec<(String, Vec<usize>)> = f.results().iter().map(|(n, v)| (n.clone(), f.ty(*v).shape.clone())).collect();
    let mut ex = executor(path, vec![EntryPoint::new(f, 1)], derived, weights, winograd, 2);
    let mut values: Vec<Vec<f32>> = outputs.iter().map(|(_, s)| vec![f32::NAN; s.iter().product()]).collect();
    let mut slots: Vec<&mut [f32]> = values.iter_mut().map(|v| &mut v[..]).collect();
    ex.run(0, &[Input::F32(x)], &mut slots);
    let first = |(shape, v): (&Vec<usize>, Vec<f32>)| channels_first(&v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), shape);
    let shapes: Vec<Vec<usize>> = outputs.iter().map(|(_, s)| s.clone()).collect();
    outputs.into_iter().map(|(n, _)| n).zip(shapes.iter().zip(values).map(first)).collect()
}

/// Holds both halves of an autoencoder against a file: blocks by the plain plan, ends by the optimised one too.
fn against(
    a: &Autoencoder,
    file: &File,
    picture: &[f32],
    latents: &[f32],
    size: [usize; 2],
    blocks: usize,
    ends: &dyn Fn(&str, Vec<f64>, &str),
) {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for (f, x) in [(a.encode(size[0], size[1]).unwrap(), picture), (a.decode(size[0], size[1]).unwrap(), latents)] {
        let path = folder.path().join(f.name());
        for (name, values) in results(&path, traced(&f, file), None, a, Winograd::Never, x) {
            if file.results().any(|r| r == name) && !["mean", "std"].contains(&name.as_str()) {
                file.check(&name, &values, "plain plan");
                seen += 1;
            } else {
                ends(&name, values, "plain plan");
            }
        }
        let (m, _) = run(OPTIMISED, Module { functions: vec![f.clone()] }, &mut |_, _| {}).unwrap();
        for winograd in [Winograd::WhereFaster, Winograd::Always] {
            let optimised = m.function(f.name()).unwrap().clone();
            for (name, values) in results(&path, optimised, m.function(Module::WEIGHTS), a, winograd, x) {
                ends(&name, values, &format!("optimised plan, Winograd {winograd:?}"));
            }
        }
    }
    assert_eq!(seen, blocks, "values of the file that the functions name");
}

/// A block and its last layer are one value and have one name in the IR: 34 of the file's names are left.
#[test]
fn autoencoder_kl_block_by_block() {
    let file = File::open("kl8", "golden");
    let picture = file.get("picture").channels_last().f32();
    let latents: Vec<f32> = file.get("latents").channels_last().values.iter().map(|&v| (v * SCALE) as f32).collect();
    for folder in ["kl8", "kl8-old"] {
        let a = open(&golden().join(folder), PREFIX).unwrap();
        assert_eq!((a.family(), a.latent_channels(), a.factor()), ("AutoencoderKL", 4, 8));
        against(&a, &file, &picture, &latents, [8, 6], 34, &|name, values, who| match name {
            "picture" => file.check_within(2.0, "reconstruction", &values, who),
            "mean" | "std" => file.check_within(2.0, name, &values.iter().map(|v| v / SCALE).collect::<Vec<_>>(), who),
            other => panic!("{other}"),
        });
    }
}

/// Means and deviations of the channels in place of one factor (`latents_mean`, `latents_std`): `x = (z - mean) * factor / std`.
#[test]
fn autoencoder_kl_with_statistics_of_its_channels() {
    let (means, deviations) = ([-1.5, 0.25, 3.0, 0.0], [8.5, 0.5, 1.0, 2.25]);
    let folder = tempfile::tempdir().unwrap();
    let name = "diffusion_pytorch_model.safetensors";
    std::fs::copy(golden().join("kl8").join(name), folder.path().join(name)).unwrap();
    let config = std::fs::read_to_string(golden().join("kl8/config.json")).unwrap();
    let config = config.replace("\"latents_mean\": null", &format!("\"latents_mean\": {means:?}"));
    let config = config.replace("\"latents_std\": null", &format!("\"latents_std\": {deviations:?}"));
    std::fs::write(folder.path().join("config.json"), config).unwrap();

    let file = File::open("kl8", "golden");
    let picture = file.get("picture").channels_last().f32();
    let statistics = |i: usize| (means[i % 4], deviations[i % 4]);
    let scaled = |(i, &z): (usize, &f64)| ((z - statistics(i).0) * SCALE / statistics(i).1) as f32;
    let latents: Vec<f32> = file.get("latents").channels_last().values.iter().enumerate().map(scaled).collect();
    let a = open(folder.path(), PREFIX).unwrap();
    against(&a, &file, &picture, &latents, [8, 6], 34, &|name, values, who| {
        let back = |shift: bool| {
            // Results are in PyTorch's order, channels of 8 x 6 values.
            let of = |i: usize| statistics(i / 48);
            let one = |(i, v): (usize, &f64)| v * of(i).1 / SCALE + if shift { of(i).0 } else { 0.0 };
            values.iter().enumerate().map(one).collect::<Vec<f64>>()
        };
        match name {
            "picture" => file.check_within(2.0, "reconstruction", &values, who),
            "mean" => file.check_within(2.0, name, &back(true), who),
            "std" => file.check_within(2.0, name, &back(false), who),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn taef2_block_by_block() {
    let file = File::open(".", "taef2");
    let picture: Vec<f32> = file.get("picture").channels_last().values.iter().map(|&v| (2.0 * v - 1.0) as f32).collect();
    let latents = file.get("latents").channels_last().f32();
    let a = open(&taef2(), PREFIX).unwrap();
    assert_eq!((a.family(), a.latent_channels(), a.factor()), ("TAESD", 32, 8));
    against(&a, &file, &picture, &latents, [8, 8], 30, &|name, values, who| match name {
        "picture" => file.check_within(2.0, "reconstruction", &values.iter().map(|v| (v + 1.0) / 2.0).collect::<Vec<_>>(), who),
        "mean" => file.check_within(2.0, "encoder.14", &values, who),
        other => panic!("{other}"),
    });
    // One half finds the other beside it, and either may be missing.
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| std::fs::copy(taef2().join(name), folder.path().join(name)).unwrap();
    copy("taef2_decoder.pth");
    let alone = open(&folder.path().join("taef2_decoder.pth"), PREFIX).unwrap();
    assert!(alone.encode(8, 8).is_err() && alone.decode(8, 8) == a.decode(8, 8));
    copy("taef2_encoder.pth");
    let both = open(&folder.path().join("taef2_decoder.pth"), PREFIX).unwrap();
    assert!(both.encode(8, 8) == a.encode(8, 8) && both.encode(8, 8).is_ok());
}

/// The same weights as diffusers names them: one file, and a decoder without the layer that bounds the latents.
#[test]
fn taef2_in_diffusers_layout() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (half, first) in [("encoder", 0), ("decoder", 1)] {
        let file = StateDict::everything(Checkpoint::open(taef2().join(format!("taef2_{half}.pth"))).unwrap()).unwrap();
        for name in file.names() {
            let (index, rest) = name.split_once('.').unwrap();
            let new = format!("{half}.layers.{}.{rest}", index.parse::<usize>().unwrap() - first);
            let values = file.read_f32(name).unwrap();
            tensors.push((new, file.tensor(name).unwrap().shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
    }
    let views = tensors.iter().map(|(n, s, b)| (n, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join("diffusion_pytorch_model.safetensors")).unwrap();
    let config = folder.path().join("config.json");
    std::fs::write(&config, r#"{"_class_name":"AutoencoderTiny","act_fn":"relu","scaling_factor":1.0,"latent_channels":4}"#).unwrap();
    let line = open(folder.path(), PREFIX).err().unwrap().to_string();
    assert!(line.ends_with("latent_channels: expected 32, found 4"), "{line}");
    std::fs::write(config, r#"{"_class_name":"AutoencoderTiny","act_fn":"relu","scaling_factor":1.0,"latent_channels":32}"#).unwrap();
    let a = open(folder.path(), PREFIX).unwrap();
    assert_eq!((a.family(), a.latent_channels(), a.factor()), ("TAESD", 32, 8));
    let file = File::open(".", "taef2");
    let picture: Vec<f32> = file.get("picture").channels_last().values.iter().map(|&v| (2.0 * v - 1.0) as f32).collect();
    let latents = file.get("latents").channels_last().f32();
    against(&a, &file, &picture, &latents, [8, 8], 0, &|name, values, who| match name {
        "picture" => file.check_within(2.0, "reconstruction", &values.iter().map(|v| (v + 1.0) / 2.0).collect::<Vec<_>>(), who),
        "mean" => file.check_within(2.0, "encoder.14", &values, who),
        other => panic!("{other}"),
    });
}

fn artifact(networks: Networks<'_>, options: &Options, folder: &Path) -> Arc<Artifact> {
    let path = folder.join("a.fcdm");
    compile(networks, options, &path, &mut Silent).unwrap();
    Arc::new(Artifact::open(&path).unwrap())
}

/// Decibels of a picture in [0,1] or any range of length 1.
fn psnr(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut n) = (0.0, 0);
    for (a, b) in a.zip(b) {
        sum += (a - b) * (a - b);
        n += 1;
    }
    10.0 * (f64::from(n) / sum).log10()
}

/// Tiles of a picture of noise in latents are as near to the whole as a decoder that sees a little around a pixel can make them.
#[test]
fn tiles_are_close_to_the_whole_and_need_less_memory() {
    let folder = tempfile::tempdir().unwrap();
    let a = open(&taef2(), PREFIX).unwrap();
    let networks = Networks { autoencoder: Some(&a), ..Networks::default() };
    let artifact = artifact(networks, &Options { encoder: true, ..Options::new(32, 24) }, folder.path());
    // Smooth colours with some structure, through the encoder.
    let picture: Vec<f32> = (0..256 * 192 * 3)
        .map(|i| {
            let (y, x, c) = ((i / 3 / 192) as f32, (i / 3 % 192) as f32, (i % 3) as f32);
            0.8 * (0.03 * x + c).sin() * (0.05 * y - 0.5 * c).cos()
        })
        .collect();
    let mut encoder = Encoder::new(&artifact, &Cpu::new(2).unwrap()).unwrap();
    let (mut latent, mut deviation) = (vec![0.0; 32 * 24 * 32], vec![1.0; 32 * 24 * 32]);
    encoder.encode(&picture, &mut latent, &mut deviation);
    assert!(!encoder.has_deviation() && deviation.iter().all(|&d| d == 0.0));
    let decoded = |max_memory| {
        let mut decoder = Decoder::new(&artifact, DecoderKind::Own, [32, 24], &Cpu::new(2).unwrap(), max_memory).unwrap();
        let mut picture = vec![f32::NAN; decoder.picture().iter().product()];
        decoder.decode(&latent, &mut picture);
        (picture, decoder.tiles(), decoder.bytes())
    };
    let (whole, one, bytes) = decoded(None);
    let (tiled, tiles, less) = decoded(Some(bytes - 1));
    assert!(one == 1 && tiles > 1 && less < bytes, "{one} {tiles} {less} {bytes}");
    let half = |v: &f32| f64::from(v / 2.0);
    let (to_whole, to_picture) =
        (psnr(tiled.iter().map(half), whole.iter().map(half)), psnr(whole.iter().map(half), picture.iter().map(half)));
    println!("tiles: {to_whole:.1} dB from the whole, which is {to_picture:.1} dB from the picture");
    assert!(to_whole > 35.0 && to_picture > 25.0, "{to_whole} {to_picture}");
    let line = Decoder::new(&artifact, DecoderKind::Own, [32, 24], &Cpu::new(2).unwrap(), Some(1000)).err().unwrap().to_string();
    assert!(line.contains("max-memory: decoding latents of 32x24 takes at least ") && line.ends_with("bytes, found 1000"), "{line}");
}

/// From noise to pixels with the weights of the box, which are stored as f16, and, where it is at hand, the checkpoint that they were
/// made from.
#[test]
fn trajectories_to_pixels() {
    let file = File::open(".", "clothing-latent.trajectory");
    let (import, vae) = bundled::networks().unwrap();
    let least = trajectory(&import, &vae, &file, &["all", "first3"]);
    assert!(least > 50.0, "weights as f16: {least:.1} dB");
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/checkpoints/clothing-latent.pt");
    if !shared.exists() {
        println!("SKIPPED: {} is not there", shared.display());
        return;
    }
    let import = Import::open(Checkpoint::open(&shared).unwrap(), None, true).unwrap();
    let least = trajectory(&import, &vae, &file, &["all", "first3"]);
    assert!(least > 70.0, "{least:.1} dB");
}

/// Decibels of the worst picture, 8 bits against 8 bits.
fn trajectory(import: &Import, vae: &Autoencoder, file: &File, variants: &[&str]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let networks = Networks { fcdm: Some(import), autoencoder: Some(vae), preview: None };
    let artifact = artifact(networks, &Options { batches: vec![1, 2, 8], ..Options::new(16, 16) }, folder.path());
    let mut network = Network::new(artifact.clone(), &Cpu::new(2).unwrap()).unwrap();
    let mut decoder = Decoder::new(&artifact, DecoderKind::Own, [16, 16], &Cpu::new(2).unwrap(), None).unwrap();
    let classes = Class::all(&file.get("y").i32());
    let mut least = f64::INFINITY;
    for variant in variants {
        let channels = if *variant == "all" { GuidedChannels::AllEps } else { GuidedChannels::First3 };
        let guidance = Guidance { scale: 2.0, channels, interval: None };
        let mut states = file.get("noise").channels_last().f32();
        let euler = Method::Ode { steps: 50, solver: Solver::Euler };
        let request = Request::new(euler, guidance, &classes);
        let mut go_on = |_: &Progress<'_>| std::ops::ControlFlow::Continue(());
        assert!(sample(&mut network, &request, &mut states, &mut NoNoise, &mut go_on).unwrap());
        let expected: &Golden = file.get(&format!("cfg2.{variant}.picture_u8"));
        let expected = expected.channels_last().values;
        for (i, state) in states.chunks_exact(16 * 16 * 32).enumerate() {
            let mut picture = vec![0.0; 128 * 128 * 3];
            decoder.decode(state, &mut picture);
            let bytes = Picture::from_unit(128, 128, 3, &picture).pixels;
            let expected = &expected[i * bytes.len()..][..bytes.len()];
            let db = psnr(bytes.iter().map(|&b| f64::from(b) / 255.0), expected.iter().map(|b| b / 255.0));
            println!("guidance of {variant}, picture {i}: {db:.1} dB");
            least = least.min(db);
        }
    }
    least
}

/// VAElight (Apache-2.0), where the folder of shared data is: ONNX models of extents that are free, a decoder whose picture is the sum of a
/// pyramid. Photographs come back blurred (23 dB, its authors say), by the latents' scale and back.
#[test]
fn onnx_autoencoders() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !folder.join("vaelight").exists() {
        println!("SKIPPED: {} is not there", folder.display());
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let paths = ["VAEpreview.onnx", "VAEencoder.onnx"].map(|n| folder.join("vaelight").join(n));
    let a = open_all(&paths, PREFIX, Some(SCALE)).unwrap();
    assert_eq!((a.family(), a.latent_channels(), a.factor()), ("ONNX", 4, 8));
    let networks = Networks { autoencoder: Some(&a), ..Networks::default() };
    let artifact = artifact(networks, &Options { encoder: true, ..Options::new(32, 32) }, temporary.path());
    let mut encoder = Encoder::new(&artifact, &Cpu::new(2).unwrap()).unwrap();
    let mut decoder = Decoder::new(&artifact, DecoderKind::Own, [32, 32], &Cpu::new(2).unwrap(), None).unwrap();
    let mut sum = 0.0;
    for photo in ["dress/00.jpg", "hat/01.jpg", "shoes/02.jpg"] {
        let photo = load(&folder.join("clothing256").join(photo)).unwrap().to_unit();
        let (mut latent, mut deviation) = (vec![0.0; 32 * 32 * 4], vec![0.0; 32 * 32 * 4]);
        encoder.encode(&photo, &mut latent, &mut deviation);
        let rms = (latent.iter().map(|v| f64::from(v * v)).sum::<f64>() / latent.len() as f64).sqrt();
        assert!((0.3..3.0).contains(&rms), "latents as a denoiser takes them have deviation 1, about: {rms}");
        let mut picture = vec![0.0; photo.len()];
        decoder.decode(&latent, &mut picture);
        sum += psnr(picture.iter().map(|&v| f64::from(v.clamp(-1.0, 1.0) / 2.0)), photo.iter().map(|&v| f64::from(v / 2.0)));
    }
    println!("VAElight: {:.1} dB", sum / 3.0);
    assert!(sum / 3.0 > 18.0, "{:.1} dB", sum / 3.0);
    let twice = [paths[0].clone(), paths[0].clone()];
    let line = open_all(&twice, PREFIX, None).err().unwrap().to_string();
    assert!(line.ends_with("expected the other half of the autoencoder, found the same one again"), "{line}");
}
