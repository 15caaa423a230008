//! Calls of a synthetic client that outlast a lost connection or a coordinator that was killed. Must never repeat a call that
//! was refused, nor come back sooner than it was asked to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tacit_client::credentials::Credentials;
use tacit_client::daemon::{is_passing, retry_after};
use tacit_proto::Wire as _;
use tacit_proto::connection::{ConnectionError, Server};
use tacit_proto::fleet::{Received, UploadPart, Uploaded};
use tacit_proto::services::fleet::fleet_client::FleetClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::client::Fault;
use super::measure::{Call, Gauges};

/// First and longest wait after a failure, before jitter.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// How a coordinator refuses parts of a vector that it does not know, or knows less of.
const FORGOTTEN: [Code; 3] = [Code::FailedPrecondition, Code::OutOfRange, Code::DataLoss];

/// The line to the coordinator.
pub(super) struct Line {
    fleet: FleetClient<Channel>,
    gauges: Arc<Gauges>,
    patience: Duration,
    /// Since the last call that did not fail.
    failures: u32,
}

impl Line {
    /// Connects, however often it takes.
    pub(super) async fn open(
        server: &Server,
        credentials: &Credentials,
        gauges: Arc<Gauges>,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let certificate = (credentials.issued.transport_certificate.as_slice(), &credentials.keys.transport);
        let (until, mut failures) = (Instant::now() + patience, 0);
        let channel = loop {
            match server.connect(Some(certificate)).await {
                Ok(channel) => break channel,
                Err(ConnectionError::Unreachable { .. }) if Instant::now() < until => {
                    tokio::time::sleep(wait(failures, None)).await;
                    failures += 1;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let fleet = FleetClient::new(channel).max_decoding_message_size(Received::MAX_BYTES);
        Ok(Self { fleet, gauges, patience, failures: 0 })
    }

    /// Calls until there is an answer, or a refusal.
    pub(super) async fn call<T, F>(
        &mut self,
        kind: Option<Call>,
        mut call: impl FnMut(FleetClient<Channel>) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + self.patience;
        loop {
            let began = Instant::now();
            let answer = tokio::time::timeout_at(until.into(), call(self.fleet.clone())).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the coordinator does not answer")))
            {
                Ok(response) => {
                    self.failures = 0;
                    if let Some(kind) = kind {
                        self.gauges.call(kind, began.elapsed());
                    }
                    return Ok(response.into_inner());
                }
                Err(status) if is_passing(&status) && Instant::now() < until => {
                    self.come_back(&status).await;
                }
                Err(status) => return Err(Fault::Refused(Box::new(status))),
            }
        }
    }

    /// Uploads parts in one stream; nothing when it broke, or when the coordinator, started again, has forgotten the
    /// announcement or bytes that were not durable: announced anew, the upload goes on with another stream.
    pub(super) async fn upload(&mut self, parts: Vec<UploadPart>) -> Result<Option<Uploaded>, Fault> {
        let answer = self.fleet.upload(tokio_stream::iter(parts)).await;
        match answer {
            Ok(uploaded) => {
                self.failures = 0;
                Ok(Some(uploaded.into_inner()))
            }
            Err(status) if is_passing(&status) || FORGOTTEN.contains(&status.code()) => {
                self.come_back(&status).await;
                Ok(None)
            }
            Err(status) => Err(Fault::Refused(Box::new(status))),
        }
    }

    /// Waits after a failure that passes.
    async fn come_back(&mut self, status: &Status) {
        let busy = status.code() == Code::ResourceExhausted;
        let count = if busy { &self.gauges.turned_away } else { &self.gauges.failed };
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(wait(self.failures, retry_after(status))).await;
        self.failures += 1;
    }
}

/// How long to wait after a failure: what the coordinator asks for, and full jitter.
#[allow(clippy::disallowed_methods, reason = "no secret, and nothing that is to be reproducible")]
pub(crate) fn wait(failures: u32, asked: Option<Duration>) -> Duration {
    let ceiling = SHORTEST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST);
    asked.unwrap_or_default() + ceiling.mul_f64(rand::rng().random::<f64>())
}
