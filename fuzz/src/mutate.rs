//! Mutations of a seed, the same for the same number: of bytes, and of numbers in text, which a flipped byte seldom makes large.

/// Numbers at which something changes.
const INTERESTING: [u64; 16] =
    [0, 1, 2, 3, 63, 64, 255, 1 << 16, 1 << 20, 1 << 25, (1 << 31) - 1, 1 << 32, 1 << 36, 1 << 48, (1 << 63) - 1, u64::MAX];

/// Xorshift: a stream that is the same everywhere.
pub struct Random(u64);

impl Random {
    /// The stream of a number.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }
}

/// Mutation number `number` of a seed; `other` is another seed of the same reader, to splice with.
pub fn mutated(seed: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut random = Random::new(number + 1);
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(4) {
        once(&mut bytes, other, &mut random);
    }
    bytes
}

fn once(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.next() as u8);
        return;
    }
    let at = random.below(bytes.len());
    match random.below(10) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes.truncate(at),
        3 => {
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from.min(other.len())..]);
        }
        4 => {
            let end = (at + random.below(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => drop(bytes.drain(at..(at + 1 + random.below(16)).min(bytes.len()))),
        6 => overwrite(bytes, at, &(INTERESTING[random.below(16)] as u32).to_le_bytes()),
        7 => overwrite(bytes, at, &INTERESTING[random.below(16)].to_le_bytes()),
        _ => number_in_text(bytes, at, random),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let n = with.len().min(bytes.len() - at);
    bytes[at..at + n].copy_from_slice(&with[..n]);
}

/// Puts another number in the place of the next one in decimal.
fn number_in_text(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit()) else { return };
    let end = (start..bytes.len()).find(|&i| !bytes[i].is_ascii_digit()).unwrap_or(bytes.len());
    bytes.splice(start..end, INTERESTING[random.below(16)].to_string().into_bytes());
}
