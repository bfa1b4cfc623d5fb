//! What a waiting person sees, and how they stop it.

use std::sync::atomic::{AtomicBool, Ordering};

use fcdm_ir::Module;
use fcdm_models::compile::Observer;
use fcdm_passes::Pass;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::say::sayln;

static STOP: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C asks for a stop at the next good place; a second one ends the process at once.
pub fn stop_on_interrupt() {
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(crate::failure::CANCELLED);
        }
    };
    // Fails only if a handler is set already, which is then this one.
    let _ = ctrlc::set_handler(handler);
}

/// Whether a stop was asked for.
pub fn stopped() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// A bar on the terminal's error output; none with `--json` or where the output is no terminal.
pub fn steps(total: u64, json: bool) -> ProgressBar {
    let per_step = |state: &ProgressState, w: &mut dyn std::fmt::Write| {
        let seconds = state.elapsed().as_secs_f64() / (state.pos().max(1) as f64);
        let _ = write!(w, "{:.1} ms/step", seconds * 1e3);
    };
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {per_step}, {eta} left")
        .expect("the template is well-formed")
        .with_key("per_step", per_step)
        .progress_chars("=> ");
    bar(total, json).with_style(style)
}

/// As [`steps`], for bytes.
pub fn bytes(total: u64, json: bool) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
        .expect("the template is well-formed")
        .progress_chars("=> ");
    bar(total, json).with_style(style)
}

fn bar(total: u64, json: bool) -> ProgressBar {
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    ProgressBar::with_draw_target(Some(total), target)
}

/// Shows how far a compilation is, and stops it on Ctrl-C.
pub struct Watcher {
    json: bool,
    print_ir: bool,
    phase: &'static str,
    bar: ProgressBar,
}

impl Watcher {
    /// `print_ir`: also print the IR after every pass.
    pub fn new(json: bool, print_ir: bool) -> Watcher {
        Watcher { json, print_ir, phase: "", bar: ProgressBar::hidden() }
    }
}

impl Observer for Watcher {
    fn progress(&mut self, phase: &'static str, done: u64, total: u64) -> bool {
        if phase != self.phase {
            self.bar.finish_and_clear();
            self.bar = bytes(total, self.json).with_message(phase);
            self.phase = phase;
        }
        self.bar.set_position(done);
        !stopped()
    }

    fn pass(&mut self, pass: &'static Pass, module: &Module) {
        if self.print_ir {
            sayln!("; after {}\n{module}", pass.name);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes for people: `12.3 MB`.
pub fn size(bytes: u64) -> String {
    let (unit, name) = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")].into_iter().find(|(u, _)| bytes as f64 >= *u).unwrap_or((1.0, "B"));
    if unit == 1.0 { format!("{bytes} B") } else { format!("{:.1} {name}", bytes as f64 / unit) }
}

/// The inverse of [`size`], for options: `200MB`, `1.5 GB`, `64MiB`, or bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0f64.powi(2),
        "gib" => 1024.0f64.powi(3),
        _ => return Err("expected a size such as 200MB, 1.5GB or 64MiB".to_owned()),
    };
    let number: Option<f64> = text[..digits].parse().ok().filter(|n: &f64| n.is_finite());
    number.map(|n| (n * unit) as u64).ok_or_else(|| "expected a size such as 200MB, 1.5GB or 64MiB".to_owned())
}
