//! How much of the machine others used while something was timed: figures from a busy machine are worth little, and
//! the reader has to see it. Only Linux says, in `/proc`.

/// Ticks of processor time, as counted since the machine and the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    /// Of all processors, idle or not.
    all: u64,
    /// Of all processors, not idle.
    busy: u64,
    /// Of this process.
    own: u64,
}

/// Counts from its making on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Others(Option<Ticks>);

impl Others {
    /// From now on.
    pub fn watch() -> Others {
        let read = |path| std::fs::read_to_string(path).ok();
        Others(read("/proc/stat").zip(read("/proc/self/stat")).and_then(|(machine, own)| parse(&machine, &own)))
    }

    /// Share of all processors' time that other processes took, 0 to 1; `None` where the system does not say, or where
    /// too little time has passed for its clock.
    pub fn share(self) -> Option<f64> {
        share(self.0?, Others::watch().0?)
    }
}

fn share(before: Ticks, now: Ticks) -> Option<f64> {
    let since = |f: fn(&Ticks) -> u64| f(&now).saturating_sub(f(&before));
    let (all, busy, own) = (since(|t| t.all), since(|t| t.busy), since(|t| t.own));
    // A tick is 10 ms: below 10 of them the share is noise.
    (all >= 10).then(|| (busy.saturating_sub(own) as f64 / all as f64).min(1.0))
}

/// `cpu user nice system idle iowait irq softirq steal ..`, and of the process after its name in parentheses `state`
/// and numbers, of which the 12th and 13th are its user and system time (proc(5)).
fn parse(machine: &str, own: &str) -> Option<Ticks> {
    let line = machine.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map(|f| f.parse().ok()).collect::<Option<_>>()?;
    let all = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    let mut own = own.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || own.next()?.parse::<u64>().ok();
    Some(Ticks { all, busy: all - idle, own: next()? + next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_the_system() {
        let machine = "cpu  100 20 30 1000 50 1 2 7 0 0\ncpu0 1 2 3\n";
        let own = "42 (a ) name) R 1 2 3 4 5 6 7 8 9 10 250 31 0 0\n";
        assert_eq!(parse(machine, own), Some(Ticks { all: 1210, busy: 160, own: 281 }));
        assert_eq!(parse("cpu  1 2\n", own), None);
        assert_eq!(parse(machine, "42 name"), None);
    }

    #[test]
    fn what_others_took() {
        let at = |all, busy, own| Ticks { all, busy, own };
        assert_eq!(share(at(1000, 500, 100), at(1200, 600, 150)), Some(0.25));
        // The two files are not read at the same instant.
        assert_eq!(share(at(1000, 500, 100), at(1200, 600, 201)), Some(0.0));
        assert_eq!(share(at(1000, 500, 100), at(1009, 509, 109)), None);
    }
}
