//! From the names in a file to the names of the model.
//!
//! Wrappers leave prefixes: `module.` (data parallel, averaged models), `_orig_mod.` (compiled models); files that
//! hold two sets of weights in one flat list say `ema.` or `model.`. No tensor of the model begins with any of these.

use super::error::{CheckpointError, shown};
use super::tensor::Located;
use super::{Notes, StateDict};

/// A tensor under the name that the file gives it.
pub(super) type Named = (String, Located);

/// Left by wrappers: they say nothing.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Say which set of weights a tensor belongs to.
const SETS: [&str; 2] = ["ema", "model"];

fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|w| name.strip_prefix(w)) {
        name = rest;
    }
    name
}

/// The set that a name's prefix tells, if it does.
fn set_of(name: &str) -> Option<&'static str> {
    let name = unwrapped(name);
    SETS.into_iter().find(|set| name.strip_prefix(set).is_some_and(|rest| rest.starts_with('.')))
}

/// The model's own name for a tensor.
fn bare(mut name: &str) -> &str {
    loop {
        name = unwrapped(name);
        match set_of(name).and_then(|set| name.strip_prefix(set)?.strip_prefix('.')) {
            Some(rest) => name = rest,
            None => return name,
        }
    }
}

/// Chooses among the sets of a flat list; `unprefixed` is what names without a set are called.
pub(super) fn choose(
    file: &str,
    mut tensors: Vec<Named>,
    asked: StateDict,
    unprefixed: &'static str,
    notes: &mut Notes,
) -> Result<(&'static str, Vec<Named>), CheckpointError> {
    let holds = |set: &str| tensors.iter().any(|(name, _)| set_of(name) == Some(set));
    let present: Vec<&'static str> = SETS.into_iter().filter(|set| holds(set)).collect();
    let set = match (asked.set(), present.first()) {
        (Some(asked), _) if present.contains(&asked) => asked,
        (None, Some(first)) => first,
        (Some(asked), None) if asked == unprefixed => return Ok((unprefixed, tensors)),
        (None, None) => return Ok((unprefixed, tensors)),
        (Some(asked), _) => return Err(missing(file, asked, &present)),
    };
    let before = tensors.len();
    tensors.retain(|(name, _)| set_of(name) == Some(set));
    if tensors.len() < before {
        notes.add(format!("{} tensors outside the `{set}` weights are not used", before - tensors.len()));
    }
    Ok((set, tensors))
}

/// The error of weights that are not there; `present` are those that are.
pub(super) fn missing(file: &str, asked: &'static str, present: &[&str]) -> CheckpointError {
    let found = match present {
        [] => "one set of weights that says neither `ema` nor `model`".to_string(),
        sets => format!("only {}", sets.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(", ")),
    };
    CheckpointError::MissingWeights { file: file.to_string(), asked, found }
}

/// Strips all prefixes. Two tensors that end up with one name are an error.
pub(super) fn strip(file: &str, mut tensors: Vec<Named>) -> Result<Vec<Named>, CheckpointError> {
    let mut by_name: Vec<usize> = (0..tensors.len()).collect();
    by_name.sort_unstable_by_key(|&i| bare(&tensors[i].0));
    if let Some(w) = by_name.windows(2).find(|w| bare(&tensors[w[0]].0) == bare(&tensors[w[1]].0)) {
        let [first, second] = [w[0].min(w[1]), w[0].max(w[1])].map(|i| shown(tensors[i].0.as_bytes()));
        let name = shown(bare(&tensors[w[0]].0).as_bytes());
        return Err(CheckpointError::Collision { file: file.to_string(), name, first, second });
    }
    for (name, _) in &mut tensors {
        let prefix = name.len() - bare(name).len();
        name.drain(..prefix);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_stripped_in_any_order() {
        for name in ["x.w", "module.x.w", "_orig_mod.module.x.w", "ema.module.x.w", "module.model.x.w", "model._orig_mod.x.w"] {
            assert_eq!(bare(name), "x.w");
        }
        assert_eq!(bare("models.x"), "models.x");
        assert_eq!(set_of("module.ema.x"), Some("ema"));
        assert_eq!(set_of("emas.x"), None);
    }
}
