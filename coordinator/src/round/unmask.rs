//! Unmask: shares come in that take the masks off the sum. From here on the round costs its full budget, released or not.

use super::release::Summed;
use super::share::Closed;
use super::{Progress, Refusal, check_sender, protocol};
use std::sync::Arc;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::UnmaskShares;
use tacit_aggregation::server::{self, Abort, MaskedSum};
use tacit_proto::ServerMessage;

/// Shares are gathered that unmask the sum.
#[derive(Debug)]
pub struct Unmask {
    server: server::Unmask,
    sum: MaskedSum,
    survivors: Vec<ClientId>,
    answering: usize,
    answered: usize,
    /// Whether the sum was tried with the least number of shares, and some of them were bad.
    tried: bool,
    closed: Arc<Closed>,
}

impl Unmask {
    pub(super) fn new(
        server: server::Unmask,
        sum: MaskedSum,
        survivors: Vec<ClientId>,
        closed: Arc<Closed>,
    ) -> Self {
        let answering = server.answering().count();
        Self { server, sum, survivors, answering, answered: 0, tried: false, closed }
    }

    /// The closed cohort.
    #[must_use]
    pub fn cohort(&self) -> &Closed {
        &self.closed
    }

    /// Members whose vectors are in the sum, in increasing order.
    #[must_use]
    pub fn survivors(&self) -> &[ClientId] {
        &self.survivors
    }

    /// Members that are asked for shares, in increasing order.
    pub fn answering(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.server.answering()
    }

    pub(super) fn message_for(&self, client: ClientId) -> Option<ServerMessage> {
        self.server.request_for(client).ok().map(ServerMessage::Unmask)
    }

    pub(super) fn accept(&mut self, client: ClientId, shares: &UnmaskShares) -> Result<Progress, Refusal> {
        check_sender(client, shares.client)?;
        if self.server.accept(shares).map_err(protocol(client))? == server::Receipt::Accepted {
            self.answered += 1;
        }
        let everybody = self.answered == self.answering;
        Ok(Progress::when(everybody || (!self.tried && self.server.is_complete())))
    }

    /// Takes the masks off. With the least number of shares a bad one may still be in the way: unless `last`, the phase then
    /// comes back to wait for more.
    pub(super) fn close(mut self, last: bool) -> Result<Summed, Result<Box<Self>, Abort>> {
        if last || self.answered == self.answering {
            return match self.server.close(self.sum) {
                Ok(sum) => Ok(Summed::new(sum, self.closed)),
                Err(abort) => Err(Err(abort)),
            };
        }
        match self.server.clone().close(self.sum.clone()) {
            Ok(sum) => Ok(Summed::new(sum, self.closed)),
            Err(_) => {
                self.tried = true;
                Err(Ok(Box::new(self)))
            }
        }
    }
}
