//! What the server has to know of a masked vector to accept it, gathered while its bytes come in. Must never keep the bytes.

use super::ServerError;
use crate::Digest;
use crate::messages::MaskedHeader;
use crate::params::RoundParams;
use crate::ring_vector::check_ends;
use sha2::{Digest as _, Sha256};

/// Reads a packed vector in pieces, in their order.
#[derive(Clone, Debug, Default)]
pub struct VectorReader {
    hash: Sha256,
    length: u64,
    last: u8,
}

/// A packed vector as a [`VectorReader`] saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorSummary {
    digest: Digest,
    length: u64,
    last: u8,
}

impl VectorReader {
    /// Takes the bytes that follow those before.
    pub fn read(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// Bytes that were read.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What there was to see.
    #[must_use]
    pub fn finish(self) -> VectorSummary {
        VectorSummary { digest: self.hash.finalize().into(), length: self.length, last: self.last }
    }
}

impl VectorSummary {
    /// Of a whole packed vector.
    #[must_use]
    pub fn of(packed: &[u8]) -> Self {
        let mut reader = VectorReader::default();
        reader.read(packed);
        reader.finish()
    }

    /// SHA-256 of the packed vector.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Checks that it is the announced vector, and one of the round's shape.
    ///
    /// # Errors
    /// [`ServerError::VectorDigest`] when it is another; [`ServerError::Vector`] when it is what its sender announced, and no
    /// vector of the round.
    pub(super) fn check(&self, header: &MaskedHeader, params: &RoundParams) -> Result<(), ServerError> {
        let client = header.client;
        if self.digest != header.digest {
            return Err(ServerError::VectorDigest { client });
        }
        let last = (self.length > 0).then_some(self.last);
        check_ends(params.bits, params.dimension as usize, self.length as usize, last)
            .map_err(|error| ServerError::Vector { client, error })
    }
}
