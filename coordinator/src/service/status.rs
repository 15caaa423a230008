//! Errors as gRPC statuses: the one place where they are mapped. Must never tell a stranger more than a member may know.

use crate::engine::Refused;
use crate::round::Refusal;
use crate::vectors::VectorError;
use tacit_aggregation::server::ServerError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata key that says when to come back, in milliseconds.
pub const RETRY_AFTER: &str = "retry-after-ms";
/// When to come back to a busy coordinator, in milliseconds; clients add jitter.
const BUSY_FOR: u64 = 500;
/// When to come back to one that stops.
const STOPPED_FOR: u64 = 2_000;

/// A status that says when to come back.
#[must_use]
pub fn come_back(code: Code, message: impl Into<String>, after: u64) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(RETRY_AFTER, MetadataValue::from(after));
    status
}

/// Too much at once.
#[must_use]
pub fn busy(what: &str) -> Status {
    come_back(Code::ResourceExhausted, format!("{what}: come back in a moment"), BUSY_FOR)
}

/// What the engine refuses.
#[must_use]
pub fn refused(error: &Refused) -> Status {
    let message = error.to_string();
    match error {
        Refused::Busy => come_back(Code::ResourceExhausted, message, BUSY_FOR),
        Refused::Stopping => come_back(Code::Unavailable, message, STOPPED_FOR),
        Refused::NotOpen { .. } => Status::failed_precondition(message),
        // What was announced to a process that has died since is announced again, and the upload goes on.
        Refused::NotAnnounced { .. } => Status::aborted(message),
        Refused::Round(refusal) => Status::new(of_round(refusal), message),
        Refused::Disk(_) => come_back(Code::Unavailable, message, STOPPED_FOR),
        Refused::NoTask { .. } => Status::not_found(message),
        Refused::Impossible(_) => Status::failed_precondition(message),
    }
}

fn of_round(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NotInvited { .. } => Code::PermissionDenied,
        Refusal::Impostor { .. } => Code::Unauthenticated,
        Refusal::OutOfStep { .. } | Refusal::Upload { .. } => Code::FailedPrecondition,
        Refusal::Protocol { error, .. } => match error {
            ServerError::TwoMessages { .. } => Code::AlreadyExists,
            ServerError::Excluded { .. } => Code::PermissionDenied,
            ServerError::VectorDigest { .. } => Code::DataLoss,
            _ => Code::InvalidArgument,
        },
    }
}

/// A vector that cannot be stored.
#[must_use]
pub(super) fn vector(error: &VectorError) -> Status {
    let message = error.to_string();
    match error {
        VectorError::Disk { .. } => come_back(Code::Unavailable, message, STOPPED_FOR),
        VectorError::Gap { .. } => Status::out_of_range(message),
        VectorError::Size { .. } => Status::invalid_argument(message),
        VectorError::Digest { .. } => Status::data_loss(message),
    }
}
