//! Which files of a folder hold diffusers' weights: one, a variant of another precision, or parts with an index.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fcdm_compiler::checkpoint::{Checkpoint, StateDict};
use serde_json::Value;

use super::files::{limited_text, wrong};
use crate::import::ImportError;

/// How diffusers' names of weights begin, and what they end with, the better format first. Between them a variant may stand.
pub(super) const START: &str = "diffusion_pytorch_model";
const ENDS: [&str; 4] = [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"];

/// What an index of parts ends with, and how many bytes it has at most.
const INDEX: &str = ".index.json";
const INDEX_LIMIT: u64 = 1 << 24;

/// Whether a file is called as diffusers' weights are.
pub(super) fn is_named_so(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(START))
}

/// The file that holds a folder's weights, or lists the parts: without a variant before those with one.
pub(super) fn of_folder(folder: &Path) -> Result<PathBuf, ImportError> {
    let entries = std::fs::read_dir(folder).map_err(|e| wrong(folder, e.to_string()))?;
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|n| n.starts_with(START)).collect();
    names.sort();
    let rank = |name: &String| {
        let end = ENDS.iter().position(|end| name.ends_with(end) && !(end.ends_with(".bin") && name.ends_with(".json")))?;
        let variant = &name[START.len()..name.len() - ENDS[end].len()];
        // Parts have a number in their names, and are found by their index.
        (!variant.starts_with('-') && !variant.contains("-of-")).then_some((!variant.is_empty(), end))
    };
    let best = names.iter().filter_map(|n| Some((rank(n)?, n))).min();
    let name = best.ok_or_else(|| wrong(folder, format!("expected {START}{} or {START}{}, found neither", ENDS[0], ENDS[2])))?.1;
    Ok(folder.join(name))
}

/// The weights in a file, or in the parts that it lists.
pub(super) fn open(path: &Path) -> Result<StateDict, ImportError> {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    if !name.ends_with(INDEX) {
        return Ok(StateDict::only(&Arc::new(Checkpoint::open(path)?))?);
    }
    let text = limited_text(path, INDEX_LIMIT)?;
    let index: Value = serde_json::from_str(&text).map_err(|e| wrong(path, format!("expected an index of parts: {e}")))?;
    let map = index["weight_map"].as_object().ok_or_else(|| wrong(path, "weight_map: expected an object of names and files"))?;
    let mut files = BTreeSet::new();
    for file in map.values() {
        let plain = file.as_str().filter(|f| !f.is_empty() && Path::new(f).file_name().is_some_and(|n| n == *f));
        files.insert(plain.ok_or_else(|| wrong(path, format!("weight_map: expected names of files beside it, found {file}")))?);
    }
    if files.is_empty() {
        return Err(wrong(path, "weight_map: expected files, found none"));
    }
    let part = |file: &&str| Ok(StateDict::only(&Arc::new(Checkpoint::open(path.with_file_name(file))?))?);
    let parts = files.iter().map(part).collect::<Result<Vec<StateDict>, ImportError>>()?;
    Ok(StateDict::joined(parts)?)
}
