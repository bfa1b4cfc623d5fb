//! What size a checkpoint is compiled for.

use crate::process::Folder;

/// Pictures of 128 pixels, which an autoencoder of 1/8 makes of 16x16 latents: at 32x32 the same model makes smears.
#[test]
fn a_checkpoint_is_compiled_for_the_size_it_was_trained_on() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if !data.is_dir() {
        eprintln!("skipped: {} is not there", data.display());
        return;
    }
    let f = Folder::new();
    let (latent, pixel) = (data.join("checkpoints/clothing-latent.pt"), data.join("checkpoints/clothing-pixel.pt"));
    let taef2 = data.join("taef2");
    let text = f.ok(&format!("compile {} --vae {} -o latent.fcdm", latent.display(), taef2.display()));
    assert!(text.contains("\nsize: 16x16 latents -> 128x128 pictures\n"), "{text}");
    assert!(f.ok("inspect latent.fcdm").contains("\nsize: 16x16 latents -> 128x128 pictures\n"));
    let text = f.ok("generate latent.fcdm -c 1 --steps 2 -o out");
    assert!(text.contains("16x16 latents -> 128x128 pictures\neuler, 2 steps"), "{text}");
    assert!(f.ok(&format!("inspect {}", latent.display())).contains("\ntrained on: pictures of 128x128\n"));
    // Without an autoencoder one of the usual factor is assumed.
    let text = f.ok(&format!("compile {} -o latents.fcdm", latent.display()));
    assert!(text.contains("\nsize: 16x16 latents, no decoder\n"), "{text}");
    let text = f.ok(&format!("compile {} -o pixel.fcdm", pixel.display()));
    assert!(text.contains("\nsize: 32x32 pictures\n"), "{text}");
    let ran = f.run(&format!("compile {} --vae {} --size 32 -o large.fcdm", latent.display(), taef2.display()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err, "warning: size: 32x32 makes pictures of 256x256; the checkpoint was trained on 128x128\n");
}
