//! Uploads of masked vectors, from the wire to the disk. Must never hold more than a part of a vector in memory, nor let two
//! streams of one client write at once.

use super::status::{busy, refused, vector};
use crate::engine::{Handle, Target};
use crate::vectors::{Stored, VectorError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tacit_aggregation::identity::ClientId;
use tacit_proto::fleet::{UploadPart, Uploaded};
use tokio::sync::{Notify, Semaphore};
use tonic::{Status, Streaming};

/// Uploads at once. Each holds a few parts of at most 1 MiB.
const MOST_UPLOADS: usize = 32;
/// How long a part may take to come.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Uploads that are on their way.
#[derive(Clone)]
pub(super) struct Uploads {
    engine: Handle,
    permits: Arc<Semaphore>,
    open: Arc<Mutex<HashMap<ClientId, Arc<Lane>>>>,
}

/// A client's place: one stream writes at a time, and a newer one takes over.
#[derive(Default)]
struct Lane {
    writing: tokio::sync::Mutex<()>,
    superseded: Notify,
}

impl Uploads {
    pub(super) fn new(engine: Handle) -> Self {
        Self { engine, permits: Arc::new(Semaphore::new(MOST_UPLOADS)), open: Arc::default() }
    }

    /// Takes a stream of parts.
    pub(super) async fn take(
        &self,
        client: ClientId,
        mut parts: Streaming<UploadPart>,
    ) -> Result<Uploaded, Status> {
        let _permit = self.permits.try_acquire().map_err(|_| busy("too many uploads at once"))?;
        let first = next(&mut parts).await?;
        let first =
            first.ok_or_else(|| Status::invalid_argument("the stream has no parts: send at least one"))?;
        let target =
            self.engine.target(client, first.round.clone()).await.map_err(|error| refused(&error))?;
        let lane = self.lane(client);
        // Whoever still writes for this client lost its connection, or should have.
        lane.superseded.notify_waiters();
        let writing = lane.writing.lock().await;
        let round = first.round.clone();
        let stored = tokio::select! {
            stored = write(&target, first, parts) => stored,
            () = lane.superseded.notified() => Err(Status::aborted("another stream of this client took over")),
        };
        drop(writing);
        self.leave(client, lane);
        match stored? {
            Stored::Part(resume_at) => Ok(Uploaded { resume_at, complete: false }),
            Stored::Whole => {
                self.engine.whole(client, round).await.map_err(|error| refused(&error))?;
                Ok(Uploaded { resume_at: target.header.length, complete: true })
            }
        }
    }

    fn lane(&self, client: ClientId) -> Arc<Lane> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.entry(client).or_default())
    }

    fn leave(&self, client: ClientId, lane: Arc<Lane>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lane);
        if open.get(&client).is_some_and(|lane| Arc::strong_count(lane) == 1) {
            open.remove(&client);
        }
    }
}

/// Writes the parts, and makes durable what has come when the stream ends.
async fn write(
    target: &Target,
    first: UploadPart,
    mut parts: Streaming<UploadPart>,
) -> Result<Stored, Status> {
    let round = first.round.clone();
    let mut part = Some(first);
    while let Some(UploadPart { round: named, chunk }) = part {
        if named != round {
            return Err(Status::invalid_argument("one stream has the parts of one round"));
        }
        let header = target.header.clone();
        on_disk(target, move |folder| folder.append(&header, chunk.offset, &chunk.bytes)).await?;
        part = next(&mut parts).await?;
    }
    let header = target.header.clone();
    on_disk(target, move |folder| folder.sync(&header)).await
}

async fn next(parts: &mut Streaming<UploadPart>) -> Result<Option<UploadPart>, Status> {
    match tokio::time::timeout(PART_TIMEOUT, parts.message()).await {
        Ok(part) => part,
        Err(_) => Err(Status::deadline_exceeded("no part came for a while: go on with another stream")),
    }
}

async fn on_disk(
    target: &Target,
    work: impl FnOnce(&crate::vectors::VectorFolder) -> Result<Stored, VectorError> + Send + 'static,
) -> Result<Stored, Status> {
    let folder = target.folder.clone();
    match tokio::task::spawn_blocking(move || work(&folder)).await {
        Ok(result) => result.map_err(|error| vector(&error)),
        Err(_) => Err(Status::internal("the upload was interrupted: go on with another stream")),
    }
}
