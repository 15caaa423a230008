//! Where a round keeps what must survive a crash. Must never give out a vector that is not whole.

use std::collections::BTreeMap;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::journal::Record;
use tacit_aggregation::messages::{MAX_CHUNK_BYTES, MaskedChunk, MaskedHeader};

/// How far a vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vector {
    /// This many bytes of it have arrived.
    Part(u64),
    /// All of it has, and its digest is the announced one.
    Whole,
}

/// The records and masked vectors of one round.
///
/// The round's driver hands records over; nothing that follows from one may leave the process before it is durable. The caller
/// sees to that: it makes a batch durable, and only then acts on what the driver gave out.
pub trait Keeper {
    /// Takes a record.
    ///
    /// # Behavior
    /// - Replaces an earlier record with the same key.
    fn record(&mut self, record: &Record);

    /// Appends a chunk of an announced vector.
    ///
    /// # Behavior
    /// - A chunk that repeats what has arrived changes nothing.
    /// - When it says [`Vector::Whole`] the vector's digest is the announced one.
    ///
    /// # Errors
    /// A reason for people: the chunk does not fit, the digest is another, or the disk fails.
    fn append(&mut self, header: &MaskedHeader, chunk: &MaskedChunk) -> Result<Vector, String>;

    /// How much of an announced vector has arrived.
    ///
    /// # Errors
    /// A reason for people.
    fn stored(&mut self, header: &MaskedHeader) -> Result<Vector, String>;

    /// Reads a whole vector.
    ///
    /// # Errors
    /// A reason for people.
    fn vector(&self, client: ClientId) -> Result<Vec<u8>, String>;

    /// Forgets what has arrived of a vector, so that it is sent again.
    ///
    /// # Errors
    /// A reason for people.
    fn discard(&mut self, client: ClientId) -> Result<(), String>;
}

/// Vectors in memory, records nowhere: for simulations and tests, whose rounds end with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryKeeper {
    vectors: BTreeMap<ClientId, (MaskedHeader, Vec<u8>)>,
}

impl Keeper for MemoryKeeper {
    fn record(&mut self, _record: &Record) {}

    fn append(&mut self, header: &MaskedHeader, chunk: &MaskedChunk) -> Result<Vector, String> {
        if self.vectors.get(&header.client).is_none_or(|(known, _)| known.digest != header.digest) {
            self.vectors.insert(header.client, (header.clone(), Vec::new()));
        }
        let stored = match self.stored(header)? {
            Vector::Whole => return Ok(Vector::Whole),
            Vector::Part(stored) => stored,
        };
        let end = chunk.offset.saturating_add(chunk.bytes.len() as u64);
        if chunk.offset > stored || end > header.length || !(1..=MAX_CHUNK_BYTES).contains(&chunk.bytes.len())
        {
            return Err(format!("a chunk at {} does not fit; {stored} bytes have arrived", chunk.offset));
        }
        let known = (stored - chunk.offset).min(chunk.bytes.len() as u64) as usize;
        if let Some((_, bytes)) = self.vectors.get_mut(&header.client) {
            bytes.extend_from_slice(&chunk.bytes[known..]);
        }
        self.stored(header)
    }

    fn stored(&mut self, header: &MaskedHeader) -> Result<Vector, String> {
        let known = self.vectors.get(&header.client).filter(|(known, _)| known.digest == header.digest);
        let arrived = known.map_or(0, |(_, bytes)| bytes.len() as u64);
        Ok(if arrived == header.length { Vector::Whole } else { Vector::Part(arrived) })
    }

    fn vector(&self, client: ClientId) -> Result<Vec<u8>, String> {
        let bytes = self.vectors.get(&client).map(|(_, bytes)| bytes.clone());
        bytes.ok_or_else(|| format!("no vector of client {client} has arrived"))
    }

    fn discard(&mut self, client: ClientId) -> Result<(), String> {
        self.vectors.remove(&client);
        Ok(())
    }
}
