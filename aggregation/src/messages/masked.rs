//! Collect: the masked vector, in chunks under one signed digest. Must never carry a chunk above 1 MiB.

use crate::Digest;
use crate::context::{Context, Fields};
use crate::identity::{ClientId, Signature};
use bytes::Bytes;

/// Largest chunk, in bytes.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;

/// The signed announcement of a masked vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedHeader {
    /// The sender.
    pub client: ClientId,
    /// Bytes of the packed vector, ceil(d b / 8).
    pub length: u64,
    /// SHA-256 of the packed vector.
    pub digest: Digest,
    /// Neighbours that shared, but sealed this client a share that does not match their commitments, increasing. The
    /// vector carries no pair mask with them.
    pub refused: Vec<ClientId>,
    /// The sender's signature.
    pub signature: Signature,
}

impl MaskedHeader {
    /// The bytes that the client signs.
    #[must_use]
    pub fn payload(&self, context: &Context) -> Vec<u8> {
        let refused: Vec<u8> = self.refused.iter().flat_map(|client| client.0.to_be_bytes()).collect();
        Fields::new("masked")
            .bytes(context.as_bytes())
            .integer(self.client.0)
            .integer(self.length)
            .bytes(&self.digest)
            .bytes(&refused)
            .into_bytes()
    }
}

/// What a client sends in Collect: the header, and the packed vector that goes in chunks.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedUpload {
    /// The signed announcement.
    pub header: MaskedHeader,
    /// The packed vector, ceil(d b / 8) bytes.
    pub packed: Bytes,
}

impl std::fmt::Debug for MaskedUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MaskedUpload {{ header: {:?}, packed: {} bytes }}", self.header, self.packed.len())
    }
}

/// A part of a packed masked vector.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedChunk {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// At most [`MAX_CHUNK_BYTES`].
    pub bytes: Bytes,
}

impl std::fmt::Debug for MaskedChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MaskedChunk {{ offset: {}, bytes: {} }}", self.offset, self.bytes.len())
    }
}

/// The chunks of a packed vector from an offset on, where a resumed upload continues.
///
/// They share the vector's memory.
pub fn chunks(packed: &Bytes, from: u64) -> impl Iterator<Item = MaskedChunk> + '_ {
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(packed.len());
    (start..packed.len()).step_by(MAX_CHUNK_BYTES).map(|start| MaskedChunk {
        offset: start as u64,
        bytes: packed.slice(start..packed.len().min(start + MAX_CHUNK_BYTES)),
    })
}

#[cfg(test)]
mod tests {
    use super::{Bytes, MAX_CHUNK_BYTES, chunks};

    #[test]
    fn chunks_cover_the_rest_from_any_offset() {
        let packed: Bytes = (0..2 * MAX_CHUNK_BYTES + 5).map(|i| (i % 251) as u8).collect();
        for from in [0, 1, MAX_CHUNK_BYTES, 2 * MAX_CHUNK_BYTES + 4, packed.len(), packed.len() + 9] {
            let mut next = from;
            for chunk in chunks(&packed, from as u64) {
                assert_eq!(chunk.offset, next as u64);
                assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= MAX_CHUNK_BYTES);
                assert_eq!(chunk.bytes, packed[next..next + chunk.bytes.len()]);
                next += chunk.bytes.len();
            }
            assert_eq!(next, packed.len().max(from));
        }
    }
}
