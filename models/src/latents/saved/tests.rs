//! The same latents in every form, and what is refused.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression as Level;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::Latents;
use crate::tensors::write_tensors;

const SHAPE: [usize; 4] = [3, 2, 2, 3];

/// Of `[3,2,2,3]`; exact in f16.
fn values() -> Vec<f32> {
    (0..36).map(|i| i as f32 / 4.0 - 3.0).collect()
}

fn bytes(values: &[f32], descr: &str) -> Vec<u8> {
    let one = |v: &f32| match descr {
        "<f2" => half::f16::from_f32(*v).to_le_bytes().to_vec(),
        "<f4" => v.to_le_bytes().to_vec(),
        ">f4" => v.to_be_bytes().to_vec(),
        "<f8" => f64::from(*v).to_le_bytes().to_vec(),
        ">f8" => f64::from(*v).to_be_bytes().to_vec(),
        _ => panic!("{descr}"),
    };
    values.iter().flat_map(one).collect()
}

/// The values with the first axis fastest.
fn fortran(values: &[f32], [n, c, h, w]: [usize; 4]) -> Vec<f32> {
    let at = |i: usize| {
        let (a, b, d, e) = (i % n, i / n % c, i / n / c % h, i / n / c / h);
        values[((a * c + b) * h + d) * w + e]
    };
    (0..n * c * h * w).map(at).collect()
}

fn npy(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A ZIP of files, deflated or stored.
fn zip(files: &[(&str, Vec<u8>)], deflated: bool) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let mut encoder = DeflateEncoder::new(Vec::new(), Level::default());
        encoder.write_all(data).unwrap();
        let packed = if deflated { encoder.finish().unwrap() } else { data.clone() };
        let method = if deflated { 8u16 } else { 0 };
        let at = out.len() as u32;
        let mut fields = Vec::new();
        fields.extend([20, 0, 0, 0]);
        fields.extend(method.to_le_bytes());
        fields.extend([0; 4]);
        fields.extend([crc(data), packed.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0; 2]);
        out.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), &packed].concat());
        directory.extend([b"PK\x01\x02\x14\0", &fields[..], &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let counts = [files.len() as u16; 2].map(u16::to_le_bytes).concat();
    let places = [directory.len() as u32, out.len() as u32].map(u32::to_le_bytes).concat();
    [out, directory, [b"PK\x05\x06\0\0\0\0", &counts[..], &places, &[0; 2]].concat()].concat()
}

/// Everything that can be read from a path.
fn read(path: &Path) -> Result<(usize, [usize; 3], Vec<f32>), String> {
    let mut latents = Latents::open(path).map_err(|e| e.to_string())?;
    let all: Result<Vec<_>, _> = (0..latents.count()).map(|i| latents.read(i)).collect();
    Ok((latents.count(), latents.shape(), all.map_err(|e| e.to_string())?.concat()))
}

#[track_caller]
fn is_whole(path: &Path) {
    assert_eq!(read(path), Ok((3, [2, 2, 3], values())), "{}", path.display());
}

#[track_caller]
fn refused(path: &Path, expected: &str) {
    let line = read(path).unwrap_err();
    assert!(line.contains(expected) && !line.contains('\n') && line.len() < 900, "{line}");
}

#[test]
fn arrays_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    for descr in ["<f2", "<f4", ">f4", "<f8", ">f8"] {
        fs::write(&path, npy(descr, false, &SHAPE, &bytes(&values(), descr))).unwrap();
        is_whole(&path);
        fs::write(&path, npy(descr, true, &SHAPE, &bytes(&fortran(&values(), SHAPE), descr))).unwrap();
        is_whole(&path);
    }
    let array = || npy("<f4", false, &SHAPE, &bytes(&values(), "<f4"));
    let labels = || npy("<i8", false, &[3], &[0; 24]);
    for deflated in [false, true] {
        for name in ["latents.npy", "arr_0.npy", "z.npy"] {
            fs::write(&path, zip(&[(name, array()), ("labels.npy", labels())], deflated)).unwrap();
            is_whole(&path);
        }
    }
    assert!(Latents::open(&path).unwrap().note().unwrap().ends_with("`z` [3, 2, 2, 3] is taken for the latents"));
    fs::write(&path, zip(&[("a.npy", array()), ("b.npy", array())], true)).unwrap();
    refused(&path, "arrays: expected `latents`, or one of shape [n,C,h,w] or [C,h,w], found `a` [3, 2, 2, 3], `b` [3, 2, 2, 3]");
    // One latent.
    fs::write(&path, npy("<f4", false, &SHAPE[1..], &bytes(&values()[..12], "<f4"))).unwrap();
    assert_eq!(read(&path), Ok((1, [2, 2, 3], values()[..12].to_vec())));
}

