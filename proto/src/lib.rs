//! Wire messages of Tacit and their conversion to domain types; the only code that knows protobuf.
//!
//! Domain types come out and go in: [`Wire`] turns a message into bytes and back, and no generated type is public. The
//! signed [`plan`] of a round lives here as well, because coordinator and client must read it alike, and know nothing of
//! each other. This crate must never decide anything about a round.

pub mod adapter;
pub mod admin;
mod canonical;
pub mod codec;
pub mod connection;
pub mod crash;
pub mod enrolment;
pub mod fleet;
pub mod ledger;
pub mod manifest;
pub mod messages;
pub mod plan;
pub mod services;
mod wire;

pub use adapter::AdapterVersion;
pub use manifest::{Channel, Manifest, ManifestError, SignedManifest};
pub use messages::{ClientMessage, ServerMessage};
pub use plan::{
    AdapterShape, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining, PlanError, PrivacyTerms,
    RoundPlan, SignedPlan, Trust,
};
pub use wire::{CommitmentCache, DecodeError, Wire, share_commitments};
