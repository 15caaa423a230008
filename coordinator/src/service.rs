//! The gRPC services over the engine and the store. Must never hold state of a round, nor wait without a bound.

mod downloads;
pub mod fleet;
mod status;
mod uploads;

pub use fleet::{FleetService, Pace};
pub use status::{RETRY_AFTER, busy, come_back, refused};

use tacit_aggregation::identity::ClientId;
use tonic::{Request, Status};

/// The client whose connection this is.
fn caller<T>(_request: &Request<T>) -> Result<ClientId, Status> {
    Err(Status::unauthenticated(""))
}
