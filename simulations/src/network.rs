//! A scenario over the network: a real coordinator, real clients, TLS between them, and the report that can be made from what
//! they make public. Must never ask a client for anything that an operator or an auditor could not see.

mod audit;
mod bench;
mod error;
pub mod fleet;
mod follow;
mod grounds;
pub mod guard;
mod processes;

use std::path::PathBuf;
use std::sync::Arc;

use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use tacit_client::adapters;
use tacit_client::keys::ClientKeys;
use tacit_coordinator::PlanSettings;
use tacit_coordinator::settings::{Pace, ServerSettings};
use tacit_coordinator::task::{Eligibility, PublicationSettings, Schedule, TaskSettings};
use tacit_model::{Adapter, BaseModel};
use tacit_proto::{CoordinatorKey, Deadlines};
use tokio::signal::unix::{SignalKind, signal};

use crate::corpus::CorpusSource;
use crate::evaluate::bits_per_byte;
use crate::meter::Stopwatch;
use crate::process::raise_open_files;
use crate::progress::{Progress, Silent};
use crate::run::{Finished, Premises, Results, before_training, report};
use crate::scenario::Scenario;
use crate::site::Site;
use crate::task::Task;
use bench::Bench;
pub use error::NetworkError;
use follow::Followed;
use grounds::Grounds;
use guard::Guard;
use processes::Processes;

/// Fewest processes that are one client each.
pub const FEWEST_ALONE: u32 = 1;
/// When clients come back, in milliseconds: soon, but each time costs a millisecond of one of the few processors that also train.
const PACE: Pace = Pace { idle: 6_000, ready: 4_000 };
/// How long the steps stay open at most, in milliseconds. They end when everybody has answered.
const DEADLINES: Deadlines =
    Deadlines { advertise: 120_000, share: 120_000, collect: 300_000, confirm: 120_000, unmask: 120_000 };
/// How long a client that said that it is ready counts as connected, in milliseconds.
const READY_FOR: u64 = 60_000;

/// How a run over the network is spread over processes.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Where the clients' code comes from.
    pub source: CorpusSource,
    /// Threads that measure, and about as many that train.
    pub threads: usize,
    /// Processes that are one client each.
    pub alone: u32,
    /// Processes that share all other clients.
    pub fleets: u32,
    /// Folder for everything that the processes keep, which is left there; a temporary one that is removed when left out.
    pub work: Option<PathBuf>,
}

