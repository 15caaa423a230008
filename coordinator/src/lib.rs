//! The coordinator: plans, cohorts, rounds, the server's optimiser, and the budget of every release.
//!
//! Rounds, plans, cohorts and optimisers are values moved by messages and by the time that the caller passes in. Around them
//! the [`engine`] makes everything durable before it is said, and the [`service`]s say it over TLS ([`serve`]). It must never
//! see a client's update, only the sum of many.

pub mod account;
pub mod admins;
pub mod cohort;
pub mod engine;
pub mod enrolment;
pub mod files;
pub mod identity;
pub mod metrics;
pub mod optimizer;
pub mod plain;
pub mod plan;
pub mod publication;
pub mod roster;
pub mod round;
pub mod serve;
pub mod service;
pub mod settings;
pub mod store;
pub mod task;
pub mod tls;
pub mod vectors;

pub use account::{Account, Published, Reservation};
pub use cohort::{History, SelectionError, select};
pub use optimizer::{OptimizerError, OptimizerState, ServerOptimizer};
pub use plain::plain_sum;
pub use plan::{CentralSettings, PlanSettings, PlanningError, RosterSettings, RoundStart};
pub use round::{
    Driver, Event, Keeper, MemoryKeeper, Outcome, Outgoing, Refusal, Round, RoundSetup, TaskState,
};
pub use tacit_proto::AdapterVersion;

/// Unix time in milliseconds.
pub type Millis = u64;
