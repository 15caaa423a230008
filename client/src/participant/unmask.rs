//! Confirmed and finished: the client hands over one share per neighbour, once. Must never be asked a second time for others.

use super::ParticipantError;
use tacit_aggregation::client;
use tacit_aggregation::messages::{SurvivorMaps, UnmaskRequest};
use tacit_proto::ClientMessage;

/// The client has confirmed who survived.
#[derive(Debug)]
pub struct Confirmed {
    confirmed: client::Confirmed,
    round: u64,
}

/// The client has handed over its shares; it holds none any more.
#[derive(Debug)]
pub struct Finished {
    finished: client::Finished,
    round: u64,
}

impl Confirmed {
    pub(super) fn new(confirmed: client::Confirmed, round: u64) -> Self {
        Self { confirmed, round }
    }

    /// The recorded answer to repeated maps.
    ///
    /// # Errors
    /// [`ParticipantError::Protocol`] for other maps.
    pub fn repeat(&self, maps: &SurvivorMaps) -> Result<ClientMessage, ParticipantError> {
        Ok(ClientMessage::Confirm(self.confirmed.repeat(maps)?))
    }

    /// Checks the others' confirmations and hands over exactly one share per neighbour.
    ///
    /// # Errors
    /// [`ParticipantError::Protocol`] names the lie. The client has then left the round, and the shares are gone.
    pub fn unmask(self, request: &UnmaskRequest) -> Result<(Finished, ClientMessage), ParticipantError> {
        let (finished, shares) = self.confirmed.unmask(request)?;
        Ok((Finished { finished, round: self.round }, ClientMessage::Unmask(shares)))
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }
}

impl Finished {
    /// The recorded answer to a repeated request.
    ///
    /// # Errors
    /// [`ParticipantError::Protocol`] when it asks for other shares.
    pub fn repeat(&self, request: &UnmaskRequest) -> Result<ClientMessage, ParticipantError> {
        Ok(ClientMessage::Unmask(self.finished.repeat(request)?))
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }
}