/// Runs a scenario over the network. Whatever happens, all processes that it starts have ended when it returns.
///
/// # Errors
/// [`NetworkError`]; [`NetworkError::Interrupted`] at SIGINT, SIGTERM and SIGHUP.
pub fn run(
    scenario: &Scenario,
    model: Arc<BaseModel>,
    options: &NetworkOptions,
    progress: &dyn Progress,
) -> Result<Finished, NetworkError> {
    raise_open_files();
    let grounds = Grounds::new(options.work.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| NetworkError::System { what: "threads", source })?;
    let finished = runtime.block_on(async {
        let listen = |kind| signal(kind).map_err(|source| NetworkError::System { what: "signals", source });
        let (mut interrupt, mut terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut hang_up = listen(SignalKind::hangup())?;
        tokio::select! {
            finished = carry_out(scenario, model, options, &grounds, progress) => finished,
            _ = interrupt.recv() => Err(NetworkError::Interrupted),
            _ = terminate.recv() => Err(NetworkError::Interrupted),
            _ = hang_up.recv() => Err(NetworkError::Interrupted),
        }
    });
    // Measuring may still go on after an interruption, on threads of its own.
    runtime.shutdown_background();
    finished
}

async fn carry_out(
    scenario: &Scenario,
    model: Arc<BaseModel>,
    options: &NetworkOptions,
    grounds: &Grounds,
    progress: &dyn Progress,
) -> Result<Finished, NetworkError> {
    let clock = Stopwatch::start();
    scenario.validate()?;
    let task = Task::new(scenario, &model)?;
    let settings = settings(scenario, &task, &model)?;
    let throwaway = CoordinatorKey::generate(&mut UnwrapErr(SysRng));
    let parameters = task.parameters(&task.start(scenario)?, &throwaway, &model)?;
    let mut premises = Premises::read(scenario, &model, &options.source, progress)?;
    let developers = std::mem::take(&mut premises.developers);
    let premises = Arc::new(premises);

    let mut site = Site::new(&grounds.site(), &ServerSettings { pace: PACE, ..ServerSettings::default() })?;
    let mut guard = Guard::start(grounds.to_remove(), &grounds.log("guard"))?;
    site.start(&[])?;
    guard.watch(site.process()?)?;
    site.create_task(&settings).await?;
    progress.begin("enrolling", developers.len());
    let keys = developers.iter().map(|_| ClientKeys::generate(&mut UnwrapErr(SysRng)));
    let credentials = site.enrol(keys.collect()).await?;
    let coordinator = credentials.first().map(|first| first.issued.coordinator);
    let coordinator = coordinator.ok_or(NetworkError::Interrupted)?;
    let places =
        grounds.furnish(scenario, site.address()?, developers, credentials, options, progress).await?;
    let loopback = processes::loopback_bytes();
    let mut processes = Processes::start(&places, options, grounds)?;
    processes.all().try_for_each(|process| guard.watch(process))?;

    let bench = Bench::start(options.threads, model.decoder())?;
    let zeros =
        Adapter::zeros(task.lora.clone(), model.decoder().config()).map_err(crate::SimulationError::from)?;
    let measure = |adapter: Adapter| {
        let (model, premises) = (Arc::clone(&model), Arc::clone(&premises));
        bench.run(move |workers| bits_per_byte(workers, &model, &adapter, &premises.sample, &Silent))
    };
    let start = measure(zeros.clone()).await??;
    progress.line(&before_training(start, &premises.sample)?);
    let followed = follow::Follow {
        scenario,
        site: &mut site,
        processes,
        homes: &places.alone,
        base: adapters::Base { digest: model.digest(), config: model.decoder().config() },
        coordinator,
        export: grounds.export(),
        progress,
    };
    let Followed { rounds, adapter, epsilon, stopped_early, training_seconds, processes } =
        followed.run(start, measure).await?;
    let network = processes.stop(&site, loopback)?;

    let adapter = adapter.unwrap_or(zeros);
    progress.begin("completing held-out code", 1);
    let completions = {
        let (model, premises, scenario, adapter) =
            (Arc::clone(&model), Arc::clone(&premises), scenario.clone(), adapter.clone());
        bench.run(move |workers| premises.complete(&scenario, &model, workers, &adapter, &Silent)).await??
    };
    progress.end();
    drop(bench);
    let results = Results {
        start,
        stopped_early,
        epsilon,
        trained: rounds.iter().map(|round| u64::from(round.cohort)).sum(),
        rounds,
        training_seconds,
        wall_seconds: clock.seconds(),
        parameters,
        masked: true,
        threads: options.threads,
        comparison: None,
        completions,
        network: Some(network),
    };
    Ok(report(scenario, &premises, results, adapter)?)
}

/// The task as the coordinator's operator describes it.
fn settings(scenario: &Scenario, task: &Task, model: &BaseModel) -> Result<TaskSettings, NetworkError> {
    Ok(TaskSettings {
        layout: adapters::layout(model, scenario.lora.clone())?,
        plan: PlanSettings { deadlines: DEADLINES, ..task.settings.clone() },
        optimizer: scenario.server.clone(),
        eligibility: Eligibility {
            separation: u64::from(scenario.cohort.separation) + 1,
            ..Eligibility::default()
        },
        schedule: Schedule {
            ready_for: READY_FOR,
            rounds: Some(scenario.rounds.into()),
            ..Schedule::default()
        },
        publication: PublicationSettings {
            keep: u64::from(scenario.rounds) + 1,
            ..PublicationSettings::default()
        },
    })
}
