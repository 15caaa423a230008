//! Local training: from a plan, its parent version and the owner's code to an update. Must never take more of the machine than
//! its owner allows, nor go on when it is told to stop.

use crate::Millis;
use crate::code::{FileCounts, Root, take};
use crate::settings::{Code, Cpu};
use crate::update::Update;
use rand::Rng;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tacit_aggregation::Digest;
use tacit_model::dataset::TokenStream;
use tacit_model::train::LocalTraining;
use tacit_model::train::optimizer::LocalOptimizer;
use tacit_model::{Adapter, BaseModel, Compute, LoraConfig, ModelError, Projection, Tokenizer, Trainer};
use tacit_proto::{AdapterShape, LocalRule, RoundPlan};
use zeroize::Zeroizing;

/// Longest sleep before the order to stop is looked at again.
const NAP: Duration = Duration::from_millis(100);

/// Why there is no update.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The model cannot be loaded, or not be trained as the plan says.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The folder of the base model holds another model than the plan is for.
    #[error(
        "the base model in {path} is not the one that round {round} of task {task} is for: put that one there"
    )]
    BaseModel {
        /// The folder.
        path: PathBuf,
        /// The task.
        task: String,
        /// The round.
        round: u64,
    },
    /// A matrix that this model does not have.
    #[error("the plan adapts `{target}`, which is no projection of this program's models")]
    Target {
        /// Its name.
        target: String,
    },
    /// The plan's dimension is not the one of its adapter on this model.
    #[error("the plan states {stated} coordinates, but its adapter has {found} on this base model")]
    Dimension {
        /// What the plan states.
        stated: u32,
        /// What the adapter has.
        found: usize,
    },
    /// No code to train on.
    #[error(
        "no text to train on in the code folders: of the files there, {} are binary or not UTF-8, {} empty, {} too large, \
         {} could not be read", .counts.not_text, .counts.empty, .counts.too_large, .counts.unreadable
    )]
    NoCode {
        /// Why each file was left out.
        counts: Box<FileCounts>,
    },
    /// No threads.
    #[error("the operating system gives no threads to train with: {0}")]
    Threads(String),
}

/// What is trained, from what, on what.
#[derive(Debug)]
pub struct Job {
    /// The plan, whose signature was checked.
    pub plan: RoundPlan,
    /// Digest of the version to train on.
    pub parent: Digest,
    /// Its values, in the flat layout.
    pub values: Vec<f32>,
    /// Folder of the base model.
    pub base_model: PathBuf,
    /// The owner's code.
    pub code: Code,
    /// The owner's processor.
    pub cpu: Cpu,
}

/// Shape of a plan's adapter, as the model has it.
///
/// # Errors
/// [`TrainingError::Target`].
pub fn lora(shape: &AdapterShape) -> Result<LoraConfig, TrainingError> {
    let target = |name: &String| {
        let named = |target: &Projection| target.module().rsplit('.').next() == Some(name.as_str());
        let target = Projection::ALL.into_iter().find(named);
        target.ok_or_else(|| TrainingError::Target { target: name.clone() })
    };
    Ok(LoraConfig {
        rank: shape.rank as usize,
        alpha: shape.alpha,
        targets: shape.targets.iter().map(target).collect::<Result<_, _>>()?,
        seed: shape.seed,
    })
}

fn settings(plan: &RoundPlan) -> LocalTraining {
    let training = &plan.training;
    LocalTraining {
        optimizer: match training.rule {
            LocalRule::Adam { beta1, beta2 } => LocalOptimizer::Adam { beta1, beta2 },
            LocalRule::Sgd { momentum } => LocalOptimizer::Sgd { momentum },
        },
        learning_rate: training.learning_rate,
        steps: training.steps as usize,
        batch: training.batch as usize,
        sequence: training.sequence as usize,
    }
}

/// The owner's code as one stream of tokens.
fn text(code: &Code, tokenizer: &Tokenizer) -> Result<TokenStream, TrainingError> {
    let root = |(place, path): (usize, &PathBuf)| Root { prefix: format!("{place}/"), path: path.clone() };
    let roots: Vec<Root> = code.folders.iter().enumerate().map(root).collect();
    let (files, counts) = take(&roots, &code.extensions, code.bytes);
    if files.is_empty() {
        return Err(TrainingError::NoCode { counts: Box::new(counts) });
    }
    let documents = files.iter().map(|file| tokenizer.encode(&file.text));
    let documents = documents.collect::<Result<Vec<Vec<u32>>, _>>()?;
    Ok(TokenStream::new(documents.iter().map(Vec::as_slice), tokenizer.end_of_text())?)
}

/// SHA-256 of the base model in a folder, once it was loaded and found to be whole.
///
/// # Errors
/// [`TrainingError::Model`].
pub fn base_model_digest(folder: &Path) -> Result<Digest, TrainingError> {
    Ok(BaseModel::load(folder, &Compute::Cpu.open()?)?.digest())
}

