//! Latents in the forms that people have them in: `encode` and then `decode` give the pictures back, whatever the latents were saved as.

use crate::assemble::{call, dict, entry, int, integers, pickle, storage, text, tuple, zip};
use crate::process::{Folder, Tensors};
use fcdm_models::pictures::{Picture, load_middle, read_png, write_png};

const SIDE: usize = 64;

/// Three pictures whose colours change slowly, which an autoencoder keeps.
fn pictures(f: &Folder) {
    std::fs::create_dir(f.path("in")).unwrap();
    for i in 0..3usize {
        let pixel = |p: usize| [(p % 90 * 2) as u8, 60 * i as u8 + 40, (p / 90 * 2) as u8];
        let picture = Picture { width: 90, height: 80, channels: 3, pixels: (0..90 * 80).flat_map(pixel).collect() };
        write_png(&f.path(&format!("in/{i}.png")), &picture, &[]).unwrap();
    }
}

/// The values of the latents of picture `i`, and how many.
fn values(f: &Folder, i: usize) -> Vec<f32> {
    let bytes = f.bytes(&format!("l/latents_features/{i:06}.npy"));
    let data = &bytes[bytes.len() - 4 * COUNT..];
    data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

const SHAPE: [usize; 3] = [32, SIDE / 8, SIDE / 8];
const COUNT: usize = 32 * (SIDE / 8) * (SIDE / 8);

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn npy(values: &[f32], shape: &str) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &raw(values)].concat()
}

/// A tensor of a pickle, and its storage's entry in the ZIP.
fn torch(key: &str, shape: &[i64]) -> Vec<u8> {
    let strides: Vec<i64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let hooks = call("collections", "OrderedDict", &[]);
    let count = shape.iter().product();
    let parts = [storage("FloatStorage", key, count), int(0), integers(shape), integers(&strides), b"\x89".to_vec(), hooks];
    call("torch._utils", "_rebuild_tensor_v2", &parts)
}

fn pt(root: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
    let data = storages.iter().map(|(key, values)| entry(&format!("a/data/{key}"), &raw(values)));
    zip(&[entry("a/data.pkl", &pickle(root)), entry("a/byteorder", b"little")].into_iter().chain(data).collect::<Vec<_>>())
}

