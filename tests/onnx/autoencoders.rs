//! Halves of autoencoders, written by `tests/reference/make_onnx_autoencoders.py` with what ONNX Runtime makes of them: at whatever
//! size, whatever they leave open, whatever their outputs are.

use std::path::PathBuf;
use std::sync::Arc;

use fcdm_models::autoencoder::{Autoencoder, PREFIX, open_all};
use fcdm_models::compile::{Networks, Options, Silent, Summary, compile};
use fcdm_models::fcdm::Import;
use fcdm_runtime::artifact::Artifact;
use fcdm_runtime::autoencoder::{Decoder, Encoder};
use fcdm_runtime::engine::Cpu;
use fcdm_runtime::entry_name::DecoderKind;
use safetensors::SafeTensors;

use super::{distance, golden};

/// Of convolutions and norms one after the other, in f32, some of them by Winograd.
const TOLERANCE: f64 = 1e-4;

fn path(name: &str) -> PathBuf {
    golden().join("vae").join(format!("{name}.onnx"))
}

fn opened(names: &[&str]) -> Autoencoder {
    let paths: Vec<PathBuf> = names.iter().map(|n| path(n)).collect();
    open_all(&paths, PREFIX, None).unwrap_or_else(|e| panic!("{e}"))
}

/// Why models are refused, without the folder.
fn refused(names: &[&str]) -> String {
    let paths: Vec<PathBuf> = names.iter().map(|n| path(n)).collect();
    let line = open_all(&paths, PREFIX, None).err().unwrap_or_else(|| panic!("{names:?} opens")).to_string();
    assert!(!line.contains('\n'), "{line}");
    line.replace(&format!("{}/", golden().join("vae").display()), "")
}

