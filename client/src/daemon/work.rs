//! Training beside the loop, on a thread of its own. Must never outlive the loop.

use super::turns::Turns;
use super::{Daemon, Fault, now};
use crate::training::{Job, TrainingError};
use crate::update::Update;
use rand::SeedableRng as _;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;
use rand_core::UnwrapErr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tacit_aggregation::Digest;
use tacit_aggregation::params::TaskName;
use tacit_model::ModelError;
use tokio::time::Instant;

/// How long a task rests after training for it has failed.
const REST: Duration = Duration::from_secs(600);

/// Training that goes on.
#[derive(Debug)]
pub(super) struct Training {
    pub(super) task: TaskName,
    pub(super) parent: Digest,
    pub(super) recipe: Digest,
    stop: Arc<AtomicBool>,
    turns: Turns,
    thread: JoinHandle<Result<Update, TrainingError>>,
}

impl Training {
    /// Begins, when it is this client's turn.
    fn start(job: Job, turns: &Turns) -> Result<Self, TrainingError> {
        let (task, parent, recipe) = (job.plan.task.clone(), job.parent, job.plan.recipe());
        let stop = Arc::new(AtomicBool::new(false));
        let (told, mine) = (Arc::clone(&stop), turns.clone());
        let work = move || {
            let _turn = mine.wait(&told).ok_or(ModelError::Interrupted { step: 0 })?;
            job.run(&told, now(), &mut ChaCha20Rng::from_rng(&mut UnwrapErr(SysRng)))
        };
        let thread = std::thread::Builder::new().name("training".to_owned()).spawn(work);
        let thread = thread.map_err(|error| TrainingError::Threads(error.to_string()))?;
        Ok(Self { task, parent, recipe, stop, turns: turns.clone(), thread })
    }

    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Tells the thread to stop, and waits until it has: a step of training at most.
    fn end(self) -> Result<Update, TrainingError> {
        if !self.is_over() {
            self.stop.store(true, Ordering::Relaxed);
            self.turns.wake();
        }
        self.thread.join().unwrap_or_else(|_| Err(TrainingError::Threads("training panicked".to_owned())))
    }
}

impl Daemon {
    /// Begins to train, if nothing else is trained.
    pub(super) fn train(&mut self, job: Job) {
        let task = job.plan.task.clone();
        match Training::start(job, &self.turns) {
            Ok(training) => {
                tracing::info!(%task, "training begins");
                self.training = Some(training);
            }
            Err(error) => self.rest(task, &error),
        }
    }

    /// Takes what training has made.
    pub(super) fn trained(&mut self, training: Training) -> Result<(), Fault> {
        let task = training.task.clone();
        match training.end() {
            Ok(update) => {
                tracing::info!(%task, tokens = update.tokens, "an update is ready");
                Ok(update.store(&self.folder)?)
            }
            Err(error) => {
                self.rest(task, &error);
                Ok(())
            }
        }
    }

    /// Stops training, if there is any. What it has made so far is lost.
    pub(super) fn stop_training(&mut self) {
        if let Some(training) = self.training.take() {
            // Nobody asks any more what came of it.
            let _ = training.end();
        }
    }

    fn rest(&mut self, task: TaskName, error: &TrainingError) {
        if !matches!(error, TrainingError::Model(ModelError::Interrupted { .. })) {
            self.problem(&format!("training for task {task}: {error}"));
            self.resting.insert(task, Instant::now() + REST);
        }
    }
}