#[test]
fn what_was_encoded_is_decoded_from_any_form() {
    let f = Folder::new();
    pictures(&f);
    f.ok(&format!("encode in -o l --size {SIDE}"));
    f.ok(&format!("encode in -o z --size {SIDE} --format zarr"));
    f.ok("decode l -o d");
    let decoded: Vec<Picture> = (0..3).map(|i| read_png(&f.path(&format!("d/{i:06}.png"))).unwrap()).collect();
    for (i, decoded) in decoded.iter().enumerate() {
        let original = load_middle(&f.path(&format!("in/{i}.png")), [SIDE; 2]).unwrap().picture;
        let square: f64 = decoded.pixels.iter().zip(&original.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        let distance = square / decoded.pixels.len() as f64;
        assert!(distance < 150.0, "picture {i}: mean squared distance {distance}");
    }

    let each: Vec<Vec<f32>> = (0..3).map(|i| values(&f, i)).collect();
    let all = each.concat();
    let [c, h, w] = SHAPE;
    let four = [3, c as i64, h as i64, w as i64];
    let shape = format!("(3, {c}, {h}, {w})");
    f.write("a.npy", npy(&all, &shape));
    f.write("a.npz", zip(&[entry("arr_0.npy", &npy(&all, &shape)), entry("arr_1.npy", &npy(&[0.0], "(1,)"))]));
    f.write("one.npy", npy(&each[0], &format!("({c}, {h}, {w})")));
    f.write("a.safetensors", Tensors::default().f32("latents", &[3, c, h, w], &all).bytes());
    f.write("b.safetensors", Tensors::default().f32("z", &[3, c, h, w], &all).f32("y", &[3], &[0.0; 3]).bytes());
    f.write("bare.pt", pt(&torch("0", &four), &[("0", &all)]));
    f.write("dict.pt", pt(&dict(&[("labels", integers(&[0, 1])), ("latents", torch("0", &four))]), &[("0", &all)]));
    f.write("other.pt", pt(&dict(&[("step", int(3)), ("z", torch("0", &four))]), &[("0", &all)]));
    let storages = [("0", &each[0][..]), ("1", &each[1]), ("2", &each[2])];
    let (three, one) = (&four[1..], [&[1], &four[1..]].concat());
    f.write("tuple.pt", pt(&tuple(&[torch("0", three), torch("1", &one), torch("2", three)]), &storages));
    f.write("list.pt", pt(&[b"](", &torch("0", &one)[..], &torch("1", &one), &torch("2", &one), b"e"].concat(), &storages));
    let sources = "l/latents_features z z/latents a.npy a.npz a.safetensors bare.pt dict.pt tuple.pt list.pt";
    for source in sources.split(' ') {
        f.ok(&format!("decode {source} -o o"));
        for (i, decoded) in decoded.iter().enumerate() {
            assert_eq!(read_png(&f.path(&format!("o/{i:06}.png"))).unwrap(), *decoded, "{source}");
        }
        std::fs::remove_dir_all(f.path("o")).unwrap();
    }
    for (source, name) in [("b.safetensors", "z"), ("other.pt", "z")] {
        let ran = f.run(&format!("decode {source} -o o"));
        let note = format!("note: {source}: `{name}` [3, {c}, {h}, {w}] is taken for the latents");
        assert!(ran.code == Some(0) && ran.err.lines().any(|line| line == note), "{ran:?}");
        assert_eq!(read_png(&f.path("o/000002.png")).unwrap(), decoded[2]);
    }
    f.ok("decode one.npy -o p");
    assert_eq!(read_png(&f.path("p/000000.png")).unwrap(), decoded[0]);
    // Pictures keep the numbers of their latents.
    std::fs::remove_file(f.path("l/latents_features/000001.npy")).unwrap();
    let s = f.json("decode l -o q");
    assert!(s["pictures"].as_array().unwrap().len() == 2 && !f.path("q/000001.png").exists());
    assert_eq!(read_png(&f.path("q/000002.png")).unwrap(), decoded[2]);
    assert_eq!(f.json("inspect z"), serde_json::json!({ "latents": 3, "shape": [c, h, w] }));
    assert_eq!(f.json("inspect tuple.pt")["latents"], 3);
    assert!(f.ok("inspect a.npz").starts_with(&format!("a.npz: latents, 3 of {c} x {h} x {w}; fcdm decode ")));
    let text_only = pt(&tuple(&[text("a")]), &[]);
    f.write("none.pt", text_only);
    assert!(f.fails(3, "decode none.pt -o n").contains("expected a dict of tensors, found a tuple"));
}

/// What cannot be decoded is found before anything is written.
#[test]
fn latents_that_are_no_numbers_are_found_first() {
    let f = Folder::new();
    let mut all = vec![0.5; 3 * COUNT];
    let [c, h, w] = SHAPE;
    all[2 * COUNT + 7] = f32::INFINITY;
    f.write("a.npy", npy(&all, &format!("(3, {c}, {h}, {w})")));
    let line = f.fails(3, "decode a.npy -o n");
    assert_eq!(line, "error: a.npy: latent 000002: expected finite values, found inf");
    f.write("b.npy", npy(&all[..4 * 64], "(1, 4, 8, 8)"));
    assert!(f.fails(2, "decode b.npy -o n").ends_with("expected latents of 32 channels, as the autoencoder has, found 4"));
}

/// Runs begin from latents in any form too.
#[test]
fn runs_begin_from_latents_in_any_form() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1");
    let state: Vec<f32> = (0..64).map(|i| (i % 7) as f32 / 4.0 - 0.5).collect();
    f.write("a.safetensors", Tensors::default().f32("latents", &[1, 4, 4, 4], &state).bytes());
    f.write("a.npy", npy(&state, "(1, 4, 4, 4)"));
    f.write("a.pt", pt(&torch("0", &[4, 4, 4]), &[("0", &state)]));
    std::fs::create_dir(f.path("folder")).unwrap();
    f.write("folder/3.npy", npy(&state, "(1, 4, 4, 4)"));
    let latents = |from: &str| {
        f.ok(&format!("generate a.fcdm -c 1 --steps 4 --strength 0.5 --init-latents {from} -o o --save-latents {from}.out"));
        f.bytes(&format!("{from}.out"))
    };
    let expected = latents("a.safetensors");
    for from in ["a.npy", "a.pt", "folder"] {
        assert!(latents(from) == expected, "{from}");
    }
    f.write("b.npy", npy(&state[..36], "(1, 4, 3, 3)"));
    let line = f.fails(3, "generate a.fcdm -c 1 --steps 4 --init-latents b.npy -o n");
    assert_eq!(line, "error: b.npy: expected latents of 4 x 4 x 4, as the model has, found 4 x 3 x 3");
}
