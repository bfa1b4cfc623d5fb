//! What `torch.save` means by a pickle: where the weights are in it, and what makes a tensor.
//!
//! A training checkpoint is a dict of state dicts, the optimiser's state and arguments, under names of the trainer's own; or a bare
//! state dict. All dicts of text are listed; which tensors are weights is for [`super::state_dict`] to find. What is saved to be exchanged
//! may be a bare tensor, called [`ROOT`], or a list or tuple of tensors, which are called by their numbers.
//! A tensor is a call of `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)`; a storage is the
//! persistent id `("storage", type, key, location, elements)`, and its bytes are the entry `data/KEY`. What is no such call is
//! no weight, whatever it mentions: it is noted, and never called.

use std::collections::BTreeMap;

use super::Notes;
use super::budget::Budget;
use super::contents::{Content, Contents, Entry};
use super::error::{CheckpointError, Place, shown};
use super::pickle::{self, Pickle, Value};
use super::tensor::{ElementType, Located, RANK, TensorClaim};
use super::zip::Directory;

/// What a tensor is called that is all there is in a file.
pub const ROOT: &str = "tensor";

/// Longest name of a tensor or storage, in bytes.
const NAME: usize = 256;
/// Longest text kept of one argument, and of all of them, in bytes.
const ARGUMENT: usize = 4096;
const ARGUMENTS: usize = 16 * ARGUMENT;

/// Dicts in dicts that are looked into.
const DEPTH: usize = 5;
/// Under which of the file's own names trainers keep their arguments.
const ARGUMENTS_KEYS: [&str; 5] = ["args", "hyper_parameters", "config", "cfg", "hparams"];

/// Why a value is not read as a tensor.
enum Unread {
    Unclear { expected: String, found: String },
    TooLarge(CheckpointError),
}

fn unclear(expected: &str, found: impl Into<String>) -> Unread {
    Unread::Unclear { expected: expected.to_owned(), found: found.into() }
}

/// Reads the archive `bytes`.
pub(super) fn read(file: &str, bytes: &[u8], notes: &mut Notes, budget: &mut Budget) -> Result<Contents, CheckpointError> {
    let directory = Directory::read(file, bytes, budget)?;
    let place = Place { file, part: "data.pkl" };
    let mut roots = directory.names().filter_map(|n| n.strip_suffix("data.pkl")).filter(|p| p.is_empty() || p.ends_with('/'));
    let (first, second) = (roots.next(), roots.next());
    drop(roots);
    let root = match (first, second) {
        (Some(root), None) => root,
        (None, _) => return Err(place.expected("an entry `data.pkl` in the ZIP", "none: this is not a PyTorch file")),
        (Some(_), Some(_)) => return Err(place.expected("one entry `data.pkl` in the ZIP", "several")),
    };
    if let Some(order) = directory.find(&format!("{root}byteorder"))
        && bytes[order.clone()] != *b"little"
    {
        let place = Place { file, part: "byteorder" };
        return Err(place.expected("`little`", format!("`{}`", shown(&bytes[order]))));
    }
    let range = directory.find(&format!("{root}data.pkl")).expect("it is among the names");
    let pickle = pickle::parse(&bytes[range], place, budget)?;
    let archive = Archive { place, bytes, directory, root, pickle };
    archive.contents(notes, budget)
}

struct Archive<'a> {
    place: Place<'a>,
    bytes: &'a [u8],
    directory: Directory<'a>,
    root: &'a str,
    pickle: Pickle<'a>,
}

/// Tells what a storage's type name means: element type and bytes of an element.
fn element(name: &str) -> Option<(ElementType, usize)> {
    use ElementType::*;
    Some(match name {
        "FloatStorage" | "float32" => (F32, 4),
        "HalfStorage" | "float16" => (F16, 2),
        "BFloat16Storage" | "bfloat16" => (BF16, 2),
        "DoubleStorage" | "float64" => (F64, 8),
        "LongStorage" | "int64" => (Other("i64"), 8),
        "IntStorage" | "int32" => (Other("i32"), 4),
        "ShortStorage" | "int16" => (Other("i16"), 2),
        "CharStorage" | "int8" => (Other("i8"), 1),
        "ByteStorage" | "uint8" => (Other("u8"), 1),
        "BoolStorage" | "bool" => (Other("bool"), 1),
        "uint16" => (Other("u16"), 2),
        "uint32" => (Other("u32"), 4),
        "uint64" => (Other("u64"), 8),
        "ComplexFloatStorage" | "complex64" => (Other("c64"), 8),
        "ComplexDoubleStorage" | "complex128" => (Other("c128"), 16),
        "float8_e4m3fn" | "float8_e5m2" => (Other("f8"), 1),
        _ => return None,
    })
}

