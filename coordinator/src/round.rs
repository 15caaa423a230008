//! A round: an enum whose variants carry that state's data, moved by one driver over a session of secure aggregation.
//! Must never release anything that was not reserved, nor tell anyone of a change before its record was handed to the keeper.

mod closed;
mod driver;
mod keeper;
mod outcome;
mod release;

pub use closed::Closed;
pub use driver::{Driver, OpenError, RestoreError, RoundSetup, TaskState};
pub use keeper::{Keeper, MemoryKeeper, Vector};
pub use outcome::{Failed, FailureReason, Outcome, Released};

use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::server::{Phase, ServerError, Session, VectorSummary};
use tacit_proto::{ClientMessage, ServerMessage};

/// Where a round stands.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one value per open round")]
pub enum Round {
    /// Adverts are gathered.
    Gathering(Session),
    /// The cohort is closed; its members share, upload, confirm and unmask.
    Running(Session, Arc<Closed>),
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
    /// The keeper has all of a client's announced vector.
    Whole {
        /// The sender.
        from: ClientId,
        /// What was seen of it.
        vector: VectorSummary,
    },
    /// Time passed; see [`Driver::deadline`].
    Tick,
}

/// What the caller has to do once what the keeper was given is durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// A step has begun: its messages ([`Round::message_for`]) may go out.
    Open(Step),
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
    /// A vector that was not announced, or a part that does not fit.
    #[error("client {client}: {reason}")]
    Upload {
        /// The sender.
        client: ClientId,
        /// What is wrong.
        reason: String,
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
            | Self::Upload { client, .. }
            | Self::Protocol { client, .. } => client,
        }
    }
}

impl Round {
    /// Where the round stands, in one word for messages to people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Gathering(session) | Self::Running(session, _) => match session.phase() {
                Phase::Advertise(_) => "advertise",
                Phase::Share(_) => "share",
                Phase::Collect(_) => "collect",
                Phase::Confirm(..) => "confirm",
                Phase::Unmask(..) | Phase::Released(_) => "unmask",
                Phase::Aborted(_) | Phase::Interrupted => "failed",
            },
            Self::Committed(_) => "committed",
            Self::Failed(_) => "failed",
        }
    }

    /// The session of secure aggregation, until the round has ended.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Gathering(session) | Self::Running(session, _) => Some(session),
            Self::Committed(_) | Self::Failed(_) => None,
        }
    }

    /// The closed cohort with its mechanism, from Share to Unmask.
    #[must_use]
    pub fn cohort(&self) -> Option<&Closed> {
        if let Self::Running(_, closed) = self { Some(closed) } else { None }
    }

    /// The message that a client is waiting for in this step; the same one however often it is asked for.
    #[must_use]
    pub fn message_for(&self, client: ClientId) -> Option<ServerMessage> {
        match self.session()?.phase() {
            Phase::Share(phase) => {
                let adverts = phase.adverts_for(client)?;
                Some(ServerMessage::Cohort { list: Arc::clone(phase.list()), adverts })
            }
            Phase::Collect(phase) => phase.deliveries(client).ok().map(ServerMessage::Shares),
            Phase::Confirm(phase, _) => {
                let survived = phase.survivors().any(|survivor| survivor == client);
                survived.then(|| ServerMessage::Maps(phase.maps().clone()))
            }
            Phase::Unmask(phase, _) => phase.request_for(client).ok().map(ServerMessage::Unmask),
            Phase::Advertise(_) | Phase::Released(_) | Phase::Aborted(_) | Phase::Interrupted => None,
        }
    }

    /// The messages of this step, to everybody who waits for one. In large cohorts they are large: ask for one at a time.
    pub fn messages(&self) -> impl Iterator<Item = (ClientId, ServerMessage)> + '_ {
        let members = self.cohort().into_iter().flat_map(Closed::members);
        members.filter_map(|client| Some((client, self.message_for(client)?)))
    }
}

/// The step in which something that belongs to no step of secure aggregation failed.
const RELEASE: Step = Step::Unmask;

/// Whether every message that a step still waits for has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Others are still to come.
    Waiting,
    /// The step may close before its deadline.
    Complete,
}

impl Progress {
    fn when(complete: bool) -> Self {
        if complete { Self::Complete } else { Self::Waiting }
    }
}
