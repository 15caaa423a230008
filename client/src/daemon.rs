//! The client that runs unattended: asks for work, trains, takes part, installs. Must never say anything that is not stored, nor
//! take part in anything while its owner has paused it or the coordinator contradicts itself.
//!
//! One loop does one thing at a time: a round that has begun goes first, then a contact with the coordinator, then it waits
//! while training, on a thread of its own, goes on. Cryptography runs on the loop's thread; the connection is kept by another.

mod backoff;
mod call;
mod contact;
mod play;
mod status;
mod throttle;
mod turns;
mod versions;
mod work;

pub use backoff::{RETRY_AFTER, asked as retry_after, is_passing};
pub(crate) use contact::stored_plans;
pub use status::{FILE as STATUS_FILE, State, Status, TaskStatus};
pub use turns::Turns;

use crate::Millis;
use crate::accounts::Accounts;
use crate::budget::{Budget, BudgetError};
use crate::connection::ConnectionError;
use crate::credentials::Credentials;
use crate::enrolment::move_in;
use crate::folder::{Folder, FolderError, Kind};
use crate::ledger::{Contradiction, LedgerError, Watch};
use crate::participant::Member;
use crate::round::{Round, RoundError};
use crate::settings::Settings;
use crate::training::TrainingError;
use backoff::{Backoff, jitter};
use call::{CallError, Line};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{NewestEpoch, RevocationList};
use tacit_aggregation::params::TaskName;
use tacit_model::{BaseModel, Compute, DecoderConfig};
use tacit_proto::Wire as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;
use work::Training;

/// The file that says that the owner has paused the client.
pub const PAUSED: &str = "paused";
const REVOCATIONS_FILE: &str = "revocations";
const REVOCATIONS: Kind = Kind { code: 9, version: 1 };
const EPOCH_FILE: &str = "epoch";
const EPOCH: Kind = Kind { code: 22, version: 1 };
/// How often the wish to pause is looked for.
const GLANCE: Duration = Duration::from_secs(1);
/// First and longest wait after something went wrong here.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Why the client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The limits limit nothing.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The ledger's head is not the coordinator's.
    #[error(transparent)]
    Ledger(LedgerError),
    /// What is stored of a round cannot be used.
    #[error(transparent)]
    Round(RoundError),
    /// The base model cannot be loaded.
    #[error(transparent)]
    Model(#[from] TrainingError),
}

impl From<LedgerError> for DaemonError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Folder(error) => Self::Folder(error),
            other => Self::Ledger(other),
        }
    }
}

impl From<RoundError> for DaemonError {
    fn from(error: RoundError) -> Self {
        match error {
            RoundError::Folder(error) => Self::Folder(error),
            other => Self::Round(other),
        }
    }
}

/// Why something is not done.
#[derive(Debug)]
enum Fault {
    /// This program is told to stop.
    Stopped,
    /// The coordinator cannot be reached, or wants to be asked later.
    Offline { problem: String, asked: Option<Duration> },
    /// The coordinator says what cannot be right, or refuses.
    Refused(String),
    /// The coordinator contradicts itself; that is stored.
    Contradiction(Box<Contradiction>),
    /// This machine fails.
    Local(DaemonError),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Stopped => Self::Stopped,
            CallError::Refused(status) => {
                if let Some(error) = ConnectionError::of_status(&status) {
                    return Self::Offline { problem: error.to_string(), asked: None };
                }
                let problem = format!("the coordinator says {}: {}", status.code(), status.message());
                match backoff::is_passing(&status) {
                    true => Self::Offline { problem, asked: backoff::asked(&status) },
                    false => Self::Refused(problem),
                }
            }
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Contradiction(contradiction) => Self::Contradiction(contradiction),
            LedgerError::Unsigned(error) => Self::Refused(error.to_string()),
            LedgerError::Restart(error) => Self::Refused(error.to_string()),
            LedgerError::Folder(error) => Self::Local(error.into()),
        }
    }
}

impl From<FolderError> for Fault {
    fn from(error: FolderError) -> Self {
        Self::Local(error.into())
    }
}

impl From<RoundError> for Fault {
    fn from(error: RoundError) -> Self {
        Self::Local(error.into())
    }
}

/// The base model that this client trains, as far as it has to be known all the time.
#[derive(Clone, Debug)]
pub struct Base {
    /// SHA-256 of its files.
    pub digest: Digest,
    /// Its shape.
    pub config: DecoderConfig,
}

impl Base {
    /// Loads a model to see that it is whole, and lets go of it.
    ///
    /// # Errors
    /// [`TrainingError::Model`].
    pub fn read(folder: &Path) -> Result<Self, TrainingError> {
        let model = BaseModel::load(folder, &Compute::Cpu.open()?)?;
        Ok(Self { digest: model.digest(), config: model.decoder().config().clone() })
    }
}

