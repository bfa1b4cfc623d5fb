//! The sets of weights in a checkpoint, and one of them to read from.
//!
//! Trainers keep several copies of a network in a file, under names that nobody has agreed on. A network says by which of its
//! tensors it is recognised ([`StateDict::found`]); what stands before that tensor's name, in keys of dicts or as a prefix, is
//! the set's name, and what has the same before it belongs to the set.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::contents::{Content, Entry};
use super::error::{CheckpointError, shown};
use super::names::{is_averaged, prefix, unwrapped, without_dots};
use super::tensor::Located;
use super::{Checkpoint, ElementType, Format, Notes, TensorInfo};

/// Most sets that are told apart; a hostile file could name thousands.
const SETS: usize = 64;

/// The buffer in which PyTorch's `AveragedModel` counts.
const COUNTER: &str = "n_averaged";

/// A set of weights in a checkpoint, under the network's own names.
#[derive(Clone)]
pub struct StateDict {
    /// The files that it is in: one, but for weights in parts.
    checkpoints: Vec<Arc<Checkpoint>>,
    name: String,
    averaged: bool,
    /// The network's names have lost their dots.
    dotless: bool,
    /// Names, and where the tensors are, sorted by name.
    tensors: Vec<(String, At)>,
    /// Indices into `tensors`, in the file's order.
    order: Vec<usize>,
    /// What bears a name of the set and is no tensor: name, and what it is.
    others: BTreeMap<String, String>,
    notes: Vec<String>,
}

/// A file of a set's, and an entry of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    file: usize,
    entry: usize,
}

/// A set by the names of its tensors, before these are collected.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Which dict of the file.
    dict: u32,
    prefix: String,
    dotless: bool,
}

impl StateDict {
    /// Every set that has a tensor of one of the names `anchors`: averages first, then in the order of the file.
    ///
    /// # Errors
    /// [`CheckpointError::Collision`], or a tensor of a set that cannot be understood.
    pub fn found(checkpoint: &Arc<Checkpoint>, anchors: &[&str]) -> Result<Vec<StateDict>, CheckpointError> {
        let mut sets: Vec<Found> = Vec::new();
        for entry in &checkpoint.entries {
            let name = unwrapped(&entry.name);
            let Some((before, dotless)) = anchors.iter().find_map(|a| prefix(&name, a)) else { continue };
            let set = Found { dict: entry.dict, prefix: before.to_owned(), dotless };
            if !sets.contains(&set) && sets.len() < SETS {
                sets.push(set);
            }
        }
        let mut all = sets.iter().map(|set| StateDict::collected(checkpoint, set, &sets)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|set| (of_optimiser(&set.name), !set.averaged));
        Ok(all)
    }

    /// The tensors of the dict that is most likely meant, where nothing is known of the network: averages before others, and what an
    /// optimiser keeps last. Of a file without dicts, all.
    ///
    /// # Errors
    /// As [`StateDict::found`].
    pub fn only(checkpoint: &Arc<Checkpoint>) -> Result<StateDict, CheckpointError> {
        let tensors = checkpoint.entries.iter().filter(|e| !matches!(e.content, Content::Other(_)));
        let keys = |e: &Entry| checkpoint.dicts[e.dict as usize].as_str();
        let best = tensors.min_by_key(|e| (of_optimiser(keys(e)), !is_averaged(keys(e)), e.dict));
        let (dict, keys) = best.map_or((0, ""), |e| (e.dict, keys(e)));
        let before = if keys.is_empty() { String::new() } else { format!("{keys}.") };
        let set = Found { dict, prefix: unwrapped(&before).into_owned(), dotless: false };
        StateDict::collected(checkpoint, &set, std::slice::from_ref(&set))
    }

    /// Every tensor of the file, under the names that it has there: values to exchange, not a network's weights.
    ///
    /// # Errors
    /// As [`StateDict::found`].
    pub fn everything(checkpoint: Checkpoint) -> Result<StateDict, CheckpointError> {
        let checkpoint = Arc::new(checkpoint);
        let all = checkpoint.entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        StateDict::named(&checkpoint, Found { dict: 0, prefix: String::new(), dotless: false }, all, Notes::default())
    }

