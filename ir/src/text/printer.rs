//! Printing. A weight is declared before the functions; again before a function that declares it otherwise,
//! which only an unverified module has.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter, Write};

use crate::function::{Def, Function, Inst, Value, ValueData};

pub(super) fn functions(f: &mut Formatter<'_>, functions: &[&Function]) -> fmt::Result {
    let mut declared: HashMap<&str, &ValueData> = HashMap::new();
    let mut header = String::new();
    for data in functions.iter().flat_map(|function| used_weights(function)) {
        if !declared.contains_key(data.name.as_str()) {
            declare(&mut header, &mut declared, data)?;
        }
    }
    for (i, function) in functions.iter().enumerate() {
        let mut again = String::new();
        for data in used_weights(function) {
            if declared[data.name.as_str()] != data {
                declare(&mut again, &mut declared, data)?;
            }
        }
        let gap = if i == 0 && header.is_empty() { "" } else { "\n" };
        if i == 0 {
            f.write_str(&header)?;
        }
        write!(f, "{gap}{again}")?;
        body(f, function)?;
    }
    Ok(())
}

fn declare<'a>(out: &mut String, declared: &mut HashMap<&'a str, &'a ValueData>, data: &'a ValueData) -> fmt::Result {
    declared.insert(&data.name, data);
    write!(out, "weight @{} : {}", data.name, data.ty)?;
    if let Some(encoding) = &data.stored {
        write!(out, " as {encoding}")?;
    }
    writeln!(out)
}

/// The weights that instructions or results mention, in order of first mention: the order in which the parser meets them.
fn used_weights(f: &Function) -> Vec<&ValueData> {
    let mut seen = HashSet::new();
    let mentioned = f.insts().iter().flat_map(|i| &i.operands).chain(f.results().iter().map(|(_, v)| v));
    mentioned.map(|&v| f.value(v)).filter(|d| d.def == Def::Weight && seen.insert(d.name.as_str())).collect()
}

fn body(f: &mut Formatter<'_>, function: &Function) -> fmt::Result {
    let inputs = list(function.inputs().iter().map(|&v| format!("%{}: {}", function.value(v).name, function.ty(v))));
    writeln!(f, "fn @{}({inputs}) {{", function.name())?;
    for inst in function.insts() {
        instruction(f, function, inst)?;
    }
    let results = list(function.results().iter().map(|(name, v)| {
        if *name == function.value(*v).name { reference(function, *v) } else { format!("{name}={}", reference(function, *v)) }
    }));
    writeln!(f, "  return{}{results}\n}}", if results.is_empty() { "" } else { " " })
}

fn instruction(f: &mut Formatter<'_>, function: &Function, inst: &Inst) -> fmt::Result {
    let results = list(inst.results.iter().map(|&v| reference(function, v)));
    let operands = list(inst.operands.iter().map(|&v| reference(function, v)));
    let attrs = list(inst.op.attrs().into_iter().map(|(k, v)| format!("{k}={v}")));
    let types = list(inst.results.iter().map(|&v| function.ty(v)));
    write!(f, "  {results} = {}", inst.op.name())?;
    if !operands.is_empty() {
        write!(f, " {operands}")?;
    }
    if !attrs.is_empty() {
        write!(f, " {{{attrs}}}")?;
    }
    writeln!(f, " : {types}")
}

fn reference(f: &Function, v: Value) -> String {
    let data = f.value(v);
    format!("{}{}", if data.def == Def::Weight { '@' } else { '%' }, data.name)
}

fn list<T: Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}
