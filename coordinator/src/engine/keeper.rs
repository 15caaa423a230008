//! The keeper of a round that runs for real: records go into the engine's batch, vectors lie in files. Must never read a
//! vector that is not whole.

use super::tables::Journal;
use crate::round::{Keeper, Vector};
use crate::store::Batch;
use crate::vectors::{Stored, VectorFolder};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::journal::Record;
use tacit_aggregation::messages::{MaskedChunk, MaskedHeader};

/// Where one open round keeps what must survive.
pub(super) struct DiskKeeper<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) task: &'a str,
    pub(super) round: u64,
    pub(super) vectors: &'a VectorFolder,
}

fn vector(stored: Stored) -> Vector {
    match stored {
        Stored::Part(bytes) => Vector::Part(bytes),
        Stored::Whole => Vector::Whole,
    }
}

impl Keeper for DiskKeeper<'_> {
    fn record(&mut self, record: &Record) {
        let key = (self.task.to_owned(), self.round, record.key().to_bytes());
        self.batch.put::<Journal>(&key, &record.bytes().to_vec());
    }

    fn append(&mut self, header: &MaskedHeader, chunk: &MaskedChunk) -> Result<Vector, String> {
        let appended = self.vectors.append(header, chunk.offset, &chunk.bytes);
        appended.and_then(|_| self.vectors.sync(header)).map(vector).map_err(|error| error.to_string())
    }

    fn stored(&self, header: &MaskedHeader) -> Result<Vector, String> {
        self.vectors.stored(header).map(vector).map_err(|error| error.to_string())
    }

    fn vector(&self, client: ClientId) -> Result<Vec<u8>, String> {
        self.vectors.read(client).map_err(|error| error.to_string())
    }

    fn discard(&mut self, client: ClientId) -> Result<(), String> {
        self.vectors.discard(client).map_err(|error| error.to_string())
    }
}
