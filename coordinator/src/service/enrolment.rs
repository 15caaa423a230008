//! Enrolment over gRPC. Must never tell a caller more than its own token or ticket entitles it to.

use super::status::come_back;
use crate::enrolment::{Enrolment, EnrolmentError};
use std::sync::Arc;
use tacit_proto::enrolment::{Credentials, Enrol, Enrolled, Fetch};
use tacit_proto::services::enrolment::enrolment_server;
use tonic::{Code, Request, Response, Status};

/// When to ask again whether the identity root has decided, in milliseconds.
const DECISION_RETRY: u64 = 5_000;
/// When to come back after a failure, in milliseconds.
const FAILURE_RETRY: u64 = 10_000;

/// The service that takes machines in.
#[derive(Clone)]
pub struct EnrolmentService {
    enrolment: Arc<Enrolment>,
    clock: super::Clock,
}

impl EnrolmentService {
    /// Over the tables of enrolment.
    #[must_use]
    pub fn new(enrolment: Arc<Enrolment>, clock: super::Clock) -> Self {
        Self { enrolment, clock }
    }
}

/// Runs what blocks where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EnrolmentError> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map(Response::new).map_err(|error| status(&error)),
        Err(_) => Err(come_back(Code::Unavailable, "the request was interrupted: ask again", FAILURE_RETRY)),
    }
}

pub(super) fn status(error: &EnrolmentError) -> Status {
    let message = error.to_string();
    match error {
        EnrolmentError::Token | EnrolmentError::Ticket => Status::not_found(message),
        EnrolmentError::Used => Status::already_exists(message),
        EnrolmentError::Signatures | EnrolmentError::Keys | EnrolmentError::TooMany { .. } => {
            Status::invalid_argument(message)
        }
        EnrolmentError::Full => come_back(Code::ResourceExhausted, message, FAILURE_RETRY),
        EnrolmentError::Undecided => come_back(Code::Unavailable, message, DECISION_RETRY),
        EnrolmentError::Refused => Status::permission_denied(message),
        EnrolmentError::Client { .. } => Status::not_found(message),
        EnrolmentError::Store(_) => {
            tracing::error!(%error, "enrolment fails");
            come_back(Code::Unavailable, "the store fails: ask the operator", FAILURE_RETRY)
        }
        _ => Status::failed_precondition(message),
    }
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for EnrolmentService {
    async fn enrol(&self, request: Request<Enrol>) -> Result<Response<Enrolled>, Status> {
        let (enrolment, now) = (Arc::clone(&self.enrolment), (self.clock)() / 1000);
        let enrol = request.into_inner();
        blocking(move || enrolment.enrol(&enrol, now).map(|ticket| Enrolled { ticket })).await
    }

    async fn fetch(&self, request: Request<Fetch>) -> Result<Response<Credentials>, Status> {
        let (enrolment, Fetch { ticket }) = (Arc::clone(&self.enrolment), request.into_inner());
        blocking(move || enrolment.fetch(&ticket)).await
    }
}