#[test]
fn arrays_that_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let data = bytes(&values(), "<f4");
    for (array, expected) in [
        (npy("<i8", false, &SHAPE, &[0; 288]), "descr: expected f2, f4 or f8 elements, found `<i8`"),
        (npy("|O", false, &SHAPE, &data), "found `|O`"),
        (npy("<f4", false, &[36], &data), "shape: expected shape [n,C,h,w] or [C,h,w], found [36]"),
        (npy("<f4", false, &[0, 2, 2, 3], &data), "found [0, 2, 2, 3]"),
        (npy("<f4", false, &[4, 2, 2, 3], &data), "shape: expected one that fits the file's 144 bytes of elements, found [4, 2, 2, 3]"),
        (npy("<f4", false, &[1 << 40, 1 << 40, 2, 3], &data), "expected one that fits"),
        (npy("<f4", false, &SHAPE, &[&bytes(&[f32::NAN], "<f4"), &data[4..]].concat()), "latent 000000: expected finite values, found NaN"),
    ] {
        fs::write(&path, &array).unwrap();
        refused(&path, expected);
        fs::write(&path, zip(&[("latents.npy", array)], true)).unwrap();
        assert!(read(&path).is_err(), "{expected}");
    }
    // An entry that says it is a million times as long.
    let whole = zip(&[("latents.npy", npy("<f4", false, &[1 << 20, 32, 64, 64], &data))], true);
    let mut long = whole.clone();
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    for at in [22, directory + 24] {
        long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes()[..]);
    }
    fs::write(&path, long).unwrap();
    assert!(read(&path).is_err());
}

fn folder(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    for i in 0..count {
        let one = &values()[i * 12..][..12];
        fs::write(dir.join(format!("{i:06}.npy")), npy("<f4", false, &[1, 2, 2, 3], &bytes(one, "<f4"))).unwrap();
    }
}

#[test]
fn folders() {
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path();
    folder(&all.join("latents_features"), 3);
    folder(&all.join("latents_flipped_features"), 2);
    folder(&all.join("latents_deviations"), 3);
    fs::create_dir(all.join("latents_labels")).unwrap();
    fs::write(all.join("latents_labels/000000.npy"), npy("<i8", false, &[1], &[0; 8])).unwrap();
    is_whole(all);
    is_whole(&all.join("latents_features"));
    assert_eq!(Latents::open(all).unwrap().name(2), "000002");
    refused(&all.join("latents_deviations"), "in a folder that ends in `_features`, found standard deviations (`_deviations`)");
    refused(&all.join("latents_labels"), "found labels (`_labels`)");
    // Numbers need not have equally many digits.
    let numbers = all.join("numbers");
    fs::create_dir(&numbers).unwrap();
    for (name, from) in [("10", 2), ("9", 1), ("3", 0)] {
        let from = all.join(format!("latents_features/00000{from}.npy"));
        fs::copy(from, numbers.join(format!("{name}.npy"))).unwrap();
    }
    is_whole(&numbers);
    assert_eq!(Latents::open(&numbers).unwrap().name(2), "10");
    fs::write(numbers.join("11.npy"), npy("<f4", false, &[1, 2, 3, 2], &bytes(&values()[..12], "<f4"))).unwrap();
    refused(&numbers, "11.npy: shape: expected [1, 2, 2, 3] as in the files before it, found [1, 2, 3, 2]");
    fs::write(numbers.join("11.npy"), npy("<f4", false, &SHAPE, &bytes(&values(), "<f4"))).unwrap();
    refused(&numbers, "11.npy: shape: expected [1,C,h,w], one latent a file, found [3, 2, 2, 3]");
    folder(&all.join("two/a_features"), 3);
    is_whole(&all.join("two"));
    folder(&all.join("two/b_features"), 3);
    refused(&all.join("two"), "folders: expected one that ends in `_features`, found `a_features`, `b_features`");
    fs::create_dir(all.join("empty")).unwrap();
    refused(&all.join("empty"), "expected latents (.npy files, or a folder of them that ends in `_features`), or a zarr store, found none");
}

