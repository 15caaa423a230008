//! Calls to the coordinator that outlast a lost connection. Must never repeat a call that was refused.

use super::backoff::{Backoff, asked, is_passing};
use std::time::Duration;
use tacit_proto::Wire as _;
use tacit_proto::fleet::{Download, DownloadPart, Received, UploadPart, Uploaded};
use tacit_proto::services::fleet::fleet_client::FleetClient;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

/// Longest time that a call may take; the coordinator lets go of one that waits long before.
const PATIENCE: Duration = Duration::from_secs(300);
/// First and longest wait after a failure.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

/// Why a call gives nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// This program is told to stop.
    Stopped,
    /// The coordinator refuses.
    Refused(Status),
}

/// The line to the coordinator.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) client: FleetClient<Channel>,
    /// For published files: theirs are the only answers that may be compressed.
    files: FleetClient<Channel>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Line {
    pub(super) fn new(channel: Channel, stop: watch::Receiver<bool>) -> Self {
        // The limit is that of a message after it was decompressed.
        let files = FleetClient::new(channel.clone())
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(DownloadPart::MAX_BYTES);
        let client = FleetClient::new(channel).max_decoding_message_size(Received::MAX_BYTES);
        Self { client, files, stop }
    }

    /// Whether this program is told to stop.
    pub(super) fn is_stopped(&self) -> bool {
        // A sender that is gone has nothing more to say.
        *self.stop.borrow()
    }

    /// Waits, unless told to stop.
    pub(super) async fn sleep(&mut self, wait: Duration) -> Result<(), CallError> {
        tokio::select! {
            () = stopped(&mut self.stop) => Err(CallError::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Calls once.
    pub(super) async fn once<T>(
        &mut self,
        call: impl AsyncFnOnce(&mut FleetClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let answer = tokio::select! {
            () = stopped(&mut self.stop) => return Err(CallError::Stopped),
            answer = tokio::time::timeout(PATIENCE, call(&mut self.client)) => answer,
        };
        let answer =
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the coordinator does not answer")));
        answer.map(Response::into_inner).map_err(CallError::Refused)
    }

    /// Begins to download a file.
    pub(super) async fn download(&mut self, request: Download) -> Result<Streaming<DownloadPart>, CallError> {
        let mut files = self.files.clone();
        self.once(async |_| files.download(request).await).await
    }

    /// Uploads a stream of parts.
    pub(super) async fn upload(&mut self, parts: ReceiverStream<UploadPart>) -> Result<Uploaded, CallError> {
        // However slow the line, as long as parts go out: the coordinator ends a stream that stands still.
        let answer = tokio::select! {
            () = stopped(&mut self.stop) => return Err(CallError::Stopped),
            answer = self.client.upload(parts) => answer,
        };
        answer.map(Response::into_inner).map_err(CallError::Refused)
    }

    /// The next part of a stream; none at its end.
    pub(super) async fn next<T>(&mut self, stream: &mut Streaming<T>) -> Result<Option<T>, CallError> {
        tokio::select! {
            () = stopped(&mut self.stop) => Err(CallError::Stopped),
            part = tokio::time::timeout(PATIENCE, stream.message()) => part
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("the coordinator sends nothing more")))
                .map_err(CallError::Refused),
        }
    }

    /// Calls until there is an answer: as often as the connection breaks, or the coordinator asks to come later, for as long as
    /// `until` says.
    pub(super) async fn until_answered<T>(
        &mut self,
        until: tokio::time::Instant,
        mut call: impl AsyncFnMut(&mut FleetClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        loop {
            match self.once(&mut call).await {
                Err(CallError::Refused(status))
                    if is_passing(&status) && tokio::time::Instant::now() < until =>
                {
                    let wait = backoff.next(asked(&status));
                    tracing::debug!(code = ?status.code(), message = status.message(), ?wait, "asking again");
                    self.sleep(wait).await?;
                }
                answer => return answer,
            }
        }
    }
}

/// Ends when this program is told to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could say it.
        std::future::pending::<()>().await;
    }
}
