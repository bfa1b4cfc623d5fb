//! Latents in safetensors and PyTorch files, and which of several arrays of a file they are.

use std::path::Path;

use fcdm_compiler::checkpoint::{Checkpoint, ROOT, StateDict};

use super::{LatentsError, Opened, Source, Wanted, wrong};

/// Most arrays that a message lists.
const LISTED: usize = 8;

/// Which of several arrays hold latents.
pub(super) enum Chosen {
    /// One, and a note if that was not plain.
    One { index: usize, note: Option<String> },
    /// All of them, which are called by their numbers; in this order.
    Each(Vec<usize>),
}

/// Chooses among arrays of that names and shapes, called so in messages. `lists` says whether there may be a list of latents.
pub(super) fn choose(file: &str, what: &str, arrays: &[(String, Vec<usize>)], wanted: Wanted, lists: bool) -> Result<Chosen, LatentsError> {
    if let Some(index) = named(arrays, wanted) {
        return Ok(Chosen::One { index, note: None });
    }
    let numbers: Option<Vec<usize>> = arrays.iter().map(|(name, _)| name.parse().ok()).collect();
    if let Some(mut all) = numbers.filter(|all| lists && !all.is_empty()).map(|n| n.into_iter().enumerate().collect::<Vec<_>>()) {
        all.sort_by_key(|(_, number)| *number);
        if all.iter().enumerate().all(|(i, (_, number))| i == *number) {
            return Ok(Chosen::Each(all.into_iter().map(|(index, _)| index).collect()));
        }
    }
    let fitting: Vec<usize> = (0..arrays.len()).filter(|&i| wanted.parts(&arrays[i].1).is_some()).collect();
    match fitting[..] {
        [index] => {
            let name = shown(&arrays[index].0);
            let plain = arrays.len() == 1 && name == ROOT;
            let note = (!plain).then(|| format!("{file}: `{name}` {:?} is taken for the {}", arrays[index].1, wanted.what()));
            Ok(Chosen::One { index, note })
        }
        ref some => {
            let which: Vec<usize> = if some.is_empty() { (0..arrays.len()).collect() } else { some.to_vec() };
            let listed = which.iter().take(LISTED).map(|&i| format!("`{}` {:?}", shown(&arrays[i].0), arrays[i].1));
            let listed = listed.collect::<Vec<_>>().join(", ");
            let more = if which.len() > LISTED { format!(" and {} more", which.len() - LISTED) } else { String::new() };
            let found = if which.is_empty() { "none".to_owned() } else { format!("{listed}{more}") };
            Err(wrong(file, what, format!("`{}`, or one of {}", wanted.names()[0], wanted.shapes()), found))
        }
    }
}

/// The array that has the name, by custom.
pub(super) fn named(arrays: &[(String, Vec<usize>)], wanted: Wanted) -> Option<usize> {
    wanted.names().iter().find_map(|name| arrays.iter().position(|(n, _)| n == name))
}

/// A name from a file, fit for a message.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if short.len() < name.len() { format!("{short}…") } else { short }
}

/// A file, and where the latents are in it.
struct Tensors {
    file: StateDict,
    latents: Place,
}

/// Labels, which are few bytes.
struct Labels(Vec<f32>);

impl Source for Labels {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        Ok(vec![self.0[index]])
    }
}

enum Place {
    /// Along the first axis of one tensor.
    Rows { name: String, count: usize },
    /// One tensor each.
    Each(Vec<String>),
}

impl Source for Tensors {
    fn count(&self) -> usize {
        match &self.latents {
            Place::Rows { count, .. } => *count,
            Place::Each(names) => names.len(),
        }
    }

    fn read(&mut self, index: usize) -> Result<Vec<f32>, LatentsError> {
        Ok(match &self.latents {
            Place::Rows { name, .. } if self.file.tensor(name).is_some_and(|t| t.shape.len() == 4) => {
                self.file.read_rows_f32(name, index..index + 1)?
            }
            Place::Rows { name, .. } => self.file.read_f32(name)?,
            Place::Each(names) => self.file.read_f32(&names[index])?,
        })
    }
}

fn arrays(tensors: &StateDict) -> Vec<(String, Vec<usize>)> {
    let shape = |name: &str| tensors.tensor(name).map(|t| t.shape.clone()).unwrap_or_default();
    tensors.names().map(|name| (name.to_owned(), shape(name))).collect()
}

/// The tensor of that name, if there is one.
pub(super) fn beside(path: &Path, wanted: Wanted) -> Result<Option<Opened>, LatentsError> {
    let tensors = StateDict::everything(Checkpoint::open(path)?)?;
    let arrays = arrays(&tensors);
    let Some(index) = named(&arrays, wanted) else { return Ok(None) };
    let (name, shape) = &arrays[index];
    let Some((count, image)) = wanted.parts(shape) else {
        return Err(wrong(tensors.file(), format!("tensor `{}`", shown(name)), wanted.shapes(), format!("{shape:?}")));
    };
    if wanted == Wanted::Labels {
        let values = tensors.read_integers(name)?.into_iter().map(|v| v as f32).collect();
        return Ok(Some(Opened { source: Box::new(Labels(values)), shape: image, note: None }));
    }
    let latents = Place::Rows { name: name.clone(), count };
    Ok(Some(Opened { source: Box::new(Tensors { file: tensors, latents }), shape: image, note: None }))
}

pub(super) fn open(path: &Path, wanted: Wanted) -> Result<Opened, LatentsError> {
    if wanted == Wanted::Labels {
        let missing = || wrong(&path.display().to_string(), "tensors", "`labels`", "none of that name");
        return beside(path, wanted)?.ok_or_else(missing);
    }
    let tensors = StateDict::everything(Checkpoint::open(path)?)?;
    let file = tensors.file().to_owned();
    let arrays = arrays(&tensors);
    let field = |index: usize| format!("tensor `{}`", shown(&arrays[index].0));
    // That elements are floats is said by reading none of them.
    let readable = |index: usize, rank: usize| match rank {
        4 => tensors.read_rows_f32(&arrays[index].0, 0..0).map(drop),
        _ => Ok(()),
    };
    let image = |index: usize| {
        let shape = &arrays[index].1;
        let expected = || wrong(&file, field(index), wanted.shapes(), format!("{shape:?}"));
        let found = wanted.parts(shape).ok_or_else(expected)?;
        readable(index, shape.len())?;
        Ok::<_, LatentsError>(found)
    };
    let (latents, shape, note) = match choose(&file, "tensors", &arrays, wanted, true)? {
        Chosen::One { index, note } => {
            let (count, shape) = image(index)?;
            (Place::Rows { name: arrays[index].0.clone(), count }, shape, note)
        }
        Chosen::Each(list) => {
            let (_, first) = image(list[0])?;
            for &index in &list {
                let (count, shape) = image(index)?;
                // One picture each, unless there is one tensor of all.
                if shape != first || count != 1 && list.len() > 1 {
                    let [c, h, w] = first;
                    return Err(wrong(&file, field(index), format!("[1,{c},{h},{w}] as of the first"), format!("{:?}", arrays[index].1)));
                }
            }
            let name = |index: usize| arrays[index].0.clone();
            match list[..] {
                [only] => (Place::Rows { name: name(only), count: image(only)?.0 }, first, None),
                _ => (Place::Each(list.into_iter().map(name).collect()), first, None),
            }
        }
    };
    Ok(Opened { source: Box::new(Tensors { file: tensors, latents }), shape, note })
}
