//! A load run: a real coordinator process, a fleet of synthetic clients over TLS on the loopback, and what both cost. Must never
//! call a round exact that it did not recompute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;
use tacit_aggregation::Step;
use tacit_aggregation::params::TaskName;
use tacit_client::credentials::Credentials;
use tacit_client::keys::ClientKeys;
use tacit_coordinator::enrolment::fill;
use tacit_coordinator::serve::system_clock;
use tacit_coordinator::settings::{Pace, ServerSettings};
use tacit_coordinator::store::{RocksStore, Store as _, StoreError};
use tacit_coordinator::task::TaskSettings;
use tacit_coordinator::{AdapterVersion, OptimizerError, OptimizerState};
use tacit_proto::adapter::AdapterError;
use tacit_proto::admin::Order;
use tacit_proto::connection::Server;
use tacit_proto::share_commitments;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use super::bare::{self, BareError};
use super::client::{Common, Ended, Fault, Go, Hook, Moment, Played, SyntheticClient, generous};
use super::expected::{ExpectedError, expected_mean, synthetic};
use super::measure::{Gauges, Histogram};
use super::rate::{Rated, at_a_rate};
use super::task::task;
use crate::process::raise_open_files;
use crate::progress::Progress;
use crate::random::{Purpose, generator};
use crate::site::{SetupError, Site};

/// Name of the task.
const TASK: &str = "load";
/// Fewest clients of a run.
pub const FEWEST_CLIENTS: u32 = 4;
/// Threads that read and write the connections. They do nothing else: decoding an answer of a megabyte with its thousands of curve
/// points takes a fifth of a second, and a connection that does not answer meanwhile is given up by the other side.
const LINES: usize = 2;
/// Connections that are opened at once.
const OPENED_AT_ONCE: usize = 64;
/// How long all clients wait for the last of them to have masked its vector.
const MASKING: Duration = Duration::from_secs(900);
/// How often the coordinator is asked whether something is done.
const POLL: Duration = Duration::from_millis(50);
/// How often, at most.
const POLLS: usize = 1_200;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Clients, all of them in every round.
    pub clients: u32,
    /// Coordinates of an update.
    pub dimension: u32,
    /// Rounds.
    pub rounds: u32,
    /// Clients in the coordinator's store besides.
    pub registered: u64,
    /// Check-ins a second, before the first round; none when left out.
    pub rate: Option<u32>,
    /// For how many seconds.
    pub rate_seconds: u32,
    /// Seed of keys and updates.
    pub seed: u64,
}

/// What it cost.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Clients in every round.
    pub clients: u32,
    /// Coordinates of an update.
    pub dimension: u32,
    /// Clients in the coordinator's store, those included.
    pub registered: u64,
    /// Rounds that were run.
    pub rounds: u32,
    /// Whether every round released exactly what the survivors' contributions give.
    pub exact: bool,
    /// From the first client's check-in to the end of the last round, without the check-ins at a rate.
    pub wall_seconds: f64,
    /// How long each step was open as the clients saw it; a mean over the rounds. They begin to upload when all have masked.
    pub phase_seconds: BTreeMap<&'static str, f64>,
    /// Bytes of one masked vector.
    pub vector_bytes: u64,
    /// From the first upload's beginning to the last one's acknowledgement; of the first round.
    pub upload_bytes_per_second: f64,
    /// The same bytes through streams that are only counted, behind the same TLS.
    pub bare_stream_bytes_per_second: f64,
    /// Half of the unary calls took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 unary calls took no longer.
    pub p99_ms: f64,
    /// The same of check-ins at the rate that was asked for, from when they were due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_ins: Option<Rated>,
    /// Calls that were told to come back later.
    pub turned_away: u64,
    /// Calls that failed otherwise, and were made again.
    pub failed_calls: u64,
    /// The most memory that the coordinator had at once.
    pub coordinator_peak_rss_bytes: u64,
    /// Time that the coordinator was on a processor.
    pub coordinator_cpu_seconds: f64,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A setting.
    #[error("{name} is {value}: it must be {wanted}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        wanted: String,
    },
    /// The coordinator.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A client.
    #[error(transparent)]
    Client(#[from] Fault),
    /// The bare stream.
    #[error(transparent)]
    Bare(#[from] BareError),
    /// What a round must give.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
    /// The adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The optimiser.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A file, or a thread.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The coordinator has a problem with the task.
    #[error("the coordinator does not plan a round: {0}")]
    Unplanned(String),
    /// A round without a release.
    #[error("round {round} was not committed: {reason}")]
    NotCommitted {
        /// Its number.
        round: u64,
        /// Why not.
        reason: String,
    },
    /// A task that does not end.
    #[error("the work was interrupted")]
    Interrupted,
}

impl Settings {
    fn check(&self) -> Result<(), LoadError> {
        let in_range = |name, value: u64, least: u64, most: u64| {
            let wanted = format!("from {least} to {most}");
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(LoadError::Setting { name, value, wanted })
            }
        };
        in_range("--clients", self.clients.into(), FEWEST_CLIENTS.into(), 10_000)?;
        in_range("--dimension", self.dimension.into(), 1, 1 << 24)?;
        in_range("--rounds", self.rounds.into(), 1, 1_000)?;
        in_range("--rate-seconds", self.rate_seconds.into(), 1, 3_600)?;
        in_range("--rate", self.rate.unwrap_or(1).into(), 1, 100_000)
    }
}

