//! What work will take, asked for before any of it is allocated: an allocation that the system refuses ends the process, a refusal that
//! comes first is a line that says for what there was no memory.
//!
//! A [`Need`] is a sum of named parts. [`Need::reserve`] holds it against what the machine has, and asks the allocator once for all that
//! is not held yet. That is the one place where memory is asked for; everything that is as large as a file's numbers say, arenas apart,
//! which are refused by themselves, is allocated behind it.

use std::fmt;

/// Memory that some work takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    what: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: &'static str,
    bytes: u64,
    held: bool,
}

/// The machine has less memory than is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory of {} for {}: {}", size(.0.bytes()), .0.what, .0.list())]
pub struct NoMemory(Need);

impl Need {
    /// Of what, in words: `3 pictures`.
    pub fn of(what: impl Into<String>) -> Need {
        Need { what: what.into(), parts: Vec::new() }
    }

    /// With bytes for a part of it, to be allocated.
    pub fn with(self, name: &'static str, bytes: u64) -> Need {
        self.part(name, bytes, false)
    }

    /// With bytes that are allocated already, though perhaps never touched yet.
    pub fn held(self, name: &'static str, bytes: u64) -> Need {
        self.part(name, bytes, true)
    }

    fn part(mut self, name: &'static str, bytes: u64, held: bool) -> Need {
        self.parts.extend((bytes > 0).then_some(Part { name, bytes, held }));
        self
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Asks for it once, and gives it back.
    ///
    /// # Errors
    /// When the machine has not that much, or the allocator refuses.
    pub fn reserve(&self) -> Result<(), NoMemory> {
        let new = self.parts.iter().filter(|part| !part.held).fold(0u64, |sum, part| sum.saturating_add(part.bytes));
        let there_is = machine().is_none_or(|most| self.bytes() <= most);
        let given = usize::try_from(new).is_ok_and(|n| Vec::<u8>::new().try_reserve_exact(n).is_ok());
        if there_is && given { Ok(()) } else { Err(NoMemory(self.clone())) }
    }

    fn list(&self) -> String {
        self.parts.iter().map(|part| format!("{} {}", part.name, size(part.bytes))).collect::<Vec<_>>().join(", ")
    }
}

/// Bytes of so many f32, as many as the extents' product; as many as can be written down, if they are more.
pub fn f32s(extents: &[usize]) -> u64 {
    bytes(extents, 4)
}

/// As [`f32s`], of elements of a size.
pub fn bytes(extents: &[usize], each: u64) -> u64 {
    extents.iter().fold(each, |n, &extent| n.saturating_mul(extent as u64))
}

/// Bytes for people: `12.3 MB`.
pub fn size(bytes: u64) -> impl fmt::Display {
    let (unit, name) = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")].into_iter().find(|(u, _)| bytes as f64 >= *u).unwrap_or((1.0, "B"));
    if unit == 1.0 { format!("{bytes} B") } else { format!("{:.1} {name}", bytes as f64 / unit) }
}

/// Bytes that processes may have together: memory and swap, or what this process's control group allows. A system that promises more
/// than it has would end the process when it takes it. `None` where the system does not say.
#[cfg(all(target_os = "linux", feature = "files"))]
fn machine() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let installed = read("/proc/meminfo").and_then(|text| installed(&text));
    let group = read("/proc/self/cgroup").and_then(|text| Some(text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned()));
    let limits = [
        group.and_then(|group| read(&format!("/sys/fs/cgroup{group}/memory.max"))),
        read("/sys/fs/cgroup/memory.max"),
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    limits.into_iter().flatten().filter_map(number).chain(installed).min()
}

/// Lines `Name:  123 kB`, where kB are 1024 bytes.
#[cfg(all(target_os = "linux", feature = "files"))]
fn installed(meminfo: &str) -> Option<u64> {
    let kilobytes = |name: &str| meminfo.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes("MemTotal:").map(|memory| (memory + kilobytes("SwapTotal:").unwrap_or(0)).saturating_mul(1024))
}

#[cfg(not(all(target_os = "linux", feature = "files")))]
fn machine() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_told_by_its_parts() {
        let need = Need::of("a picture").with("decoder", 48_000_000_000_000_000).with("nothing", 0).held("picture", 3_500_000);
        let line = need.reserve().expect_err("no machine has it").to_string();
        assert_eq!(line, "there is no memory of 48000000.0 GB for a picture: decoder 48000000.0 GB, picture 3.5 MB");
        assert_eq!(Need::of("all").with("a", u64::MAX).with("b", u64::MAX).bytes(), u64::MAX);
        assert!(Need::of("all").with("a", u64::MAX).reserve().is_err());
        assert_eq!(Need::of("little").with("a", 1000).reserve(), Ok(()));
        assert_eq!(f32s(&[usize::MAX, usize::MAX, 0]), 0);
        assert!(f32s(&[usize::MAX, usize::MAX]) >= usize::MAX as u64);
    }

    #[cfg(all(target_os = "linux", feature = "files"))]
    #[test]
    fn memory_that_is_installed() {
        assert_eq!(installed("MemTotal:  100 kB\nMemFree: 1 kB\nSwapTotal:       20 kB\n"), Some(120 * 1024));
        assert_eq!(installed("MemTotal:  100 kB"), Some(100 * 1024));
        assert_eq!(installed(""), None);
    }
}
