//! Downloads of published files, from the disk to the wire. Must never read ahead of the receiver by more than a few parts, nor
//! let one client take the places of all.

use super::fleet::PartResult;
use super::status::{busy, come_back};
use crate::publication::{PublicationError, Publisher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tacit_aggregation::identity::ClientId;
use tacit_proto::fleet::{Download, DownloadPart};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Downloads at once.
const MOST_DOWNLOADS: usize = 64;
/// Downloads of one client at once: one that goes on, and one of a connection that it has lost.
const MOST_EACH: usize = 2;
/// Parts that wait for a slow receiver.
const PARTS_AHEAD: usize = 2;
/// How long a receiver may take for a part: one that allows itself two kilobytes a second is in time.
const PART_TIMEOUT: Duration = Duration::from_secs(600);
/// When to come back after the disk failed, in milliseconds.
const DISK_RETRY: u64 = 10_000;

/// The parts of a file.
pub(super) type Parts = ReceiverStream<PartResult>;

/// Files that are on their way out.
#[derive(Clone)]
pub(super) struct Downloads {
    publisher: Publisher,
    permits: Arc<Semaphore>,
    open: Arc<Mutex<BTreeMap<ClientId, usize>>>,
}

/// One of a client's places, until it is dropped.
struct Place {
    client: ClientId,
    open: Arc<Mutex<BTreeMap<ClientId, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

impl Downloads {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self { publisher, permits: Arc::new(Semaphore::new(MOST_DOWNLOADS)), open: Arc::default() }
    }

    fn place(&self, client: ClientId) -> Result<Place, Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_default();
        if *count >= MOST_EACH {
            return Err(busy("this client has several downloads open already"));
        }
        *count += 1;
        Ok(Place { client, open: Arc::clone(&self.open) })
    }

    /// Opens a file for a client, and sends it as fast as it is taken.
    pub(super) async fn open(&self, client: ClientId, download: Download) -> Result<Parts, Status> {
        let place = self.place(client)?;
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
        tokio::spawn(async move {
            let _places = (permit, place);
            loop {
                let read = tokio::task::spawn_blocking(move || (blob.next_part().transpose(), blob));
                let Ok((Some(part), rest)) = read.await else { break };
                blob = rest;
                let part = part.map(|bytes| DownloadPart { bytes }).map_err(|error| status(&error));
                let failed = part.is_err();
                // The receiver may have gone, or stand still to keep others out.
                let taken = tokio::time::timeout(PART_TIMEOUT, sender.send(part)).await;
                if failed || !matches!(taken, Ok(Ok(()))) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store};
    use sha2::{Digest as _, Sha256};
    use tacit_proto::CoordinatorKey;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn clients_that_take_nothing_leave_places_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let key = Arc::new(CoordinatorKey::from_bytes(&[7; 32]));
        let publisher = Publisher::open(folder.path(), store, key).unwrap();
        let bytes = vec![5; 4 << 20];
        let digest = <[u8; 32]>::from(Sha256::digest(&bytes));
        std::fs::write(folder.path().join("blobs").join(hex::encode(digest)), &bytes).unwrap();
        let downloads = Downloads::new(publisher);
        let download = Download { digest, offset: 0 };
        let mut held = Vec::new();
        for _ in 0..MOST_DOWNLOADS {
            held.extend(downloads.open(ClientId(1), download).await);
        }
        assert_eq!(held.len(), MOST_EACH);
        let mut other = downloads.open(ClientId(2), download).await.unwrap();
        let mut received = 0;
        while let Some(part) = other.next().await {
            received += part.unwrap().bytes.len();
        }
        assert_eq!(received, bytes.len());
        held.clear();
        while downloads.open.lock().unwrap().contains_key(&ClientId(1)) {
            tokio::task::yield_now().await;
        }
        assert!(downloads.open(ClientId(1), download).await.is_ok());
    }
}
