//! The gRPC services over the engine and the store. Must never hold state of a round, nor wait without a bound.

pub mod fleet;
mod status;
mod uploads;

pub use fleet::FleetService;
pub use status::refused;
