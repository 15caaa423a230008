//! How an engine starts: it reads what is stored, comes back to every open round, and says what it found. Must never drop a
//! reservation, nor go on with a round whose records are damaged.

use super::command::Commands;
use super::tables::{Journal, RoundRow, Rounds, Stage, StateError, States, TaskRow, Tasks};
use super::task::{NO_ROSTER, Open, Planned, Task, vectors_of};
use super::{Board, Engine, Figures, Handle, Refused, Setup, Stopped, Tools};
use crate::Millis;
use crate::account::{Account, LoadError};
use crate::identity::Roll;
use crate::optimizer::OptimizerState;
use crate::plan::{RosterSettings, RoundStart};
use crate::publication::PublicationError;
use crate::roster::{Listed, ListedError, MAX_ROSTERS, Rolls, Rosters};
use crate::round::{Driver, RestoreError, TaskState};
use crate::store::{Batch, Records, StoreError};
use crate::task::{SettingsError, TaskSettings};
use crate::vectors::{VectorError, VectorFolder};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::identity::RosterError;
use tacit_aggregation::params::TaskName;
use tacit_privacy::NoiseKey;
use tacit_proto::{DecodeError, SignedPlan, Wire as _};
use tokio::sync::watch;

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 1024;

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored account is not sound.
    #[error(transparent)]
    Account(#[from] LoadError),
    /// A task's settings are not what this version writes.
    #[error("the settings of task {task} cannot be read: {problem}")]
    Settings {
        /// The task.
        task: String,
        /// What is wrong.
        problem: String,
    },
    /// A task without its state, or with a damaged one.
    #[error("the state of task {task} cannot be used: {problem}")]
    State {
        /// The task.
        task: String,
        /// What is wrong.
        problem: String,
    },
    /// A stored plan cannot be read.
    #[error("the plan of round {round} of task {task} cannot be read: {problem}")]
    Plan {
        /// The task.
        task: String,
        /// The round.
        round: u64,
        /// What is wrong.
        problem: DecodeError,
    },
    /// The stored roster is not the one that the root signed.
    #[error(transparent)]
    Roster(#[from] ListedError),
    /// Something could not be made durable.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Published versions cannot be looked through.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// The folder of the vectors cannot be used.
    #[error(transparent)]
    Vectors(#[from] VectorError),
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// Tasks.
    pub tasks: usize,
    /// Rounds that were open.
    pub rounds: Vec<Recovered>,
    /// Reservations, of open rounds and of others.
    pub reservations: usize,
    /// Entries of the ledger.
    pub entries: u64,
    /// Files of versions that never came to be, now removed.
    pub swept: usize,
    /// Files of published versions that are not there, as task, version and name.
    pub missing: Vec<String>,
}

/// A round that was open.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// Its task.
    pub task: String,
    /// Its number.
    pub round: u64,
    /// Where it goes on, or how it ended.
    pub step: &'static str,
    /// Why it could not be come back to; its reservation then stays, and counts as spent.
    pub problem: Option<String>,
}

impl Engine {
    /// Starts from what is stored; `rng` draws the secrets of rounds: from the operating system's randomness, but in tests.
    /// Takes the lease: an engine that holds an earlier one can write no more.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn start(setup: Setup, rng: ChaCha20Rng) -> Result<(Self, Commands, Handle, Recovery), EngineError> {
        let epoch = setup.store.lease()?;
        let account = Account::load(setup.store.as_ref())?;
        let (board, shown) = watch::channel(Arc::new(Board::default()));
        let figures = Figures::default();
        let (handle, commands) = Commands::new(shown, figures.clone());
        let restart = account.last_restart(&setup.root);
        let mut engine = Self {
            setup,
            epoch,
            account,
            restart,
            rosters: Rosters::default(),
            tasks: BTreeMap::new(),
            batch: Batch::new(),
            waiting: Vec::new(),
            named: BTreeSet::new(),
            spent: Vec::new(),
            board,
            figures,
            rng,
            changed: true,
            retired: false,
            failure: None,
            stopping: false,
        };
        let mut recovery = engine.recover()?;
        engine.settle()?;
        let swept = engine.setup.publisher.sweep()?;
        recovery.swept = swept.removed;
        recovery.missing = swept
            .missing
            .into_iter()
            .map(|(task, version, name)| format!("{task}/{version}/{name}"))
            .collect();
        Ok((engine, commands, handle, recovery))
    }

    fn recover(&mut self) -> Result<Recovery, EngineError> {
        let now = (self.setup.clock)();
        let store = Arc::clone(&self.setup.store);
        let records = Records(store.as_ref());
        for (epoch, roll) in records.scan::<Rolls>(&(), None, MAX_ROSTERS)? {
            match Listed::new(&roll, &self.setup.root) {
                Ok(listed) => self.rosters.restore(listed),
                // Another root was appointed since. It numbers its own epochs, and none of its clients is on this list.
                Err(ListedError::Roster(error @ RosterError::Signature { .. })) => {
                    tracing::warn!(epoch, %error, "a roster is forgotten");
                    self.batch.delete::<Rolls>(&epoch);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut recovery = Recovery {
            reservations: self.account.reservations().count(),
            entries: self.account.ledger().size(),
            ..Recovery::default()
        };
        for (name, mut row) in records.scan::<Tasks>(&(), None, usize::MAX)? {
            row.next_round = row.next_round.max(self.account.ledger().first_round());
            let settings = settings_of(&name, &row)?;
            let state = records.get::<States>(&name)?.ok_or_else(|| EngineError::State {
                task: name.clone(),
                problem: "it is missing; restore a backup".into(),
            })?;
            let state = state.state(&settings).map_err(|error: StateError| EngineError::State {
                task: name.clone(),
                problem: error.to_string(),
            })?;
            let mut task = Task::new(settings, row, state);
            let mut from = None;
            loop {
                let rounds = records.scan::<Rounds>(&(name.clone(),), from.as_ref(), ROWS_AT_ONCE)?;
                let last = rounds.last().map(|((task, round), _)| (task.clone(), round.saturating_add(1)));
                let full = rounds.len() == ROWS_AT_ONCE;
                for ((_, round), row) in rounds {
                    recovery.rounds.extend(self.recover_round(&mut task, round, row, now)?);
                }
                match last {
                    Some(next) if full => from = Some(next),
                    _ => break,
                }
            }
            self.tasks.insert(task.settings.name().clone(), task);
            recovery.tasks += 1;
        }
        self.find_spent_vectors()?;
        Ok(recovery)
    }

    /// Has the vectors removed that belong to no open round: a process that died right after the end of theirs left them.
    fn find_spent_vectors(&mut self) -> Result<(), EngineError> {
        let vectors = &self.setup.vectors;
        let open: BTreeSet<_> = self
            .tasks
            .iter()
            .filter_map(|(name, task)| Some(vectors_of(vectors, name.as_str(), task.open_round()?)))
            .collect();
        let found = VectorFolder::all_below(vectors)?;
        self.spent.extend(found.into_iter().filter(|folder| !open.contains(folder)));
        Ok(())
    }

    fn recover_round(
        &mut self,
        task: &mut Task,
        round: u64,
        row: RoundRow,
        now: Millis,
    ) -> Result<Option<Recovered>, EngineError> {
        let name = task.settings.name().as_str().to_owned();
        let (since, invited) = match row.stage {
            Stage::Ended(end) => {
                task.epsilon = end.spent.map(|(epsilon, _)| epsilon).or(task.epsilon);
                task.last_plan = SignedPlan::from_wire(&row.plan).ok().map(Arc::new);
                return Ok(None);
            }
            Stage::Planned => (None, Vec::new()),
            Stage::Open { since, invited } => (Some(since), invited),
        };
        let signed = SignedPlan::from_wire(&row.plan).map_err(|problem| EngineError::Plan {
            task: name.clone(),
            round,
            problem,
        })?;
        let noise = row.noise.map(|bytes| NoiseKey::from_bytes(&bytes));
        let planned = Planned::new(signed, round, noise, row.planned, &self.setup.key.public_key());
        // Of the time before a restart nothing goes on: clients may have seen it end.
        let restarted = round < self.account.ledger().first_round();
        let Some(since) = since else {
            if restarted {
                self.batch.delete::<Rounds>(&(name, round));
            } else {
                task.plan = Some(planned);
            }
            return Ok(None);
        };
        if restarted {
            let why = RestoreError::Restarted { round };
            task.plan = Some(planned);
            task.give_up(round, &why, now, &mut self.parts().1);
            let problem = Some(why.to_string());
            return Ok(Some(Recovered { task: name, round, step: "failed", problem }));
        }
        let mut journal = Vec::new();
        let store = Arc::clone(&self.setup.store);
        // The records of one round, which the session holds in memory as well.
        for (_, record) in
            Records(store.as_ref()).scan::<Journal>(&(name.clone(), round), None, usize::MAX)?
        {
            journal.push(record);
        }
        let vectors = VectorFolder::open(vectors_of(&self.setup.vectors, &name, round))?;
        let invited = invited.into_iter().collect();
        let (_, mut tools) = self.parts();
        let setup = task.setup(&planned, BTreeSet::clone(&invited), &tools);
        let restored = Driver::restore(setup, task.state.clone(), journal, tools.account, now);
        task.plan = Some(planned);
        let (step, problem) = match restored {
            Ok(driver) => {
                let step = driver.round().step();
                task.open =
                    Some(Open { driver: Box::new(driver), vectors, since, invited: Arc::new(invited) });
                task.settle_ended(now, &mut tools);
                (step, None)
            }
            Err(error) => {
                task.give_up(round, &error, now, &mut tools);
                ("failed", Some(error.to_string()))
            }
        };
        Ok(Some(Recovered { task: name, round, step, problem }))
    }

    /// Takes a new task on, paused or not.
    ///
    /// # Errors
    /// [`Refused::Impossible`] says what stands in the way; nothing has changed then.
    pub fn create_task(&mut self, settings: TaskSettings, paused: bool, now: Millis) -> Result<(), Refused> {
        let impossible = |error: &dyn std::fmt::Display| Refused::Impossible(error.to_string());
        settings.validate().map_err(|error: SettingsError| impossible(&error))?;
        let name = settings.name().clone();
        if self.tasks.contains_key(&name) {
            return Err(Refused::Impossible(format!("there is a task {name} already: choose another name")));
        }
        let adapter = settings.layout.initial().map_err(|error| impossible(&error))?;
        let optimizer = OptimizerState::new(settings.optimizer.clone(), adapter.values().len())
            .map_err(|error| impossible(&error))?;
        let state = TaskState { adapter, optimizer };
        let next_round = self.account.ledger().first_round().max(1);
        // Better now than at its first round.
        let key = &self.setup.key;
        let noise = settings.plan.central.map(|_| NoiseKey::generate(&mut self.rng));
        let roster = settings.plan.roster.map(|RosterSettings { colluders }| {
            let listed = self.rosters.at(now).or_else(|| self.rosters.after(now)).ok_or(NO_ROSTER)?;
            listed.terms(colluders, now).map_err(|error| error.to_string())
        });
        let roster = roster.transpose().map_err(|error: String| Refused::Impossible(error))?;
        let noise = noise.as_ref();
        let start =
            RoundStart { noise, roster, ..RoundStart::new(next_round, &state.adapter, &self.account) };
        settings.plan.plan(start, key).map_err(|error| impossible(&error))?;
        let text = serde_json::to_string(&settings).map_err(|error| impossible(&error))?;
        let row = TaskRow { settings: text, paused, next_round, committed: 0, last_end: 0 };
        let task = Task::new(settings, row, state);
        self.with_tools(|tools| {
            task.publish(None, now, tools);
            task.store_row(tools);
            task.store_state(tools);
        });
        self.tasks.insert(name, task);
        Ok(())
    }

    /// Takes in the roster of an epoch, present or to come; the same one again changes nothing. Open rounds go on with the one that
    /// they began with.
    ///
    /// # Errors
    /// [`Refused::Impossible`] for a roster of an earlier epoch, another one of the same, or one too many.
    pub fn take_roster(&mut self, roll: &Roll, listed: Listed, now: Millis) -> Result<(), Refused> {
        let number = listed.number();
        let past = self.rosters.take(listed, now).map_err(|error| Refused::Impossible(error.to_string()))?;
        for number in past {
            self.batch.delete::<Rolls>(&number);
        }
        self.batch.put::<Rolls>(&number, roll);
        Ok(())
    }

    /// Pauses a task, or lets it go on. An open round goes on to its end.
    ///
    /// # Errors
    /// [`Refused::NoTask`].
    pub fn pause_task(&mut self, name: &TaskName, paused: bool) -> Result<(), Refused> {
        let mut task = self.tasks.remove(name).ok_or(Refused::NoTask { name: name.to_string() })?;
        self.with_tools(|tools| task.set_paused(paused, tools));
        self.tasks.insert(name.clone(), task);
        Ok(())
    }

    /// Ends a task's open round.
    ///
    /// # Errors
    /// [`Refused::NoTask`]; [`Refused::Impossible`] when no round is open.
    pub fn abort_round(&mut self, name: &TaskName, now: Millis) -> Result<u64, Refused> {
        let mut task = self.tasks.remove(name).ok_or(Refused::NoTask { name: name.to_string() })?;
        let aborted = self.with_tools(|tools| task.abort(now, tools));
        self.tasks.insert(name.clone(), task);
        aborted.ok_or_else(|| Refused::Impossible(format!("no round of task {name} is open")))
    }

    fn with_tools<T>(&mut self, function: impl FnOnce(&mut Tools<'_>) -> T) -> T {
        function(&mut self.parts().1)
    }
}

fn settings_of(name: &str, row: &TaskRow) -> Result<TaskSettings, EngineError> {
    row.settings()
        .map_err(|error| EngineError::Settings { task: name.to_owned(), problem: error.to_string() })
}
