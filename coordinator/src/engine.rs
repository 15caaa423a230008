//! The engine: one thread that owns every task and round. It takes commands, gathers what they change in one batch, makes that
//! durable, and only then answers. Must never answer, nor show on its board, what a crash could undo.
//!
//! When the store fails the engine stops, and with it the process: what is durable is the truth, and the next start finds it.

pub mod board;
pub mod command;
mod figures;
mod keeper;
mod recover;
pub mod tables;
mod task;

pub use board::{Board, TaskStatus, TaskView};
pub use command::{Commands, Handle, MOST_WAITING, Refused, Target};
pub use figures::Figures;
pub(crate) use figures::seconds;
pub use recover::{EngineError, Recovered, Recovery};

use crate::Millis;
use crate::account::Account;
use crate::publication::{PublicationError, Publisher};
use crate::roster::Rosters;
use crate::store::{Batch, Epoch, Records, Store, StoreError};
use crate::vectors::{VectorError, sync_folder};
use command::{Command, Reply};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tables::{RoundRow, Rounds, Stage};
use tacit_aggregation::Step;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_aggregation::params::TaskName;
use tacit_proto::CoordinatorKey;
use tacit_proto::fleet::{Received, RoundEnd, RoundName};
use tacit_proto::ledger::{LedgerProof, Prove};
use task::Task;
use tokio::sync::watch;

/// Commands that share one write to the disk, at most.
const MOST_AT_ONCE: usize = 256;
/// How often deadlines are looked at, at least.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of masked vectors that are added between two looks at the queue.
const WORK_BYTES: usize = 8 << 20;

/// What an engine works with.
#[derive(Clone)]
pub struct Setup {
    /// Where everything is stored.
    pub store: Arc<dyn Store>,
    /// The folder of the masked vectors.
    pub vectors: PathBuf,
    /// Where versions of adapters go.
    pub publisher: Publisher,
    /// The coordinator's signing key.
    pub key: Arc<CoordinatorKey>,
    /// The identity root whose clients may take part.
    pub root: PublicKey,
    /// The time, in milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> Millis + Send + Sync>,
}

/// Why an engine stopped of its own accord: it could not make something durable.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A version of an adapter cannot be published.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// Masked vectors cannot be kept.
    #[error(transparent)]
    Vectors(#[from] VectorError),
}

/// An answer that waits until what it says is durable; given `false` it says that the coordinator is stopping.
type Waiting = Box<dyn FnOnce(bool) + Send>;

/// The state of all tasks.
pub struct Engine {
    setup: Setup,
    epoch: Epoch,
    account: Account,
    /// The rosters of the present epoch and of the next.
    rosters: Rosters,
    tasks: BTreeMap<TaskName, Task>,
    batch: Batch,
    waiting: Vec<Waiting>,
    /// Folders with whole vectors whose names must be durable before the records that speak of them.
    named: BTreeSet<PathBuf>,
    /// Folders of ended rounds' vectors, to be removed once the end is durable.
    spent: Vec<PathBuf>,
    board: watch::Sender<Arc<Board>>,
    /// Number of the last restart that the root has signed. None comes in while it serves.
    restart: u32,
    figures: Figures,
    /// Draws the secrets of rounds.
    rng: ChaCha20Rng,
    changed: bool,
    /// Whether versions were retired whose files are still there.
    retired: bool,
    /// Why nothing more may be made durable.
    failure: Option<PublicationError>,
    stopping: bool,
}

impl Engine {
    /// Runs until it is asked to stop, or the store fails. Blocks: give it a thread of its own.
    ///
    /// # Errors
    /// [`Stopped`]: nothing that was not durable has been said to anyone; start again.
    pub fn run(mut self, commands: &Commands) -> Result<(), Stopped> {
        let result = self.turn(commands);
        if let Err(error) = &result {
            tracing::error!(%error, "the store failed: stopping");
        }
        for waiting in std::mem::take(&mut self.waiting) {
            waiting(false);
        }
        result
    }

