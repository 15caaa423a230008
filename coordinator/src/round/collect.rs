//! Collect: masked vectors come in, in chunks. Must never count a vector that is not whole, nor keep one that is not used.

use super::confirm::Confirm;
use super::share::Closed;
use super::{FailureReason, Progress, Refusal, check_sender, protocol};
use std::collections::BTreeMap;
use std::sync::Arc;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::{MaskedChunk, MaskedHeader};
use tacit_aggregation::server::{self, Upload};
use tacit_proto::ServerMessage;

/// Masked vectors are gathered.
#[derive(Debug)]
pub struct Collect {
    server: server::Collect,
    closed: Arc<Closed>,
    sharers: Vec<ClientId>,
    uploads: BTreeMap<ClientId, Upload>,
    /// Whole vectors in packed form. Who survives is known only at the end, so they are summed only then.
    vectors: BTreeMap<ClientId, Vec<u8>>,
}

impl Collect {
    pub(super) fn new(server: server::Collect, closed: Arc<Closed>) -> Self {
        let sharers = closed.members().filter(|&client| server.deliveries(client).is_ok()).collect();
        Self { server, closed, sharers, uploads: BTreeMap::new(), vectors: BTreeMap::new() }
    }

    /// The closed cohort.
    #[must_use]
    pub fn cohort(&self) -> &Closed {
        &self.closed
    }

    /// Members whose shares were delivered.
    #[must_use]
    pub fn sharers(&self) -> &[ClientId] {
        &self.sharers
    }

    /// Masked vectors that have come, whole.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.server.count()
    }

    pub(super) fn message_for(&self, client: ClientId) -> Option<ServerMessage> {
        self.server.deliveries(client).ok().map(ServerMessage::Shares)
    }

    pub(super) fn resume_at(&self, client: ClientId) -> Option<u64> {
        let whole = self.vectors.get(&client).map(|packed| packed.len() as u64);
        whole.or_else(|| self.uploads.get(&client).map(Upload::resume_at))
    }

    /// Takes the announcement; one that repeats the last goes on where the upload stands.
    pub(super) fn begin(&mut self, client: ClientId, header: &MaskedHeader) -> Result<Progress, Refusal> {
        check_sender(client, header.client)?;
        let upload = self.server.begin(header).map_err(protocol(client))?;
        let known = self.uploads.get(&client).is_some_and(|upload| upload.header() == header);
        if !known && !self.vectors.contains_key(&client) {
            self.uploads.insert(client, upload);
        }
        Ok(self.progress())
    }

    /// Takes a chunk; the last one makes the vector whole.
    pub(super) fn append(&mut self, client: ClientId, chunk: &MaskedChunk) -> Result<Progress, Refusal> {
        let Some(upload) = self.uploads.get_mut(&client) else {
            // A chunk of a vector that is already whole was sent twice.
            let whole = self.vectors.contains_key(&client);
            return if whole { Ok(self.progress()) } else { Err(Refusal::NotAnnounced { client }) };
        };
        let arrived = upload.append(chunk).map_err(protocol(client))?;
        if arrived == upload.header().length
            && let Some(upload) = self.uploads.remove(&client)
        {
            // A vector without the signed digest is dropped; its owner may begin again.
            let (header, packed) = upload.finish().map_err(protocol(client))?;
            self.server.accept(&header, &packed).map_err(protocol(client))?;
            self.vectors.insert(client, packed);
        }
        Ok(self.progress())
    }

    fn progress(&self) -> Progress {
        Progress::when(self.vectors.len() == self.sharers.len())
    }

    pub(super) fn close(mut self) -> Result<Confirm, FailureReason> {
        let (server, mut summation) = self.server.close()?;
        let survivors: Vec<ClientId> = summation.missing().collect();
        for client in survivors {
            // Each vector is freed as soon as it is summed; a missing one is named by `finish`.
            if let Some(packed) = self.vectors.remove(&client) {
                summation.add(client, &packed).map_err(FailureReason::Vector)?;
            }
        }
        Ok(Confirm::new(server, summation.finish()?, self.closed))
    }
}
