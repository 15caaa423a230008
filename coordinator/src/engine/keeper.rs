//! The keeper of a round that runs for real: records go into the engine's batch, vectors lie in files. Must never read a
//! vector that is not whole.

use super::tables::Journal;
use crate::round::{Keeper, Vector};
use crate::store::Batch;
use crate::vectors::{Stored, VectorError, VectorFolder};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::journal::Record;
use tacit_aggregation::messages::{MaskedChunk, MaskedHeader};

/// Where one open round keeps what must survive.
pub(super) struct DiskKeeper<'a> {
    pub(super) batch: &'a mut Batch,
    /// Folders whose names must be durable before the batch.
    pub(super) named: &'a mut BTreeSet<PathBuf>,
    pub(super) task: &'a str,
    pub(super) round: u64,
    pub(super) vectors: &'a VectorFolder,
}

impl Keeper for DiskKeeper<'_> {
    fn record(&mut self, record: &Record) {
        let key = (self.task.to_owned(), self.round, record.key().to_bytes());
        self.batch.put::<Journal>(&key, &record.bytes().to_vec());
    }

    fn append(&mut self, header: &MaskedHeader, chunk: &MaskedChunk) -> Result<Vector, String> {
        let append = || {
            let mut writer = self.vectors.writer(header)?;
            writer.append(chunk.offset, &chunk.bytes)?;
            let stored = writer.stored();
            Ok(writer.finish()?.map_or(Vector::Part(stored), |_| Vector::Whole))
        };
        let stored = append().map_err(|error: VectorError| error.to_string())?;
        self.named.insert(self.vectors.folder().to_owned());
        Ok(stored)
    }

    fn stored(&mut self, header: &MaskedHeader) -> Result<Vector, String> {
        let stored = self.vectors.stored(header).map_err(|error| error.to_string())?;
        Ok(match stored {
            Stored::Part(bytes) => Vector::Part(bytes),
            Stored::Whole => {
                // Whoever made it whole may not have come to its name.
                self.named.insert(self.vectors.folder().to_owned());
                Vector::Whole
            }
        })
    }

    fn vector(&self, client: ClientId) -> Result<Vec<u8>, String> {
        self.vectors.read(client).map_err(|error| error.to_string())
    }

    fn discard(&mut self, client: ClientId) -> Result<(), String> {
        self.vectors.discard(client).map_err(|error| error.to_string())
    }
}