/// A client that runs.
#[derive(Debug)]
pub struct Daemon {
    folder: Folder,
    settings: Settings,
    member: Member,
    base: Base,
    accounts: Accounts,
    ledger: Watch,
    revocations: Option<RevocationList>,
    /// The newest epoch whose roster has drawn this client.
    epoch: Option<NewestEpoch>,
    line: Line,
    round: Option<Round>,
    training: Option<Training>,
    turns: Turns,
    contradiction: Option<Contradiction>,
    /// Tasks whose training failed, and when it may be tried again.
    resting: BTreeMap<TaskName, Instant>,
    /// Tasks whose rosters this client is not on, or not drawn from in the present period.
    undrawn: BTreeSet<TaskName>,
    status: Status,
}

impl Daemon {
    /// A client as its folder has it. It stops when `stop` becomes true.
    ///
    /// # Errors
    /// [`DaemonError`] names the file that cannot be used.
    pub fn new(
        folder: Folder,
        settings: Settings,
        credentials: &Credentials,
        base: Base,
        channel: Channel,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, DaemonError> {
        let (client, coordinator) = (credentials.client(), credentials.issued.coordinator);
        let limits = settings.limits.into();
        let keys = (credentials.issued.root, coordinator);
        let mut accounts = match Accounts::load(&folder)? {
            Some(accounts) => {
                let accounts = move_in(&folder, accounts, client, keys)?;
                Accounts { budget: accounts.budget.with_limits(limits)?, ..accounts }
            }
            None => Accounts::new(Budget::new(client, limits)?),
        };
        let ledger = Watch::load(&folder, keys, client)?;
        accounts.budget.advance(now());
        // A process that died may have adopted a restart and not have come to this.
        ledger.restart().map(|restart| accounts.restarted(restart));
        accounts.store(&folder)?;
        let revocations = match folder.read(REVOCATIONS_FILE, REVOCATIONS)? {
            Some(bytes) => Some(
                RevocationList::from_wire(&bytes)
                    .map_err(|error| folder.damaged(REVOCATIONS_FILE, &error.to_string()))?,
            ),
            None => None,
        };
        let status = Status {
            process: std::process::id(),
            client: client.to_string(),
            coordinator: settings.coordinator.clone(),
            ..Status::default()
        };
        let mut daemon = Self {
            ledger,
            member: credentials.member(base.digest),
            contradiction: Contradiction::load(&folder)?,
            epoch: folder.load(EPOCH_FILE, EPOCH)?,
            line: Line::new(channel, stop),
            round: None,
            training: None,
            turns: Turns::default(),
            resting: BTreeMap::new(),
            undrawn: BTreeSet::new(),
            folder,
            settings,
            base,
            accounts,
            revocations,
            status,
        };
        // Until the coordinator says which period it is, nobody knows whether this client is drawn.
        let drawn = stored_plans(&daemon.folder)?.into_iter().filter(|(signed, _)| signed.roster().is_some());
        let plans = drawn.filter_map(|(signed, _)| Some(signed.verify(&coordinator).ok()?.task.clone()));
        daemon.undrawn.extend(plans);
        daemon.restore()?;
        Ok(daemon)
    }

    /// The same client, which waits with training for its turn: others in this process train as well.
    #[must_use]
    pub fn taking(mut self, turns: Turns) -> Self {
        self.turns = turns;
        self
    }

    /// Takes up the round that the folder holds.
    fn restore(&mut self) -> Result<(), DaemonError> {
        match Round::restore(&self.folder, &self.member, &mut self.accounts) {
            Ok(round) => self.round = round,
            Err(error @ RoundError::Refused { .. }) => {
                self.problem(&error.to_string());
                self.round = Round::restore(&self.folder, &self.member, &mut self.accounts)?;
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(round) = &self.round {
            tracing::info!(round = %round.name(), stage = round.stage(), "a round goes on where it was left");
        }
        Ok(())
    }

    /// Runs until told to stop. What is under way is left as it is stored.
    ///
    /// # Errors
    /// [`DaemonError`] when a file of the folder is damaged. What passes, a full disk among it, is waited for.
    pub async fn run(mut self) -> Result<(), DaemonError> {
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        let ended = loop {
            let wait = match self.turn().await {
                Ok(wait) => {
                    backoff.reset();
                    wait
                }
                Err(Fault::Stopped) => break Ok(()),
                Err(Fault::Offline { problem, asked }) => {
                    self.status.state = State::Offline;
                    self.problem(&problem);
                    backoff.next(asked)
                }
                Err(Fault::Refused(problem)) => {
                    self.problem(&problem);
                    backoff.next(None)
                }
                Err(Fault::Contradiction(contradiction)) => {
                    tracing::error!(problem = contradiction.problem, "the coordinator contradicts itself");
                    self.contradiction = Some(*contradiction);
                    Duration::ZERO
                }
                Err(Fault::Local(DaemonError::Folder(error @ FolderError::Io { .. }))) => {
                    // What could not be stored was not said. The disk has the truth.
                    self.problem(&error.to_string());
                    let wait = backoff.next(None);
                    if self.pause_for(wait).await.is_err() {
                        break Ok(());
                    }
                    match self.reload() {
                        Ok(()) => Duration::ZERO,
                        Err(DaemonError::Folder(FolderError::Io { .. })) => wait,
                        Err(error) => break Err(error),
                    }
                }
                Err(Fault::Local(error)) => break Err(error),
            };
            self.publish();
            if self.pause_for(wait).await.is_err() {
                break Ok(());
            }
        };
        self.stop_training();
        self.status.state = State::Stopped;
        self.publish();
        ended
    }

    /// Reads again what a failed write may have left in doubt.
    fn reload(&mut self) -> Result<(), DaemonError> {
        self.round = None;
        if let Some(accounts) = Accounts::load(&self.folder)? {
            self.accounts = accounts;
        }
        let keys = (self.member.root, self.member.coordinator);
        self.ledger = Watch::load(&self.folder, keys, self.member.certificate.client)?;
        self.note_restart()?;
        self.contradiction = Contradiction::load(&self.folder)?;
        self.epoch = self.folder.load(EPOCH_FILE, EPOCH)?;
        self.restore()
    }

    /// Does what there is to do. How long to wait then.
    async fn turn(&mut self) -> Result<Duration, Fault> {
        if self.line.is_stopped() {
            return Err(Fault::Stopped);
        }
        if let Some(training) = self.training.take_if(|training| training.is_over()) {
            self.trained(training)?;
        }
        if self.contradiction.is_some() {
            self.stop_training();
            self.close()?;
            self.report().await?;
            return if self.is_paused() { Ok(GLANCE) } else { self.look_for_restart().await };
        }
        // A round that has begun is over in seconds, and others wait for it.
        if self.round.is_some() {
            self.play().await?;
        }
        if self.is_paused() {
            self.stop_training();
            self.status.state = State::Paused;
            return Ok(GLANCE);
        }
        let wish = self.contact().await?;
        self.status.state = if self.training.is_some() { State::Training } else { State::Waiting };
        if self.round.is_some() {
            return Ok(Duration::ZERO);
        }
        let wait = self.settings.check_in.clamp(wish);
        Ok(wait + jitter(wait / 10))
    }

    /// Waits, unless something happens before.
    async fn pause_for(&mut self, wait: Duration) -> Result<(), CallError> {
        let until = Instant::now() + wait;
        let paused = self.is_paused();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && !self.line.is_stopped() {
                return Ok(());
            }
            self.line.sleep(left.min(GLANCE)).await?;
            if self.is_paused() != paused || self.training.as_ref().is_some_and(Training::is_over) {
                return Ok(());
            }
        }
    }

    fn is_paused(&self) -> bool {
        self.folder.path().join(PAUSED).exists()
    }

    /// Tells the operator of a contradiction, once.
    async fn report(&mut self) -> Result<(), Fault> {
        self.status.state = State::Contradiction;
        let Some(found) = self.contradiction.as_ref().filter(|contradiction| !contradiction.reported) else {
            return Ok(());
        };
        let (problem, evidence) = (found.problem.clone(), found.evidence.clone());
        let report = tacit_proto::fleet::Report { problem, evidence };
        self.line.once(async |client| client.report(report).await).await?;
        self.contradiction = Some(Contradiction { reported: true, ..found.clone() }.store(&self.folder)?);
        Ok(())
    }

    /// Notes what went wrong, for the owner.
    fn problem(&mut self, problem: &str) {
        tracing::warn!(problem, "something went wrong");
        self.status.problem = Some((now(), problem.to_owned()));
    }

    /// Says how things stand.
    fn publish(&mut self) {
        let status = &mut self.status;
        status.written = now();
        status.round = self.round.as_ref().map(|round| round.name().to_string());
        status.step = self.round.as_ref().map(|round| round.stage().to_owned());
        status.ledger = self.ledger.size();
        status.restart = self.ledger.restart_number();
        status.lost = self.accounts.lost.iter().map(|lost| lost.name().to_string()).collect();
        status.awaiting = self.accounts.awaiting.iter().map(|awaiting| awaiting.name().to_string()).collect();
        status.epsilon_spent = self.accounts.budget.spent().unwrap_or(f64::MAX);
        status.epsilon_limit = self.accounts.budget.limits().epsilon;
        status.publish(self.folder.path());
    }
}

/// Unix time in milliseconds, as this machine has it.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the daemon is where time comes in")]
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

#[cfg(test)]
mod tests;
