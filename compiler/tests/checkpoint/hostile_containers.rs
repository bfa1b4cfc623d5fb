//! ZIPs and safetensors files that lie, and files that are neither.

use fcdm_compiler::checkpoint::Checkpoint;

use crate::assemble::*;
use crate::{golden, open, refusal};

fn entries() -> Vec<Entry> {
    let program = pickle(&dict(&[("w", view(0, &[16], &[1]))]));
    vec![entry("a/data.pkl", &program), entry("a/data/0", &floats(16))]
}

/// The small archive with one entry changed.
fn with(change: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut entries = entries();
    change(&mut entries[1]);
    zip(&entries)
}

#[test]
fn entries_that_are_not_plain_are_refused() {
    assert!(open(zip(&entries())).is_ok());
    assert!(open(with(|e| e.zip64 = true)).is_ok(), "ZIP64 sizes and offsets are read");
    let expected = "expected a stored entry `a/data/0`, found compression method 8, 64 bytes for 64";
    assert!(refusal(with(|e| e.method = 8)).contains(expected));
    assert!(refusal(with(|e| e.flags = 1)).contains("found an encrypted one"));
    assert!(refusal(with(|e| e.size = 65_000)).contains("expected data before the directory for `a/data/0`"));
    assert!(refusal(with(|e| (e.size, e.zip64) = (u64::MAX, true))).contains("expected data before the directory"));
    assert!(refusal(with(|e| e.size = u64::from(u32::MAX))).contains("expected ZIP64 sizes for `a/data/0`, found none"));
    let twice = [entries(), entries()].concat();
    assert!(refusal(zip(&twice)).contains("expected entries of different names, found two named `a/data.pkl`"));
    // A size that reaches over the next entry.
    let mut over = entries();
    over[0].size += 20;
    assert!(refusal(zip(&over)).contains("expected entries that do not overlap"));
}

#[test]
fn archives_without_one_pickle_are_refused() {
    assert!(refusal(zip(&entries()[1..])).contains("expected an entry `data.pkl` in the ZIP, found none"));
    let mut several = entries();
    several.push(entry("b/data.pkl", b""));
    assert!(refusal(zip(&several)).contains("expected one entry `data.pkl` in the ZIP, found several"));
    let mut big = entries();
    big.push(entry("a/byteorder", b"big"));
    assert_eq!(refusal(zip(&big)), "evil.pt: byteorder: expected `little`, found `big`");
}

#[test]
fn end_records_that_lie_are_refused() {
    let good = zip(&entries());
    let end = good.len() - 22;
    let record = end - 20 - 56;
    for (at, value) in [
        (record + 32, 0xff),
        (record + 39, 0xff),
        (record + 47, 0xff),
        (record + 55, 0xff),
        (end + 4, 1),
        (end + 8, 9),
        (end - 4 - 5, 0x70),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(refusal(bad).starts_with("evil.pt: ZIP directory"));
    }
    let mut comment = good.clone();
    comment[end + 20] = 5;
    assert!(refusal(comment.clone()).contains("expected an end record at the file's end"));
    comment.extend(b"hello");
    assert!(open(comment).is_ok(), "a comment that reaches to the end is allowed");
    assert!(refusal([b"PK\x03\x04junk", &good[..]].concat()).starts_with("evil.pt: ZIP directory"));
    // An archive full of end records is searched once.
    assert!(refusal([b"PK\x03\x04".to_vec(), b"PK\x05\x06".repeat(50_000)].concat()).starts_with("evil.pt: ZIP directory"));
}

