//! A small assembler of pickles, ZIPs and safetensors files, which also assembles wrong ones.

/// A stored ZIP entry, with the fields that a hostile file would set otherwise.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub data: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    /// The size that both headers claim.
    pub size: u64,
    /// Put sizes and offset into the ZIP64 extra field.
    pub zip64: bool,
}

pub fn entry(name: &str, data: &[u8]) -> Entry {
    Entry { name: name.into(), data: data.to_vec(), flags: 0, method: 0, size: data.len() as u64, zip64: false }
}

/// A ZIP of these entries, with a ZIP64 end record as PyTorch writes it.
pub fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_around_hole(entries, 0).0
}

/// The same with the first entry's data followed by `hole` zeros, which are left out of the result but counted in the
/// entry's size and in every offset; also tells where they belong. For files larger than memory.
pub fn zip_around_hole(entries: &[Entry], hole: u64) -> (Vec<u8>, usize) {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let mut hole_at = 0;
    for (i, e) in entries.iter().enumerate() {
        let skipped = if i == 0 { 0 } else { hole };
        let offset = out.len() as u64 + skipped;
        let size = e.size + hole - skipped;
        out.extend(b"PK\x03\x04\0\0");
        out.extend(e.flags.to_le_bytes());
        out.extend(e.method.to_le_bytes());
        out.extend([0; 16]);
        out.extend((e.name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(e.name.as_bytes());
        out.extend(&e.data);
        hole_at = if i == 0 { out.len() } else { hole_at };
        let narrow = |v: u64| if e.zip64 { u32::MAX } else { v as u32 }.to_le_bytes();
        directory.extend(b"PK\x01\x02\0\0\0\0");
        directory.extend(e.flags.to_le_bytes());
        directory.extend(e.method.to_le_bytes());
        directory.extend([0; 8]);
        directory.extend(narrow(size));
        directory.extend(narrow(size));
        directory.extend((e.name.len() as u16).to_le_bytes());
        directory.extend(if e.zip64 { 28u16 } else { 0 }.to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(narrow(offset));
        directory.extend(e.name.as_bytes());
        if e.zip64 {
            directory.extend([1, 0, 24, 0]);
            directory.extend([size, size, offset].map(u64::to_le_bytes).concat());
        }
    }
    let (start, size, count) = (out.len() as u64 + hole, directory.len() as u64, entries.len() as u64);
    out.extend(directory);
    let record = out.len() as u64 + hole;
    out.extend(b"PK\x06\x06");
    out.extend(44u64.to_le_bytes());
    out.extend([0; 12]);
    out.extend([count, count, size, start].map(u64::to_le_bytes).concat());
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(record.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count as u16; 2].map(u16::to_le_bytes).concat());
    out.extend([size, start].map(|v| u32::try_from(v).unwrap_or(u32::MAX)).map(u32::to_le_bytes).concat());
    out.extend([0; 2]);
    (out, hole_at)
}

/// A `.pt` file of this pickle and one storage `0` of 64 bytes: the floats 0 to 15.
pub fn pt(pickle: &[u8]) -> Vec<u8> {
    zip(&[entry("a/data.pkl", pickle), entry("a/byteorder", b"little"), entry("a/data/0", &floats(16))])
}

/// The little-endian floats 0, 1, 2, ...
pub fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

/// A pickle of protocol 2 of one value.
pub fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

pub fn text(t: &str) -> Vec<u8> {
    [b"X", &(t.len() as u32).to_le_bytes()[..], t.as_bytes()].concat()
}

/// LONG1 of 8 bytes.
pub fn int(i: i64) -> Vec<u8> {
    [b"\x8a\x08", &i.to_le_bytes()[..]].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub fn dict(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = pairs.iter().flat_map(|(k, v)| [text(k), v.clone()].concat()).collect();
    [b"}(", &items[..], b"u"].concat()
}

pub fn call(module: &str, name: &str, args: &[Vec<u8>]) -> Vec<u8> {
    [global(module, name), tuple(args), b"R".to_vec()].concat()
}

pub fn integers(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&v| int(v)).collect::<Vec<_>>())
}

/// The persistent id of a storage.
pub fn storage(kind: &str, key: &str, elements: i64) -> Vec<u8> {
    let id = tuple(&[text("storage"), global("torch", kind), text(key), text("cpu"), int(elements)]);
    [&id[..], b"Q"].concat()
}

/// A view of storage `0` as [`pt`] writes it.
pub fn view(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    tensor(storage("FloatStorage", "0", 16), offset, shape, strides)
}

pub fn tensor(storage: Vec<u8>, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let hooks = call("collections", "OrderedDict", &[]);
    call("torch._utils", "_rebuild_tensor_v2", &[storage, int(offset), integers(shape), integers(strides), b"\x89".to_vec(), hooks])
}

/// A whole `.pt` of one tensor `w`.
pub fn one(tensor: Vec<u8>) -> Vec<u8> {
    pt(&pickle(&dict(&[("w", tensor)])))
}

/// A small checkpoint with everything in it that the reader looks at.
pub fn small() -> Vec<u8> {
    let namespace =
        [&global("argparse", "Namespace")[..], b")\x81", &dict(&[("lr", b"G\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc".to_vec())]), b"b"].concat();
    let weights = dict(&[("module.a.weight", view(0, &[2, 3], &[3, 1])), ("module.a.bias", view(6, &[3], &[1]))]);
    let opt = dict(&[("state", [b"}".to_vec(), int(0), dict(&[("step", view(7, &[], &[]))]), b"s".to_vec()].concat())]);
    pt(&pickle(&dict(&[("model", weights.clone()), ("ema", weights), ("opt", opt), ("args", namespace)])))
}

/// A safetensors file of this header and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
