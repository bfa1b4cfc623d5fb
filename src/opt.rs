//! `fcdm opt`: passes on IR text, for people.

use std::path::PathBuf;

use clap::Args;
use fcdm_ir::text::{Lines, parse_module};
use fcdm_ir::verify::{VerifyError, verify_module};
use fcdm_models::compile::passes_json;
use fcdm_passes::{OPTIMISED, PASSES};
use serde_json::json;

use crate::failure::mistaken::{Wanted, explained};
use crate::failure::{Failure, IR};
use crate::help::{INSIDE, OUTPUT, examples};
use crate::say::{self, sayln};

const EXAMPLES: &str =
    examples!("fcdm opt", "fcdm inspect model.fcdm --ir | fcdm opt -", "fcdm opt network.ir --pass simplify --print-after-all");

/// Run compiler passes on IR text and print the result.
///
/// Without a file, list the passes.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The IR text; `-` is the standard input.
    file: Option<PathBuf>,
    /// A pass to run; may be repeated [default: all].
    ///
    /// The default is the whole pipeline.
    #[arg(long = "pass", value_name = "NAME", value_parser = pass, help_heading = INSIDE)]
    passes: Vec<&'static str>,
    /// Print the IR after every pass.
    #[arg(long, help_heading = OUTPUT)]
    print_after_all: bool,
    /// Print the passes that ran, and the result, as JSON.
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

fn pass(name: &str) -> Result<&'static str, String> {
    let list = || PASSES.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
    fcdm_passes::find(name).map(|p| p.name).ok_or_else(|| format!("expected one of {}", list()))
}

/// Runs the command.
pub fn run(a: &Arguments) -> Result<(), Failure> {
    let Some(file) = &a.file else {
        list(a.json);
        return Ok(());
    };
    let shown = file.display().to_string();
    let text = if shown == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let why = |failure| explained(file, Wanted::Ir, failure);
    let text = text.map_err(|e| why(Failure::new(IR, format!("{shown}: {e}"))))?;
    let (module, lines) = parse_module(&shown, &text).map_err(|e| why(Failure::in_text(IR, e)))?;
    verify_module(&module).map_err(|errors| Failure::in_text(IR, with_places(&shown, &text, &lines, &errors)))?;
    let names: &[&str] = if a.passes.is_empty() { OPTIMISED } else { &a.passes };
    let mut observe = |pass: &'static fcdm_passes::Pass, m: &fcdm_ir::Module| {
        if a.print_after_all {
            sayln!("; after {}\n{m}", pass.name);
        }
    };
    let (module, report) = fcdm_passes::run(names, module, &mut observe).map_err(|e| Failure::in_text(IR, format!("{shown}: {e}")))?;
    if a.json {
        say::json(&json!({ "passes": passes_json(&report), "ir": module.to_string() }));
    } else if !a.print_after_all {
        say::out(format_args!("{module}"));
    }
    Ok(())
}

/// The verifier's errors with the lines that they are about, one after another.
fn with_places(file: &str, text: &str, lines: &[Lines], errors: &[VerifyError]) -> String {
    let source: Vec<&str> = text.lines().collect();
    let one = |e: &VerifyError| {
        let at = &lines[e.function];
        let line = e.inst.map_or(at.header, |i| at.insts[i]);
        format!("{file}:{line}: {}: {}\n  {}", e.rule, e.message, source.get(line - 1).map_or("", |l| l.trim()))
    };
    errors.iter().map(one).collect::<Vec<_>>().join("\nerror: ")
}

fn list(json: bool) {
    if json {
        let passes = PASSES.iter().map(|p| json!({ "pass": p.name, "about": p.about }));
        say::json(&json!({ "passes": passes.collect::<Vec<_>>(), "pipeline": OPTIMISED }));
        return;
    }
    for p in PASSES {
        sayln!("{:<30} {}", p.name, p.about);
    }
    sayln!("\npipeline: {}", OPTIMISED.join(", "));
}
