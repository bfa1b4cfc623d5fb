//! Which pictures are asked for: classes and seeds, and the ways between them.

use crate::artifact::ModelInfo;
use crate::network::Class;
use crate::request::{CLASSES, RequestError};

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

/// With at most so many classes, all of them are meant where nobody names any.
const FEW: usize = 20;

/// More pictures than this are a mistake.
const MOST: u64 = 10_000_000;

/// Which seeds the pictures of every class have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// So many pictures a class; each further picture, of whatever class, has the next seed.
    From {
        /// That of the very first picture.
        first: u64,
        /// Pictures of every class.
        count: u32,
    },
    /// Every class with each of them.
    Each(Vec<u64>),
}

impl Default for Seeds {
    /// One picture a class, from seed 0 on.
    fn default() -> Self {
        Seeds::From { first: 0, count: 1 }
    }
}

/// The pictures in order: class by class, seed by seed. `frames`: also the way from each to the next, in so many steps.
///
/// # Errors
/// When these are too many, or no two to go between.
pub fn jobs(labels: &[i32], seeds: &Seeds, frames: Option<usize>) -> Result<Vec<Job>, RequestError> {
    let ends = ends(labels, seeds)?;
    let Some(frames) = frames else { return Ok(ends) };
    if ends.len() < 2 {
        return Err(RequestError::new("interpolate", "at least two pictures (classes or seeds) to go between", ends.len()));
    }
    if (ends.len() as u64).saturating_mul(frames as u64) > MOST {
        return Err(RequestError::new("interpolate", format!("at most {MOST} pictures"), format!("{} times {frames}", ends.len())));
    }
    let between = ends.windows(2).flat_map(|pair| (0..frames).map(move |k| (pair[0], pair[1], k as f64 / frames as f64)));
    let way = |(from, to, weight): (Job, Job, f64)| Job { towards: (weight > 0.0).then_some((to.label, to.seed, weight)), ..from };
    let all = between.map(way).chain(ends.last().copied());
    Ok(all.enumerate().map(|(index, job)| Job { index, ..job }).collect())
}

fn ends(labels: &[i32], seeds: &Seeds) -> Result<Vec<Job>, RequestError> {
    let per_label = match seeds {
        Seeds::From { count, .. } => u64::from(*count),
        Seeds::Each(seeds) => seeds.len() as u64,
    };
    let total = (labels.len() as u64).saturating_mul(per_label);
    if total > MOST {
        return Err(RequestError::new("number of pictures", format!("at most {MOST}"), total));
    }
    let job = |index: usize| {
        let (label, seed) = (labels[index / per_label as usize], index % per_label as usize);
        let seed = match seeds {
            Seeds::From { first, .. } => first.wrapping_add(index as u64),
            Seeds::Each(seeds) => seeds[seed],
        };
        Job { index, label, seed, towards: None }
    };
    Ok((0..total as usize).map(job).collect())
}

/// Classes by number or name, as [`ModelInfo::label`] reads them; of a model of few classes all that it was compiled for, if none is named.
///
/// # Errors
/// When there is no such class, the model was not compiled for it, or one has to be named.
pub fn labels(asked: &[impl AsRef<str>], model: &ModelInfo) -> Result<Vec<i32>, RequestError> {
    if asked.is_empty() {
        let all = model.specialisation.as_ref().map_or_else(|| (0..model.num_classes as i32).collect(), |held| held.labels(model));
        if all.len() > FEW {
            return Err(RequestError::new(CLASSES, format!("some of the model's {} classes (-c 207,360)", all.len()), "none"));
        }
        return Ok(all);
    }
    let mut all = Vec::new();
    for text in asked.iter().map(|text| text.as_ref().trim()) {
        let range = text.split_once('-').and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?)));
        match range.filter(|_| !model.class_names.iter().any(|n| n == text)) {
            None => all.push(model.label(text)?),
            Some((from, to)) if from <= to && to < model.num_classes => all.extend((from..=to).map(|n| n as i32)),
            Some(_) => {
                let expected = format!("a range within 0 to {}", model.num_classes - 1);
                return Err(RequestError::new(CLASSES, expected, format!("`{text}`")));
            }
        }
    }
    model.check_labels(all.iter().copied())?;
    Ok(all)
}

/// Reads a list of seeds: `0-99`, `1,5,7-9`.
///
/// # Errors
/// With the part that is no number or range.
pub fn seeds(text: &str) -> Result<Vec<u64>, RequestError> {
    let wrong = |part: &str| RequestError::new("seeds", "numbers and ranges such as 0-99", format!("`{part}`"));
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
                assert!(line.to_string().starts_with("seeds: expected"), "{line}");
            }
        }
    }
}
