//! The masked vectors between their upload and their summation, in a temporary file. Must never keep one in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use tacit_aggregation::identity::ClientId;

use super::BenchError;

/// Packed vectors of one length, in the order of their arrival.
pub(super) struct Spool {
    file: File,
    clients: Vec<ClientId>,
    length: usize,
    /// Bytes that all vectors of the round will take.
    total: u64,
}

impl Spool {
    /// Room for up to `count` vectors of `length` bytes each.
    pub(super) fn new(length: usize, count: u32) -> Result<Self, BenchError> {
        let total = length as u64 * u64::from(count);
        let file = tempfile::tempfile().map_err(|source| BenchError::Spool { bytes: total, source })?;
        Ok(Self { file, clients: Vec::new(), length, total })
    }

    /// Keeps a client's vector, which has the round's length.
    pub(super) fn keep(&mut self, client: ClientId, packed: &[u8]) -> Result<(), BenchError> {
        let total = self.total;
        self.file.write_all(packed).map_err(|source| BenchError::Spool { bytes: total, source })?;
        self.clients.push(client);
        Ok(())
    }

    /// Gives each vector once, one at a time.
    pub(super) fn replay(
        mut self,
        mut take: impl FnMut(ClientId, &[u8]) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let failed = |source| BenchError::Spool { bytes: self.total, source };
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut packed = vec![0; self.length];
        for &client in &self.clients {
            self.file.read_exact(&mut packed).map_err(failed)?;
            take(client, &packed)?;
        }
        Ok(())
    }
}
