//! `condition` and `denoise`: `condition(t, y)` gives a row of modulation for each of its rows, `denoise(x, modulation)` takes these by
//! name, at every batch size alike. Of a model that was specialised it is `condition(row)`, of the row that a time and a class have.

use std::collections::HashMap;

use crate::artifact::ModelInfo;
use crate::entry_name::EntryName;
use crate::plan::{Element, Entry};

/// Widest output of the condition, four times what the widest model of the format has: tables of all steps are made of it.
const MAX_WIDTH: usize = 1 << 20;

/// An entry point: its index among condition and denoisers, in the plan's order, and its batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub entry: usize,
    pub rows: usize,
}

/// The entry points of a denoiser.
#[derive(Debug)]
pub(crate) struct DenoiserEntries {
    /// Where they are in the artifact's plan.
    pub places: Vec<usize>,
    pub condition: Section,
    /// By falling batch size; there is one.
    pub denoise: Vec<Section>,
    /// For every input of the denoiser: the condition's output of that name, `None` for the image.
    pub sources: Vec<Option<usize>>,
    /// Values per row of every output of the condition.
    pub widths: Vec<usize>,
}

impl DenoiserEntries {
    pub(super) fn of(plan: &[Entry], model: &ModelInfo) -> Result<DenoiserEntries, String> {
        let known = |e: &Entry| e.is(EntryName::Condition) || e.is(EntryName::Denoise);
        let places: Vec<usize> = (0..plan.len()).filter(|&i| known(&plan[i])).collect();
        let entries: Vec<&Entry> = places.iter().map(|&i| &plan[i]).collect();
        let entry = entries.iter().position(|e| e.is(EntryName::Condition)).ok_or("there is no entry point `condition`")?;
        let condition = entries[entry];
        let rows = condition.rows;
        let widths = widths(condition, model.specialisation.is_some())?;
        let mut outputs = HashMap::new();
        for (i, port) in condition.outputs.iter().enumerate() {
            outputs.entry(port.name.as_str()).or_insert((i, widths[i]));
        }
        let mut denoise: Vec<Section> = Vec::new();
        let mut sources = None;
        for (i, e) in entries.iter().enumerate().filter(|(_, e)| e.is(EntryName::Denoise)) {
            let found = sources_of(e, model, &outputs)?;
            if found.iter().filter(|s| s.is_none()).count() != 1 || *sources.get_or_insert_with(|| found.clone()) != found {
                return Err(format!("`denoise` of {} rows: its inputs are not those of the other batch sizes", e.rows));
            }
            denoise.push(Section { entry: i, rows: e.rows });
        }
        denoise.sort_by_key(|s| std::cmp::Reverse(s.rows));
        let sources = sources.ok_or("there is no entry point `denoise`")?;
        Ok(DenoiserEntries { places, condition: Section { entry, rows }, denoise, sources, widths })
    }
}

/// Holds the condition's ports against its rows; the widths of its outputs.
fn widths(condition: &Entry, is_table: bool) -> Result<Vec<usize>, String> {
    let rows = condition.rows;
    let takes: Vec<_> = condition.inputs.iter().take(3).map(|p| (p.name.as_str(), p.dtype, p.shape.as_slice())).collect();
    let (t, y, row) = (("t", Element::F32, &[rows][..]), ("y", Element::I32, &[rows][..]), ("row", Element::I32, &[rows][..]));
    if is_table && takes != [row] {
        return Err(format!("`condition`: expected the input row: i32[{rows}], found {takes:?}"));
    }
    if !is_table && takes != [t, y] {
        return Err(format!("`condition`: expected inputs t: f32[{rows}], y: i32[{rows}], found {takes:?}"));
    }
    let width = |p: &crate::plan::Port| match p.shape[..] {
        [n, w] if n == rows && w <= MAX_WIDTH => Ok(w),
        _ => Err(format!("`condition`: output `{}`: expected [{rows}, a width of at most {MAX_WIDTH}], found {:?}", p.name, p.shape)),
    };
    condition.outputs.iter().map(width).collect()
}

/// Holds a denoiser's ports against the model and the condition's outputs, which are a number and a width by name; where its inputs
/// come from.
fn sources_of(e: &Entry, model: &ModelInfo, outputs: &HashMap<&str, (usize, usize)>) -> Result<Vec<Option<usize>>, String> {
    let n = e.rows;
    let image = [n, model.height, model.width, model.in_channels];
    let output = [n, model.height, model.width, model.out_channels];
    if e.outputs.len() != 1 || e.outputs[0].shape != output {
        let found: Vec<_> = e.outputs.iter().take(2).map(|p| &p.shape).collect();
        return Err(format!("`denoise` of {n} rows: expected one output of {output:?}, found {found:?}"));
    }
    let source = |p: &crate::plan::Port| {
        let source = outputs.get(p.name.as_str()).copied();
        let expected = source.map_or(image.to_vec(), |(_, width)| vec![n, width]);
        let known = source.is_some() || p.name == "x";
        if !known || p.dtype != Element::F32 || p.shape != expected {
            return Err(format!("`denoise` of {n} rows: input `{}`: expected f32{expected:?}, found {:?}", p.name, p.shape));
        }
        Ok(source.map(|(i, _)| i))
    };
    e.inputs.iter().map(source).collect()
}
