//! The client: local training, contribution to a round, its own privacy budget.
//!
//! One client's side of a round is a value moved by the coordinator's messages; time, randomness and the budget are
//! arguments. What does input or output says so: [`connection`], [`adapters`]. An update must never leave this machine but
//! clipped, rotated, noised and masked.

pub mod adapters;
pub mod budget;
pub use tacit_proto::connection;
pub mod contribution;
pub mod keys;
pub mod participant;

pub use budget::{Budget, BudgetError, Limits, Participation};
pub use contribution::contribute;
pub use participant::{Member, Participant, ParticipantError};

/// Unix time in milliseconds.
pub type Millis = u64;
