//! Tensors for other frameworks, as safetensors files. There images are `[N,C,H,W]`; here they are channels last.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::{FileError, replace_file};
use crate::artifact::write_f32;

/// Writes one f32 tensor into a safetensors file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_tensor(path: &Path, name: &str, shape: &[usize], values: &[f32]) -> Result<(), FileError> {
    write_tensors(path, &[(name.to_owned(), shape.to_vec())], &mut |_| Some(values.to_vec())).map(drop)
}

/// Writes f32 tensors into a safetensors file, whole or not at all; `values` makes each when its turn comes, so that memory
/// holds one, or stops it all by `None`. Returns whether the file was written.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// If `values` makes another number of values than the shape says.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    values: &mut dyn FnMut(usize) -> Option<Vec<f32>>,
) -> Result<bool, FileError> {
    write_tensors_about(path, &[], tensors, values)
}

/// As [`write_tensors`], with what the file says of itself: names and texts of its `__metadata__`.
///
/// # Errors
/// As there.
///
/// # Panics
/// As there.
pub fn write_tensors_about(
    path: &Path,
    about: &[(&str, String)],
    tensors: &[(String, Vec<usize>)],
    values: &mut dyn FnMut(usize) -> Option<Vec<f32>>,
) -> Result<bool, FileError> {
    let mut header = serde_json::Map::new();
    if !about.is_empty() {
        let about = about.iter().map(|(name, text)| ((*name).to_owned(), json!(text)));
        header.insert("__metadata__".to_owned(), serde_json::Value::Object(about.collect()));
    }
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // The data of safetensors files begin at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');
    let written = replace_file(path, |file| {
        let failed = |e| Unfinished::File(FileError::writing(path)(e));
        file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header)).map_err(failed)?;
        for (i, (name, shape)) in tensors.iter().enumerate() {
            let values = values(i).ok_or(Unfinished::Stopped)?;
            assert_eq!(values.len(), shape.iter().product::<usize>(), "values of {name}");
            write_f32(file, &values).map_err(failed)?;
        }
        Ok(())
    });
    match written {
        Ok(()) => Ok(true),
        Err(Unfinished::Stopped) => Ok(false),
        Err(Unfinished::File(e)) => Err(e),
    }
}

/// Why a file of tensors was not written to its end.
enum Unfinished {
    File(FileError),
    Stopped,
}

impl From<FileError> for Unfinished {
    fn from(e: FileError) -> Unfinished {
        Unfinished::File(e)
    }
}

/// `[n,C,H,W]` to `[n,H,W,C]`; `image` is C, H, W.
pub fn channels_last(values: &[f32], image: [usize; 3]) -> Vec<f32> {
    let [c, h, w] = image;
    let one = |x: &[f32]| -> Vec<f32> { (0..h * w).flat_map(|p| (0..c).map(move |k| (k, p))).map(|(k, p)| x[k * h * w + p]).collect() };
    values.chunks_exact(c * h * w).flat_map(one).collect()
}

/// `[n,H,W,C]` to `[n,C,H,W]`; `image` is C, H, W.
pub fn channels_first(values: &[f32], image: [usize; 3]) -> Vec<f32> {
    let [c, h, w] = image;
    let one = |x: &[f32]| -> Vec<f32> { (0..c).flat_map(|k| (0..h * w).map(move |p| (k, p))).map(|(k, p)| x[p * c + k]).collect() };
    values.chunks_exact(c * h * w).flat_map(one).collect()
}
