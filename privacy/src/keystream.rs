//! Bulk pseudorandom words from one 32-byte key: AES-256 in counter mode. Must never be keyed by anything but
//! fresh bytes of a cryptographic generator, or what was derived from such for one use, and never show its key.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

/// Bytes made at once.
const BUFFER: usize = 4096;

/// A stream of words that nobody without the key tells from uniform ones, if AES-256 is a pseudorandom
/// permutation.
///
/// Draws exactly 32 bytes from the caller's generator, so a client that must reproduce a contribution after a
/// crash keeps those 32 bytes and nothing else. The counter starts at 0 and the words are little-endian: the
/// same key gives the same words on every platform.
pub(crate) struct KeyStream {
    cipher: Ctr128BE<Aes256>,
    buffer: [u8; BUFFER],
}

impl KeyStream {
    pub(crate) fn new<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(key.as_mut());
        Self::keyed(&key)
    }

    /// The stream of a key that nobody else knows and that keys nothing else.
    pub(crate) fn keyed(key: &Zeroizing<[u8; 32]>) -> Self {
        let cipher = Ctr128BE::<Aes256>::new((&**key).into(), &[0; 16].into());
        Self { cipher, buffer: [0; BUFFER] }
    }

    /// The next `words.len()` 64-bit words.
    pub(crate) fn fill_u64(&mut self, words: &mut [u64]) {
        for part in words.chunks_mut(BUFFER / 8) {
            let bytes = self.next_bytes(8 * part.len());
            for (word, eight) in part.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*eight);
            }
        }
    }

    /// The next `words.len()` 32-bit words.
    pub(crate) fn fill_u32(&mut self, words: &mut [u32]) {
        for part in words.chunks_mut(BUFFER / 4) {
            let bytes = self.next_bytes(4 * part.len());
            for (word, four) in part.iter_mut().zip(bytes.as_chunks().0) {
                *word = u32::from_le_bytes(*four);
            }
        }
    }

    fn next_bytes(&mut self, count: usize) -> &[u8] {
        let bytes = &mut self.buffer[..count];
        bytes.fill(0);
        self.cipher.apply_keystream(bytes);
        bytes
    }
}

impl Drop for KeyStream {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};

    use super::*;

    /// Hands out zero bytes and counts them: a known key for the known answer.
    struct Zeros(usize);

    impl TryRng for Zeros {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0 += 4;
            Ok(0)
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.0 += 8;
            Ok(0)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            self.0 += bytes.len();
            bytes.fill(0);
            Ok(())
        }
    }

    impl TryCryptoRng for Zeros {}

    #[test]
    fn matches_the_published_aes_answer_and_takes_32_bytes() {
        let mut rng = Zeros(0);
        let mut words = [0_u64; 2];
        KeyStream::new(&mut rng).fill_u64(&mut words);
        // AES-256 of the zero block under the zero key (NIST AESAVS, GFSbox base case).
        let block: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let expected =
            [0xdc, 0x95, 0xc0, 0x78, 0xa2, 0x40, 0x89, 0x89, 0xad, 0x48, 0xa2, 0x14, 0x92, 0x84, 0x20, 0x87];
        assert_eq!(block, expected);
        assert_eq!(rng.0, 32);
    }

    #[test]
    fn the_words_do_not_depend_on_how_they_are_asked_for() {
        let mut whole = vec![0_u64; 3000];
        KeyStream::new(&mut ChaCha20Rng::seed_from_u64(1)).fill_u64(&mut whole);
        let mut parts = vec![0_u64; 3000];
        let mut stream = KeyStream::new(&mut ChaCha20Rng::seed_from_u64(1));
        for part in parts.chunks_mut(7) {
            stream.fill_u64(part);
        }
        assert_eq!(whole, parts);
        let mut other = vec![0_u64; 3000];
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let _ = rng.next_u32();
        KeyStream::new(&mut rng).fill_u64(&mut other);
        assert_ne!(whole, other);
    }
}
