//! Uploads of masked vectors, from the wire to the disk. Must never hold more than a part of a vector in memory, let two streams
//! of one client write at once, nor keep a place for a stream that does not get on.

use super::status::{busy, refused, vector};
use crate::engine::{Handle, Refused, Target};
use crate::settings::Uploads as Settings;
use crate::vectors::{VectorError, VectorWriter};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::MaskedChunk;
use tacit_aggregation::server::VectorSummary;
use tacit_proto::fleet::{UploadPart, Uploaded};
use tokio::sync::{OwnedMutexGuard, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};

/// Uploads that wait for a place, each with no more than the transport's window of bytes; further ones come back.
const MOST_WAITING: usize = 1024;

/// Uploads that are on their way.
#[derive(Clone)]
pub(super) struct Uploads {
    engine: Handle,
    settings: Settings,
    /// Each upload that has a place holds a few parts of at most 256 KiB.
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    lanes: Lanes,
}

type Lanes = Arc<Mutex<HashMap<ClientId, Arc<Lane>>>>;

/// A client's lane: one stream writes at a time, and a newer one takes over.
#[derive(Default)]
struct Lane {
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Number of the client's newest stream.
    newest: watch::Sender<u64>,
}

/// A stream in its client's lane, which is there as long as a stream is in it.
struct Entered {
    client: ClientId,
    number: u64,
    lane: Arc<Lane>,
    lanes: Lanes,
}

/// The right to write, kept until the last write is done: one on the disk's thread goes on when its stream is gone.
type Turn = (OwnedMutexGuard<()>, Arc<Entered>);

impl Uploads {
    pub(super) fn new(engine: Handle, settings: Settings) -> Self {
        let (places, waiting) = (Semaphore::new(settings.places), Semaphore::new(MOST_WAITING));
        let (places, waiting) = (Arc::new(places), Arc::new(waiting));
        Self { engine, settings, places, waiting, lanes: Lanes::default() }
    }

    /// Takes a stream of parts.
    pub(super) async fn take(
        &self,
        client: ClientId,
        parts: Streaming<UploadPart>,
    ) -> Result<Uploaded, Status> {
        let entered = Arc::new(Entered::enter(client, &self.lanes));
        tokio::select! {
            uploaded = self.receive(&entered, parts) => uploaded,
            // Whoever still writes for this client lost its connection, or should have.
            () = entered.superseded() => Err(Status::aborted("another stream of this client took over")),
        }
    }

    async fn receive(
        &self,
        entered: &Arc<Entered>,
        parts: Streaming<UploadPart>,
    ) -> Result<Uploaded, Status> {
        let client = entered.client;
        let waiting = self.waiting.try_acquire().map_err(|_| busy("too many uploads at once"))?;
        let guard = Arc::clone(&entered.lane.writing).lock_owned().await;
        let turn = (guard, Arc::clone(entered));
        let place = self.places.acquire().await.map_err(|_| refused(&Refused::Stopping))?;
        drop(waiting);
        let mut parts = Parts::new(parts, self.settings);
        let first = parts.next().await?;
        let first =
            first.ok_or_else(|| Status::invalid_argument("the stream has no parts: send at least one"))?;
        let round = first.round.clone();
        let target = self.engine.target(client, round.clone()).await.map_err(|error| refused(&error))?;
        let (resume_at, vector) = write(turn, target, first, parts).await?;
        // Nothing of it is in memory any more.
        drop(place);
        let complete = vector.is_some();
        if let Some(vector) = vector {
            self.engine.whole(client, round, vector).await.map_err(|error| refused(&error))?;
        }
        Ok(Uploaded { resume_at, complete })
    }
}

impl Entered {
    /// Enters, in place of the client's stream before.
    fn enter(client: ClientId, lanes: &Lanes) -> Self {
        let mut open = locked(lanes);
        let lane = Arc::clone(open.entry(client).or_default());
        let mut number = 0;
        lane.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        Self { client, number, lane, lanes: Arc::clone(lanes) }
    }

    /// Ready when a newer stream has entered.
    async fn superseded(&self) {
        // The sender is this stream's own: it is there.
        let _ = self.lane.newest.subscribe().wait_for(|newest| *newest != self.number).await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = locked(&self.lanes);
        // The map's and this one.
        if Arc::strong_count(&self.lane) == 2 {
            open.remove(&self.client);
        }
    }
}

