//! The in-process transport: every message is encoded, counted and decoded, as a network would have it.
//! Must never hand over a message that was not read back from its bytes.

use std::collections::BTreeMap;

use tacit_aggregation::identity::ClientId;
use tacit_proto::{ClientMessage, CommitmentCache, ServerMessage, SignedPlan, Wire};

use super::Seat;
use crate::error::SimulationError;
use crate::report::Traffic;

/// Bytes that each client of a round sent and received.
#[derive(Debug)]
pub(super) struct Wires {
    counts: BTreeMap<ClientId, [u64; 2]>,
}

/// Bytes of one exchange.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Wires {
    pub(super) fn new(seats: &[Seat]) -> Self {
        Self { counts: seats.iter().map(|seat| (seat.id, [0, 0])).collect() }
    }

    /// Sends the plan to everybody.
    pub(super) fn publish(&mut self, signed: &SignedPlan) -> Result<SignedPlan, SimulationError> {
        let bytes = signed.to_wire();
        for [_, received] in self.counts.values_mut() {
            *received += bytes.len() as u64;
        }
        Ok(SignedPlan::from_wire(&bytes)?)
    }

    pub(super) fn count(&mut self, client: ClientId, moved: Moved) {
        let [sent, received] = self.counts.entry(client).or_default();
        *sent += moved.sent;
        *received += moved.received;
    }

    pub(super) fn traffic(&self) -> Traffic {
        let clients = self.counts.len().max(1) as f64;
        let sum = |way: usize| self.counts.values().map(|counts| counts[way]).sum::<u64>();
        let most = |way: usize| self.counts.values().map(|counts| counts[way]).max().unwrap_or(0);
        Traffic {
            sent_per_client: sum(0) as f64 / clients,
            sent_maximum: most(0),
            received_per_client: sum(1) as f64 / clients,
            received_maximum: most(1),
        }
    }
}

impl Moved {
    /// Takes a message to a client; commitments that another client of the process has decoded are not decoded again.
    pub(super) fn deliver(
        &mut self,
        message: &ServerMessage,
        cache: &CommitmentCache,
    ) -> Result<ServerMessage, SimulationError> {
        let bytes = message.to_wire();
        self.received += bytes.len() as u64;
        Ok(ServerMessage::from_wire_cached(&bytes, cache)?)
    }

    /// Takes a client's messages to the coordinator.
    pub(super) fn send(&mut self, messages: &[ClientMessage]) -> Result<Vec<ClientMessage>, SimulationError> {
        let read_back = |message: &ClientMessage| {
            let bytes = message.to_wire();
            self.sent += bytes.len() as u64;
            Ok(ClientMessage::from_wire(&bytes)?)
        };
        messages.iter().map(read_back).collect()
    }
}
