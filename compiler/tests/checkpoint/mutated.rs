//! Damaged files: whatever happens to the bytes, the answer is a checkpoint or an error.

use proptest::prelude::*;

use crate::assemble::{safetensors, small};
use crate::{golden, one_line, open};

/// Opens the bytes and reads everything; the point is that it returns.
fn survive(bytes: Vec<u8>) {
    match open(bytes) {
        Ok(checkpoint) => {
            for name in checkpoint.names() {
                if let Ok(values) = checkpoint.read_f32(name) {
                    assert_eq!(values.len(), checkpoint.tensor(name).unwrap().shape.iter().product::<usize>());
                }
            }
        }
        Err(error) => drop(one_line(&error)),
    }
}

/// One change to a file: a byte set, a run deleted, or a run copied to another place.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Delete(prop::sample::Index, usize),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        6 => (index(), any::<u8>()).prop_map(|(at, b)| Damage::Set(at, b)),
        1 => (index(), 1..9usize).prop_map(|(at, n)| Damage::Delete(at, n)),
        2 => (index(), index(), 1..33usize).prop_map(|(from, to, n)| Damage::Copy(from, to, n)),
    ];
    prop::collection::vec(one, 1..6)
}

fn apply(mut bytes: Vec<u8>, damages: &[Damage], within: std::ops::Range<usize>) -> Vec<u8> {
    for damage in damages {
        let span = within.end.min(bytes.len()) - within.start;
        let end = |at: usize, n: usize| (at + n).min(bytes.len());
        match damage {
            Damage::Set(at, b) => bytes[within.start + at.index(span)] = *b,
            Damage::Delete(at, n) => {
                let at = within.start + at.index(span);
                bytes.drain(at..end(at, *n));
            }
            Damage::Copy(from, to, n) => {
                let from = within.start + from.index(span);
                let run = bytes[from..end(from, *n)].to_vec();
                let to = within.start + to.index(span);
                let stop = end(to, run.len());
                bytes[to..stop].copy_from_slice(&run[..stop - to]);
            }
        }
    }
    bytes
}

#[test]
fn every_flipped_byte_is_survived() {
    let flat = safetensors(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 8]);
    for file in [small(), flat] {
        for at in 0..file.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = file.clone();
                bytes[at] ^= flip;
                survive(bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_small_pt_is_survived(damages in damage()) {
        let file = small();
        let all = 0..file.len();
        survive(apply(file, &damages, all));
    }

    #[test]
    fn any_pickle_is_survived(program in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(crate::assemble::pt(&crate::assemble::pickle(&program)));
    }

    #[test]
    fn a_damaged_safetensors_header_is_survived(damages in damage()) {
        let file = safetensors(
            r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[4],"data_offsets":[8,16]}}"#, &[0; 16]);
        let all = 0..file.len();
        survive(apply(file, &damages, all));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_real_checkpoint_is_survived(damages in damage()) {
        let file = std::fs::read(golden("eps8/0000003.pt")).unwrap();
        // The pickle stands first in the file; the weights behind it can hold anything.
        survive(apply(file, &damages, 0..52_500));
    }

    #[test]
    fn a_damaged_real_directory_is_survived(damages in damage()) {
        let file = std::fs::read(golden("eps8/0000003.pt")).unwrap();
        let directory = file.len() - 28_700..file.len();
        survive(apply(file, &damages, directory));
    }

    #[test]
    fn a_damaged_real_safetensors_file_is_survived(damages in damage()) {
        let file = std::fs::read(golden("eps8/0000003.safetensors")).unwrap();
        survive(apply(file, &damages, 0..8_000));
    }
}
