//! How a round ended, with the state of the task after it: one value, stored in one batch.
//! Must never let a release and its debit be stored apart.

use super::driver::TaskState;
use crate::account::AccountError;
use crate::optimizer::OptimizerError;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::server::{Abort, AbortReason, ServerError};
use tacit_privacy::ledger::Entry;
use tacit_privacy::{PipelineError, ReleaseError};
use tacit_proto::AdapterVersion;
use tacit_proto::PlanError;
use tacit_proto::adapter::AdapterError;

/// The end of a round, and the task after it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one outcome per round")]
pub enum Outcome {
    /// A new version of the adapter.
    Committed {
        /// What was released.
        released: Released,
        /// The task from here on: adapter and optimiser.
        state: TaskState,
    },
    /// No release.
    Failed {
        /// Why, and who paid.
        failed: Failed,
        /// The task from here on: adapter and optimiser as before.
        state: TaskState,
    },
}

impl Outcome {
    /// The task from here on.
    #[must_use]
    pub fn state(&self) -> &TaskState {
        match self {
            Self::Committed { state, .. } | Self::Failed { state, .. } => state,
        }
    }

    /// Gives the task on to its next round.
    #[must_use]
    pub fn into_state(self) -> TaskState {
        match self {
            Self::Committed { state, .. } | Self::Failed { state, .. } => state,
        }
    }
}

/// What a round released.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// Clients in the closed cohort.
    pub cohort: u32,
    /// Members whose updates are in the sum, in increasing order.
    pub survivors: Vec<ClientId>,
    /// The noised mean of their clipped updates.
    pub mean: Vec<f32>,
    /// The new version.
    pub adapter: AdapterVersion,
    /// Its entry in the ledger, a commit, with the largest epsilon over clients.
    pub entry: Entry,
    /// Members that were caught breaking the protocol.
    pub faults: Vec<ServerError>,
}

/// A round that released nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The round.
    pub round: u64,
    /// The step that it reached.
    pub step: Step,
    /// Why.
    pub reason: FailureReason,
    /// Who paid in full all the same, because an Unmask request had gone out.
    pub debited: Vec<ClientId>,
}

/// Why a round released nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FailureReason {
    /// Secure aggregation aborted it.
    #[error(transparent)]
    Aborted(#[from] Abort),
    /// The plan does not cover the cohort that came together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A stored vector cannot be read.
    #[error("a stored vector cannot be read: {0}")]
    Storage(String),
    /// The operator ended the round.
    #[error("the operator ended the round")]
    Stopped,
    /// A stored vector could not be summed.
    #[error("a stored vector cannot be summed: {0}")]
    Vector(ServerError),
    /// The account does not take the cost.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The sum cannot be decoded.
    #[error(transparent)]
    Decode(#[from] PipelineError),
    /// The coordinator's noise cannot be added.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The coordinator has no key for its noise.
    #[error("the plan makes the coordinator add the noise, and its key is gone: nothing is released")]
    NoNoiseKey,
    /// The optimiser cannot use the mean.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// The result is no adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Fewer survivors than a plain sum needs, or strangers among them.
    #[error(
        "a plain sum over {survivors} clients is refused: it needs at least {n_min} distinct members of the cohort"
    )]
    PlainSurvivors {
        /// Clients given.
        survivors: usize,
        /// Fewest that may be summed.
        n_min: u32,
    },
    /// A transition did not end.
    #[error("the round was interrupted between two phases")]
    Interrupted,
}

impl Failed {
    /// Whether too few clients came or stayed, so that another attempt may do better.
    #[must_use]
    pub fn for_lack_of_clients(&self) -> bool {
        let FailureReason::Aborted(abort) = &self.reason else { return false };
        matches!(
            abort.reason,
            AbortReason::Parameters(_)
                | AbortReason::TooFewShared { .. }
                | AbortReason::TooFewSurvivors { .. }
                | AbortReason::Neighbourhood { .. }
                | AbortReason::NoQuorum { .. }
                | AbortReason::Unrecoverable { .. }
        )
    }
}