/// A store in chunks of these extents.
fn store(dir: &Path, chunks: [usize; 4], change: &dyn Fn(&mut Value), pack: &dyn Fn(Vec<u8>) -> Vec<u8>, separator: &str) {
    let array = dir.join("latents");
    fs::create_dir_all(&array).unwrap();
    let mut about = json!({
        "zarr_format": 2, "shape": SHAPE, "chunks": chunks, "dtype": "<f4", "compressor": null, "fill_value": 0, "order": "C",
        "filters": null, "dimension_separator": separator,
    });
    change(&mut about);
    fs::write(array.join(".zarray"), about.to_string()).unwrap();
    let grid: Vec<usize> = (0..4).map(|a| SHAPE[a].div_ceil(chunks[a])).collect();
    for place in 0..grid.iter().product::<usize>() {
        let at = [place / (grid[1] * grid[2] * grid[3]), place / (grid[2] * grid[3]) % grid[1], place / grid[3] % grid[2], place % grid[3]];
        let mut chunk = Vec::new();
        for i in 0..chunks.iter().product::<usize>() {
            let [_, c, h, w] = chunks;
            let inside = [i / (c * h * w), i / (h * w) % c, i / w % h, i % w];
            let whole: Vec<usize> = (0..4).map(|a| at[a] * chunks[a] + inside[a]).collect();
            let there = (0..4).all(|a| whole[a] < SHAPE[a]);
            let index = ((whole[0] * SHAPE[1] + whole[1]) * SHAPE[2] + whole[2]) * SHAPE[3] + whole[3];
            chunk.push(if there { values()[index] } else { 0.0 });
        }
        let path = array.join(at.map(|n| n.to_string()).join(separator));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, pack(bytes(&chunk, "<f4"))).unwrap();
    }
}

#[test]
fn zarr_stores() {
    let dir = tempfile::tempdir().unwrap();
    let same = |bytes: Vec<u8>| bytes;
    for (i, chunks) in [[64, 2, 2, 3], [2, 2, 2, 3], [1, 1, 2, 2], [2, 2, 1, 2]].into_iter().enumerate() {
        let (plain, slashes) = (dir.path().join(format!("{i}")), dir.path().join(format!("s{i}")));
        store(&plain, chunks, &|_| {}, &same, ".");
        is_whole(&plain);
        is_whole(&plain.join("latents"));
        store(&slashes, chunks, &|_| {}, &same, "/");
        is_whole(&slashes);
    }
    let zlib = |bytes: Vec<u8>| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Level::default());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap()
    };
    let gzip = |bytes: Vec<u8>| {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap()
    };
    let packed = dir.path().join("packed");
    store(&packed, [2, 2, 2, 3], &|a| a["compressor"] = json!({ "id": "zlib", "level": 1 }), &zlib, ".");
    is_whole(&packed);
    store(&packed, [2, 2, 2, 3], &|a| a["compressor"] = json!({ "id": "gzip", "level": 1 }), &gzip, ".");
    is_whole(&packed);
    fs::write(packed.join("latents/1.0.0.0"), b"no gzip").unwrap();
    refused(&packed, "1.0.0.0: chunk: expected 96 bytes unpacked, found ");
}

