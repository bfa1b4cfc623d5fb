//! What a waiting person sees, or a script's log: on a terminal a bar, elsewhere a line every few seconds of work that takes longer.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::say;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(5);

/// Before the first line, of work that will take longer than a pause.
const BEFORE: Duration = Duration::from_secs(1);

/// How far some work is.
pub struct Progress {
    what: String,
    total: u64,
    unit: Unit,
    shown: Shown,
}

#[derive(Clone, Copy)]
enum Unit {
    Steps,
    Bytes,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines { begun: Instant, told: Option<Instant> },
}

/// Of so many steps.
pub fn steps(total: u64) -> Progress {
    Progress::new(total, Unit::Steps)
}

/// Of so many bytes.
pub fn bytes(total: u64) -> Progress {
    Progress::new(total, Unit::Bytes)
}

impl Progress {
    fn new(total: u64, unit: Unit) -> Progress {
        let shown = if say::is_quiet() {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Bar(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style(unit)))
        } else {
            Shown::Lines { begun: Instant::now(), told: None }
        };
        Progress { what: String::new(), total, unit, shown }
    }

    /// Called so.
    pub fn with_message(mut self, what: impl Into<String>) -> Progress {
        self.set_message(what);
        self
    }

    /// From here on called so.
    pub fn set_message(&mut self, what: impl Into<String>) {
        self.what = what.into();
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(self.what.clone());
        }
    }

    /// So much of it is done.
    pub fn set_position(&mut self, done: u64) {
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines { begun, told } => {
                let now = Instant::now();
                let elapsed = now - *begun;
                let due = match *told {
                    Some(last) => now - last >= PAUSE,
                    None => elapsed >= BEFORE && elapsed + left(elapsed, done, self.total) >= PAUSE,
                };
                if due && done < self.total {
                    *told = Some(now);
                    say::progress(line(&self.what, self.unit, done, self.total, elapsed));
                }
            }
        }
    }

    /// It is over.
    pub fn finish_and_clear(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// Time until all is done, if it goes on so.
fn left(elapsed: Duration, done: u64, total: u64) -> Duration {
    let seconds = elapsed.as_secs_f64() * total.saturating_sub(done) as f64 / done.max(1) as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn line(what: &str, unit: Unit, done: u64, total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let left = left(elapsed, done, total).as_secs();
    match unit {
        Unit::Steps => format!("{what}: {done} of {total}, {:.1} ms each, {left} s left", 1e3 * seconds / done.max(1) as f64),
        Unit::Bytes => format!("{what}: {} of {}, {}/s, {left} s left", size(done), size(total), size((done as f64 / seconds) as u64)),
    }
}

fn style(unit: Unit) -> ProgressStyle {
    let per_step = |state: &ProgressState, w: &mut dyn std::fmt::Write| {
        let seconds = state.elapsed().as_secs_f64() / (state.pos().max(1) as f64);
        let _ = write!(w, "{:.1} ms/step", seconds * 1e3);
    };
    // A line that is longer than the terminal is wide would be drawn anew below itself.
    let columns = terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| width.0);
    let template = match unit {
        _ if columns < 72 => "{wide_msg} {percent} %, {eta} left",
        Unit::Steps if columns <= 100 => "{msg} [{wide_bar}] {pos}/{len} {per_step}, {eta} left",
        Unit::Steps => "{msg} [{bar:30}] {pos}/{len} {per_step}, {eta} left",
        Unit::Bytes if columns <= 100 => "{msg} [{wide_bar}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
        Unit::Bytes => "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well-formed");
    style.with_key("per_step", per_step).progress_chars("=> ")
}

/// Bytes for people: `12.3 MB`.
pub fn size(bytes: u64) -> String {
    fcdm_runtime::memory::size(bytes).to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log() {
        let of = |unit, done, total, seconds| line("packing", unit, done, total, Duration::from_secs(seconds));
        assert_eq!(of(Unit::Steps, 50, 200, 5), "packing: 50 of 200, 100.0 ms each, 15 s left");
        assert_eq!(of(Unit::Bytes, 10_000_000, 40_000_000, 5), "packing: 10.0 MB of 40.0 MB, 2.0 MB/s, 15 s left");
        // Nothing is known yet, or everything is odd.
        of(Unit::Steps, 0, u64::MAX, 0);
        of(Unit::Bytes, u64::MAX, 0, u64::MAX / 2);
    }
}
