//! The verifier. It collects every error of a function or module; the rules, by the number that an error carries:
//!
//! | rule | what holds |
//! | --- | --- |
//! | `name.1` | names of functions, values, results and encodings are one or more of `A-Z a-z 0-9 _ . $ -` |
//! | `name.2` | no two inputs or instruction results of a function share a name |
//! | `name.3` | no two results of a function share a name |
//! | `ssa.1` | an operand is defined before the instruction that uses it |
//! | `type.1` | an input or weight has no extent 0 and at most 2^40 elements |
//! | `type.2` | an instruction declares as many results as its op has |
//! | `type.3` | the declared types of an instruction's results are those that its op infers |
//! | `result.1` | a function has results |
//! | `op.*`, `conv2d.3`, ... | the op's constraints, listed by [`crate::ops::Op::infer`] and the ops' shape rules |
//! | `module.1` | names of functions are unique |
//! | `module.2` | a weight has one type, and is stored in one way, in all functions |
//! | `module.3` | the function `@weights` has no inputs |
//! | `module.4` | a result of `@weights` has the type that other functions declare for the weight of that name |

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::function::{Def, Function, Inst, Module, ValueData};
use crate::ops::sized;
use crate::text::is_name;
use crate::types::Type;

/// A rule that a function violates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// Number of the rule or of the op's constraint.
    pub rule: &'static str,
    /// Which function: its index in the module, 0 from [`verify`].
    pub function: usize,
    /// Its name.
    pub name: String,
    /// Which instruction; `None` for the function as a whole.
    pub inst: Option<usize>,
    /// Expected and found.
    pub message: String,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.name)?;
        if let Some(i) = self.inst {
            write!(f, ", instruction {i}")?;
        }
        write!(f, ": {}: {}", self.rule, self.message)
    }
}

impl std::error::Error for VerifyError {}

struct Errors<'a> {
    function: usize,
    name: &'a str,
    found: Vec<VerifyError>,
}

impl Errors<'_> {
    fn push(&mut self, rule: &'static str, inst: Option<usize>, message: String) {
        self.found.push(VerifyError { rule, function: self.function, name: self.name.to_owned(), inst, message });
    }
}

/// Checks one function against the rules above, except `module.*`.
///
/// # Errors
/// All violations, in the order of the text.
pub fn verify(f: &Function) -> Result<(), Vec<VerifyError>> {
    let mut errors = Errors { function: 0, name: f.name(), found: Vec::new() };
    function(f, &mut errors);
    if errors.found.is_empty() { Ok(()) } else { Err(errors.found) }
}

/// Checks every function of a module, and `module.*`.
///
/// # Errors
/// All violations.
pub fn verify_module(m: &Module) -> Result<(), Vec<VerifyError>> {
    let mut found = Vec::new();
    let mut names = HashSet::new();
    let mut weights: HashMap<&str, &ValueData> = HashMap::new();
    for (index, f) in m.functions.iter().enumerate() {
        let mut errors = Errors { function: index, name: f.name(), found };
        if !names.insert(f.name()) {
            errors.push("module.1", None, format!("there is another function @{}", f.name()));
        }
        for (_, data) in f.weights() {
            let first = *weights.entry(&data.name).or_insert(data);
            if (&first.ty, &first.stored) != (&data.ty, &data.stored) {
                let [elsewhere, here] =
                    [first, data].map(|d| format!("{}{}", d.ty, d.stored.iter().map(|e| format!(" as {e}")).collect::<String>()));
                errors.push("module.2", None, format!("weight @{} is {elsewhere} elsewhere and {here} here", data.name));
            }
        }
        function(f, &mut errors);
        found = errors.found;
    }
    if let Some(index) = m.functions.iter().position(|f| f.name() == Module::WEIGHTS) {
        let f = &m.functions[index];
        let mut errors = Errors { function: index, name: f.name(), found };
        computed_weights(f, &weights, &mut errors);
        found = errors.found;
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn computed_weights(f: &Function, declared: &HashMap<&str, &ValueData>, errors: &mut Errors<'_>) {
    if !f.inputs().is_empty() {
        errors.push("module.3", None, format!("@{} has {} inputs, expected none", f.name(), f.inputs().len()));
    }
    for (name, v) in f.results() {
        if let Some(weight) = declared.get(name.as_str()).filter(|d| d.ty != *f.ty(*v)) {
            errors.push("module.4", None, format!("result {name} is {}, and the weight @{name} is {}", f.ty(*v), weight.ty));
        }
    }
}

fn function(f: &Function, errors: &mut Errors<'_>) {
    if !is_name(f.name()) {
        errors.push("name.1", None, format!("`{}` is not a name", f.name()));
    }
    let mut names = HashSet::new();
    for (_, data) in f.values() {
        let inst = match data.def {
            Def::Result { inst, .. } => Some(inst),
            Def::Input(_) | Def::Weight => None,
        };
        for name in [&data.name].into_iter().chain(&data.stored).filter(|n| !is_name(n)) {
            errors.push("name.1", inst, format!("`{name}` is not a name"));
        }
        if data.def != Def::Weight && !names.insert(data.name.as_str()) {
            errors.push("name.2", inst, format!("%{} is defined twice", data.name));
        }
        if inst.is_none() && !sized(&data.ty) {
            errors.push("type.1", None, format!("{} is {}: an extent 0 or more than 2^40 elements", data.name, data.ty));
        }
    }
    for (i, inst) in f.insts().iter().enumerate() {
        instruction(f, i, inst, errors);
    }
    if f.results().is_empty() {
        errors.push("result.1", None, "there are no results".to_owned());
    }
    let mut names = HashSet::new();
    for (name, _) in f.results() {
        if !is_name(name) {
            errors.push("name.1", None, format!("`{name}` is not a name"));
        }
        if !names.insert(name.as_str()) {
            errors.push("name.3", None, format!("there are two results {name}"));
        }
    }
}

fn instruction(f: &Function, i: usize, inst: &Inst, errors: &mut Errors<'_>) {
    for &v in &inst.operands {
        if matches!(f.value(v).def, Def::Result { inst, .. } if inst >= i) {
            errors.push("ssa.1", Some(i), format!("%{} is used before its definition", f.value(v).name));
        }
    }
    let operands: Vec<&Type> = inst.operands.iter().map(|&v| f.ty(v)).collect();
    let inferred = match inst.op.infer(&operands) {
        Ok(types) => types,
        Err(e) => return errors.push(e.constraint, Some(i), e.message),
    };
    if inferred.len() != inst.results.len() {
        let message = format!("`{}` has {} results, found {}", inst.op, inferred.len(), inst.results.len());
        return errors.push("type.2", Some(i), message);
    }
    for (&v, ty) in inst.results.iter().zip(&inferred).filter(|(v, ty)| f.ty(**v) != *ty) {
        errors.push("type.3", Some(i), format!("%{} is {ty}, declared as {}", f.value(v).name, f.ty(v)));
    }
}