/// Extents and values of a golden tensor, channels last.
fn values(name: &str) -> ([usize; 3], Vec<f32>) {
    let bytes = std::fs::read(golden().join("vae/expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let t = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let &[1, c, h, w] = t.shape() else { panic!("{name}: {:?}", t.shape()) };
    let at = |i: usize| f32::from_le_bytes(t.data()[4 * i..][..4].try_into().unwrap());
    ([h, w, c], (0..h * w * c).map(|i| at(i % c * h * w + i / c)).collect())
}

fn compiled(a: &Autoencoder, options: &Options) -> (Arc<Artifact>, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.fcdm");
    let networks = Networks { autoencoder: Some(a), ..Networks::default() };
    let summary = compile(networks, options, &path, &mut Silent).unwrap_or_else(|e| panic!("{e}"));
    (Arc::new(Artifact::open(&path).unwrap()), summary)
}

#[test]
fn decoders_at_any_size() {
    for (name, sizes) in [
        ("decoder", &[[5, 7], [8, 8], [16, 16], [20, 24]][..]),
        ("decoder_positions", &[[5, 7], [20, 18]]),
        ("decoder_all_dynamic", &[[6, 5]]),
        ("decoder_static", &[[6, 5]]),
    ] {
        let a = opened(&[name]);
        assert_eq!((a.latent_channels(), a.factor()), (4, 2), "{name}");
        for &[h, w] in sizes {
            let (artifact, _) = compiled(&a, &Options::new(h, w));
            let key = format!("{name}.{h}x{w}");
            let (latent, (_, expected)) = (values(&format!("{key}/in")).1, values(&format!("{key}/out.0")));
            let mut decoder = Decoder::new(&artifact, DecoderKind::Own, [h, w], &Cpu::new(2).unwrap(), None).unwrap();
            let mut picture = vec![f32::NAN; expected.len()];
            decoder.decode(&latent, &mut picture);
            let far = distance(&picture, &expected);
            assert!(far < TOLERANCE, "{key}: {far:.1e} from ONNX Runtime");
        }
    }
}

/// A whole picture and its tiles in one file: what follows from the size is there for each, everything else once.
#[test]
fn sizes_share_what_is_the_same() {
    let a = opened(&["decoder_positions"]);
    let (artifact, summary) = compiled(&a, &Options::new(20, 18));
    let names: Vec<&str> = summary.plan.entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["decode", "decode.16x16"]);
    let mut tensors: Vec<&str> = artifact.tensors().map(|(name, ..)| name).collect();
    tensors.sort_unstable();
    println!("{tensors:?}");
    for size in ["20x18", "16x16"] {
        assert!(tensors.iter().any(|t| t.contains(size)), "{tensors:?}");
    }
    assert_eq!(tensors.iter().filter(|t| t.starts_with("vae.decoder.w")).count(), 1, "{tensors:?}");
    // Nor do the parameters depend on what is compiled.
    let (_, other) = compiled(&opened(&["decoder_positions"]), &Options::new(5, 7));
    assert_eq!(summary.surveys, other.surveys);
    assert_eq!(a.count(), 3 * 4 * 9 + 3);
}

#[test]
fn a_size_of_its_own() {
    let a = opened(&["decoder_static"]);
    assert_eq!(a.own_size(), Some([6, 5]));
    let line = a.decode(16, 16).unwrap_err();
    let expected = "decoder_static.onnx is the decoder of latents of 6x5, pictures of 12x10, for which it was exported, found latents of 16x16: \
                    ask for that size, or export it with dynamic height and width";
    assert!(line.starts_with("size: ") && line.ends_with(expected), "{line}");
    assert_eq!(opened(&["encoder_static"]).own_size(), Some([6, 5]));
    assert_eq!(opened(&["encoder_static", "decoder_static"]).own_size(), Some([6, 5]));
    let a = opened(&["decoder_static_height"]);
    assert_eq!(a.own_size(), None);
    assert!(a.decode(6, 9).is_ok());
    assert!(a.decode(7, 9).unwrap_err().contains("is the decoder of latents of 6xany, pictures of 12xany, "));
    assert_eq!(opened(&["decoder"]).own_size(), None);
    let line = refused(&["decoder_static_batch"]);
    let expected = "input `z`: expected one image at a time, found 2: export it with a batch of 1, or a dynamic one";
    assert_eq!(line, format!("decoder_static_batch.onnx: {expected}"));
}

/// Bytes changed and files cut off: an error or an autoencoder, and never a panic.
#[test]
fn damaged_halves_do_not_panic() {
    for name in ["decoder_positions", "encoder_moments_and_mode", "encoder_first_half", "decoder_static"] {
        let bytes = std::fs::read(path(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.onnx");
        let tried = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            if let Ok(a) = open_all(std::slice::from_ref(&file), PREFIX, None) {
                let _ = (a.own_size(), a.decode(6, 5), a.encode(6, 5), a.count());
            }
            let _ = Import::open_onnx(&file, Some([8, 8]), true);
        };
        for at in (0..bytes.len()).step_by(5) {
            for value in [0, 0x7f] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                tried(&damaged);
            }
            tried(&bytes[..at]);
        }
    }
}

/// Three channels go into encoders, and into decoders of latents that have three.
#[test]
fn halves_are_told_by_what_they_give() {
    let a = opened(&["decoder_of_three_channels"]);
    assert_eq!((a.latent_channels(), a.factor()), (3, 2));
    assert!(a.decode(4, 6).is_ok() && a.encode(4, 6).is_err());
}

#[test]
fn posteriors() {
    for (names, size, channels, why) in [
        (&["encoder"][..], [16, 12], 4, "8 channels of `latent_parameters` are means and log-variances: so it is called"),
        (&["encoder"], [32, 24], 4, "so it is called"),
        (&["encoder_moments"], [12, 10], 4, "8 channels of `moments` are means and log-variances: so it is called"),
        (&["encoder_mean_logvar"], [12, 10], 4, "4 channels of `mean` are means, with log-variances beside them: so they are called"),
        (&["encoder_std_mean"], [12, 10], 4, "4 channels of `latent_mean` are means, with deviations beside them: so they are called"),
        (&["encoder_moments_and_mode"], [12, 10], 4, "8 channels of `moments` are means and log-variances: so they are called"),
        (&["encoder_first_half"], [12, 10], 8, "8 channels of `out` are latents: they are the first half of 16"),
        (&["encoder_static"], [12, 10], 4, "4 channels of `latent` are latents: there are no latents of 2 channels"),
    ] {
        let (a, name) = (opened(names), names[0]);
        assert_eq!((a.latent_channels(), a.factor()), (channels, 2), "{name}");
        let notes: Vec<&str> = a.notes().collect();
        assert!(notes.len() == 1 && notes[0].ends_with(why), "{notes:?}");
        let (latents, key) = (size.map(|n| n / 2), format!("{name}.{}x{}", size[0], size[1]));
        let options = Options { decoder: false, encoder: true, ..Options::new(latents[0], latents[1]) };
        let mut encoder = Encoder::new(&compiled(&a, &options).0, &Cpu::new(2).unwrap()).unwrap();
        let count = latents[0] * latents[1] * channels;
        let (mut mean, mut std) = (vec![f32::NAN; count], vec![f32::NAN; count]);
        encoder.encode(&values(&format!("{key}/in")).1, &mut mean, &mut std);
        let out = |i: usize| values(&format!("{key}/out.{i}")).1;
        let (want_mean, want_std) = expected(name, channels, &out);
        assert!(distance(&mean, &want_mean) < TOLERANCE, "{key}: mean {:.1e}", distance(&mean, &want_mean));
        assert_eq!(encoder.has_deviation(), want_std.is_some(), "{name}");
        if let Some(want) = want_std {
            assert!(distance(&std, &want) < TOLERANCE, "{key}: deviation {:.1e}", distance(&std, &want));
        }
    }
}

/// Means and deviations of the outputs that ONNX Runtime gives.
fn expected(name: &str, channels: usize, out: &dyn Fn(usize) -> Vec<f32>) -> (Vec<f32>, Option<Vec<f32>>) {
    let deviation = |log: &f32| (0.5 * log.clamp(-30.0, 20.0)).exp();
    let halves = |moments: Vec<f32>| {
        let pixels = || moments.chunks_exact(2 * channels);
        (
            pixels().flat_map(|p| p[..channels].to_vec()).collect(),
            Some(pixels().flat_map(|p| p[channels..].to_vec()).map(|l| deviation(&l)).collect()),
        )
    };
    match name {
        "encoder" | "encoder_moments" => halves(out(0)),
        "encoder_moments_and_mode" => halves(out(1)),
        "encoder_mean_logvar" => (out(0), Some(out(1).iter().map(deviation).collect())),
        "encoder_std_mean" => (out(1), Some(out(0))),
        _ => (out(0), None),
    }
}

/// What nothing tells is refused, and told by the decoder beside it.
#[test]
fn posteriors_that_cannot_be_told() {
    let unsaid = "output `out`: 8 channels may be latents, or means and log-variances of 4: give the decoder with it (ENCODER.onnx,DECODER.onnx), \
                  or export it as `latent_mean` or `latent_parameters`";
    assert_eq!(refused(&["encoder_unsaid"]), format!("encoder_unsaid.onnx: {unsaid}"));
    let a = opened(&["encoder_unsaid", "decoder"]);
    assert_eq!(a.latent_channels(), 4);
    assert!(a.notes().any(|n| n.ends_with("the 8 channels of `out` are means and log-variances: the decoder takes 4")));
    assert_eq!(opened(&["encoder_mean"]).latent_channels(), 8);
    let line = refused(&["encoder_unsaid", "decoder_of_three_channels"]);
    assert_eq!(line, "encoder_unsaid.onnx: output `out`: expected 3 channels, as the decoder takes, or 6, found 8");
    let line = refused(&["encoder_odd_moments"]);
    assert_eq!(line, "encoder_odd_moments.onnx: output `latent_parameters`: expected moments in an even number of channels, found 7");
    let line = refused(&["encoder_two_unsaid"]);
    let found = "found `first` of 4 channels and `second` of 4 channels";
    assert!(line.starts_with("encoder_two_unsaid.onnx: expected outputs that are a mean and a logvar") && line.ends_with(found), "{line}");
    let line = refused(&["encoder_that_samples"]);
    assert!(line.contains("op `RandomNormalLike` is not supported: a model that draws random numbers"), "{line}");
}
