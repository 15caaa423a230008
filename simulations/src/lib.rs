//! A fleet on real code: in one process, where production's rounds run in virtual time, or over the network in several.
//!
//! This crate measures; it must never hold arithmetic or protocol of its own that production would not run.

pub mod bench_secagg;
mod compare;
mod completions;
pub mod corpus;
mod error;
mod evaluate;
mod federation;
mod fleet;
pub mod load;
pub mod meter;
pub mod network;
pub mod output;
pub mod plan;
pub mod process;
pub mod progress;
mod random;
pub mod report;
mod round;
pub mod run;
pub mod sample;
pub mod scenario;
pub mod site;
pub mod sweep;
mod task;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
pub mod utility;
pub mod workers;

pub use error::SimulationError;
pub use run::{Finished, RunOptions, simulate};
pub use scenario::Scenario;
