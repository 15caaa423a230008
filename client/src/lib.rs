//! The client: local training, contribution to a round, its own privacy budget.
//!
//! One client's side of a round ([`participant`]) is a value moved by the coordinator's messages; time, randomness and the
//! budget are arguments. Around it the daemon ([`daemon`]) talks to the coordinator, and keeps a folder. An update must never
//! leave this machine but clipped, rotated, noised and masked.

pub mod accounts;
pub mod adapters;
pub mod budget;
pub mod code;
pub mod contribution;
pub mod credentials;
pub mod daemon;
pub mod enrolment;
pub mod folder;
pub mod keys;
pub mod ledger;
pub mod participant;
pub mod round;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod training;
pub mod update;

pub use budget::{Budget, BudgetError, Limits, Participation, Period};
pub use contribution::contribute;
pub use participant::{Member, Participant, ParticipantError};
pub use tacit_proto::connection;

/// Unix time in milliseconds.
pub type Millis = u64;
