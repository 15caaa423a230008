//! Share: the cohort is closed; its members share their secrets under seal. Must never begin before the cost is reserved.

use super::collect::Collect;
use super::{FailureReason, Progress, Refusal, check_sender, protocol};
use crate::account::Reservation;
use std::sync::Arc;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::{CohortList, ShareMessage};
use tacit_aggregation::server;
use tacit_privacy::{RdpCurve, RotationSeed, RoundMechanism};
use tacit_proto::ServerMessage;

/// The closed cohort and what follows from it.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The members, and the parameters of the secure sum.
    pub list: Arc<CohortList>,
    /// The mechanism of a cohort of this size.
    pub mechanism: RoundMechanism,
    /// The most that taking part may cost.
    pub cost: RdpCurve,
    /// Public seed of the rotation.
    pub rotation: RotationSeed,
}

impl Closed {
    /// The members, in increasing order.
    pub fn members(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.list.entries.iter().map(|entry| entry.client)
    }

    pub(super) fn reservation(&self, round: u64) -> Reservation {
        Reservation { round, clients: self.members().collect(), cost: self.cost.clone() }
    }
}

/// Sealed shares are gathered.
#[derive(Debug)]
pub struct Share {
    server: server::Share,
    closed: Arc<Closed>,
}

impl Share {
    pub(super) fn new(server: server::Share, closed: Arc<Closed>) -> Self {
        Self { server, closed }
    }

    /// The closed cohort.
    #[must_use]
    pub fn cohort(&self) -> &Closed {
        &self.closed
    }

    /// Members that have shared.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.server.count()
    }

    pub(super) fn message_for(&self, client: ClientId) -> Option<ServerMessage> {
        let adverts = self.server.adverts_for(client)?;
        Some(ServerMessage::Cohort { list: Arc::clone(self.server.list()), adverts })
    }

    pub(super) fn accept(
        &mut self,
        client: ClientId,
        message: Arc<ShareMessage>,
    ) -> Result<Progress, Refusal> {
        check_sender(client, message.client)?;
        self.server.accept(message).map_err(protocol(client))?;
        Ok(Progress::when(self.server.count() == self.closed.list.params.n))
    }

    pub(super) fn close(self) -> Result<Collect, FailureReason> {
        Ok(Collect::new(self.server.close()?, self.closed))
    }
}
