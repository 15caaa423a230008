//! Masks: AES-256-CTR expanded into lanes, added or subtracted on the fly. Must never hold a whole expanded mask in memory,
//! nor sample by rejection.

use crate::ring_vector::{Lanes, RingVector};
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes256Enc, Block};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;
use std::fmt;
use zeroize::{Zeroize as _, Zeroizing};

/// Cipher blocks produced at a time; with their counters and the lanes that they are added to they stay in the first-level
/// cache.
const BLOCKS: usize = 512;

/// Bytes of one cipher block.
const BLOCK_BYTES: usize = 16;

/// Masks whose ciphers are alive at a time; their key schedules stay in the second-level cache.
const GROUP: usize = 256;

/// Bytes of the vector that one thread takes at a time.
const SEGMENT_BYTES: usize = 128 << 10;

/// Key of one mask. Zeroised on drop, not printed.
#[derive(Clone)]
pub struct MaskKey(Zeroizing<[u8; 32]>);

impl MaskKey {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// A key from its bytes, for benchmarks and test vectors; a round derives its own.
    #[must_use]
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey(redacted)")
    }
}

/// Whether a mask is added or subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Added.
    Add,
    /// Subtracted.
    Subtract,
}

impl Sign {
    /// How a client applies the mask that it shares with another: the lower id adds, the higher subtracts.
    pub(crate) fn between<T: Ord>(own: &T, other: &T) -> Self {
        if own < other { Self::Add } else { Self::Subtract }
    }

    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Add => Self::Subtract,
            Self::Subtract => Self::Add,
        }
    }
}

/// One mask to apply.
#[derive(Clone, Debug)]
pub struct Mask {
    /// What it is expanded from.
    pub key: MaskKey,
    /// How it is applied.
    pub sign: Sign,
}

/// A lane of the ring: keystream bytes are read little-endian.
trait Lane: Copy + Default + Send {
    const BYTES: usize;
    fn add(self, bytes: &[u8]) -> Self;
    fn subtract(self, bytes: &[u8]) -> Self;
}

macro_rules! lane {
    ($lane:ty) => {
        impl Lane for $lane {
            const BYTES: usize = size_of::<$lane>();

            #[inline(always)]
            fn add(self, bytes: &[u8]) -> Self {
                self.wrapping_add(Self::from_le_bytes(bytes.try_into().expect("one lane of bytes")))
            }

            #[inline(always)]
            fn subtract(self, bytes: &[u8]) -> Self {
                self.wrapping_sub(Self::from_le_bytes(bytes.try_into().expect("one lane of bytes")))
            }
        }
    };
}

lane!(u16);
lane!(u32);

/// Applies all masks to a vector, on the calling thread, and reduces it mod 2^b.
pub fn apply(vector: &mut RingVector, masks: &[Mask]) {
    match vector.lanes_mut() {
        Lanes::Narrow(lanes) => apply_from(lanes, 0, masks),
        Lanes::Wide(lanes) => apply_from(lanes, 0, masks),
    }
    vector.reduce();
}

/// As [`apply`], with segments of the vector spread over the threads of rayon's pool. The result is the same.
pub fn apply_in_parallel(vector: &mut RingVector, masks: &[Mask]) {
    match vector.lanes_mut() {
        Lanes::Narrow(lanes) => apply_segments(lanes, masks),
        Lanes::Wide(lanes) => apply_segments(lanes, masks),
    }
    vector.reduce();
}

fn apply_segments<T: Lane>(lanes: &mut [T], masks: &[Mask]) {
    // Short vectors are split as well, in whole cipher blocks.
    let even = (lanes.len() * T::BYTES).div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK_BYTES);
    let segment = even.min(SEGMENT_BYTES);
    lanes.par_chunks_mut(segment / T::BYTES).enumerate().for_each(|(index, lanes)| {
        apply_from(lanes, (index * segment / BLOCK_BYTES) as u64, masks);
    });
}

