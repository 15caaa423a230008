//! One masked vector on its way in: chunks in order, resumable, bounded by the announced length. Must never buffer more than
//! the round's vectors have.

use super::ServerError;
use crate::identity::ClientId;
use crate::messages::{MAX_CHUNK_BYTES, MaskedChunk, MaskedHeader};

/// A masked vector of which a prefix has arrived.
#[derive(Clone, Debug)]
pub struct Upload {
    header: MaskedHeader,
    received: Vec<u8>,
}

/// A chunk that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Empty, or above the limit.
    #[error("a chunk of {bytes} bytes is outside 1..={MAX_CHUNK_BYTES}")]
    ChunkSize {
        /// Bytes of the chunk.
        bytes: usize,
    },
    /// Beyond what has arrived.
    #[error("a chunk at {offset} leaves a gap: resume at {resume_at}")]
    Gap {
        /// Where the chunk starts.
        offset: u64,
        /// Where the next one is due.
        resume_at: u64,
    },
    /// Beyond the announced length.
    #[error("a chunk that ends at {end} goes beyond the announced {length} bytes")]
    Overrun {
        /// Where the chunk ends.
        end: u64,
        /// Bytes announced.
        length: u64,
    },
    /// It differs from what had arrived at the same place.
    #[error("a chunk at {offset} differs from what had arrived there")]
    Conflict {
        /// Where the chunk starts.
        offset: u64,
    },
    /// Bytes are missing.
    #[error("only {received} of {length} bytes have arrived")]
    Incomplete {
        /// Bytes that arrived.
        received: u64,
        /// Bytes announced.
        length: u64,
    },
}

impl Upload {
    /// For a header that [`super::Collect::begin`] has checked.
    pub(super) fn new(header: MaskedHeader) -> Self {
        Self { header, received: Vec::new() }
    }

    /// The sender.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.header.client
    }

    /// The announcement.
    #[must_use]
    pub fn header(&self) -> &MaskedHeader {
        &self.header
    }

    /// Where the next chunk is due, in bytes.
    #[must_use]
    pub fn resume_at(&self) -> u64 {
        self.received.len() as u64
    }

    /// Takes a chunk, which may repeat what has arrived, and returns where the next one is due.
    ///
    /// # Errors
    /// [`ServerError::Upload`] says what does not fit; nothing has changed then.
    pub fn append(&mut self, chunk: &MaskedChunk) -> Result<u64, ServerError> {
        self.check(chunk).map_err(|error| self.error(error))?;
        let known = (self.resume_at() - chunk.offset) as usize;
        if let Some(new) = chunk.bytes.get(known..) {
            self.received.extend_from_slice(new);
        }
        Ok(self.resume_at())
    }

    fn check(&self, chunk: &MaskedChunk) -> Result<(), UploadError> {
        let (bytes, offset) = (chunk.bytes.len(), chunk.offset);
        if !(1..=MAX_CHUNK_BYTES).contains(&bytes) {
            return Err(UploadError::ChunkSize { bytes });
        }
        if offset > self.resume_at() {
            return Err(UploadError::Gap { offset, resume_at: self.resume_at() });
        }
        let end = offset + bytes as u64;
        if end > self.header.length {
            return Err(UploadError::Overrun { end, length: self.header.length });
        }
        let known = &self.received[offset as usize..];
        let overlap = known.len().min(bytes);
        if known[..overlap] != chunk.bytes[..overlap] {
            return Err(UploadError::Conflict { offset });
        }
        Ok(())
    }

    /// The packed vector, once all of it has arrived.
    ///
    /// # Errors
    /// [`ServerError::Upload`] when bytes are missing.
    pub fn finish(self) -> Result<(MaskedHeader, Vec<u8>), ServerError> {
        let (received, length) = (self.resume_at(), self.header.length);
        if received != length {
            return Err(self.error(UploadError::Incomplete { received, length }));
        }
        Ok((self.header, self.received))
    }

    fn error(&self, error: UploadError) -> ServerError {
        ServerError::Upload { client: self.client(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::{Upload, UploadError};
    use crate::identity::{ClientId, Signature};
    use crate::messages::{MAX_CHUNK_BYTES, MaskedChunk, MaskedHeader, chunks};
    use crate::server::ServerError;

    fn upload(length: u64) -> Upload {
        Upload::new(MaskedHeader {
            client: ClientId(1),
            length,
            digest: [0; 32],
            refused: vec![],
            signature: Signature([0; 64]),
        })
    }

    fn chunk(offset: u64, bytes: &[u8]) -> MaskedChunk {
        MaskedChunk { offset, bytes: bytes::Bytes::copy_from_slice(bytes) }
    }

    fn refused<T>(result: Result<T, ServerError>) -> UploadError {
        match result {
            Err(ServerError::Upload { error, .. }) => error,
            Err(other) => unreachable!("{other}"),
            Ok(_) => unreachable!("accepted"),
        }
    }

    #[test]
    fn an_upload_resumes_wherever_it_stopped() {
        let packed: bytes::Bytes = (0..MAX_CHUNK_BYTES + 10).map(|i| (i % 253) as u8).collect();
        let mut upload = upload(packed.len() as u64);
        assert_eq!(upload.append(&chunk(0, &packed[..7])), Ok(7));
        assert_eq!(upload.append(&chunk(0, &packed[..7])), Ok(7), "a repeat");
        assert_eq!(upload.append(&chunk(3, &packed[3..9])), Ok(9), "an overlap");
        assert_eq!(upload.append(&chunk(2, &packed[2..5])), Ok(9), "within what has arrived");
        let rest: Vec<MaskedChunk> = chunks(&packed, upload.resume_at()).collect();
        for chunk in &rest {
            upload.append(chunk).expect("in order");
        }
        assert_eq!(upload.finish().map(|(_, bytes)| bytes), Ok(packed.to_vec()));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut upload = upload(10);
        upload.append(&chunk(0, &[1, 2, 3])).expect("in order");
        assert_eq!(refused(upload.append(&chunk(4, &[0]))), UploadError::Gap { offset: 4, resume_at: 3 });
        assert_eq!(
            refused(upload.append(&chunk(u64::MAX, &[0]))),
            UploadError::Gap { offset: u64::MAX, resume_at: 3 }
        );
        assert_eq!(refused(upload.append(&chunk(2, &[9]))), UploadError::Conflict { offset: 2 });
        assert_eq!(refused(upload.append(&chunk(2, &[3; 9]))), UploadError::Overrun { end: 11, length: 10 });
        assert_eq!(refused(upload.append(&chunk(0, &[]))), UploadError::ChunkSize { bytes: 0 });
        let large = vec![0; MAX_CHUNK_BYTES + 1];
        assert!(matches!(refused(upload.append(&chunk(0, &large))), UploadError::ChunkSize { .. }));
        assert_eq!(upload.resume_at(), 3);
        assert_eq!(refused(upload.finish()), UploadError::Incomplete { received: 3, length: 10 });
    }
}