    /// Collects a set; what one of the other sets has a longer prefix of is that one's.
    fn collected(checkpoint: &Arc<Checkpoint>, set: &Found, sets: &[Found]) -> Result<StateDict, CheckpointError> {
        let (mut all, mut outside, mut numbers, mut notes) = (Vec::new(), 0, Vec::new(), Notes::default());
        for (i, entry) in checkpoint.entries.iter().enumerate().filter(|(_, e)| e.dict == set.dict) {
            let name = unwrapped(&entry.name);
            let of = |s: &&Found| s.dict == set.dict && name.starts_with(&s.prefix);
            match (sets.iter().filter(of).max_by_key(|s| s.prefix.len()), &entry.content) {
                (Some(owner), Content::Tensor(t)) if owner == set && t.info.shape.is_empty() => numbers.push(&entry.name),
                (Some(owner), _) if owner == set => all.push((name[set.prefix.len()..].to_owned(), i)),
                (None, Content::Tensor(_)) => outside += 1,
                _ => {}
            }
        }
        let name = shown_name(set);
        if outside > 0 {
            notes.add(format!("{outside} tensors outside the `{name}` weights are not used"));
        }
        if let Some(first) = numbers.first() {
            let names = if numbers.len() == 1 { String::new() } else { format!(" and {} others", numbers.len() - 1) };
            notes.add(format!("`{}`{names}: single numbers are no weights and are not used", shown(first.as_bytes())));
        }
        let counted = numbers.iter().any(|n| unwrapped(n).strip_prefix(set.prefix.as_str()) == Some(COUNTER));
        let mut dict = StateDict::named(checkpoint, set.clone(), all, notes)?;
        dict.averaged |= counted;
        Ok(dict)
    }

    fn named(checkpoint: &Arc<Checkpoint>, set: Found, all: Vec<(String, usize)>, mut notes: Notes) -> Result<StateDict, CheckpointError> {
        let (mut tensors, mut others) = (Vec::new(), BTreeMap::new());
        for (name, entry) in all {
            match &checkpoint.entries[entry].content {
                Content::Tensor(_) => tensors.push((name, At { file: 0, entry })),
                Content::Unclear { expected, found } => {
                    let place = super::error::Place { file: &checkpoint.file, part: "" };
                    return Err(place.tensor(&name, expected.clone(), found.clone()));
                }
                Content::Other(kind) => {
                    notes.add(format!("`{}` is {kind}, not a tensor, and is not used", shown(name.as_bytes())));
                    others.insert(name, kind.clone());
                }
            }
        }
        let (name, averaged, notes) = (shown_name(&set), is_averaged(&set.prefix), notes.finish());
        let checkpoints = vec![checkpoint.clone()];
        StateDict { checkpoints, name, averaged, dotless: set.dotless, tensors, order: Vec::new(), others, notes }.sorted()
    }

    /// Sorts the tensors; two of one name are an error.
    fn sorted(mut self) -> Result<StateDict, CheckpointError> {
        self.tensors.sort_unstable();
        if let Some(w) = self.tensors.windows(2).find(|w| w[0].0 == w[1].0) {
            let [first, second] = [w[0].1, w[1].1].map(|at| shown(self.entry(at).name.as_bytes()));
            let name = shown(w[0].0.as_bytes());
            return Err(CheckpointError::Collision { file: self.file().to_owned(), name, first, second });
        }
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_unstable_by_key(|&i| self.tensors[i].1);
        Ok(StateDict { order, ..self })
    }

    /// Sets that are parts of one, each in a file of its own.
    ///
    /// # Errors
    /// [`CheckpointError::Collision`].
    ///
    /// # Panics
    /// If there are none.
    pub fn joined(parts: Vec<StateDict>) -> Result<StateDict, CheckpointError> {
        let mut parts = parts.into_iter();
        let mut all = parts.next().expect("parts of a set");
        for part in parts {
            let before = all.checkpoints.len();
            all.tensors.extend(part.tensors.into_iter().map(|(name, at)| (name, At { file: before + at.file, ..at })));
            all.checkpoints.extend(part.checkpoints);
            all.others.extend(part.others);
            all.notes.extend(part.notes);
        }
        all.sorted()
    }

    /// The same tensors under other names; those for which there is none are left out, with a note.
    ///
    /// # Errors
    /// [`CheckpointError::Collision`].
    pub fn renamed(self, rename: &dyn Fn(&str) -> Option<String>) -> Result<StateDict, CheckpointError> {
        let mut all = self;
        let tensors = std::mem::take(&mut all.tensors);
        let count = tensors.len();
        all.tensors = tensors.into_iter().filter_map(|(name, at)| Some((rename(&name)?, at))).collect();
        if all.tensors.len() < count {
            all.notes.push(format!("{} tensors are of other networks and are not used", count - all.tensors.len()));
        }
        all.sorted()
    }

