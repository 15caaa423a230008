//! Uploads of masked vectors, from the wire to the disk. Must never hold more than a part of a vector in memory, nor let two
//! streams of one client write at once.

use super::status::{busy, refused, vector};
use crate::engine::{Handle, Refused, Target};
use crate::vectors::{VectorError, VectorWriter};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::MaskedChunk;
use tacit_aggregation::server::VectorSummary;
use tacit_proto::fleet::{UploadPart, Uploaded};
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore};
use tonic::{Status, Streaming};

/// Uploads that are read at once. Each holds a few parts of at most 256 KiB.
const MOST_UPLOADS: usize = 64;
/// Uploads that wait for their turn, each with no more than the transport's window of bytes; further ones come back.
const MOST_WAITING: usize = 1024;
/// How long a part may take to come.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Uploads that are on their way.
#[derive(Clone)]
pub(super) struct Uploads {
    engine: Handle,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    lanes: Lanes,
}

/// The lanes of the clients that upload.
type Lanes = Arc<Mutex<HashMap<ClientId, Arc<Lane>>>>;

/// A client's lane: one stream writes at a time, and a newer one takes over.
#[derive(Default)]
struct Lane {
    writing: Arc<tokio::sync::Mutex<()>>,
    superseded: Notify,
}

/// A stream in its client's lane.
struct InLane {
    lanes: Lanes,
    client: ClientId,
    lane: Arc<Lane>,
}

impl InLane {
    fn enter(lanes: &Lanes, client: ClientId) -> Self {
        let mut open = lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = Arc::clone(open.entry(client).or_default());
        Self { lanes: Arc::clone(lanes), client, lane }
    }
}

impl Drop for InLane {
    fn drop(&mut self) {
        let mut open = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one's.
        if Arc::strong_count(&self.lane) == 2 {
            open.remove(&self.client);
        }
    }
}

impl Uploads {
    pub(super) fn new(engine: Handle) -> Self {
        let (places, waiting) = (Semaphore::new(MOST_UPLOADS), Semaphore::new(MOST_WAITING));
        Self { engine, places: Arc::new(places), waiting: Arc::new(waiting), lanes: Lanes::default() }
    }

    /// Takes a stream of parts.
    pub(super) async fn take(
        &self,
        client: ClientId,
        mut parts: Streaming<UploadPart>,
    ) -> Result<Uploaded, Status> {
        let waiting = self.waiting.try_acquire().map_err(|_| busy("too many uploads at once"))?;
        let place = self.places.acquire().await.map_err(|_| refused(&Refused::Stopping))?;
        drop(waiting);
        let first = next(&mut parts).await?;
        let first =
            first.ok_or_else(|| Status::invalid_argument("the stream has no parts: send at least one"))?;
        let target =
            self.engine.target(client, first.round.clone()).await.map_err(|error| refused(&error))?;
        let stream = InLane::enter(&self.lanes, client);
        // Whoever still writes for this client lost its connection, or should have.
        stream.lane.superseded.notify_waiters();
        let round = first.round.clone();
        let stored = tokio::select! {
            stored = write(target, Arc::clone(&stream.lane.writing), first, parts) => stored,
            () = stream.lane.superseded.notified() => Err(Status::aborted("another stream of this client took over")),
        };
        // Nothing of it is in memory any more.
        drop((stream, place));
        let (resume_at, vector) = stored?;
        let complete = vector.is_some();
        if let Some(vector) = vector {
            self.engine.whole(client, round, vector).await.map_err(|error| refused(&error))?;
        }
        Ok(Uploaded { resume_at, complete })
    }
}

/// What has come of a vector.
enum Come {
    /// A part, and more is to come. The lane is this stream's until its last write is over, whoever still waits for it.
    Part(VectorWriter, OwnedMutexGuard<()>),
    /// Whatever came in this stream, on disk.
    Durable(u64, Option<VectorSummary>),
}

impl Come {
    fn append(
        mut writer: VectorWriter,
        lane: OwnedMutexGuard<()>,
        chunk: &MaskedChunk,
    ) -> Result<Self, VectorError> {
        writer.append(chunk.offset, &chunk.bytes)?;
        Ok(if writer.is_complete() { Self::durable(writer)? } else { Self::Part(writer, lane) })
    }

    fn durable(writer: VectorWriter) -> Result<Self, VectorError> {
        Ok(Self::Durable(writer.stored(), writer.finish()?))
    }
}

/// Writes the parts, and makes durable what has come when the stream ends or nothing is missing. How much there is then, and
/// what was seen of a whole vector.
async fn write(
    Target { folder, header }: Target,
    lane: Arc<tokio::sync::Mutex<()>>,
    UploadPart { round, chunk }: UploadPart,
    mut parts: Streaming<UploadPart>,
) -> Result<(u64, Option<VectorSummary>), Status> {
    let lane = lane.lock_owned().await;
    let mut come = on_disk(move || Come::append(folder.writer(&header)?, lane, &chunk)).await?;
    loop {
        let (writer, lane) = match come {
            Come::Durable(stored, vector) => return Ok((stored, vector)),
            Come::Part(writer, lane) => (writer, lane),
        };
        come = match next(&mut parts).await? {
            Some(part) if part.round != round => {
                return Err(Status::invalid_argument("one stream has the parts of one round"));
            }
            Some(part) => on_disk(move || Come::append(writer, lane, &part.chunk)).await?,
            None => on_disk(move || (Come::durable(writer), lane).0).await?,
        };
    }
}

async fn next(parts: &mut Streaming<UploadPart>) -> Result<Option<UploadPart>, Status> {
    match tokio::time::timeout(PART_TIMEOUT, parts.message()).await {
        Ok(part) => part,
        Err(_) => Err(Status::deadline_exceeded("no part came for a while: go on with another stream")),
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VectorError> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| vector(&error)),
        Err(_) => Err(Status::internal("the upload was interrupted: go on with another stream")),
    }
}
