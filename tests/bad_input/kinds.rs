//! Every command with every kind of thing in the place of what it takes: the code that is documented, one line that says what it is, and,
//! where some command takes it, which.

use crate::assemble::{dict, entry, pickle, pt, view, zip};
use crate::process::{Folder, Tensors};
use fcdm_models::pictures::{Picture, write_png};

/// A kind of thing: its name in the folder, how it is called, and words of what is advised; empty if nothing is.
const KINDS: [(&str, &str, &str); 35] = [
    ("a.fcdm", "found an artifact", "fcdm generate a.fcdm"),
    ("model.pt", "found a PyTorch checkpoint", "fcdm compile model.pt"),
    ("model.safetensors", "found a safetensors file", "fcdm compile model.safetensors"),
    ("latents.safetensors", "found latents", "fcdm decode latents.safetensors"),
    ("latents.pt", "found latents", "fcdm decode latents.pt"),
    ("old.pt", "found a PyTorch file from before version 1.6", "torch.save(torch.load(OLD, weights_only=True), NEW)"),
    ("any.pkl", "found a Python pickle", "torch.save(torch.load(OLD, weights_only=True), NEW)"),
    ("model.onnx", "found an ONNX model", "fcdm compile model.onnx"),
    ("photo.png", "found a picture (PNG)", "fcdm encode takes a folder of pictures, fcdm generate --init-image takes one"),
    ("photo.jpg", "found a picture (JPEG)", "fcdm encode takes"),
    ("photo.webp", "found a picture (WebP)", "fcdm encode takes"),
    ("photo.bmp", "found a picture (BMP)", "fcdm encode takes"),
    ("photo.gif", "found a picture (GIF)", "fcdm encode takes"),
    ("photo.tiff", "found a picture (TIFF)", "fcdm encode takes"),
    ("photo.avif", "found a picture (AVIF)", "convert it to PNG or JPEG, which fcdm encode"),
    ("photo.heic", "found a picture (HEIC)", "convert it"),
    ("photo.jxl", "found a picture (JPEG XL)", "convert it"),
    ("array.npy", "found a NumPy array", "fcdm decode array.npy"),
    ("arrays.npz", "found an archive of NumPy arrays", "fcdm decode arrays.npz"),
    ("files.zip", "found a ZIP archive", "unpack it"),
    ("files.gz", "found a gzip archive", "unpack it"),
    ("files.tar", "found a tar archive", "unpack it"),
    ("text.ir", "found IR text", "fcdm opt text.ir"),
    ("model.gguf", "found a GGUF model", "fcdm compile takes the same weights as safetensors"),
    ("pointer", "found a Git LFS pointer instead of the file", "git lfs pull"),
    ("page", "found a web page instead of the file", "download it again"),
    ("empty", "found an empty file", "download it again"),
    ("notes.txt", "found a text file", ""),
    ("config.json", "found JSON text", ""),
    ("paper.pdf", "found a PDF document", ""),
    ("store.zarr", "found a zarr store", "fcdm decode store.zarr"),
    ("latents", "found a folder of NumPy arrays", "fcdm decode latents"),
    ("vae", "found a folder in diffusers' layout", "fcdm compile --vae vae"),
    ("pictures", "found a folder of pictures", "fcdm encode pictures"),
    ("folder", "found a folder", "name a file in it"),
];

fn npy(shape: &str, values: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &vec![0; 4 * values]].concat()
}