    /// What becomes durable next.
    pub(crate) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// The lease under which it writes.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn turn(&mut self, commands: &Commands) -> Result<(), Stopped> {
        let mut patience = Duration::ZERO;
        while !self.stopping {
            let mut next = commands.next(patience);
            for _ in 0..MOST_AT_ONCE {
                let Some(command) = next.take() else { break };
                self.handle(command, (self.setup.clock)());
                if !self.stopping {
                    next = commands.next(Duration::ZERO);
                }
            }
            if let Some(command) = next {
                self.handle(command, (self.setup.clock)());
            }
            self.tick((self.setup.clock)());
            self.settle()?;
            patience = if self.work() { Duration::ZERO } else { TICK };
        }
        self.settle()
    }

    /// Makes everything durable that was done, and then answers.
    fn settle(&mut self) -> Result<(), Stopped> {
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        self.account.save(&mut self.batch);
        for folder in std::mem::take(&mut self.named) {
            sync_folder(&folder)?;
        }
        if !self.batch.is_empty() {
            let began = Instant::now();
            std::mem::take(&mut self.batch).commit(self.setup.store.as_ref(), self.epoch)?;
            self.figures.commit(began.elapsed());
            tacit_proto::crash::kill_point();
        }
        if std::mem::take(&mut self.changed) {
            self.board.send_replace(Arc::new(self.picture()));
        }
        for waiting in std::mem::take(&mut self.waiting) {
            waiting(true);
        }
        for folder in std::mem::take(&mut self.spent) {
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "vectors of an ended round stay on the disk");
            }
        }
        // Nothing is being published now: the batch is on the disk.
        if std::mem::take(&mut self.retired)
            && let Err(error) = self.setup.publisher.sweep()
        {
            tracing::warn!(%error, "files of retired versions stay on the disk");
        }
        Ok(())
    }

    /// Keeps an answer until what it says is durable.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Refused>) {
        self.waiting.push(Box::new(move |durable| {
            // Whoever asked may have gone.
            let _ = reply.send(if durable { result } else { Err(Refused::Stopping) });
        }));
    }

    fn handle(&mut self, command: Command, now: Millis) {
        self.figures.command();
        match command {
            Command::Ready { client, updates } => {
                for update in updates {
                    if let Some(task) = self.tasks.get_mut(&update.task) {
                        self.changed |= task.note_ready(client, update.parent, &self.rosters, now);
                    }
                }
            }
            Command::Message { client, round, message, reply } => {
                let result = self.with_round(&round, |task, tools| task.message(client, message, now, tools));
                self.answer(reply, result);
            }
            Command::Target { client, round, reply } => {
                let result = self.with_round(&round, |task, _| task.target(client));
                // It tells the client nothing, so it need not wait. Whoever asked may have gone.
                let _ = reply.send(result);
            }
            Command::Whole { client, round, vector, reply } => {
                let result = self.with_round(&round, |task, tools| task.whole(client, vector, now, tools));
                self.answer(reply, result);
            }
            Command::Receive { client, round, after, reply } => {
                let result = self.receive(client, &round, after);
                self.answer(reply, result);
            }
            Command::Call(function) => {
                function(self, now);
                self.changed = true;
            }
            Command::Stop => self.stopping = true,
        }
    }

    /// Lets deadlines pass, ends rounds, plans and opens new ones.
    fn tick(&mut self, now: Millis) {
        // A client goes through one round at a time, and what that will cost it is not reserved before its cohort is closed.
        let mut engaged: Vec<_> = self.tasks.values().filter_map(Task::invited).collect();
        let (tasks, mut tools) = self.parts();
        for task in tasks.values_mut() {
            task.tick(now, &engaged, &mut tools);
            engaged.extend(task.invited());
        }
    }

    /// Adds masked vectors to running sums; says whether there are more.
    fn work(&mut self) -> bool {
        let now = (self.setup.clock)();
        let (tasks, mut tools) = self.parts();
        let mut more = false;
        for task in tasks.values_mut() {
            more |= task.work(WORK_BYTES, now, &mut tools);
        }
        more
    }

    /// The tasks, and what they are lent.
    fn parts(&mut self) -> (&mut BTreeMap<TaskName, Task>, Tools<'_>) {
        let tools = Tools {
            setup: &self.setup,
            rosters: &self.rosters,
            account: &mut self.account,
            batch: &mut self.batch,
            named: &mut self.named,
            spent: &mut self.spent,
            changed: &mut self.changed,
            retired: &mut self.retired,
            failure: &mut self.failure,
            figures: &self.figures,
            rng: &mut self.rng,
        };
        (&mut self.tasks, tools)
    }

    /// Does something in an open round.
    fn with_round<T>(
        &mut self,
        round: &RoundName,
        function: impl FnOnce(&mut Task, &mut Tools<'_>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let not_open = || Refused::NotOpen { round: round.clone() };
        let (tasks, mut tools) = self.parts();
        let task = tasks.get_mut(&round.task).ok_or_else(not_open)?;
        if task.open_round() != Some(round.round) {
            return Err(not_open());
        }
        function(task, &mut tools)
    }

    fn receive(&self, client: ClientId, round: &RoundName, after: Step) -> Result<Received, Refused> {
        let not_open = || Refused::NotOpen { round: round.clone() };
        let task = self.tasks.get(&round.task).ok_or_else(not_open)?;
        if task.open_round() == Some(round.round) {
            return Ok(task.receive(client, after));
        }
        let key = (round.task.as_str().to_owned(), round.round);
        let row = Records(self.setup.store.as_ref()).get::<Rounds>(&key);
        match row.map_err(|error| Refused::Disk(error.to_string()))? {
            Some(RoundRow { stage: Stage::Ended(end), .. }) => {
                Ok(Received::End(RoundEnd { committed: end.committed, reason: end.reason }))
            }
            // It has ended in the batch that is not written yet: there is more to say once that is.
            Some(RoundRow { stage: Stage::Open { .. }, .. }) => Ok(Received::Nothing),
            _ => Err(not_open()),
        }
    }

    /// Proves what the ledger is, and what it says of rounds.
    ///
    /// # Errors
    /// [`Refused::Disk`].
    pub fn prove(&self, prove: &Prove, now: Millis) -> Result<LedgerProof, Refused> {
        let (store, keys) = (self.setup.store.as_ref(), (&self.setup.root, self.setup.key.as_ref()));
        self.account.prove(prove, store, keys, now).map_err(|error| Refused::Disk(error.to_string()))
    }

    fn picture(&self) -> Board {
        let publisher = &self.setup.publisher;
        let now = (self.setup.clock)();
        let view = |task: &Task| task.view(publisher, &self.rosters);
        Board {
            tasks: self.tasks.iter().map(|(name, task)| (name.clone(), view(task))).collect(),
            ledger: Some((self.account.signed_head(&self.setup.key, now), self.account.ledger().size())),
            restart: self.restart,
        }
    }
}

#[cfg(test)]
mod tests;

/// What the engine lends a task.
struct Tools<'a> {
    setup: &'a Setup,
    rosters: &'a Rosters,
    account: &'a mut Account,
    batch: &'a mut Batch,
    named: &'a mut BTreeSet<PathBuf>,
    spent: &'a mut Vec<PathBuf>,
    changed: &'a mut bool,
    retired: &'a mut bool,
    failure: &'a mut Option<PublicationError>,
    figures: &'a Figures,
    rng: &'a mut ChaCha20Rng,
}
