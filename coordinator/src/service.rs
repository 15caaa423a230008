//! The gRPC services over the engine and the store. Must never hold state of a round, nor wait without a bound.

mod admin;
mod answers;
mod downloads;
mod enrolment;
mod fleet;
mod reports;
mod status;
mod uploads;

pub use admin::AdminService;
pub use answers::InPieces;
pub use enrolment::EnrolmentService;
pub use fleet::FleetService;
pub use status::{RETRY_AFTER, busy, come_back, refused};

use crate::Millis;
use std::sync::Arc;

/// The time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;
