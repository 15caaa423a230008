//! Confirm: every survivor signs who shared and who survived. Must never ask anyone but a survivor.

use super::share::Closed;
use super::unmask::Unmask;
use super::{FailureReason, Progress, Refusal, check_sender, protocol};
use std::sync::Arc;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::Confirm as Confirmation;
use tacit_aggregation::server::{self, MaskedSum};
use tacit_proto::ServerMessage;

/// Survivors confirm who survived.
#[derive(Debug)]
pub struct Confirm {
    server: server::Confirm,
    sum: MaskedSum,
    closed: Arc<Closed>,
}

impl Confirm {
    pub(super) fn new(server: server::Confirm, sum: MaskedSum, closed: Arc<Closed>) -> Self {
        Self { server, sum, closed }
    }

    /// The closed cohort.
    #[must_use]
    pub fn cohort(&self) -> &Closed {
        &self.closed
    }

    /// Members whose vectors are in the sum, in increasing order.
    pub fn survivors(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.server.survivors()
    }

    pub(super) fn message_for(&self, client: ClientId) -> Option<ServerMessage> {
        let survived = self.survivors().any(|survivor| survivor == client);
        survived.then(|| ServerMessage::Maps(self.server.maps().clone()))
    }

    pub(super) fn accept(&mut self, client: ClientId, confirm: &Confirmation) -> Result<Progress, Refusal> {
        check_sender(client, confirm.client)?;
        self.server.accept(confirm).map_err(protocol(client))?;
        Ok(Progress::when(self.server.count() == self.server.maps().survived.count()))
    }

    pub(super) fn close(self) -> Result<Unmask, FailureReason> {
        let survivors = self.server.survivors().collect();
        Ok(Unmask::new(self.server.close()?, self.sum, survivors, self.closed))
    }
}
