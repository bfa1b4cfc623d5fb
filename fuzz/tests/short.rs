//! A short run of all readers on any Rust: every seed, and mutations of them that are the same every time. A panic fails it, with the
//! input that made it in `fuzz/artifacts`. How much is done is a number, not a time: `FCDM_MUTATIONS` of each reader's seeds.
#![forbid(unsafe_code)]
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use fcdm_fuzz::mutate::mutated;
use fcdm_fuzz::{TARGETS, seal, zip};

/// Mutations of each reader's seeds together.
const MUTATIONS: u64 = 20_000;

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).expect("every reader has seeds").map(|e| e.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| std::fs::read(path).expect("a seed can be read")).collect()
}

/// What is mutated of a seed: of an artifact its header, of an archive a member, with checksums that are made anew.
fn input(name: &str, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let count = seeds.len() as u64;
    let (seed, other) = (&seeds[(number % count) as usize], &seeds[(number / count % count) as usize]);
    let mutation = mutated(seed, other, number);
    if number.is_multiple_of(4) {
        return mutation;
    }
    if let Some(mut members) = zip::members(seed).filter(|m| name == "checkpoint" && !m.is_empty()) {
        // The first is what says what the others are.
        let which = if number % 4 == 1 { number as usize / 4 % members.len() } else { 0 };
        members[which].1 = mutated(&members[which].1, other, number);
        return zip::archive(&members);
    }
    if name != "artifact" {
        return mutation;
    }
    // The header is text whose length stands before it: what changed its length would only ever try that.
    let end = |bytes: &[u8]| bytes.get(..8).map(|n| u64::from_le_bytes(n.try_into().expect("eight bytes")) as usize + 8);
    let Some(end) = end(seed).filter(|&end| end <= seed.len()) else { return mutation };
    let header = mutated(&seed[8..end], &other[8.min(other.len())..], number);
    let whole = [&(header.len() as u64).to_le_bytes()[..], &header, &seed[end..]].concat();
    seal::sealed(&whole).unwrap_or(whole)
}

fn feed(name: &str, read: fn(&[u8]), bytes: &[u8], number: Option<u64>) {
    if std::panic::catch_unwind(|| read(bytes)).is_ok() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let path = folder.join(number.map_or_else(|| "seed".to_owned(), |n| format!("mutation-{n}")));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, bytes));
    panic!("{name}: the input is {}", if kept.is_ok() { path.display().to_string() } else { "lost".to_owned() });
}

fn run(name: &str) {
    let (name, read) = TARGETS.into_iter().find(|(known, _)| *known == name).expect("a reader");
    let mutations = std::env::var("FCDM_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| feed(name, read, seed, None));
    for number in 0..mutations {
        feed(name, read, &input(name, &seeds, number), Some(number));
    }
}

macro_rules! readers {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        /// No reader is left out.
        #[test]
        fn all_are_run() {
            let run = [$(stringify!($name)),*];
            assert!(TARGETS.len() == run.len() && TARGETS.iter().all(|(name, _)| run.contains(name)));
        }
    };
}

readers!(checkpoint, artifact, ir, plan, onnx, tensors, pictures);
