//! The wire form of vectors: coordinates of b bits without gaps, least significant bit first. Must never read beyond its bytes.

use super::packed_bytes;

/// Coordinates whose packed form is a whole number of bytes, whatever b is.
const GROUP: usize = 8;

/// Holds a coordinate of a sum.
pub(super) trait Lane {
    /// Adds the low bits of a word; those above b may be any.
    fn add_low(&mut self, word: u64);
}

impl Lane for u16 {
    fn add_low(&mut self, word: u64) {
        *self = self.wrapping_add(word as Self);
    }
}

impl Lane for u32 {
    fn add_low(&mut self, word: u64) {
        *self = self.wrapping_add(word as Self);
    }
}

/// Coordinates in wire form.
pub(super) fn pack(bits: u8, values: impl ExactSizeIterator<Item = u32>) -> Vec<u8> {
    let mut packed = Vec::with_capacity(packed_bytes(bits, values.len()));
    let (mut held, mut count) = (0u64, 0u8);
    for value in values {
        held |= u64::from(value) << count;
        count += bits;
        while count >= 8 {
            packed.push(held as u8);
            held >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        packed.push(held as u8);
    }
    packed
}

/// Adds packed coordinates to lanes. The bits of a lane above b are any afterwards.
pub(super) fn add<L: Lane>(lanes: &mut [L], bits: u8, packed: &[u8]) {
    let done = add_groups(lanes, bits, packed);
    let rest = &packed[(done * usize::from(bits) / 8).min(packed.len())..];
    lanes[done..]
        .iter_mut()
        .zip(Unpacked::new(bits, rest))
        .for_each(|(lane, value)| lane.add_low(value.into()));
}

/// Adds whole groups, as long as a word can be read at each of their coordinates, and gives how many coordinates those were.
fn add_groups<L: Lane>(lanes: &mut [L], bits: u8, packed: &[u8]) -> usize {
    // With b known to the compiler shifts and offsets are constants: four times as fast.
    macro_rules! of_bits {
        ($($known:literal)*) => {
            match bits {
                $($known => add_groups_of::<$known, L>(lanes, packed),)*
                _ => 0,
            }
        };
    }
    of_bits!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
}

fn add_groups_of<const BITS: usize, L: Lane>(lanes: &mut [L], packed: &[u8]) -> usize {
    let mut groups = 0;
    for group in lanes.as_chunks_mut::<GROUP>().0 {
        let start = groups * BITS;
        let Some(window) = packed.get(start..start + BITS + size_of::<u64>()) else { break };
        for (index, lane) in group.iter_mut().enumerate() {
            let bit = index * BITS;
            if let Some(word) = window[bit / 8..].first_chunk() {
                lane.add_low(u64::from_le_bytes(*word) >> (bit % 8));
            }
        }
        groups += 1;
    }
    groups * GROUP
}

/// Coordinates read from packed bytes, one after the other.
struct Unpacked<'a> {
    bytes: std::slice::Iter<'a, u8>,
    bits: u8,
    held: u64,
    count: u8,
}

impl<'a> Unpacked<'a> {
    fn new(bits: u8, packed: &'a [u8]) -> Self {
        Self { bytes: packed.iter(), bits, held: 0, count: 0 }
    }
}

impl Iterator for Unpacked<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.count < self.bits {
            self.held |= u64::from(*self.bytes.next()?) << self.count;
            self.count += 8;
        }
        let value = self.held & ((1u64 << self.bits) - 1);
        self.held >>= self.bits;
        self.count -= self.bits;
        Some(value as u32)
    }
}
