//! Autoencoders as people have them.

use crate::case;

/// Levels of a uint8 array in a `.npy` file, which is at most a few kB.
fn levels(bytes: &[u8]) -> Vec<u8> {
    npyz::NpyFile::new(bytes).unwrap().into_vec().unwrap()
}

/// Means and deviations of the latents' channels are in `config.json`.
#[test]
fn case_03_vae_latents_mean_std() {
    let Some(f) = case("03-vae-latents-mean-std") else { return };
    f.ok("decode z.safetensors --vae vae -o o --npz o.npz");
    let (archive, want) = (f.bytes("o.npz"), levels(&f.bytes("want.npy")));
    // One stored entry: the array lies in the archive as it is.
    let start = archive.windows(6).position(|w| w == b"\x93NUMPY").unwrap();
    let found = levels(&archive[start..]);
    assert_eq!(found.len(), want.len());
    let greatest = found.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(greatest <= Some(1), "{greatest:?}");
}
