//! Memory of this process as the operating system counts it. Only Linux says, in `/proc`; elsewhere it is unknown.

use serde::Serialize;

/// Resident bytes; `None` where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// The most since the process began (`VmHWM`).
    pub peak_bytes: Option<u64>,
    /// Of what is resident now: pages of files, the artifact's weights above all (`RssFile`). The system can drop them
    /// when memory is short, and read them again.
    pub file_bytes: Option<u64>,
    /// Of what is resident now: memory that was allocated (`RssAnon`).
    pub anonymous_bytes: Option<u64>,
}

impl Resident {
    /// As it is now.
    pub fn now() -> Resident {
        std::fs::read_to_string("/proc/self/status").map_or_else(|_| Resident::default(), |text| parse(&text))
    }
}

/// Lines `Name:  123 kB`, where kB are 1024 bytes.
fn parse(status: &str) -> Resident {
    let bytes = |name: &str| {
        let rest = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Resident { peak_bytes: bytes("VmHWM"), file_bytes: bytes("RssFile"), anonymous_bytes: bytes("RssAnon") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_and_what_it_does_not() {
        let found = parse("Name:\tfcdm\nVmHWM:\t  158340 kB\nVmRSS:\t 100 kB\nRssAnon:\t    12 kB\nRssFile:\t many kB\n");
        let expected = Resident { peak_bytes: Some(158_340 * 1024), file_bytes: None, anonymous_bytes: Some(12 * 1024) };
        assert_eq!(found, expected);
        assert_eq!(parse(""), Resident::default());
    }
}