#[test]
fn zarr_stores_that_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 9] = [
        (
            |a| a["compressor"] = json!({ "id": "blosc" }),
            "compressor: expected none, zlib or gzip (write it with compressor=None), found {\"id\":\"blosc\"}",
        ),
        (|a| a["dtype"] = json!("<i4"), ".zarray: dtype: expected f2, f4 or f8 elements, found \"<i4\""),
        (|a| a["shape"] = json!([3, 12]), "shape: expected shape [n,C,h,w] or [C,h,w], found [3,12]"),
        (|a| a["chunks"] = json!([0, 2, 2, 3]), "chunks: expected an extent for each axis, found [0,2,2,3]"),
        (|a| a["chunks"] = json!([u64::MAX, u64::MAX, 2, 3]), "chunks: expected chunks of bytes that can be counted"),
        (|a| a["order"] = json!("X"), "order: expected C or F"),
        (|a| a["filters"] = json!([{ "id": "delta" }]), "filters: expected none"),
        (|a| a["zarr_format"] = json!(3), "zarr_format: expected 2, found 3"),
        (|a| a["shape"] = json!([4, 2, 2, 3]), "cannot read: "),
    ];
    for (change, expected) in changes {
        store(&path, [1, 2, 2, 3], &change, &|bytes| bytes, ".");
        refused(&path, expected);
    }
    store(&path, [1, 2, 2, 3], &|_| {}, &|bytes| bytes[1..].to_vec(), ".");
    refused(&path, "0.0.0.0: chunk: expected 48 bytes, found 47");
    fs::remove_file(path.join("latents/.zarray")).unwrap();
    fs::write(path.join(".zgroup"), "{}").unwrap();
    refused(&path, "arrays: expected `latents`, which is written last, found none");
    fs::write(path.join("zarr.json"), "{}").unwrap();
    refused(&path, "zarr_format: expected 2, found 3 (zarr.json)");
}

#[test]
fn tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let write = |tensors: &[(&str, &[usize])]| {
        let tensors: Vec<_> = tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
        write_tensors(&path, &tensors, &mut |i| Some(values()[..tensors[i].1.iter().product()].to_vec())).unwrap();
    };
    write(&[("latents", &SHAPE), ("other", &SHAPE)]);
    is_whole(&path);
    write(&[("z", &SHAPE), ("labels", &[3])]);
    is_whole(&path);
    assert!(Latents::open(&path).unwrap().note().unwrap().ends_with("`z` [3, 2, 2, 3] is taken for the latents"));
    write(&[("z", &SHAPE), ("y", &SHAPE), ("labels", &[3])]);
    refused(&path, "tensors: expected `latents`, or one of shape [n,C,h,w] or [C,h,w], found `z` [3, 2, 2, 3], `y` [3, 2, 2, 3]");
    write(&[("labels", &[3])]);
    refused(&path, "found `labels` [3]");
    write(&[("latents", &[3])]);
    refused(&path, "tensor `latents`: expected shape [n,C,h,w] or [C,h,w], found [3]");
    // A list, in the order of the numbers.
    write(&[("1", &[2, 2, 3]), ("0", &[1, 2, 2, 3]), ("2", &[2, 2, 3])]);
    let same = values()[..12].repeat(3);
    assert_eq!(read(&path), Ok((3, [2, 2, 3], same)));
    write(&[("1", &[2, 2, 3]), ("0", &[1, 2, 3, 2])]);
    refused(&path, "tensor `1`: expected [1,2,3,2] as of the first, found [2, 2, 3]");
}
