//! Checks a plan before anything of it is run: whatever it contains, a plan that passes cannot make a kernel
//! touch memory that is not its own, divide by zero or overflow. Hostile numbers are expected here: all
//! arithmetic is checked.
//!
//! Not checked: that a step reads only what an earlier one has written. It would read zeros or old values.
//!
//! It takes time in proportion to the plan's text: what is said of one entry is not held against all others, and no message is made
//! before it is needed.

pub(crate) mod rule;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use crate::artifact::{Extents, one_line};
use crate::kernels::{Kind, MAX_INPUTS, MAX_OUTPUTS};
use crate::plan::{ALIGN, Element, Entry, Form, Operand, Place, Plan, Port, Step, VERSION};

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
    /// What it has, and the number of the kernel's constraint if it is one, such as `matmul.2`.
    pub found: String,
}

/// A constraint that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its number; empty if it is not one of a kernel.
    pub rule: &'static str,
    pub expected: String,
    pub found: String,
}

/// Tells element type and extents of a tensor, if there is one of that name.
pub type Weights<'a> = dyn Fn(&str) -> Option<(Element, &'a [usize])> + 'a;

/// Fails unless `ok`, with what was expected and what was found.
fn ensure(ok: bool, expected: impl Into<String>, found: impl std::fmt::Debug) -> Result<(), Fault> {
    rule::ensure("", ok, expected, found)
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
    let error = |entry: &str, step: Option<&Step>, Fault { rule, expected, found }: Fault| PlanError {
        entry: one_line(entry),
        step: step.map(|s| one_line(&s.label)),
        expected: one_line(&expected),
        found: if rule.is_empty() { one_line(&found) } else { format!("{} ({rule})", one_line(&found)) },
    };
    ensure(plan.version == VERSION, format!("version {VERSION}"), plan.version).map_err(|f| error("", None, f))?;
    let (mut names, mut states) = (HashSet::new(), HashMap::new());
    for entry in &plan.entries {
        let first = names.insert((entry.name.as_str(), entry.rows));
        ensure(first, "an entry for every name and rows once", entry.rows).map_err(|f| error(&entry.name, None, f))?;
        check_entry(entry).map_err(|f| error(&entry.name, None, f))?;
        for port in &entry.state {
            let known = *states.entry(port.name.as_str()).or_insert(&port.shape);
            let other = || Fault { rule: "", expected: format!("state `{}` of one shape", port.name), found: format!("{known:?}") };
            (*known == port.shape).then_some(()).ok_or_else(other).map_err(|f| error(&entry.name, None, f))?;
        }
        for step in &entry.steps {
            check_step(entry, step, weights).map_err(|f| error(&entry.name, Some(step), f))?;
        }
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), Fault> {
    ensure(entry.rows > 0, "at least one row", entry.rows)?;
    ensure(entry.arena_bytes <= MAX_ARENA, format!("an arena of at most {MAX_ARENA} bytes"), entry.arena_bytes)?;
    for port in entry.inputs.iter().chain(&entry.outputs).chain(&entry.state) {
        let of_a_caller = matches!(port.dtype, Element::F32 | Element::I32);
        ensure(of_a_caller, format!("F32 or I32 for port `{}`", port.name), port.dtype)?;
        ensure(count(&port.shape).is_some(), format!("extents of at least 1 and a sane size for port `{}`", port.name), &port.shape)?;
    }
    for port in entry.outputs.iter().chain(&entry.state) {
        ensure(port.dtype == Element::F32, format!("f32 for `{}`", port.name), port.dtype)?;
    }
    // One memory, to which two would write at once.
    let mut names = HashSet::new();
    let twice = entry.state.iter().find(|port| !names.insert(port.name.as_str()));
    ensure(twice.is_none(), "every state of an entry once", twice.map(|port| &port.name))
}

fn check_step(entry: &Entry, step: &Step, weights: &Weights<'_>) -> Result<(), Fault> {
    let signature = step.kernel.signature();
    let inputs = signature.inputs_of(step.inputs.len()).ok_or_else(|| {
        let names: Vec<String> = signature.inputs.iter().map(|i| format!("{}{}", i.name, if i.optional { "?" } else { "" })).collect();
        Fault { rule: "", expected: format!("the inputs {}", names.join(", ")), found: format!("{} inputs", step.inputs.len()) }
    })?;
    ensure(step.outputs.len() == signature.outputs.len(), format!("{} outputs", signature.outputs.len()), step.outputs.len())?;
    debug_assert!(inputs.len() <= MAX_INPUTS && signature.outputs.len() <= MAX_OUTPUTS);
    for operand in step.inputs.iter().chain(&step.outputs) {
        check_place(entry, operand, weights)?;
    }
    for (input, x) in inputs.iter().zip(&step.inputs) {
        check_form(input.name, input.kind, x)?;
    }
    for (i, (output, y)) in signature.outputs.iter().zip(&step.outputs).enumerate() {
        ensure(y.form == output.form, format!("{:?} for {}", output.form, output.name), y.form)?;
        ensure(
            matches!(y.at, Place::Arena(_) | Place::Output(_) | Place::State(_)),
            "results in the arena, in outputs or in state",
            &y.at,
        )?;
        for other in &step.outputs[i + 1..] {
            ensure(!overlap(y, other), format!("a result apart from {:?}", other.at), &y.at)?;
        }
        for (k, x) in step.inputs.iter().enumerate() {
            let takes = output.takes.contains(&k) && x.at == y.at && x.bytes() == y.bytes();
            ensure(takes || !overlap(y, x), format!("a result apart from {:?}", x.at), &y.at)?;
        }
    }
    step.kernel.check(&step.inputs, &step.outputs)
}

/// The operand's numbers lie as the kernel reads them.
fn check_form(name: &str, kind: Kind, operand: &Operand) -> Result<(), Fault> {
    match kind {
        Kind::F32 => ensure(operand.form == Form::F32, format!("f32 for {name}"), operand.form),
        Kind::Floats => {
            ensure(matches!(operand.form, Form::Dense(Element::F32 | Element::F16)), format!("f32 or f16 for {name}"), operand.form)?;
            // Of ports there are none of f16, and nothing computes it.
            ensure(operand.form == Form::F32 || matches!(operand.at, Place::Weight(_)), "f16 of the artifact", &operand.at)
        }
        Kind::Matrix => ensure(matches!(operand.form, Form::Encoded(_)), format!("an encoded matrix for {name}"), operand.form),
        Kind::Labels(_) => {
            ensure(operand.form == Form::I32, format!("i32 for {name}"), operand.form)?;
            ensure(matches!(operand.at, Place::Input(_)), "labels that are an input, whose range is checked", &operand.at)
        }
    }
}

/// The operand lies inside of what holds it, and its numbers lie there as it says.
fn check_place(entry: &Entry, operand: &Operand, weights: &Weights<'_>) -> Result<(), Fault> {
    let sane = || Fault { rule: "", expected: "extents of at least 1 and a sane size".into(), found: format!("{:?}", operand.shape) };
    let n = count(&operand.shape).ok_or_else(sane)?;
    if let Form::Encoded(encoding) = operand.form {
        // Panels and pairs round up: none of the parts is beyond bounds either.
        let [rows, taps, channels] = rule::rank("", "an encoded matrix", operand)?;
        let rounded =
            count(&[rows.checked_next_multiple_of(64).ok_or_else(sane)?, taps, channels.checked_next_multiple_of(64).ok_or_else(sane)?]);
        rounded.ok_or_else(sane)?;
        if let Place::Weight(name) = &operand.at {
            let matrix = operand.matrix().ok_or_else(sane)?;
            return encoding.parts(matrix).iter().try_for_each(|part| {
                check_tensor(&format!("{name}{}", part.suffix), part.element, part.shape.iter().product(), &operand.shape, weights)
            });
        }
        ensure(matches!(operand.at, Place::Arena(_)), "an encoded matrix of the artifact or in the arena", &operand.at)?;
    }
    let of_port = |ports: &[Port], i: usize| {
        let expected = || Fault { rule: "", expected: format!("a port below {}", ports.len()), found: format!("{:?}", operand.at) };
        let port = ports.get(i).ok_or_else(expected)?;
        let (dtype, name) = (port.dtype, &port.name);
        // A name is as long as a file likes, and many steps refer to it.
        let other = |expected: String, found: String| Err(Fault { rule: "", expected, found });
        if Form::Dense(dtype) != operand.form {
            return other(format!("{dtype:?} as port `{name}` has"), format!("{:?}", operand.form));
        }
        if count(&port.shape) != Some(n) {
            return other(format!("as many elements as port `{name}` has, {:?}", port.shape), format!("{:?}", operand.shape));
        }
        Ok(())
    };
    match &operand.at {
        Place::Arena(offset) => {
            ensure(offset % ALIGN == 0, format!("an offset divisible by {ALIGN}"), offset)?;
            let inside = operand.bytes().checked_add(*offset).is_some_and(|end| end <= entry.arena_bytes);
            ensure(inside, format!("an operand inside of the arena's {} bytes", entry.arena_bytes), (offset, &operand.shape))
        }
        Place::Input(i) => of_port(&entry.inputs, *i),
        Place::Output(i) => of_port(&entry.outputs, *i),
        Place::State(i) => of_port(&entry.state, *i),
        Place::Weight(name) => match operand.form {
            Form::Dense(element) => check_tensor(name, element, n, &operand.shape, weights),
            Form::Encoded(_) => unreachable!("its parts were looked at"),
        },
    }
}

/// The artifact has a tensor of that name and element type with at least `n` elements: it may be padded at its end, to keep the
/// next one aligned.
fn check_tensor(name: &str, element: Element, n: usize, shape: &[usize], weights: &Weights<'_>) -> Result<(), Fault> {
    let missing = || Fault { rule: "", expected: "a tensor of the artifact".into(), found: format!("`{name}`") };
    let (stored, extents) = weights(name).ok_or_else(missing)?;
    ensure(stored == element, format!("{stored:?} as tensor `{name}` has"), element)?;
    // Extents may be as many as a file likes too.
    let most = || format!("at most the elements of tensor `{name}`, {}", Extents(extents));
    if count(extents).is_some_and(|c| n <= c) { Ok(()) } else { ensure(false, most(), shape) }
}

/// True if the two share memory. Their counts were checked.
fn overlap(a: &Operand, b: &Operand) -> bool {
    match (&a.at, &b.at) {
        (Place::Arena(x), Place::Arena(y)) => *x < y + b.bytes() && *y < x + a.bytes(),
        (x, y) => x == y,
    }
}