/// Runs everything.
///
/// # Errors
/// [`LoadError`].
pub fn run(settings: &Settings, progress: &dyn Progress) -> Result<LoadReport, LoadError> {
    settings.check()?;
    let io = |what| move |source| LoadError::Io { what, source };
    raise_open_files();
    share_commitments(settings.clients as usize);
    let folder = tempfile::tempdir().map_err(io("a temporary folder"))?;
    let pace = Pace { idle: 500, ready: 500 };
    let mut site = Site::new(folder.path(), &ServerSettings { pace, ..ServerSettings::default() })?;
    register(&site, settings, progress)?;
    site.start(&[])?;
    let threads =
        |count| tokio::runtime::Builder::new_multi_thread().worker_threads(count).enable_all().build();
    let lines = threads(LINES).map_err(io("threads"))?;
    let processors = std::thread::available_parallelism().map_or(LINES, usize::from);
    let runtime = threads(processors).map_err(io("threads"))?;
    let report = runtime.block_on(async {
        let mut asked = signal(SignalKind::terminate()).map_err(io("signals"))?;
        tokio::select! {
            report = measure(&mut site, lines.handle(), settings, progress) => report,
            // The coordinator's process and folder must not outlive this one.
            _ = asked.recv() => Err(LoadError::Interrupted),
            _ = tokio::signal::ctrl_c() => Err(LoadError::Interrupted),
        }
    });
    lines.shutdown_background();
    report
}

/// Fills the store with other clients, before anybody serves it.
fn register(site: &Site, settings: &Settings, progress: &dyn Progress) -> Result<(), LoadError> {
    if settings.registered == 0 {
        return Ok(());
    }
    let store = RocksStore::open(&site.data().store())?;
    let epoch = store.lease()?;
    progress.begin("registering, in thousands", (settings.registered / 1_000) as usize);
    let mut shown = 0;
    fill(
        &store,
        epoch,
        settings.registered,
        system_clock() / 1000,
        &mut rand_core::UnwrapErr(rand::rngs::SysRng),
        |written| {
            (shown..written / 1_000).for_each(|_| progress.advance());
            shown = written / 1_000;
        },
    )?;
    progress.end();
    Ok(())
}

