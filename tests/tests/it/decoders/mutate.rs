//! Random changes to bytes. Must never give other bytes for the same seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A sequence of mutations, from a fixed seed per decoder and file.
pub(super) struct Mutator(ChaCha8Rng);

/// Bytes at the edges of what decoders take apart: lengths in four bytes near 2^32, and varints of the same sizes.
const LENGTHS: &[&[u8]] = &[
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xf0],
    &[0x80, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0],
    &[0x10, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x10],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

impl Mutator {
    pub(super) fn new(name: &str, stream: u64) -> Self {
        let mut seed = [0; 32];
        name.bytes().zip(&mut seed).for_each(|(byte, slot)| *slot = byte);
        let mut draw = ChaCha8Rng::from_seed(seed);
        draw.set_stream(stream);
        Self(draw)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u64() as usize % bound.max(1)
    }

    /// Uniform bytes.
    pub(super) fn noise(&mut self, longest: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(longest + 1)];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// One to four changes to a file: bits, bytes, lengths, cuts, insertions, repetitions, and pieces of other files.
    pub(super) fn mutate(&mut self, file: &[u8], others: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let mut bytes = file.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, others);
        }
        bytes.truncate(longest);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        match self.below(9) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0x7f, 0x80, 0xff, 0x20][self.below(6)];
                }
            }
            3 => {
                let length = LENGTHS[self.below(LENGTHS.len())];
                bytes.iter_mut().skip(at).zip(length).for_each(|(byte, new)| *byte = *new);
            }
            4 => bytes.truncate(at),
            5 => {
                let (end, inserted) = (at + self.below(9), self.noise(8));
                let end = end.min(bytes.len());
                bytes.splice(at..end, inserted);
            }
            6 => {
                let piece = self.piece(bytes);
                bytes.splice(at..at, piece);
            }
            7 => {
                let other = &others[self.below(others.len())];
                let piece = self.piece(other);
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece);
            }
            _ => {
                let end = (at + 1 + self.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }

    fn piece(&mut self, of: &[u8]) -> Vec<u8> {
        let start = self.below(of.len());
        let end = (start + 1 + self.below(64)).min(of.len());
        of[start.min(end)..end].to_vec()
    }
}

#[test]
fn the_same_seed_gives_the_same_mutations_and_another_gives_others() {
    let file: Vec<u8> = (0..100).collect();
    let sequence = |name: &str, stream| -> Vec<Vec<u8>> {
        let mut mutator = Mutator::new(name, stream);
        (0..50).map(|_| mutator.mutate(&file, std::slice::from_ref(&file), 90)).collect()
    };
    let first = sequence("a", 0);
    assert_eq!(first, sequence("a", 0));
    assert_ne!(first, sequence("b", 0));
    assert_ne!(first, sequence("a", 1));
    assert!(first.iter().all(|bytes| bytes.len() <= 90 && *bytes != file));
}