#[test]
fn every_truncation_is_an_error() {
    let (pt, flat) = (small(), safetensors(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &floats(2)));
    for file in [pt, flat] {
        assert!(open(file.clone()).is_ok());
        for length in 0..file.len() {
            refusal(file[..length].to_vec());
        }
    }
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let of = |header: &str| refusal(safetensors(header, &floats(4)));
    let one =
        |shape: &str, dtype: &str, offsets: &str| of(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#));
    assert!(one("[3]", "F32", "[0,16]").contains("tensor `w`: expected the 16 bytes between its offsets, found shape [3] of F32"));
    assert!(one("[4]", "F32", "[0,17]").contains("tensor `w`: expected data from byte 0 on, up to byte 16 at most, found bytes 0 to 17"));
    assert!(one("[3]", "F32", "[4,16]").contains("found bytes 4 to 16"));
    assert!(one("[3]", "F32", "[0,12]").contains("expected tensors that cover all 16 bytes of data, found 12 bytes covered"));
    assert!(one("[0]", "F32", "[16,0]").contains("found bytes 16 to 0"));
    assert!(one("[4294967296,4294967296]", "F32", "[0,16]").contains("expected the 16 bytes"));
    assert!(one("[18446744073709551615]", "F32", "[0,16]").contains("expected a JSON object of tensors"));
    assert!(one("[-4]", "F32", "[0,16]").contains("expected a JSON object of tensors"));
    assert!(one("[1,1,1,1,1,1,1,1,4]", "F32", "[0,16]").contains("expected a shape of at most 8 axes"));
    assert!(one("[4]", "F33", "[0,16]").contains("expected a JSON object of tensors"));
    let tensor = r#""w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let second = tensor.replace("0,8", "8,16");
    let twice = format!("{{{tensor},{second}}}");
    assert!(of(&twice).contains("expected one tensor of that name, found `w` and `w`"));
    assert!(of(&format!("{{{tensor},{}}}", tensor.replace("\"w\"", "\"v\""))).contains("expected data from byte 8 on"));
    assert!(of(&format!("{{{tensor}}}x")).contains("expected a JSON object of tensors"));
    assert!(of("{").contains("expected a JSON object of tensors"));
    assert!(of(&format!("{{\"w\":{}", "[".repeat(100_000))).contains("expected a JSON object of tensors"));
    let mut long = safetensors("{}", b"");
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(refusal(long), "evil.pt: header: expected a length of at most 2 bytes, found 18446744073709551615 bytes");
}

#[test]
fn types_that_are_no_weights_are_named_when_read() {
    for (dtype, shape, name) in [
        ("I64", "[2]", "i64"),
        ("BOOL", "[4,4]", "bool"),
        ("F8_E4M3", "[16]", "floats of at most 8 bits"),
        ("F4", "[32]", "floats of at most 8 bits"),
    ] {
        let file = safetensors(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,16]}}}}"#), &floats(4));
        let error = open(file).unwrap().read_f32("w").unwrap_err().to_string();
        assert_eq!(error, format!("evil.pt: tensor `w`: expected f32, f16, bf16 or f64 elements, found {name}"));
    }
}

#[test]
fn other_formats_are_named() {
    let legacy = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    assert!(refusal(legacy.to_vec()).contains("found PyTorch's format from before 1.6; re-save it with PyTorch: torch.save("));
    let tar = |name: &[u8]| [name, &vec![0; 257 - name.len()], b"ustar\0"].concat();
    assert!(refusal(tar(b"sys_info")).contains("found PyTorch's format from before 1.6"));
    assert!(refusal(tar(b"photos/1.png")).ends_with("found a tar archive"));
    assert!(refusal(vec![]).ends_with("found an empty file"));
    assert!(refusal(b"version https://git-lfs.github.com/spec/v1\n".to_vec()).contains("Git LFS pointer"));
    assert!(refusal(b"<!doctype html>".to_vec()).contains("web page"));
    assert!(refusal(b"\x89PNG\r\n\x1a\n0000".to_vec()).ends_with("found a picture (PNG)"));
    assert!(refusal(b"\xfe\xff0000".to_vec()).contains("found a file that begins with `"));
}

#[test]
fn files_that_cannot_be_mapped_are_errors() {
    let error = Checkpoint::open("no/such/file.pt").err().unwrap().to_string();
    assert!(error.starts_with("no/such/file.pt: cannot be opened: "), "{error}");
    assert!(Checkpoint::open(golden("")).is_err());
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = Checkpoint::open(empty.path()).err().unwrap().to_string();
    assert!(error.ends_with("found an empty file"), "{error}");
}
