//! One client's side of a round: `Joined`, `Shared`, `Uploaded`, `Confirmed`, `Finished`, each consumed by the step into the
//! next. Must never answer a plan, a cohort or a request that this client's own limits do not allow.
//!
//! [`Participant`] holds any of the states and answers whatever message comes; a refusal ends it, and with it the secrets.

mod collect;
mod join;
mod secrets;
mod share;
mod unmask;

pub use collect::Uploaded;
pub use join::{Joined, Member, Unmasked, admit, check_place};
pub use secrets::{JoinSecrets, NoiseRng};
pub use share::Shared;
pub use unmask::{Confirmed, Finished};

use crate::Millis;
use crate::budget::{Budget, BudgetError};
use crate::contribution::ContributionError;
use tacit_aggregation::client::ClientError;
use tacit_aggregation::identity::ClientId;
use tacit_privacy::PipelineError;
use tacit_proto::{ClientMessage, PlanError, ServerMessage};

/// One client in one round.
#[derive(Debug)]
pub enum Participant {
    /// It has announced its keys.
    Joined(Joined),
    /// It has shared its secrets.
    Shared(Shared),
    /// It has masked its update.
    Uploaded(Uploaded),
    /// It has confirmed who survived.
    Confirmed(Confirmed),
    /// It has handed over its shares.
    Finished(Finished),
}

/// Why a client stays out of a round, or leaves it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParticipantError {
    /// The plan is not the coordinator's, out of range, or costs more than it says.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan is for another base model.
    #[error(
        "the plan of round {round} is for another base model than this client's: fetch that model, or stay out"
    )]
    BaseModel {
        /// The plan's round.
        round: u64,
    },
    /// The round costs too much, or protects too little.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The budget is another client's.
    #[error("the budget is of client {budget}, the certificate of client {client}")]
    ForeignBudget {
        /// The client of the certificate.
        client: ClientId,
        /// The client of the budget.
        budget: ClientId,
    },
    /// The stored secrets are another plan's.
    #[error(
        "the stored secrets were not drawn for this plan of round {round}: resume with the plan that they were stored with, \
         or join anew"
    )]
    AnotherPlan {
        /// The plan's round.
        round: u64,
    },
    /// The stored secrets are another update's.
    #[error(
        "the stored secrets of round {round} were drawn for another update: two vectors must not be masked with the same \
         masks; resume with the update that was stored, or stay out"
    )]
    AnotherUpdate {
        /// The plan's round.
        round: u64,
    },
    /// The update cannot be clipped.
    #[error(transparent)]
    Update(#[from] PipelineError),
    /// The update cannot be noised.
    #[error(transparent)]
    Contribution(#[from] ContributionError),
    /// The coordinator breaks the protocol.
    #[error(transparent)]
    Protocol(#[from] ClientError),
    /// A member of the cohort that is no client any more.
    #[error("client {client}, whom the identity root has shut out, is in the cohort of round {round}")]
    RevokedMember {
        /// The round.
        round: u64,
        /// The member.
        client: ClientId,
    },
    /// The coordinator asks for a step that is not due.
    #[error("the coordinator begins {asked}, but this client is in {state}: it leaves round {round}")]
    OutOfTurn {
        /// The round.
        round: u64,
        /// The step asked for.
        asked: &'static str,
        /// Where the client stands.
        state: &'static str,
    },
}

impl Participant {
    /// Answers the coordinator's message with the client's messages, in order. A repeated message gets the recorded answer.
    ///
    /// Before they are sent the caller stores the message and, when the state becomes [`Participant::Uploaded`], the budget.
    /// With the plan, the update and the [`JoinSecrets`] that were stored at joining, the stored messages give the same answers
    /// again after a crash, byte for byte, and nothing is debited twice.
    ///
    /// # Errors
    /// [`ParticipantError`]. The client has then left the round, and its secrets are gone.
    pub fn answer(
        self,
        message: &ServerMessage,
        budget: &mut Budget,
        now: Millis,
    ) -> Result<(Self, Vec<ClientMessage>), ParticipantError> {
        let out_of_turn =
            ParticipantError::OutOfTurn { round: self.round(), asked: message.step(), state: self.state() };
        budget.advance(now);
        match (self, message) {
            (Self::Joined(state), ServerMessage::Cohort { list, adverts }) => {
                let (next, answer) = state.share(list, adverts, budget, now)?;
                Ok((Self::Shared(next), vec![answer]))
            }
            (Self::Shared(state), ServerMessage::Cohort { list, .. }) => {
                let answer = state.repeat(list)?;
                Ok((Self::Shared(state), vec![answer]))
            }
            (Self::Shared(state), ServerMessage::Shares(deliveries)) => {
                let next = state.contribute(deliveries, budget)?;
                let answers = next.upload_from(0);
                Ok((Self::Uploaded(next), answers))
            }
            (Self::Uploaded(state), ServerMessage::Shares(_)) => {
                // One vector is masked in a round, whatever is delivered a second time.
                let answers = state.upload_from(0);
                Ok((Self::Uploaded(state), answers))
            }
            (Self::Uploaded(state), ServerMessage::Maps(maps)) => {
                let (next, answer) = state.confirm(maps)?;
                Ok((Self::Confirmed(next), vec![answer]))
            }
            (Self::Confirmed(state), ServerMessage::Maps(maps)) => {
                let answer = state.repeat(maps)?;
                Ok((Self::Confirmed(state), vec![answer]))
            }
            (Self::Confirmed(state), ServerMessage::Unmask(request)) => {
                let (next, answer) = state.unmask(request)?;
                Ok((Self::Finished(next), vec![answer]))
            }
            (Self::Finished(state), ServerMessage::Unmask(request)) => {
                let answer = state.repeat(request)?;
                Ok((Self::Finished(state), vec![answer]))
            }
            _ => Err(out_of_turn),
        }
    }

    /// The state's name, for messages to people.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Joined(_) => "joined",
            Self::Shared(_) => "shared",
            Self::Uploaded(_) => "uploaded",
            Self::Confirmed(_) => "confirmed",
            Self::Finished(_) => "finished",
        }
    }

    fn round(&self) -> u64 {
        match self {
            Self::Joined(state) => state.round(),
            Self::Shared(state) => state.round(),
            Self::Uploaded(state) => state.round(),
            Self::Confirmed(state) => state.round(),
            Self::Finished(state) => state.round(),
        }
    }
}
