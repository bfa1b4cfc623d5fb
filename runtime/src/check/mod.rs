//! Checks a plan before anything of it is run: whatever it contains, a plan that passes cannot make a kernel
//! touch memory that is not its own, divide by zero or overflow. Hostile numbers are expected here: all
//! arithmetic is checked.
//!
//! Not checked: that a step reads only what an earlier one has written. It would read zeros or old values.

mod kernels;
#[cfg(test)]
mod tests;

use crate::artifact::one_line;
use crate::kernels::{MAX_INPUTS, MAX_OUTPUTS};
use crate::plan::{ALIGN, Element, Entry, Operand, Place, Plan, Port, Step, VERSION};

/// Most bytes of an arena: 64 GiB, or what an address space of 32 bits can have.
pub const MAX_ARENA: usize = if usize::BITS >= 64 { 1 << 36 } else { isize::MAX as usize };

/// Most elements of an operand. A kernel's scratch is at most about 200 times that, which is still a number.
pub const MAX_COUNT: usize = if usize::BITS >= 64 { 1 << 36 } else { 1 << 26 };

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plan, entry `{entry}`{}: expected {expected}, found {found}", .step.as_ref().map(|s| format!(", step `{s}`")).unwrap_or_default())]
pub struct PlanError {
    /// The entry's name; empty if it is the plan as a whole.
    pub entry: String,
    /// The step's label, if it is in a step.
    pub step: Option<String>,
    /// What a plan must have there.
    pub expected: String,
    /// What it has.
    pub found: String,
}

/// Expected and found.
type Fault = (String, String);

/// Tells element type and extents of a tensor, if there is one of that name.
pub type Weights<'a> = dyn Fn(&str) -> Option<(Element, Vec<usize>)> + 'a;

/// Fails unless `ok`, with what was expected and what was found.
fn ensure(ok: bool, expected: impl Into<String>, found: impl std::fmt::Debug) -> Result<(), Fault> {
    if ok { Ok(()) } else { Err((expected.into(), format!("{found:?}"))) }
}

/// Number of elements of a shape, if every extent is at least 1 and the product is below [`MAX_COUNT`].
fn count(shape: &[usize]) -> Option<usize> {
    if shape.len() > 8 {
        return None;
    }
    let product = shape.iter().try_fold(1usize, |n, &e| if e == 0 { None } else { n.checked_mul(e) })?;
    (product <= MAX_COUNT).then_some(product)
}

/// Checks everything that could go wrong at run time. `weights` tells element type and extents of a tensor.
///
/// # Errors
/// The first fault.
pub fn check_plan(plan: &Plan, weights: &Weights<'_>) -> Result<(), PlanError> {
    let error = |entry: &str, step: Option<&Step>, (expected, found): Fault| PlanError {
        entry: one_line(entry),
        step: step.map(|s| one_line(&s.label)),
        expected: one_line(&expected),
        found: one_line(&found),
    };
    ensure(plan.version == VERSION, format!("version {VERSION}"), plan.version).map_err(|f| error("", None, f))?;
    for (i, entry) in plan.entries.iter().enumerate() {
        let again = plan.entries[..i].iter().any(|e| e.name == entry.name && e.rows == entry.rows);
        ensure(!again, "an entry for every name and rows once", entry.rows).map_err(|f| error(&entry.name, None, f))?;
        check_entry(entry).map_err(|f| error(&entry.name, None, f))?;
        for step in &entry.steps {
            check_step(entry, step, weights).map_err(|f| error(&entry.name, Some(step), f))?;
        }
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), Fault> {
    ensure(entry.rows > 0, "at least one row", entry.rows)?;
    ensure(entry.arena_bytes <= MAX_ARENA, format!("an arena of at most {MAX_ARENA} bytes"), entry.arena_bytes)?;
    for port in entry.inputs.iter().chain(&entry.outputs) {
        let of_a_caller = matches!(port.dtype, Element::F32 | Element::I32);
        ensure(of_a_caller, format!("F32 or I32 for port `{}`", port.name), port.dtype)?;
        ensure(count(&port.shape).is_some(), format!("extents of at least 1 and a sane size for port `{}`", port.name), &port.shape)?;
    }
    for port in &entry.outputs {
        ensure(port.dtype == Element::F32, format!("f32 for output `{}`", port.name), port.dtype)?;
    }
    Ok(())
}

fn check_step(entry: &Entry, step: &Step, weights: &Weights<'_>) -> Result<(), Fault> {
    ensure(step.inputs.len() <= MAX_INPUTS, format!("at most {MAX_INPUTS} inputs"), step.inputs.len())?;
    ensure(step.outputs.len() <= MAX_OUTPUTS, format!("at most {MAX_OUTPUTS} outputs"), step.outputs.len())?;
    for operand in step.inputs.iter().chain(&step.outputs) {
        check_place(entry, operand, weights)?;
    }
    for (i, y) in step.outputs.iter().enumerate() {
        ensure(matches!(y.at, Place::Arena(_) | Place::Output(_)), "results in the arena or in outputs", &y.at)?;
        for other in step.inputs.iter().chain(&step.outputs[i + 1..]) {
            ensure(!overlap(y, other), format!("a result apart from {:?}", other.at), &y.at)?;
        }
    }
    kernels::check(step)
}

/// The operand lies inside of what holds it, and has its element type.
fn check_place(entry: &Entry, operand: &Operand, weights: &Weights<'_>) -> Result<(), Fault> {
    let n = count(&operand.shape).ok_or_else(|| ("extents of at least 1 and a sane size".into(), format!("{:?}", operand.shape)))?;
    let of_port = |ports: &[Port], i: usize| {
        let port = ports.get(i).ok_or_else(|| (format!("a port below {}", ports.len()), format!("{:?}", operand.at)))?;
        ensure(port.dtype == operand.dtype, format!("{:?} as port `{}` has", port.dtype, port.name), operand.dtype)?;
        ensure(count(&port.shape) == Some(n), format!("as many elements as port `{}` has, {:?}", port.name, port.shape), &operand.shape)
    };
    match &operand.at {
        Place::Arena(offset) => {
            ensure(offset % ALIGN == 0, format!("an offset divisible by {ALIGN}"), offset)?;
            let end = n.checked_mul(operand.dtype.bytes()).and_then(|b| b.checked_add(*offset));
            let inside = end.is_some_and(|end| end <= entry.arena_bytes);
            ensure(inside, format!("an operand inside of the arena's {} bytes", entry.arena_bytes), (offset, &operand.shape))
        }
        Place::Input(i) => of_port(&entry.inputs, *i),
        Place::Output(i) => of_port(&entry.outputs, *i),
        Place::Weight(name) => {
            let (dtype, shape) = weights(name).ok_or_else(|| ("a tensor of the artifact".into(), format!("`{name}`")))?;
            ensure(dtype == operand.dtype, format!("{dtype:?} as tensor `{name}` has"), operand.dtype)?;
            // The artifact may pad a tensor at its end, to keep the next one aligned.
            ensure(count(&shape).is_some_and(|c| n <= c), format!("at most the elements of tensor `{name}`, {shape:?}"), &operand.shape)
        }
    }
}

/// True if the two share memory. Their counts were checked.
fn overlap(a: &Operand, b: &Operand) -> bool {
    match (&a.at, &b.at) {
        (Place::Arena(x), Place::Arena(y)) => *x < y + b.bytes() && *y < x + a.bytes(),
        (x, y) => x == y,
    }
}
