//! Downloads of published files, from the disk to the wire. Must never read ahead of the receiver by more than a few parts.

use super::fleet::PartResult;
use super::status::{busy, come_back};
use crate::publication::{PublicationError, Publisher};
use std::sync::Arc;
use tacit_proto::fleet::{Download, DownloadPart};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Downloads at once.
const MOST_DOWNLOADS: usize = 64;
/// Parts that wait for a slow receiver.
const PARTS_AHEAD: usize = 2;
/// When to come back after the disk failed, in milliseconds.
const DISK_RETRY: u64 = 10_000;

/// The parts of a file.
pub(super) type Parts = ReceiverStream<PartResult>;

/// Files that are on their way out.
#[derive(Clone)]
pub(super) struct Downloads {
    publisher: Publisher,
    permits: Arc<Semaphore>,
}

impl Downloads {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self { publisher, permits: Arc::new(Semaphore::new(MOST_DOWNLOADS)) }
    }

    /// Opens a file, and sends it as fast as it is taken.
    pub(super) async fn open(&self, download: Download) -> Result<Parts, Status> {
        let permit =
            Arc::clone(&self.permits).try_acquire_owned().map_err(|_| busy("too many downloads at once"))?;
        let publisher = self.publisher.clone();
        let opened =
            tokio::task::spawn_blocking(move || publisher.open_blob(&download.digest, download.offset));
        let mut blob = match opened.await {
            Ok(opened) => opened.map_err(|error| status(&error))?,
            Err(_) => return Err(Status::internal("the download was interrupted: ask again")),
        };
        let (sender, parts) = mpsc::channel(PARTS_AHEAD);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            while let Some(part) = blob.next_part().transpose() {
                let part = part.map(|bytes| DownloadPart { bytes }).map_err(|error| status(&error));
                let failed = part.is_err();
                // The receiver may have gone.
                if sender.blocking_send(part).is_err() || failed {
                    break;
                }
            }
        });
        Ok(ReceiverStream::new(parts))
    }
}

fn status(error: &PublicationError) -> Status {
    let message = error.to_string();
    match error {
        PublicationError::NoSuchFile { .. } => Status::not_found("no published file has this digest"),
        PublicationError::Offset { .. } => Status::out_of_range(message),
        PublicationError::Damaged { .. } => Status::data_loss("the file is damaged here: tell the operator"),
        _ => come_back(Code::Unavailable, "the file cannot be read now", DISK_RETRY),
    }
}
