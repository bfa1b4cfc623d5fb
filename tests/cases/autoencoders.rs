//! Autoencoders as people have them.

use crate::case;

/// Levels of a uint8 array in a `.npy` file, which is at most a few kB.
fn levels(bytes: &[u8]) -> Vec<u8> {
    npyz::NpyFile::new(bytes).unwrap().into_vec().unwrap()
}

/// The array of an archive: one stored entry, which lies in it as it is.
fn array(archive: &[u8]) -> Vec<u8> {
    let start = archive.windows(6).position(|w| w == b"\x93NUMPY").unwrap();
    levels(&archive[start..])
}

/// Means and deviations of the latents' channels are in `config.json`.
#[test]
fn case_03_vae_latents_mean_std() {
    let Some(f) = case("03-vae-latents-mean-std") else { return };
    f.ok("decode z.safetensors --vae vae -o o --npz o.npz");
    let (found, want) = (array(&f.bytes("o.npz")), levels(&f.bytes("want.npy")));
    assert_eq!(found.len(), want.len());
    let greatest = found.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(greatest <= Some(1), "{greatest:?}");
}

/// Both halves of a TAESD in one file. Of the other two no file says into how many groups 16 channels are normed.
#[test]
fn case_15_vae_in_one_file() {
    let Some(f) = case("15-vae-in-one-file") else { return };
    f.ok("decode z.safetensors --vae taesd.safetensors -o o");
    assert!(f.path("o/000000.png").exists());
    for file in ["ldm", "kl"] {
        let line = f.fails(3, &format!("decode z.safetensors --vae {file}.safetensors -o p"));
        assert!(line.contains(&format!("{file}.safetensors: norm_num_groups: expected config.json beside the file, found none")), "{line}");
    }
}

/// diffusers' variants of another precision, parts with an index, and a whole pipeline: the same picture of all.
#[test]
fn case_16_vae_fp16_variant() {
    let Some(f) = case("16-vae-fp16-variant") else { return };
    let picture = |vae: &str| {
        f.ok(&format!("decode z.safetensors --vae {vae} --npz {}.npz -o o --force", vae.replace('/', "-")));
        array(&f.bytes(&format!("{}.npz", vae.replace('/', "-"))))
    };
    let whole = picture("pipeline");
    assert!(picture("pipeline/vae") == whole && picture("sharded") == whole);
    assert!(picture("sharded/diffusion_pytorch_model.safetensors.index.json") == whole);
    let half = picture("fp16");
    assert!(picture("fp16/diffusion_pytorch_model.fp16.safetensors") == half);
    let greatest = whole.iter().zip(&half).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(whole.len() == half.len() && greatest <= Some(16), "{greatest:?}");
}
