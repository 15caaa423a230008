//! Why a client bears no more. Must never leave out what its owner could do about it.

use super::Scope;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{BelowFloor, TaskName};
use tacit_privacy::{AccountantError, Adjacency};

/// A cost that this client does not bear.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BudgetError {
    /// A limit that limits nothing.
    #[error("the limit {name} is {value}; it must be {expected}")]
    Limit {
        /// Its path.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// The round would take the client past its limit.
    #[error(
        "round {round} would take client {client} past its limit of epsilon {limit} at delta {delta}: it has spent {spent}, \
         and stays out"
    )]
    Exceeded {
        /// The round.
        round: u64,
        /// This client.
        client: ClientId,
        /// What it has spent.
        spent: f64,
        /// Its limit.
        limit: f64,
        /// The delta at which both are stated.
        delta: f64,
    },
    /// The round would take the client past its limit for a period, or for one task.
    #[error(
        "round {round} of task {task} would take client {client} past its limit of epsilon {limit} at delta {delta} {scope}: it has \
         spent {spent} of it, and stays out for now"
    )]
    Scope {
        /// The task.
        task: TaskName,
        /// The round.
        round: u64,
        /// This client.
        client: ClientId,
        /// Over what the limit goes.
        scope: Scope,
        /// What it has spent of it.
        spent: f64,
        /// The limit.
        limit: f64,
        /// The delta at which both are stated.
        delta: f64,
    },
    /// A stored budget that contradicts itself.
    #[error(
        "debit {debit} of the stored budget is damaged: it has no cost, or is later than the budget's own clock"
    )]
    Damaged {
        /// Its place, from 0.
        debit: usize,
    },
    /// Epsilon is stated under a weaker adjacency than the client means.
    #[error(
        "round {round} states epsilon under {} adjacency, but this client's limit is meant under {}: it stays out",
        name(*.offered), name(*.floor)
    )]
    Adjacency {
        /// The round.
        round: u64,
        /// The plan's adjacency.
        offered: Adjacency,
        /// The client's floor.
        floor: Adjacency,
    },
    /// The coordinator would see the sum without noise.
    #[error(
        "round {round} trusts the coordinator to add the noise, and its owner has not allowed this client to do so: it stays \
         out; `allow_central` in its limits allows it"
    )]
    CentralNotAllowed {
        /// The round.
        round: u64,
    },
    /// One vector is masked in a context.
    #[error(
        "client {client} has masked another vector in this context of round {round}: it sends that one again, or leaves the \
         round"
    )]
    AnotherUpload {
        /// The round.
        round: u64,
        /// This client.
        client: ClientId,
    },
    /// A vector for which nothing was debited.
    #[error("nothing was debited for this context of round {round}: debit it before anything is masked")]
    NotDebited {
        /// The round.
        round: u64,
    },
    /// The plan is weaker than a floor.
    #[error(transparent)]
    BelowFloor(#[from] BelowFloor),
    /// What was spent cannot be stated.
    #[error(transparent)]
    Cost(#[from] AccountantError),
}

fn name(adjacency: Adjacency) -> &'static str {
    match adjacency {
        Adjacency::ZeroOut => "zero-out",
        Adjacency::ReplaceOne => "replace-one",
    }
}
