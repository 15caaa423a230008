//! What the engine is asked to do, and how to ask it. Must never wait without a bound: a full queue is said, not hidden.

use super::board::Board;
use super::{Engine, Figures};
use crate::Millis;
use crate::round::Refusal;
use crate::vectors::VectorFolder;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::MaskedHeader;
use tacit_aggregation::server::VectorSummary;
use tacit_proto::ClientMessage;
use tacit_proto::fleet::{ReadyUpdate, Received, RoundName, Sent};
use tokio::sync::{oneshot, watch};

/// Commands that may wait for the engine; beyond that callers are told to come back.
pub const MOST_WAITING: usize = 4096;

/// An answer that comes once what it says is durable.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// What is done between two messages.
pub(super) type Errand = Box<dyn FnOnce(&mut Engine, Millis) + Send>;

/// Something for the engine to do.
pub(super) enum Command {
    /// A client has updates ready.
    Ready { client: ClientId, updates: Vec<ReadyUpdate> },
    /// A client's message of a step.
    Message { client: ClientId, round: RoundName, message: ClientMessage, reply: Reply<Sent> },
    /// Where a client's announced vector goes.
    Target { client: ClientId, round: RoundName, reply: Reply<Target> },
    /// All of a client's announced vector is on disk.
    Whole { client: ClientId, round: RoundName, vector: VectorSummary, reply: Reply<()> },
    /// What there is for a client after a step.
    Receive { client: ClientId, round: RoundName, after: Step, reply: Reply<Received> },
    /// Anything else, between two messages.
    Call(Errand),
    /// Stop after what was taken so far.
    Stop,
}

/// Where an announced vector goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The round's folder.
    pub folder: VectorFolder,
    /// The announcement.
    pub header: MaskedHeader,
}

/// Why the engine does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("the coordinator is busy: come back in a moment")]
    Busy,
    /// The coordinator stops or starts.
    #[error("the coordinator is stopping: come back when it has started again")]
    Stopping,
    /// The round is not open.
    #[error("round {round} is not open")]
    NotOpen {
        /// The round.
        round: RoundName,
    },
    /// The client has announced no vector.
    #[error("no vector was announced for round {round}: send its signed header first")]
    NotAnnounced {
        /// The round.
        round: RoundName,
    },
    /// The round refuses the message.
    #[error(transparent)]
    Round(#[from] Refusal),
    /// A file cannot be read or written.
    #[error("the coordinator's disk fails: {0}")]
    Disk(String),
    /// There is no such task.
    #[error("there is no task {name}")]
    NoTask {
        /// The name.
        name: String,
    },
    /// A request that cannot be done now, or never.
    #[error("{0}")]
    Impossible(String),
}

/// Speaks to the engine.
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    waiting: Arc<AtomicUsize>,
    board: watch::Receiver<Arc<Board>>,
    figures: Figures,
}

/// The engine's end of the queue.
pub struct Commands {
    queue: Receiver<Command>,
    waiting: Arc<AtomicUsize>,
}

impl Commands {
    /// A queue with its two ends.
    pub(super) fn new(board: watch::Receiver<Arc<Board>>, figures: Figures) -> (Handle, Self) {
        let (commands, queue) = sync_channel(MOST_WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        (Handle { commands, waiting: Arc::clone(&waiting), board, figures }, Self { queue, waiting })
    }

    /// The next command, waiting for it for a while; none when there is none. When nobody can ask any more: to stop.
    pub(super) fn next(&self, patience: Duration) -> Option<Command> {
        match self.queue.recv_timeout(patience) {
            Ok(command) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                Some(command)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Stop),
        }
    }
}

impl Handle {
    /// The newest picture of all tasks, and a way to wait for the next.
    #[must_use]
    pub fn board(&self) -> watch::Receiver<Arc<Board>> {
        self.board.clone()
    }

    /// What the engine counts.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Commands that wait for the engine.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes that a client has updates ready.
    ///
    /// # Errors
    /// [`Refused::Busy`], [`Refused::Stopping`].
    pub fn ready(&self, client: ClientId, updates: Vec<ReadyUpdate>) -> Result<(), Refused> {
        self.post(Command::Ready { client, updates })
    }

    /// Hands in a client's message of a step; answered once it is durable.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn message(
        &self,
        client: ClientId,
        round: RoundName,
        message: ClientMessage,
    ) -> Result<Sent, Refused> {
        self.ask(|reply| Command::Message { client, round, message, reply }).await
    }

    /// Where a client's announced vector goes.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn target(&self, client: ClientId, round: RoundName) -> Result<Target, Refused> {
        self.ask(|reply| Command::Target { client, round, reply }).await
    }

    /// Says that all of a client's announced vector is on disk, but for its name, and what was seen of it; answered once that is
    /// on record.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn whole(
        &self,
        client: ClientId,
        round: RoundName,
        vector: VectorSummary,
    ) -> Result<(), Refused> {
        self.ask(|reply| Command::Whole { client, round, vector, reply }).await
    }

    /// What there is for a client after a step.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn receive(
        &self,
        client: ClientId,
        round: RoundName,
        after: Step,
    ) -> Result<Received, Refused> {
        self.ask(|reply| Command::Receive { client, round, after, reply }).await
    }

    /// Does something between two messages; answered once what it changed is durable.
    ///
    /// # Errors
    /// [`Refused`], its own or the function's.
    pub async fn call<T: Send + 'static>(
        &self,
        function: impl FnOnce(&mut Engine, Millis) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        self.ask(|reply| {
            Command::Call(Box::new(move |engine, now| {
                let result = function(engine, now);
                engine.answer(reply, result);
            }))
        })
        .await
    }

    /// Asks the engine to stop after what it was asked so far.
    ///
    /// # Errors
    /// [`Refused::Busy`]: ask again. [`Refused::Stopping`]: it has stopped.
    pub fn stop(&self) -> Result<(), Refused> {
        self.post(Command::Stop)
    }

    fn post(&self, command: Command) -> Result<(), Refused> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.commands.try_send(command).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refused::Busy,
                TrySendError::Disconnected(_) => Refused::Stopping,
            }
        })
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.post(command(reply))?;
        answer.await.unwrap_or(Err(Refused::Stopping))
    }
}