async fn measure(
    site: &mut Site,
    lines: &Handle,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<LoadReport, LoadError> {
    let name = TaskName::new(TASK).map_err(|_| LoadError::Interrupted)?;
    let plan = task(name, settings.clients, settings.dimension);
    site.create_task(&plan).await?;
    progress.begin("enrolling", settings.clients as usize);
    let rng = |client| generator(settings.seed, Purpose::Identities, client, 0);
    let keys = (0..settings.clients).map(|client| ClientKeys::generate(&mut rng(client.into())));
    let credentials = site.enrol(keys.collect()).await?;
    planned(site).await?;
    let gauges = Arc::new(Gauges::default());
    let common =
        Common { gauges: Arc::clone(&gauges), hook: Some(together(settings.clients)), ..Common::default() };
    let server = site.server()?;
    let opened = connect(&server, lines, &plan, credentials, settings.seed, &common, progress);
    let mut fleet = opened.await?;
    let check_ins = match settings.rate {
        Some(rate) => {
            let calls = rate * settings.rate_seconds;
            Some(at_a_rate(&mut fleet, rate, calls, progress).await?)
        }
        None => None,
    };

    let mut adapter = plan.layout.initial()?;
    let mut optimizer = OptimizerState::new(plan.optimizer, settings.dimension as usize)?;
    let (mut wall_seconds, mut exact, mut first_upload) = (0.0, true, None);
    for round in 1..=settings.rounds {
        let began = Instant::now();
        progress.begin(&format!("round {round}"), settings.clients as usize);
        let played;
        (fleet, played) = play(fleet, progress).await?;
        wall_seconds += began.elapsed().as_secs_f64();
        first_upload.get_or_insert((gauges.uploaded.load(Ordering::Relaxed), gauges.uploading()));
        progress.begin("recomputing the sum", 1);
        (adapter, optimizer) = next(&played, settings.seed, &adapter, optimizer)?;
        let downloaded = downloaded(&mut fleet[0], played.plan.round).await?;
        exact &= downloaded == adapter;
        adapter = downloaded;
        progress.advance();
    }
    let usage = site.usage()?;

    let (bytes, took) = first_upload.unwrap_or_default();
    let took = took.map_or(f64::INFINITY, |took| took.as_secs_f64());
    let vector_bytes = bytes / u64::from(settings.clients);
    progress.begin("the bare stream", 1);
    let root = site.data().appointment().map_err(SetupError::from)?.root_certificate;
    let all: Vec<&Credentials> = fleet.iter().map(SyntheticClient::credentials).collect();
    let bare = bare::measure(&root, &all, vector_bytes as usize).await?;
    progress.end();

    let unary = Histogram::default();
    unary.add(&gauges.check_ins);
    unary.add(&gauges.sends);
    let mut phase_seconds: BTreeMap<&'static str, f64> = BTreeMap::new();
    for (phase, seconds) in gauges.rounds().values().flat_map(super::measure::Marks::seconds) {
        *phase_seconds.entry(phase).or_default() += seconds / f64::from(settings.rounds);
    }
    Ok(LoadReport {
        clients: settings.clients,
        dimension: settings.dimension,
        registered: settings.registered + u64::from(settings.clients),
        rounds: settings.rounds,
        exact,
        wall_seconds,
        phase_seconds,
        vector_bytes,
        upload_bytes_per_second: bytes as f64 / took,
        bare_stream_bytes_per_second: bare,
        p50_ms: unary.quantile(0.5).unwrap_or_default(),
        p99_ms: unary.quantile(0.99).unwrap_or_default(),
        check_ins,
        turned_away: gauges.turned_away.load(Ordering::Relaxed),
        failed_calls: gauges.failed.load(Ordering::Relaxed),
        coordinator_peak_rss_bytes: usage.peak_rss_bytes,
        coordinator_cpu_seconds: usage.cpu_seconds,
    })
}

/// Waits until the task's first round is planned.
async fn planned(site: &Site) -> Result<(), LoadError> {
    for _ in 0..POLLS {
        let status = site.order(Order::Status).await?;
        let task = &status["tasks"][0];
        if let Some(problem) = task["problem"].as_str() {
            return Err(LoadError::Unplanned(problem.to_owned()));
        }
        if task["step"] == "waiting" {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(LoadError::Unplanned("it takes too long".to_owned()))
}

/// Holds every client before its upload until all have masked their vectors: what is measured then is uploading.
fn together(clients: u32) -> Hook {
    let barrier = Arc::new(Barrier::new(clients as usize));
    Arc::new(move |_, moment| {
        let barrier = Arc::clone(&barrier);
        Box::pin(async move {
            if moment == Moment::Before(Step::Collect) {
                // When one of them is missing the others go on all the same.
                let _ = tokio::time::timeout(MASKING, barrier.wait()).await;
            }
            Go::On
        })
    })
}

/// Opens a connection for each client, on the threads that are for them.
async fn connect(
    server: &Server,
    lines: &Handle,
    plan: &TaskSettings,
    credentials: Vec<Credentials>,
    seed: u64,
    common: &Common,
    progress: &dyn Progress,
) -> Result<Vec<SyntheticClient>, LoadError> {
    progress.begin("connecting", credentials.len());
    let gate = Arc::new(Semaphore::new(OPENED_AT_ONCE));
    let mut opening = JoinSet::new();
    for credentials in credentials {
        let (server, gate, common) = (server.clone(), Arc::clone(&gate), common.clone());
        let (name, limits) = (plan.name().clone(), generous(plan.plan.delta));
        let opened = async move {
            let _place = gate.acquire().await.map_err(|_| Fault::Interrupted)?;
            SyntheticClient::new(&server, credentials, name, seed, limits, common).await
        };
        opening.spawn_on(opened, lines);
    }
    let mut fleet = Vec::with_capacity(opening.len());
    while let Some(opened) = opening.join_next().await {
        fleet.push(opened.map_err(|_| LoadError::Interrupted)??);
        progress.advance();
    }
    Ok(fleet)
}

/// One round of all clients; what one of them says of it.
async fn play(
    fleet: Vec<SyntheticClient>,
    progress: &dyn Progress,
) -> Result<(Vec<SyntheticClient>, Played), LoadError> {
    let mut playing = JoinSet::new();
    for mut client in fleet {
        playing.spawn(async move {
            let played = client.run_round().await;
            (client, played)
        });
    }
    let (mut fleet, mut one) = (Vec::with_capacity(playing.len()), None);
    while let Some(done) = playing.join_next().await {
        let (client, played) = done.map_err(|_| LoadError::Interrupted)?;
        let played = played?;
        progress.advance();
        let reason = match &played.ended {
            Ended::Committed => None,
            Ended::Failed(reason) => Some(reason.clone()),
            Ended::Refused(reason) => Some(reason.to_string()),
            Ended::Left(moment) => Some(format!("a client left at {moment:?}")),
        };
        if let Some(reason) = reason {
            return Err(LoadError::NotCommitted { round: played.plan.round, reason });
        }
        one = Some(played);
        fleet.push(client);
    }
    Ok((fleet, one.ok_or(LoadError::Interrupted)?))
}

/// The adapter and the optimiser after a round, from its survivors' contributions alone.
fn next(
    played: &Played,
    seed: u64,
    before: &AdapterVersion,
    optimizer: OptimizerState,
) -> Result<(AdapterVersion, OptimizerState), LoadError> {
    let (Some(closed), Some(survivors)) = (&played.closed, &played.survivors) else {
        return Err(LoadError::Interrupted);
    };
    let mean = expected_mean(closed, survivors, None, |client| {
        synthetic(seed, client, &played.plan, &closed.context)
    })?;
    let (values, optimizer) = optimizer.step(before.values(), &mean)?;
    Ok((AdapterVersion::new(values, *before.digest())?, optimizer))
}

/// The version that a round made, as a client downloads it.
async fn downloaded(client: &mut SyntheticClient, round: u64) -> Result<AdapterVersion, LoadError> {
    for _ in 0..POLLS {
        let downloaded = client.download().await?;
        if downloaded.manifest.origin.is_some_and(|origin| origin.round == round) {
            return Ok(downloaded.adapter);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(LoadError::NotCommitted { round, reason: "its version was not published".to_owned() })
}