/// Applies masks to the lanes of a vector from cipher block `first` on. Every mask's counter starts at zero, so the counter
/// blocks (big-endian) are written once for all masks.
fn apply_from<T: Lane>(lanes: &mut [T], first: u64, masks: &[Mask]) {
    let mut counters = [Block::default(); BLOCKS];
    let mut keystream = [Block::default(); BLOCKS];
    for group in masks.chunks(GROUP) {
        let ciphers: Vec<(Aes256Enc, Sign)> =
            group.iter().map(|mask| (Aes256Enc::new((&*mask.key.0).into()), mask.sign)).collect();
        let mut next = first;
        for lanes in lanes.chunks_mut(BLOCKS * BLOCK_BYTES / T::BYTES) {
            let blocks = (lanes.len() * T::BYTES).div_ceil(BLOCK_BYTES);
            let (counters, keystream) = (&mut counters[..blocks], &mut keystream[..blocks]);
            for counter in counters.iter_mut() {
                counter[8..].copy_from_slice(&next.to_be_bytes());
                next += 1;
            }
            for (cipher, sign) in &ciphers {
                cipher.encrypt_blocks_b2b(counters, keystream).expect("as many blocks out as in");
                let bytes = Block::slice_as_flattened(keystream).chunks_exact(T::BYTES);
                match sign {
                    Sign::Add => {
                        lanes.iter_mut().zip(bytes).for_each(|(lane, bytes)| *lane = lane.add(bytes))
                    }
                    Sign::Subtract => {
                        lanes.iter_mut().zip(bytes).for_each(|(lane, bytes)| *lane = lane.subtract(bytes));
                    }
                }
            }
        }
    }
    keystream.as_mut_slice().iter_mut().for_each(|block| block.as_mut_slice().zeroize());
}

#[cfg(test)]
mod tests {
    use super::{Mask, MaskKey, Sign, apply, apply_in_parallel};
    use crate::ring_vector::RingVector;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn masks(count: usize) -> Vec<Mask> {
        (0..count)
            .map(|index| Mask {
                key: MaskKey::from_bytes([index as u8 ^ 0x5a; 32]),
                sign: if index % 3 == 0 { Sign::Subtract } else { Sign::Add },
            })
            .collect()
    }

    proptest! {
        #[test]
        fn masks_cancel_and_threads_change_nothing(
            bits in 1u8..=32, dimension in 1usize..20_000, count in 0usize..5, seed in any::<u32>(),
        ) {
            let values: Vec<u32> = (0..dimension as u32)
                .map(|i| (u64::from(i.wrapping_mul(seed | 1)) & ((1u64 << bits) - 1)) as u32)
                .collect();
            let plain = RingVector::new(bits, &values).expect("reduced");
            let mut masked = plain.clone();
            let masks = masks(count);
            apply(&mut masked, &masks);
            let mut threaded = plain.clone();
            apply_in_parallel(&mut threaded, &masks);
            prop_assert_eq!(&threaded, &masked);
            if count > 0 && dimension * usize::from(bits) > 128 {
                assert!(masked != plain);
            }
            let inverse: Vec<Mask> =
                masks.into_iter().map(|mask| Mask { sign: mask.sign.opposite(), ..mask }).collect();
            apply_in_parallel(&mut masked, &inverse);
            prop_assert_eq!(masked, plain);
        }
    }

    #[test]
    fn the_keystream_is_aes_256_ctr_from_zero() {
        // The key of NIST SP 800-38B, D.3, whose first block of output is given there; the second by OpenSSL 3.
        let key =
            hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").expect("hex");
        let mask = Mask { key: MaskKey::from_bytes(key.try_into().expect("32 bytes")), sign: Sign::Add };
        let expanded = |bits: u8, dimension: usize| {
            let mut vector = RingVector::zeros(bits, dimension).expect("in range");
            apply(&mut vector, std::slice::from_ref(&mask));
            vector
        };
        let bytes = expanded(32, 8).to_packed();
        assert_eq!(bytes, expanded(16, 16).to_packed());
        assert_eq!(hex::encode(bytes), "e568f68194cf76d6174d4cc04310a85491151e5d0b7a1f1bc0d7acd0ae3e51e4");
        // Fewer bits are the low ones of the same lanes.
        let low: Vec<u32> = expanded(32, 8).to_values().iter().map(|value| value & 0xf_ffff).collect();
        assert_eq!(expanded(20, 8).to_values(), low);
    }

    #[test]
    fn more_masks_than_one_group_are_all_applied() {
        let mut together = RingVector::zeros(16, 9_000).expect("in range");
        let mut one_by_one = together.clone();
        let masks: Vec<Mask> = (0..super::GROUP as u32 + 3)
            .map(|index| {
                let mut key = [3; 32];
                key[..4].copy_from_slice(&index.to_be_bytes());
                Mask { key: MaskKey::from_bytes(key), sign: Sign::Add }
            })
            .collect();
        apply(&mut together, &masks);
        masks.iter().for_each(|mask| apply(&mut one_by_one, std::slice::from_ref(mask)));
        assert_eq!(together, one_by_one);
    }
}