    /// The checkpoint that it is of; of several the first.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoints[0]
    }

    /// The file that all of it is in, unless it is in several.
    pub fn only_file(&self) -> Option<&Arc<Checkpoint>> {
        if let [one] = &self.checkpoints[..] { Some(one) } else { None }
    }

    fn entry(&self, at: At) -> &Entry {
        &self.checkpoints[at.file].entries[at.entry]
    }

    /// The path as given.
    pub fn file(&self) -> &str {
        self.checkpoint().file()
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.checkpoint().format()
    }

    /// What it is called in the file: keys and prefixes, joined by dots; `all` where there are none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its name, or a counter in it, says that it is an average over training.
    pub fn is_averaged(&self) -> bool {
        self.averaged
    }

    /// The tensors' names, in the file's order; without dots if the file has none in them, see [`StateDict::has`].
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.order.iter().map(|&i| self.tensors[i].0.as_str())
    }

    /// Tensors whose names are none of `known`.
    pub fn beside<'a>(&'a self, known: &mut dyn Iterator<Item = &str>) -> Vec<&'a str> {
        let known: std::collections::HashSet<String> = known.map(|name| self.spelled(name)).collect();
        self.names().filter(|name| !known.contains(*name)).collect()
    }

    /// Type and shape of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.find(name).map(|stored| &stored.info)
    }

    /// What there is under a name, if it is no tensor.
    pub fn other(&self, name: &str) -> Option<&str> {
        self.others.get(&self.spelled(name)).map(String::as_str)
    }

    fn spelled(&self, name: &str) -> String {
        if self.dotless { without_dots(name) } else { name.to_owned() }
    }

    fn find(&self, name: &str) -> Option<&Located> {
        self.located(name).map(|(stored, _)| stored)
    }

    /// A tensor, and the file that it is in.
    fn located(&self, name: &str) -> Option<(&Located, &[u8])> {
        let name = self.spelled(name);
        let i = self.tensors.binary_search_by(|(n, _)| n.as_str().cmp(&name)).ok()?;
        let at = self.tensors[i].1;
        match &self.entry(at).content {
            Content::Tensor(stored) => Some((stored, self.checkpoints[at.file].source.bytes())),
            _ => None,
        }
    }

    /// A tensor's values in row-major order; f16 and bf16 are widened, f64 is rounded to nearest.
    ///
    /// # Errors
    /// When there is no such tensor, or it is not of floats.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let (stored, bytes) = self.stored(name)?;
        stored.read(bytes).ok_or_else(|| self.element_type(name, stored))
    }

    /// As [`StateDict::read_f32`], of a part of the tensor: `rows` are indices of its first axis.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If the tensor does not have these rows.
    pub fn read_rows_f32(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, CheckpointError> {
        let (stored, bytes) = self.stored(name)?;
        let ElementType::Other(_) = stored.info.dtype else {
            let part = stored.rows(rows).expect("the caller knows the shape");
            return Ok(part.read(bytes).expect("the elements are floats"));
        };
        Err(self.element_type(name, stored))
    }

    /// The values of a tensor of integers (i32 or i64) in row-major order. No weights are; labels are.
    ///
    /// # Errors
    /// When there is no such tensor, or it is not of integers.
    pub fn read_integers(&self, name: &str) -> Result<Vec<i64>, CheckpointError> {
        let (stored, bytes) = self.stored(name)?;
        stored.read_integers(bytes).ok_or_else(|| self.element_type(name, stored))
    }

    fn stored(&self, name: &str) -> Result<(&Located, &[u8]), CheckpointError> {
        self.located(name).ok_or_else(|| CheckpointError::NoTensor {
            file: self.file().to_owned(),
            tensor: shown(name.as_bytes()),
            weights: self.name.clone(),
            count: self.tensors.len(),
        })
    }

    fn element_type(&self, name: &str, stored: &Located) -> CheckpointError {
        let found = stored.info.dtype.name();
        CheckpointError::ElementType { file: self.file().to_owned(), tensor: shown(name.as_bytes()), found }
    }

    /// What was left out of the set, in sentences.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().chain(self.checkpoints.iter().flat_map(|c| &c.notes)).map(String::as_str)
    }
}

/// Whether keys lead to what an optimiser or a schedule keeps, which may have the network's names and shapes.
fn of_optimiser(keys: &str) -> bool {
    keys.split('.').any(|key| key.starts_with("opt") || key.contains("scheduler") || key.contains("scaler"))
}

/// What a set is called.
fn shown_name(set: &Found) -> String {
    let name = set.prefix.trim_end_matches('.');
    if name.is_empty() { "all".to_owned() } else { shown(name.as_bytes()) }
}
