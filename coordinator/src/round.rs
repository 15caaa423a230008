//! A round: an enum whose variants carry their phase's data, moved by one driver.
//! Must never release anything that was not reserved, nor tell anyone of a change before it said what to store.

mod advertise;
mod collect;
mod confirm;
mod driver;
mod outcome;
mod release;
mod share;
mod unmask;

pub use advertise::Advertise;
pub use collect::Collect;
pub use confirm::Confirm;
pub use driver::{Driver, OpenError, RoundSetup, TaskState};
pub use outcome::{Failed, FailureReason, Outcome, Released};
pub use share::{Closed, Share};
pub use unmask::Unmask;

use crate::account::Reservation;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::server::ServerError;
use tacit_proto::{ClientMessage, ServerMessage};

/// Where a round stands.
#[derive(Debug)]
pub enum Round {
    /// Adverts are gathered.
    Advertise(Advertise),
    /// The cohort is closed, sealed shares are gathered.
    Share(Share),
    /// Masked vectors are gathered.
    Collect(Collect),
    /// Survivors confirm who survived.
    Confirm(Confirm),
    /// Shares are gathered that unmask the sum.
    Unmask(Unmask),
    /// The sum became a new version of the adapter.
    Committed(Released),
    /// The round ended without a release.
    Failed(Failed),
}

/// What happens to a round.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client sent a message; the transport has authenticated from whom it comes.
    Message {
        /// The sender.
        from: ClientId,
        /// The message.
        message: ClientMessage,
    },
    /// Time passed; see [`Driver::deadline`].
    Tick,
}

/// What the caller has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// Store this durably before anything that follows is sent.
    Reserve(Reservation),
    /// Send a message to a client.
    Send {
        /// The receiver.
        to: ClientId,
        /// The message.
        message: ServerMessage,
    },
    /// Tell a client that its message was refused; the round goes on.
    Refuse(Refusal),
    /// The round has ended: take [`Driver::finish`]'s outcome, and store all of it in one batch.
    End,
}

/// Why a message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client was not invited to this round.
    #[error("client {client} is not invited to round {round}: it may be ready for a later one")]
    NotInvited {
        /// The sender.
        client: ClientId,
        /// The round.
        round: u64,
    },
    /// The message names another sender than the one it came from.
    #[error("client {client} sent a message in the name of client {named}")]
    Impostor {
        /// The sender.
        client: ClientId,
        /// Whom the message names.
        named: ClientId,
    },
    /// The message belongs to another step.
    #[error("client {client} sent a message of {sent}, but round {round} is in {current}")]
    OutOfStep {
        /// The sender.
        client: ClientId,
        /// The round.
        round: u64,
        /// The message's step.
        sent: &'static str,
        /// The round's step.
        current: &'static str,
    },
    /// A chunk of a vector that was not announced.
    #[error("client {client} sent a chunk before its signed announcement of the masked vector")]
    NotAnnounced {
        /// The sender.
        client: ClientId,
    },
    /// Secure aggregation refuses it.
    #[error("client {client}: {error}")]
    Protocol {
        /// The sender.
        client: ClientId,
        /// Why.
        error: ServerError,
    },
}

impl Refusal {
    /// Whose message was refused.
    #[must_use]
    pub fn client(&self) -> ClientId {
        match *self {
            Self::NotInvited { client, .. }
            | Self::Impostor { client, .. }
            | Self::OutOfStep { client, .. }
            | Self::NotAnnounced { client }
            | Self::Protocol { client, .. } => client,
        }
    }
}

impl Round {
    /// The step's name, for messages to people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Advertise(_) => "advertise",
            Self::Share(_) => "share",
            Self::Collect(_) => "collect",
            Self::Confirm(_) => "confirm",
            Self::Unmask(_) => "unmask",
            Self::Committed(_) => "committed",
            Self::Failed(_) => "failed",
        }
    }

    /// The closed cohort with its mechanism, from Share to Unmask.
    #[must_use]
    pub fn cohort(&self) -> Option<&Closed> {
        match self {
            Self::Share(phase) => Some(phase.cohort()),
            Self::Collect(phase) => Some(phase.cohort()),
            Self::Confirm(phase) => Some(phase.cohort()),
            Self::Unmask(phase) => Some(phase.cohort()),
            Self::Advertise(_) | Self::Committed(_) | Self::Failed(_) => None,
        }
    }

    /// The message that a client is waiting for in this phase, to be sent again after a lost connection.
    #[must_use]
    pub fn message_for(&self, client: ClientId) -> Option<ServerMessage> {
        match self {
            Self::Share(phase) => phase.message_for(client),
            Self::Collect(phase) => phase.message_for(client),
            Self::Confirm(phase) => phase.message_for(client),
            Self::Unmask(phase) => phase.message_for(client),
            Self::Advertise(_) | Self::Committed(_) | Self::Failed(_) => None,
        }
    }

    /// Bytes of this client's masked vector that have arrived: where an upload goes on after a lost connection.
    #[must_use]
    pub fn resume_at(&self, client: ClientId) -> Option<u64> {
        match self {
            Self::Collect(phase) => phase.resume_at(client),
            _ => None,
        }
    }
}

/// Whether every message that a phase still waits for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Others are still to come.
    Waiting,
    /// The phase may close before its deadline.
    Complete,
}

impl Progress {
    fn when(complete: bool) -> Self {
        if complete { Self::Complete } else { Self::Waiting }
    }
}

/// A refusal by secure aggregation.
fn protocol(client: ClientId) -> impl Fn(ServerError) -> Refusal {
    move |error| Refusal::Protocol { client, error }
}

/// A message that names its sender must come from it.
fn check_sender(client: ClientId, named: ClientId) -> Result<(), Refusal> {
    if client == named { Ok(()) } else { Err(Refusal::Impostor { client, named }) }
}

/// The messages of a phase to those who wait for one.
fn sends(
    clients: impl IntoIterator<Item = ClientId>,
    message: impl Fn(ClientId) -> Option<ServerMessage>,
) -> Vec<Outgoing> {
    clients.into_iter().filter_map(|to| Some(Outgoing::Send { to, message: message(to)? })).collect()
}

/// The step in which something that belongs to no step of secure aggregation failed.
const RELEASE: Step = Step::Unmask;
