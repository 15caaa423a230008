//! Clients that speak to a real coordinator over the real wire with updates that are made up, and what their rounds must give.
//! Must never do in a client's place what production would not: masks, noise, budget and ledger are production's.

pub mod bare;
pub mod client;
pub mod expected;
pub(crate) mod line;
pub mod measure;
mod rate;
pub mod run;
pub mod task;