impl Archive<'_> {
    fn contents(&self, notes: &mut Notes, budget: &mut Budget) -> Result<Contents, CheckpointError> {
        let p = &self.pickle;
        let top = p.root();
        let bare = if p.dict(top).is_none() { self.without_names(top, budget)? } else { Vec::new() };
        if p.dict(top).is_none() && bare.is_empty() {
            return Err(self.place.expected("a dict of tensors", p.kind(top)));
        }
        if let Some((name, at)) = p.acting() {
            notes.add(format!("the pickle mentions `{name}` (byte {at}), which is no weight; nothing of a pickle is ever called here"));
        }
        let mut all =
            Contents { entries: bare, dicts: Vec::new(), arguments: self.arguments(notes), optimizer_step: self.optimizer_step() };
        self.collect(top, "", DEPTH, &mut all, budget)?;
        Ok(all)
    }

    /// The tensors of a file that is no dict: one, or the items of a list or tuple; none if there is no tensor among them.
    fn without_names(&self, top: Value, budget: &mut Budget) -> Result<Vec<Entry>, CheckpointError> {
        let p = &self.pickle;
        let mut all = Vec::new();
        let mut add = |name: String, value: Value, all: &mut Vec<Entry>| -> Result<(), CheckpointError> {
            let content = self.content(value, budget)?;
            budget.charge(name.len())?;
            budget.push(all, Entry { name, dict: 0, content })
        };
        match (p.tuple(top), p.list(top)) {
            (Some(items), _) => items.iter().enumerate().try_for_each(|(i, &item)| add(i.to_string(), item, &mut all))?,
            (None, Some(items)) => items.enumerate().try_for_each(|(i, item)| add(i.to_string(), item, &mut all))?,
            (None, None) => add(ROOT.to_owned(), top, &mut all)?,
        }
        let some = all.iter().any(|e| !matches!(e.content, Content::Other(_)));
        Ok(if some { all } else { Vec::new() })
    }

    /// Lists what is in a dict, and in the dicts in it, of which there are `depth` at most.
    fn collect(&self, dict: Value, keys: &str, depth: usize, all: &mut Contents, budget: &mut Budget) -> Result<(), CheckpointError> {
        let p = &self.pickle;
        budget.charge(keys.len())?;
        let index = u32::try_from(all.dicts.len()).expect("a dict takes bytes of the pickle, which is below 4 GiB");
        budget.push(&mut all.dicts, keys.to_owned())?;
        for (key, value) in p.dict(dict).into_iter().flatten() {
            let key = match (p.text(key), p.int(key)) {
                (Some(text), _) => String::from_utf8_lossy(&text[..text.len().min(NAME + 1)]).into_owned(),
                (None, Some(number)) => number.to_string(),
                (None, None) => continue,
            };
            let mut name = if keys.is_empty() { key } else { format!("{keys}.{key}") };
            budget.charge(name.len())?;
            if p.dict(value).is_some() {
                if depth > 0 && name.len() <= NAME {
                    self.collect(value, &name, depth - 1, all, budget)?;
                }
                continue;
            }
            let content = if name.len() > NAME {
                let found = format!("{} bytes or more", name.len());
                name.truncate(name.floor_char_boundary(NAME));
                Content::Unclear { expected: format!("names of tensors of at most {NAME} bytes"), found }
            } else {
                self.content(value, budget)?
            };
            if let Content::Unclear { expected, found } = &content {
                budget.charge(expected.len() + found.len())?;
            }
            budget.push(&mut all.entries, Entry { name, dict: index, content })?;
        }
        Ok(())
    }

    /// What a value is: a tensor, or what else.
    fn content(&self, value: Value, budget: &mut Budget) -> Result<Content, CheckpointError> {
        Ok(match self.tensor(value, budget) {
            Ok(Some(stored)) => Content::Tensor(stored),
            Ok(None) => {
                let kind = self.pickle.kind(value);
                budget.charge(kind.len())?;
                Content::Other(kind)
            }
            Err(Unread::Unclear { expected, found }) => Content::Unclear { expected, found },
            Err(Unread::TooLarge(e)) => return Err(e),
        })
    }

    /// Interprets the value of a state dict's entry; `None` if it is no tensor.
    fn tensor(&self, mut value: Value, budget: &mut Budget) -> Result<Option<Located>, Unread> {
        let p = &self.pickle;
        // A parameter wraps a tensor. Nobody wraps deeper; the bound ends cycles.
        for _ in 0..4 {
            let Some((mut module, mut name, mut args)) = p.call(value) else { return Ok(None) };
            // What a tensor with attributes of its own is made by: the function, the type that results, its arguments, the attributes.
            if let ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type", &[function, _, inner, ..]) = (module, name, args)
                && let Some((m, n)) = p.global(function)
                && let Some(inner) = p.tuple(inner)
            {
                (module, name, args) = (m, n, inner);
            }
            match (module, name, args) {
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => value = *data,
                ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
                    return self.view([*storage, *offset, *shape, *strides], None, budget).map(Some);
                }
                ("torch._utils", "_rebuild_tensor_v3", [storage, offset, shape, strides, _, _, dtype, ..]) => {
                    return self.view([*storage, *offset, *shape, *strides], Some(*dtype), budget).map(Some);
                }
                ("torch._utils", call, _) => {
                    let found = format!("a call of `torch._utils.{}`", shown(call.as_bytes()));
                    return Err(unclear("a dense tensor", found));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn view(&self, parts: [Value; 4], dtype: Option<Value>, budget: &mut Budget) -> Result<Located, Unread> {
        let p = &self.pickle;
        let wrong = |expected: &str, value: Value| unclear(expected, p.kind(value));
        let [storage, offset, shape, strides] = parts;
        let ((mut element_type, mut size), storage) = self.storage(storage)?;
        if let Some(dtype) = dtype {
            let known = p.global(dtype).filter(|(module, _)| *module == "torch").and_then(|(_, name)| element(name));
            (element_type, size) = known.ok_or_else(|| wrong("an element type", dtype))?;
        }
        let mut shape_room = [0i64; RANK];
        let mut strides_room = [0i64; RANK];
        let shape = self.integers(shape, &mut shape_room).ok_or_else(|| wrong("a shape of at most 8 integers", shape))?;
        let strides = self.integers(strides, &mut strides_room).ok_or_else(|| wrong("strides of at most 8 integers", strides))?;
        let offset = p.int(offset).ok_or_else(|| wrong("an integer offset", offset))?;
        budget.charge(2 * size_of::<usize>() * shape.len() + 32).map_err(Unread::TooLarge)?;
        let layout = TensorClaim { dtype: element_type, size, shape, strides, offset, storage };
        layout.place().map_err(|(expected, found)| Unread::Unclear { expected, found })
    }

    /// A tuple, list or `torch.Size` of at most [`RANK`] integers.
    fn integers<'r>(&self, value: Value, room: &'r mut [i64; RANK]) -> Option<&'r [i64]> {
        let p = &self.pickle;
        let value = match p.call(value) {
            Some(("torch", "Size", [inner])) => *inner,
            _ => value,
        };
        let mut rank = 0;
        let mut keep = |item: Value| -> Option<()> {
            *room.get_mut(rank)? = p.int(item)?;
            rank += 1;
            Some(())
        };
        match p.tuple(value) {
            Some(items) => items.iter().try_for_each(|&i| keep(i))?,
            None => p.list(value)?.try_for_each(keep)?,
        }
        Some(&room[..rank])
    }

    /// Element type, bytes of an element, and where the storage lies in the file.
    fn storage(&self, value: Value) -> Result<((ElementType, usize), std::ops::Range<usize>), Unread> {
        let p = &self.pickle;
        let wrong = |expected: &str, found: String| unclear(expected, found);
        let id = match p.node(value) {
            Some(pickle::Node::Persistent(id)) => p.tuple(id),
            _ => None,
        };
        let Some(&[tag, kind, key, _location, elements, ..]) = id else { return Err(wrong("a storage", p.kind(value))) };
        if !p.is_text(tag, "storage") {
            return Err(wrong("a storage", p.kind(value)));
        }
        let untyped = (ElementType::Other("untyped bytes"), 1);
        let element = match p.global(kind) {
            Some(("torch.storage", "UntypedStorage" | "TypedStorage" | "_UntypedStorage")) => Some(untyped),
            Some(("torch", "UntypedStorage")) => Some(untyped),
            Some(("torch", name)) => element(name),
            _ => None,
        };
        let element = element.ok_or_else(|| wrong("a known type of storage", p.kind(kind)))?;
        let key = p.text(key).filter(|key| key.len() <= NAME).ok_or_else(|| wrong("a storage's key", p.kind(key)))?;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if key.is_empty() || !key.iter().all(plain) {
            return Err(wrong("a storage's key of letters and digits", format!("`{}`", shown(key))));
        }
        let entry = format!("{}data/{}", self.root, String::from_utf8_lossy(key));
        let Some(range) = self.directory.find(&entry) else {
            return Err(wrong(&format!("an entry `{}` in the ZIP", shown(entry.as_bytes())), "none".into()));
        };
        let claimed = p.int(elements).and_then(|n| usize::try_from(n).ok()).and_then(|n| n.checked_mul(element.1));
        match claimed.filter(|&n| n <= range.len()) {
            Some(n) => Ok((element, range.start..range.start + n)),
            None => {
                let expected = format!("a storage of at most the {} bytes of `{}`", range.len(), shown(entry.as_bytes()));
                Err(wrong(&expected, format!("{} times {} bytes", p.kind(elements), element.1)))
            }
        }
    }

    /// The attributes of the trainer's arguments: a Namespace, or a dict.
    fn arguments(&self, notes: &mut Notes) -> BTreeMap<String, String> {
        let p = &self.pickle;
        let mut arguments = BTreeMap::new();
        let Some((called, args)) = ARGUMENTS_KEYS.iter().find_map(|key| Some((key, p.get(p.root(), key)?))) else { return arguments };
        let values = match p.call(args) {
            Some(("argparse", "Namespace", _)) => p.state(args),
            _ => Some(args),
        };
        let Some(pairs) = values.and_then(|v| p.dict(v)) else {
            notes.add(format!("`{called}` is {}, neither a Namespace nor a dict, and is not read", p.kind(args)));
            return arguments;
        };
        let mut left = ARGUMENTS;
        for (key, value) in pairs {
            let Some(key) = p.text(key).filter(|key| key.len() <= NAME) else { continue };
            let text = pickle::plain(p, value, ARGUMENT.min(left));
            // Besides its text, an entry takes some room in the map.
            left = left.saturating_sub(key.len() + text.len() + 64);
            if left == 0 {
                notes.add(format!("`{called}` holds more than is kept; its end is not read"));
                break;
            }
            arguments.insert(String::from_utf8_lossy(key).into_owned(), text);
        }
        arguments
    }

    /// The step that the optimiser's first parameter has seen: a number, or a tensor of one value.
    fn optimizer_step(&self) -> Option<u64> {
        let p = &self.pickle;
        let state = p.get(p.get(p.root(), "opt")?, "state")?;
        let (_, first) = p.dict(state)?.next()?;
        let step = p.get(first, "step")?;
        let number = p.number(step).or_else(|| {
            let mut budget = Budget::new(self.place.file, 0);
            let stored = self.tensor(step, &mut budget).ok()??;
            (stored.info.shape.iter().all(|&extent| extent == 1)).then(|| stored.read(self.bytes))??.first().map(|&v| f64::from(v))
        })?;
        (number >= 0.0 && number < u64::MAX as f64).then_some(number as u64)
    }
}
