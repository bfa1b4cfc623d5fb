//! Being asked to stop: Ctrl-C, a polite `kill`, the terminal that goes away. Each ends the command with the code that shells give to
//! what that signal ends. A command that has something to put in order stops at the next good place; asked again, it ends at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// What was asked for.
struct Asked {
    /// The exit code of what has come, 0 before.
    code: Arc<AtomicUsize>,
    /// The next signal ends the process at once: there is nothing to put in order, or it was asked before.
    at_once: Arc<AtomicBool>,
}

static ASKED: LazyLock<Asked> = LazyLock::new(|| Asked { code: Arc::new(AtomicUsize::new(0)), at_once: Arc::new(AtomicBool::new(true)) });

/// From here on signals end the process with their codes.
pub fn listen() {
    // A signal that cannot be had does what it does to any process.
    let _ = system::listen(&ASKED);
}

/// From here on the first signal only asks for a stop at the next good place.
pub fn stop_when_asked() {
    ASKED.at_once.store(false, Ordering::SeqCst);
}

/// From here on SIGUSR1, by which schedulers of clusters announce the end, asks for a stop as the others do.
pub fn also_on_user_signal() {
    let _ = system::also_on_user_signal(&ASKED);
}

/// Whether a stop was asked for.
pub fn stopped() -> bool {
    ASKED.code.load(Ordering::SeqCst) != 0
}

/// The exit code of a command that stops because it was asked to.
pub fn code() -> i32 {
    match ASKED.code.load(Ordering::SeqCst) {
        0 => crate::failure::CANCELLED,
        code => code as i32,
    }
}

#[cfg(unix)]
mod system {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
    use signal_hook::flag;

    use super::Asked;

    pub fn listen(asked: &'static Asked) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // `nohup` means that the command goes on.
            if signal == SIGHUP && is_ignored(SIGHUP) {
                continue;
            }
            let code = 128 + signal;
            // In this order: a first signal that is only a wish leaves the second to end the process.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&asked.at_once))?;
            flag::register_usize(signal, Arc::clone(&asked.code), code as usize)?;
            flag::register(signal, Arc::clone(&asked.at_once))?;
        }
        // A file that may not grow is an error of the write, by which what was begun is put away.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(())
    }

    pub fn also_on_user_signal(asked: &'static Asked) -> io::Result<()> {
        flag::register_usize(SIGUSR1, Arc::clone(&asked.code), 128 + SIGUSR1 as usize).map(drop)
    }

    fn is_ignored(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:")?.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    }
}

#[cfg(not(unix))]
mod system {
    use std::sync::atomic::Ordering;

    use super::Asked;

    /// There is no such signal.
    pub fn also_on_user_signal(_: &'static Asked) -> std::io::Result<()> {
        Ok(())
    }

    pub fn listen(asked: &'static Asked) -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(move || {
            let code = crate::failure::CANCELLED;
            asked.code.store(code as usize, Ordering::SeqCst);
            if asked.at_once.swap(true, Ordering::SeqCst) {
                std::process::exit(code);
            }
        })
    }
}