fn locked(lanes: &Lanes) -> MutexGuard<'_, HashMap<ClientId, Arc<Lane>>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts as they come, as long as they come fast enough.
struct Parts {
    stream: Streaming<UploadPart>,
    settings: Settings,
    began: Instant,
    /// Bytes that have come.
    bytes: u64,
}

impl Parts {
    fn new(stream: Streaming<UploadPart>, settings: Settings) -> Self {
        Self { stream, settings, began: Instant::now(), bytes: 0 }
    }

    /// The next part, or the end.
    async fn next(&mut self) -> Result<Option<UploadPart>, Status> {
        let due = self.settings.due(self.began, self.bytes, Instant::now());
        let Ok(part) = timeout_at(due, self.stream.message()).await else {
            return Err(Status::deadline_exceeded("the parts come too slowly: go on with another stream"));
        };
        let part = part?;
        self.bytes += part.as_ref().map_or(0, |part| part.chunk.bytes.len() as u64);
        Ok(part)
    }
}

impl Settings {
    /// When the next part has to be there, of an upload that has sent so many bytes since it began.
    fn due(&self, began: Instant, bytes: u64, now: Instant) -> Instant {
        let patience = Duration::from_millis(self.patience);
        let earned = bytes.saturating_mul(1_000).checked_div(self.slowest).map(Duration::from_millis);
        let in_all = earned.map(|earned| began + patience + earned);
        in_all.map_or(now + patience, |in_all| in_all.min(now + patience))
    }
}

/// What has come of a vector.
enum Come {
    /// A part, and more is to come. The turn is the stream's until its last write is over, whoever still waits for it.
    Part(VectorWriter, Turn),
    /// Whatever came in this stream, on disk.
    Durable(u64, Option<VectorSummary>),
}

impl Come {
    fn append(mut writer: VectorWriter, turn: Turn, chunk: &MaskedChunk) -> Result<Self, VectorError> {
        writer.append(chunk.offset, &chunk.bytes)?;
        Ok(if writer.is_complete() { Self::durable(writer)? } else { Self::Part(writer, turn) })
    }

    fn durable(writer: VectorWriter) -> Result<Self, VectorError> {
        Ok(Self::Durable(writer.stored(), writer.finish()?))
    }
}

/// Writes the parts, and makes durable what has come when the stream ends or nothing is missing. How much there is then, and
/// what was seen of a whole vector.
async fn write(
    turn: Turn,
    Target { folder, header }: Target,
    UploadPart { round, chunk }: UploadPart,
    mut parts: Parts,
) -> Result<(u64, Option<VectorSummary>), Status> {
    let mut come = on_disk(move || Come::append(folder.writer(&header)?, turn, &chunk)).await?;
    loop {
        let (writer, turn) = match come {
            Come::Durable(stored, vector) => return Ok((stored, vector)),
            Come::Part(writer, turn) => (writer, turn),
        };
        come = match parts.next().await? {
            Some(part) if part.round != round => {
                return Err(Status::invalid_argument("one stream has the parts of one round"));
            }
            Some(part) => on_disk(move || Come::append(writer, turn, &part.chunk)).await?,
            None => on_disk(move || (Come::durable(writer), turn).0).await?,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_due_before_patience_ends_and_before_the_pace_is_too_slow() {
        let settings = Settings { places: 1, patience: 2_000, slowest: 100 };
        let began = Instant::now();
        let due = |bytes, after| {
            let now = began + Duration::from_millis(after);
            settings.due(began, bytes, now).duration_since(began).as_millis()
        };
        // The first, one of a fast upload, one of an upload of a byte a second, one of just the slowest pace.
        assert_eq!(
            (due(0, 0), due(10_000, 500), due(1, 1_000), due(150, 3_000)),
            (2_000, 2_500, 2_010, 3_500)
        );
        let patient = Settings { slowest: 0, ..settings };
        let now = began + Duration::from_secs(9);
        assert_eq!(patient.due(began, 1, now), now + Duration::from_secs(2), "no pace is asked for");
    }

    #[test]
    fn a_lane_is_there_as_long_as_a_stream_is_in_it() {
        let lanes = Lanes::default();
        let first = Entered::enter(ClientId(7), &lanes);
        let second = Entered::enter(ClientId(7), &lanes);
        assert_ne!(first.number, second.number);
        assert!(Arc::ptr_eq(&first.lane, &second.lane));
        drop(first);
        assert_eq!(locked(&lanes).len(), 1);
        drop(second);
        assert_eq!(locked(&lanes).len(), 0);
    }
}
