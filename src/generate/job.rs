//! Which pictures are asked for.

use fcdm_runtime::artifact::ModelInfo;
use fcdm_runtime::network::Class;

use super::Arguments;

/// One picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Its number, from 0.
    pub index: usize,
    /// Its class.
    pub label: i32,
    /// Its seed.
    pub seed: u64,
    /// On the way to another one: its class, its seed, and how much of the way is gone, 0 to 1.
    pub towards: Option<(i32, u64, f64)>,
}

impl Job {
    /// What it is conditioned on.
    pub fn class(&self) -> Class {
        Class { label: self.label, towards: self.towards.map(|(label, _, weight)| (label, weight)).filter(|(l, _)| *l != self.label) }
    }
}

/// With fewer classes than this, the default is one picture of each.
const FEW: usize = 20;

/// More pictures than this are a mistake.
const MOST: u64 = 10_000_000;

/// The pictures in order: class by class as asked for, seed by seed; with `--interpolate`, the ways from each to the next.
pub fn jobs(a: &Arguments, model: &ModelInfo) -> Result<Vec<Job>, String> {
    let ends = asked(a, model)?;
    let Some(frames) = a.interpolate.map(|n| n as usize) else { return Ok(ends) };
    if ends.len() < 2 {
        return Err(format!("interpolate: expected at least two pictures (classes or seeds) to go between, found {}", ends.len()));
    }
    if (ends.len() as u64).saturating_mul(frames as u64) > MOST {
        return Err(format!("interpolate: at most {MOST} pictures can be asked for, found {} times {frames}", ends.len()));
    }
    let between = ends.windows(2).flat_map(|pair| (0..frames).map(move |k| (pair[0], pair[1], k as f64 / frames as f64)));
    let way = |(from, to, weight): (Job, Job, f64)| Job { towards: (weight > 0.0).then_some((to.label, to.seed, weight)), ..from };
    let all = between.map(way).chain(ends.last().copied());
    Ok(all.enumerate().map(|(index, job)| Job { index, ..job }).collect())
}

fn asked(a: &Arguments, model: &ModelInfo) -> Result<Vec<Job>, String> {
    let labels = labels(&a.class_labels, model)?;
    let per_label = match &a.seeds {
        Some(text) => seeds(text)?,
        None => Vec::new(),
    };
    let total = labels.len() as u64 * if a.seeds.is_some() { per_label.len() as u64 } else { u64::from(a.count) };
    if total > MOST {
        return Err(format!("{total} pictures are asked for, at most {MOST} can be"));
    }
    if a.seeds.is_some() {
        let pairs = labels.iter().flat_map(|&label| per_label.iter().map(move |&seed| (label, seed)));
        return Ok(pairs.enumerate().map(|(index, (label, seed))| Job { index, label, seed, towards: None }).collect());
    }
    let label = |i: u64| labels[(i / u64::from(a.count)) as usize];
    Ok((0..total).map(|i| Job { index: i as usize, label: label(i), seed: a.seed.wrapping_add(i), towards: None }).collect())
}

fn labels(asked: &[String], model: &ModelInfo) -> Result<Vec<i32>, String> {
    if asked.is_empty() {
        return match model.num_classes {
            n if n <= FEW => Ok((0..n as i32).collect()),
            n => Err(format!("--class-labels is needed: the model has {n} classes")),
        };
    }
    asked.iter().map(|text| label(text.trim(), model)).collect()
}

fn label(text: &str, model: &ModelInfo) -> Result<i32, String> {
    if text == "null" && model.null_class {
        return Ok(model.num_classes as i32);
    }
    if let Some(i) = model.class_names.iter().position(|n| n == text) {
        return Ok(i as i32);
    }
    match text.parse::<usize>() {
        Ok(i) if i < model.num_classes => Ok(i as i32),
        Ok(i) => Err(format!("class labels: expected 0 to {}, found {i}", model.num_classes - 1)),
        Err(_) if model.class_names.is_empty() => {
            Err(format!("class labels: the artifact has no class names; expected 0 to {}, found `{text}`", model.num_classes - 1))
        }
        Err(_) => Err(format!("class labels: expected one of {}, found `{text}`", model.class_names.join(", "))),
    }
}

/// `0-99`, `1,5,7-9`.
fn seeds(text: &str) -> Result<Vec<u64>, String> {
    let wrong = |part: &str| format!("seeds: expected numbers and ranges such as 0-99, found `{part}`");
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u64, u64) = (from.parse().map_err(|_| wrong(part))?, to.parse().map_err(|_| wrong(part))?);
        if to < from || to - from >= MOST || all.len() as u64 + (to - from) >= MOST {
            return Err(wrong(part));
        }
        all.extend(from..=to);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::seeds;

    #[test]
    fn lists_of_seeds() {
        assert_eq!(seeds("0-3").unwrap(), [0, 1, 2, 3]);
        assert_eq!(seeds(" 1, 5,7-9 ").unwrap(), [1, 5, 7, 8, 9]);
        assert_eq!(seeds("18446744073709551615-18446744073709551615").unwrap(), [u64::MAX]);
        for wrong in ["", ",", "-", "1-", "-1", "3-1", "a", "1-2-3", "1 2", "18446744073709551616"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    /// Every text of these characters up to six long ends in a list or a line.
    #[test]
    fn no_text_panics() {
        let characters = ['0', '9', '-', ',', ' ', 'x'];
        for i in 0..6usize.pow(6) {
            let text: String = (0..6).map(|k| characters[i / 6usize.pow(k) % 6]).collect();
            if let Err(line) = seeds(&text) {
                assert!(line.starts_with("seeds: expected"), "{line}");
            }
        }
    }
}
