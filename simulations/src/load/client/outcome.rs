//! What a synthetic client says when it is done, or cannot go on. Must never hold a secret.

use std::sync::Arc;

use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::CohortList;
use tacit_aggregation::params::TaskName;
use tacit_client::{BudgetError, ParticipantError};
use tacit_privacy::ledger::head::HeadError;
use tacit_proto::adapter::AdapterError;
use tacit_proto::connection::ConnectionError;
use tacit_proto::fleet::RoundName;
use tacit_proto::{AdapterVersion, Manifest, ManifestError, PlanError, RoundPlan};
use tonic::Status;

use super::Moment;
use crate::load::expected::Closed;

/// Why a client does not go on at all.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The coordinator refuses a call, or did not answer for too long.
    #[error("the coordinator says {code}: {message}", code = .0.code(), message = .0.message())]
    Refused(Box<Status>),
    /// The ledger contradicts itself.
    #[error(transparent)]
    Ledger(#[from] HeadError),
    /// The budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The plan is not the coordinator's.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The manifest is not the coordinator's.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The coordinator offers nothing of the task.
    #[error(
        "the coordinator offers nothing of task {0}: create it, and wait until its first round is planned"
    )]
    NoOffer(TaskName),
    /// A published file is not what its manifest says.
    #[error("version {version} of the adapter is not what its manifest says: {problem}")]
    Damaged {
        /// The version.
        version: u64,
        /// What differs.
        problem: &'static str,
    },
    /// The process stops.
    #[error("the work was interrupted")]
    Interrupted,
}

/// How a round ended for a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The coordinator says that it released a sum.
    Committed,
    /// The coordinator says that it did not, or that this client has no part in it any more.
    Failed(String),
    /// The client refused something, and left.
    Refused(ParticipantError),
    /// The hook made it leave.
    Left(Moment),
}

/// A round as a client went through it.
#[derive(Clone, Debug)]
pub struct Played {
    /// The round.
    pub round: RoundName,
    /// Its plan.
    pub plan: RoundPlan,
    /// The cohort's list, if it was closed with this client.
    pub list: Option<Arc<CohortList>>,
    /// What followed from that.
    pub closed: Option<Closed>,
    /// Members that the coordinator has said survived.
    pub survivors: Option<Vec<ClientId>>,
    /// The last step whose whole answer the coordinator has acknowledged.
    pub acknowledged: Option<Step>,
    /// Answers that were refused, as the coordinator put it: the steps were over.
    pub late: Vec<String>,
    /// How it ended.
    pub ended: Ended,
}

/// A version of the adapter as it was downloaded and checked.
#[derive(Clone, Debug)]
pub struct Downloaded {
    /// The signed statement about it.
    pub manifest: Manifest,
    /// The version.
    pub adapter: AdapterVersion,
}
