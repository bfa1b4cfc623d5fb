//! From the names in a file to the names of the model.
//!
//! Wrappers leave words between the dots: data parallel and averaged models `module`, compiled models `_orig_mod`, activation
//! checkpointing and sharding their own. They say nothing and are taken out wherever they stand. What then stands before a
//! network's own names is the name of a set of weights: keys of dicts, prefixes, or both. Words in it tell a running average.

use std::borrow::Cow;

/// Left by wrappers.
const WRAPPERS: [&str; 7] =
    ["module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_fpw_module", "_forward_module", "_ddp_module"];

/// Words of a set's name that tell an average over training.
const AVERAGED: [&str; 7] = ["ema", "averaged", "average", "avg", "swa", "shadow", "polyak"];

/// Words that tell the weights under training, beside an average.
const TRAINED: [&str; 3] = ["online", "raw", "student"];

/// A name without the words of wrappers.
pub(super) fn unwrapped(name: &str) -> Cow<'_, str> {
    if !name.split('.').any(|word| WRAPPERS.contains(&word)) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.split('.').filter(|word| !WRAPPERS.contains(word)).collect::<Vec<_>>().join("."))
}

/// Whether the name of a set says that it is a running average: the last of its words that says anything.
pub(super) fn is_averaged(set: &str) -> bool {
    let told = |word: &String| match word.as_str() {
        w if AVERAGED.contains(&w) => Some(true),
        w if TRAINED.contains(&w) => Some(false),
        _ => None,
    };
    words(set).iter().rev().find_map(told).unwrap_or(false)
}

/// `net_ema`, `modelEMA`, `ema_0.9999`: letters in a row, lower case, parted where upper case follows lower.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut last) = (vec![String::new()], ' ');
    for c in text.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && last.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            let word = words.last_mut().expect("there is always one");
            word.extend(c.to_lowercase());
        }
        last = c;
    }
    words
}

/// What stands before one of a network's names in a name of a file, and whether that has lost the dots of the network's own, as some
/// averages keep their names.
pub(super) fn prefix<'n>(name: &'n str, anchor: &str) -> Option<(&'n str, bool)> {
    if let Some(rest) = name.strip_suffix(anchor)
        && (rest.is_empty() || rest.ends_with('.'))
    {
        return Some((rest, false));
    }
    let dotless = without_dots(anchor);
    name.strip_suffix(dotless.as_str()).filter(|rest| !rest.is_empty() && dotless.len() < anchor.len()).map(|rest| (rest, true))
}

/// A network's name as averages keep it that cannot have dots in names.
pub(super) fn without_dots(name: &str) -> String {
    name.replace('.', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_wrappers_are_taken_out_wherever_they_stand() {
        for name in ["x.w", "module.x.w", "_orig_mod.module.x.w", "x._checkpoint_wrapped_module._fsdp_wrapped_module.w", "x._orig_mod.w"] {
            assert_eq!(unwrapped(name), "x.w");
        }
        assert_eq!(unwrapped("modules.x.w"), "modules.x.w");
    }

    #[test]
    fn averages_are_told_by_words() {
        for set in [
            "ema",
            "model_ema",
            "ema_model",
            "ema_state_dict",
            "state_dict_ema",
            "net_ema",
            "modelEMA",
            "ema_0.9999",
            "swa_model",
            "ema.ema_model",
        ] {
            assert!(is_averaged(set), "{set}");
        }
        for set in ["", "model", "schema", "state_dict.model", "ema.online_model", "emanations", "teammate"] {
            assert!(!is_averaged(set), "{set}");
        }
    }

    #[test]
    fn a_set_is_what_stands_before_a_name() {
        assert_eq!(prefix("x_embedder.weight", "x_embedder.weight"), Some(("", false)));
        assert_eq!(prefix("ema.x_embedder.weight", "x_embedder.weight"), Some(("ema.", false)));
        assert_eq!(prefix("model_ema.netx_embedderweight", "x_embedder.weight"), Some(("model_ema.net", true)));
        assert_eq!(prefix("max_embedder.weight", "x_embedder.weight"), None);
        assert_eq!(prefix("xw", "w"), None);
    }
}