/// A small one of every kind.
fn all() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1");
    let golden = |name: &str| std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap();
    f.write("model.pt", golden("eps8/0000003.pt"));
    f.write("model.safetensors", golden("eps8/0000003.safetensors"));
    f.write("model.onnx", golden("onnx/fcdm1.onnx"));
    f.write("fcdm.weights", golden("onnx/fcdm.weights"));
    f.write("latents.safetensors", Tensors::default().f32("latents", &[1, 4, 2, 2], &[0.0; 16]).bytes());
    f.write("latents.pt", pt(&pickle(&dict(&[("latents", view(0, &[1, 4, 2, 2], &[16, 4, 2, 1]))]))));
    f.write("old.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.");
    f.write("any.pkl", pickle(&dict(&[])));
    write_png(&f.path("photo.png"), &Picture { width: 16, height: 16, channels: 3, pixels: vec![90; 768] }, &[]).unwrap();
    // Of the others the beginning is enough: they are not read.
    for (name, bytes) in [
        ("photo.jpg", &b"\xff\xd8\xff\xe0\0\x10JFIF"[..]),
        ("photo.webp", b"RIFF\x10\0\0\0WEBPVP8 "),
        ("photo.bmp", b"BM\x40\0\0\0\0\0\0\0\x36\0\0\0"),
        ("photo.gif", b"GIF89a\x01\0\x01\0"),
        ("photo.tiff", b"II*\0\x08\0\0\0"),
        ("photo.avif", b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("photo.jxl", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("files.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\xff"),
        ("text.ir", b"; nothing\nfn @f(%x: f32[1]) {\n  return %x\n}\n"),
        ("model.gguf", b"GGUF\x03\0\0\0\0\0\0\0"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        ("page", b"\n<!DOCTYPE html>\n<html><body>404</body></html>"),
        ("empty", b""),
        ("notes.txt", b"Grocery list: tea.\n"),
        ("config.json", b"{\"a\": 1}"),
        ("paper.pdf", b"%PDF-1.7\n"),
    ] {
        f.write(name, bytes);
    }
    f.write("array.npy", npy("(1, 4, 2, 2)", 16));
    f.write("arrays.npz", zip(&[entry("arr_0.npy", &npy("(1, 4, 2, 2)", 16))]));
    f.write("files.zip", zip(&[entry("readme", b"x")]));
    let mut tar = vec![0; 1024];
    tar[..6].copy_from_slice(b"readme");
    tar[257..262].copy_from_slice(b"ustar");
    f.write("files.tar", tar);
    for folder in ["store.zarr/latents", "latents/latents_features", "vae", "pictures/a", "folder/inner"] {
        std::fs::create_dir_all(f.path(folder)).unwrap();
    }
    let array =
        r#"{"zarr_format": 2, "shape": [1,4,2,2], "chunks": [1,4,2,2], "dtype": "<f4", "compressor": null, "order": "C", "filters": null}"#;
    f.write("store.zarr/.zgroup", "{\"zarr_format\": 2}");
    f.write("store.zarr/latents/.zarray", array);
    f.write("store.zarr/latents/0.0.0.0", [0; 64]);
    f.write("latents/latents_features/000000.npy", npy("(1, 4, 2, 2)", 16));
    f.write("vae/config.json", "{\"_class_name\": \"AutoencoderKL\"}");
    std::fs::copy(f.path("photo.png"), f.path("pictures/a/1.png")).unwrap();
    f.write("in.safetensors", Tensors::default().f32("x", &[1, 4, 4, 4], &[0.0; 64]).bytes());
    f.write("l.safetensors", Tensors::default().f32("latents", &[1, 32, 2, 2], &[0.0; 128]).bytes());
    f
}

/// Things that a command takes, or whose reader knows best what is wrong with them; by the words that it says, none where it takes them, or
/// [`ELSEWHERE`].
type Own<'a> = &'a [(&'a str, &'a str)];

/// Runs a command line with every kind in the place of `IT`.
#[track_caller]
fn table(f: &Folder, line: &str, code: i32, expected: &str, own: Own<'_>) {
    for (name, found, advice) in KINDS {
        let command = line.replace("IT", name);
        let said = match own.iter().find(|(of, _)| *of == name) {
            Some((_, ELSEWHERE)) => continue,
            Some((_, "")) => {
                let ran = f.run(&command);
                assert_eq!(ran.code, Some(0), "{ran:?}");
                continue;
            }
            Some((_, said)) => {
                let line = f.fails(code, &command);
                assert!(line.contains(said), "{command}\n{line}");
                continue;
            }
            None => f.fails(code, &command),
        };
        let begin = format!("error: {name}: expected {expected}, {found}");
        assert!(said.starts_with(&begin) && said.contains(advice), "{command}\n{said}\n{begin}: .. {advice}");
        assert_eq!(said.len() > begin.len(), !advice.is_empty(), "{command}\n{said}");
    }
}

/// Said by another test.
const ELSEWHERE: &str = "-";

const LEGACY: &str = "expected a PyTorch ZIP, found PyTorch's format from before 1.6; re-save it with PyTorch";

#[test]
fn in_the_place_of_an_artifact() {
    let f = all();
    table(&f, "generate IT -c 1 --steps 1 -o o", 4, "an artifact (.fcdm)", &[("a.fcdm", "")]);
    table(
        &f,
        "run IT --inputs in.safetensors --outputs out",
        4,
        "an artifact (.fcdm)",
        &[("a.fcdm", ELSEWHERE), ("model.onnx", ELSEWHERE)],
    );
    table(&f, "bench IT --runs 1 --seconds 0 --warmup 0", 4, "an artifact (.fcdm)", &[("a.fcdm", ""), ("model.onnx", "")]);
}

#[test]
fn in_the_place_of_a_checkpoint() {
    let f = all();
    let own = [("model.pt", ""), ("model.safetensors", ""), ("model.onnx", ""), ("old.pt", LEGACY), ("any.pkl", LEGACY)];
    table(&f, "compile IT -o b --batch 1", 3, "a checkpoint", &own);
}

#[test]
fn in_the_place_of_an_autoencoder() {
    let f = all();
    let own = [
        ("model.pt", "expected half of a TAESD"),
        ("model.safetensors", "expected half of a TAESD"),
        ("model.onnx", "model.onnx: "),
        ("old.pt", LEGACY),
        ("any.pkl", LEGACY),
        ("vae", "vae: expected diffusion_pytorch_model.safetensors"),
        ("folder", "expected config.json (diffusers), or files whose names contain"),
    ];
    table(&f, "compile --vae IT -o b", 3, "an autoencoder", &own);
    // Latents come first, and are sound.
    let mut own = own.to_vec();
    own.push(("a.fcdm", "a.fcdm: expected a"));
    for (name, found, _) in KINDS.into_iter().filter(|(name, ..)| own.iter().all(|(of, _)| of != name)) {
        let line = f.fails(3, &format!("decode l.safetensors --vae {name} -o o"));
        assert!(line.starts_with(&format!("error: {name}: expected an autoencoder, {found}")), "{line}");
    }
}

#[test]
fn in_the_place_of_latents() {
    let f = all();
    let own = [
        ("latents.safetensors", "expected latents of 32 channels"),
        ("latents.pt", "expected latents of 32 channels"),
        ("array.npy", "expected latents of 32 channels"),
        ("arrays.npz", "expected latents of 32 channels"),
        ("store.zarr", "expected latents of 32 channels"),
        ("latents", "expected latents of 32 channels"),
    ];
    for (name, said) in own {
        assert!(f.fails(2, &format!("decode {name} -o o")).contains(said));
    }
    let of_model = own.map(|(name, _)| (name, "expected latents of 4 x 4 x 4, as the model has, found 4 x 2 x 2"));
    let others = [
        ("old.pt", LEGACY),
        ("any.pkl", LEGACY),
        ("folder", "folder: expected latents"),
        ("model.pt", "found an FCDM checkpoint: compile it first, fcdm compile model.pt -o model.fcdm"),
        ("model.safetensors", "found an FCDM checkpoint: compile it first, fcdm compile model.safetensors"),
    ];
    table(&f, "generate a.fcdm -c 1 --steps 2 --init-latents IT -o o", 3, "latents", &[&of_model[..], &others].concat());
    for (name, found, advice) in KINDS.into_iter().filter(|(name, ..)| own.iter().chain(&others).all(|(of, _)| of != name)) {
        let line = f.fails(3, &format!("decode {name} -o o"));
        assert!(line.starts_with(&format!("error: {name}: expected latents, {found}")) && line.contains(advice), "{line}");
    }
}

#[test]
fn in_the_place_of_tensors() {
    let f = all();
    let expected = "a file of tensors (safetensors)";
    let (lack, model) = (["latents.safetensors", "latents.pt"], ["model.safetensors", "model.pt"]);
    let weights = model.map(|name| (name, "found an FCDM checkpoint: compile it first, fcdm compile model."));
    let own = |tensor| [&lack.map(|name| (name, tensor))[..], &weights, &[("old.pt", LEGACY), ("any.pkl", LEGACY)]].concat();
    table(&f, "generate a.fcdm -c 1 --steps 2 --noise IT -o o", 3, expected, &own("tensor `noise`"));
    table(&f, "run a.fcdm --inputs IT --outputs out", 3, expected, &own("tensor `x`"));
}

#[test]
fn in_the_place_of_pictures() {
    let f = all();
    let unread = "which is not read: convert it to PNG or JPEG first";
    let own = [
        ("photo.avif", unread),
        ("photo.heic", unread),
        ("photo.jxl", unread),
        ("photo.jpg", "found "),
        ("photo.webp", "found "),
        ("photo.bmp", "found "),
        ("photo.gif", "found "),
        ("photo.tiff", "found "),
        ("photo.png", ""),
    ];
    f.run("generate -c 1 --steps 1 -o warm");
    let expected = "a picture (PNG, JPEG, WebP, BMP, GIF, TIFF)";
    table(&f, "generate -c 1 --steps 1 --init-image IT -o warm --force", 6, expected, &own);
    let expected = "a folder of pictures (PNG, JPEG, WebP, BMP, GIF, TIFF)";
    let own = [("pictures", ""), ("folder", "folder: expected pictures")];
    table(&f, "encode IT -o warm --size 64", 2, expected, &own);
}

#[test]
fn in_the_place_of_ir() {
    let f = all();
    table(&f, "opt IT", 5, "IR text", &[("text.ir", ""), ("empty", ""), ("notes.txt", ELSEWHERE)]);
}

/// What is no artifact and no checkpoint is named at least; latents are described.
#[test]
fn looked_at() {
    let f = all();
    let taken = [
        "a.fcdm",
        "model.pt",
        "model.safetensors",
        "latents.safetensors",
        "latents.pt",
        "array.npy",
        "arrays.npz",
        "store.zarr",
        "latents",
    ];
    for (name, found, advice) in KINDS {
        if taken.contains(&name) {
            f.ok(&format!("inspect {name}"));
            continue;
        }
        let is_folder = f.path(name).is_dir();
        let line = f.fails(if is_folder { 4 } else { 3 }, &format!("inspect {name}"));
        let legacy = ["old.pt", "any.pkl"].contains(&name) && line.contains(LEGACY);
        assert!(legacy || line.contains(found) && line.contains(advice), "{line}");
    }
}