impl Job {
    /// Trains, on this thread and as many more as allowed, until done or told to stop. Takes minutes.
    ///
    /// # Errors
    /// [`TrainingError`]; [`ModelError::Interrupted`] among them when it was told to stop.
    pub fn run<R: Rng + Send>(
        self,
        stop: &AtomicBool,
        now: Millis,
        rng: &mut R,
    ) -> Result<Update, TrainingError> {
        step_behind(self.cpu.nice);
        // The threads of the pool inherit this thread's place behind others.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.cpu.threads).build();
        let pool = pool.map_err(|error| TrainingError::Threads(error.to_string()))?;
        pool.install(|| self.train(stop, now, rng))
    }

    fn train<R: Rng>(self, stop: &AtomicBool, now: Millis, rng: &mut R) -> Result<Update, TrainingError> {
        let Self { plan, parent, values, base_model, code, cpu } = self;
        let model = BaseModel::load(&base_model, &Compute::Cpu.open()?)?;
        if model.digest() != plan.base_model {
            let (task, round) = (plan.task.to_string(), plan.round);
            return Err(TrainingError::BaseModel { path: base_model, task, round });
        }
        let config = model.decoder().config();
        let lora = lora(&plan.adapter)?.validated(config)?;
        let (stated, found) = (plan.privacy.dimension, lora.dimension(config));
        if stated as usize != found {
            return Err(TrainingError::Dimension { stated, found });
        }
        let adapter = Adapter::from_flat(lora, config, values)?;
        let text = text(&code, model.tokenizer())?;
        let started = Instant::now();
        let mut pace = Pace::new(cpu.share, Instant::now());
        let go_on = || {
            let rest = pace.rest(Instant::now());
            sleep(rest, stop)?;
            pace.begin(Instant::now());
            ControlFlow::Continue(())
        };
        let update =
            Trainer::new(model.decoder()).train_paced(&adapter, &settings(&plan), &text, rng, go_on)?;
        Ok(Update {
            recipe: plan.recipe(),
            task: plan.task,
            parent,
            trained_at: now + started.elapsed().as_millis() as Millis,
            tokens: update.tokens,
            losses: [update.first_loss, update.last_loss],
            delta: Zeroizing::new(update.delta),
        })
    }
}

/// Sleeps, unless it is time to stop.
fn sleep(rest: Duration, stop: &AtomicBool) -> ControlFlow<()> {
    let until = Instant::now() + rest;
    loop {
        if stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return ControlFlow::Continue(());
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// Work and rest in turn, so that work takes a share of the time.
#[derive(Debug)]
struct Pace {
    share: u8,
    began: Instant,
}

impl Pace {
    fn new(share: u8, now: Instant) -> Self {
        Self { share: share.clamp(1, 100), began: now }
    }

    fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    /// How long to rest after the work since the last beginning.
    fn rest(&self, now: Instant) -> Duration {
        let worked = now.saturating_duration_since(self.began);
        worked * u32::from(100 - self.share) / u32::from(self.share)
    }
}

/// Puts this thread, and those that it starts, behind other programs.
fn step_behind(nice: u8) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice.into()) {
        tracing::warn!(%error, "training runs at the priority of everything else");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(test)]
mod tests {
    use super::{Pace, lora, sleep};
    use std::ops::ControlFlow;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};
    use tacit_model::Projection;
    use tacit_proto::AdapterShape;

    #[test]
    fn rest_makes_work_a_share_of_the_time() {
        let now = Instant::now();
        let rest =
            |share, worked| Pace::new(share, now).rest(now + Duration::from_millis(worked)).as_millis();
        assert_eq!((rest(100, 700), rest(50, 700), rest(25, 100), rest(1, 10)), (0, 700, 300, 990));
    }

    #[test]
    fn an_order_to_stop_ends_the_rest() {
        let began = Instant::now();
        assert_eq!(sleep(Duration::from_secs(60), &AtomicBool::new(true)), ControlFlow::Break(()));
        assert_eq!(sleep(Duration::ZERO, &AtomicBool::new(false)), ControlFlow::Continue(()));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_plans_names_are_the_models() {
        let mut shape =
            AdapterShape { rank: 4, alpha: 8.0, targets: vec!["v_proj".into(), "up_proj".into()], seed: 9 };
        let config = lora(&shape).expect("known names");
        assert_eq!(config.targets, [Projection::Value, Projection::Up]);
        assert_eq!((config.rank, config.alpha, config.seed), (4, 8.0, 9));
        shape.targets.push("self_attn.q_proj".into());
        assert!(lora(&shape).expect_err("a path, not a name").to_string().contains("self_attn.q_proj"));
    }
}
