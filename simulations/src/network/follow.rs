//! The run as its operator sees it, round after round: status, installed versions, ledger. Must never wait for ever for something
//! that does not come.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tacit_aggregation::identity::PublicKey;
use tacit_aggregation::params::TaskName;
use tacit_client::adapters::{AdapterFolder, Base, InstallError};
use tacit_client::daemon::Status;
use tacit_model::Adapter;
use tacit_proto::admin::{MAX_ROWS, Order};
use tokio::task::JoinHandle;

use super::NetworkError;
use super::audit::{Paid, audit};
use super::processes::Processes;
use crate::error::SimulationError;
use crate::federation::line;
use crate::progress::Progress;
use crate::report::RoundReport;
use crate::scenario::Scenario;
use crate::site::Site;

/// How often the operator looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long nothing may happen. Training the slowest client takes far less.
const PATIENCE: Duration = Duration::from_secs(900);
/// Rounds in which nobody pays, because too few came, for each one that is wanted; then the run gives up.
const FREE_ROUNDS: usize = 3;

/// A run under way.
pub(super) struct Follow<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) site: &'a mut Site,
    pub(super) processes: Processes,
    /// Folders of clients in which versions are looked for.
    pub(super) homes: &'a [PathBuf],
    pub(super) base: Base<'a>,
    pub(super) coordinator: PublicKey,
    /// Where the ledger is exported to.
    pub(super) export: PathBuf,
    pub(super) progress: &'a dyn Progress,
}

/// What the rounds gave.
pub(super) struct Followed {
    pub(super) rounds: Vec<RoundReport>,
    /// The last version; none when no round released one.
    pub(super) adapter: Option<Adapter>,
    pub(super) epsilon: f64,
    pub(super) stopped_early: Option<String>,
    pub(super) training_seconds: f64,
    /// They still run.
    pub(super) processes: Processes,
}

/// A task as the coordinator shows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Standing {
    round: u64,
    step: String,
    ready: u64,
    wanted: u64,
    invited: u64,
    cohort: u64,
    problem: Option<String>,
}

/// A round as the coordinator lists it.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    round: u64,
    stage: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    cohort: u32,
    #[serde(default)]
    paid: u32,
}

impl Row {
    fn has_ended(&self) -> bool {
        self.is_committed() || self.stage == "failed"
    }

    fn is_committed(&self) -> bool {
        self.stage == "committed"
    }
}

impl Follow<'_> {
    /// Follows the run until its last round has ended and its version is measured.
    pub(super) async fn run<F>(
        mut self,
        start: f64,
        measure: impl Fn(Adapter) -> F,
    ) -> Result<Followed, NetworkError>
    where
        F: Future<Output = Result<Result<f64, SimulationError>, NetworkError>> + Send + 'static,
    {
        let (mut clock, mut shown) = (PhaseClock::default(), Shown::default());
        let (mut rounds, mut adapter): (Vec<RoundReport>, Option<Adapter>) = (Vec::new(), None);
        let (mut before, mut since) = (None, Instant::now());
        // The round that has ended, while its version is measured beside everything else.
        let mut measuring: Option<(Row, JoinHandle<F::Output>)> = None;
        let mut bits = start;
        let stopped_early = loop {
            self.check()?;
            let standing = self.standing().await?;
            clock.note(&standing);
            shown.show(&standing, self.progress);
            if before.as_ref() != Some(&standing) {
                (before, since) = (Some(standing.clone()), Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return Err(self.stalled(&standing));
            }
            let next = rounds.len() as u64 + 1;
            let ended = match measuring.take_if(|(_, measured)| measured.is_finished()) {
                Some((row, measured)) => {
                    bits = measured.await.map_err(|_| NetworkError::Interrupted)???;
                    Some(row)
                }
                None if measuring.is_some() => None,
                None => match self.row(next).await?.filter(Row::has_ended) {
                    Some(row) if row.is_committed() => {
                        // Until a client has installed it, it is on its way.
                        if let Some(installed) = self.installed(row.round)? {
                            measuring = Some((row, tokio::spawn(measure(installed.clone()))));
                            adapter = Some(installed);
                        }
                        None
                    }
                    ended => ended,
                },
            };
            let Some(row) = ended else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let report = self.describe(row, bits, &mut clock, rounds.last()).await?;
            report.check()?;
            self.progress.line(&line(&report));
            rounds.push(report);
            since = Instant::now();
            if let Some(stopped_early) = self.is_over(&rounds) {
                break stopped_early;
            }
        };
        self.progress.end();
        let epsilon = rounds.last().map_or(0.0, |round| round.epsilon);
        let train = |round: &RoundReport| round.seconds.get("train").copied().unwrap_or_default();
        let training_seconds = rounds.iter().map(train).sum();
        let processes = self.processes;
        Ok(Followed { rounds, adapter, epsilon, stopped_early, training_seconds, processes })
    }

    /// Once there are as many rounds as the scenario wants, failed ones that were paid for included: why fewer were released, if so.
    fn is_over(&self, rounds: &[RoundReport]) -> Option<Option<String>> {
        let wanted = self.scenario.rounds as usize;
        let paid = rounds.iter().filter(|round| round.survivors > 0).count();
        let released = rounds.iter().filter(|round| round.failure.is_none()).count();
        let is_over = paid >= wanted || rounds.len() - paid > FREE_ROUNDS * wanted;
        let why = || {
            let failure = rounds.iter().rev().find_map(|round| round.failure.clone()).unwrap_or_default();
            format!("after round {}: {failure}", rounds.len())
        };
        is_over.then(|| (released < wanted).then(why))
    }

    /// Whether all processes run.
    fn check(&mut self) -> Result<(), NetworkError> {
        self.processes.check()?;
        let coordinator = self.site.process()?;
        if coordinator.has_ended()? {
            let log = coordinator.last_words();
            return Err(NetworkError::Ended { what: "the coordinator".to_owned(), log });
        }
        Ok(())
    }

    async fn standing(&self) -> Result<Standing, NetworkError> {
        let mut status = self.site.order(Order::Status).await?;
        let standing: Standing = parse(status["tasks"][0].take())?;
        match standing.problem {
            Some(problem) => Err(NetworkError::Unplanned(problem)),
            None => Ok(standing),
        }
    }

    fn task(&self) -> Result<TaskName, SimulationError> {
        Ok(TaskName::new(&self.scenario.name)?)
    }

    async fn row(&self, round: u64) -> Result<Option<Row>, NetworkError> {
        let order = Order::ListRounds { task: self.task()?, limit: MAX_ROWS };
        let rows: Vec<Row> = parse(self.site.order(order).await?)?;
        Ok(rows.into_iter().find(|row| row.round == round))
    }

    /// The version of a round, as one of the clients has installed it; none while none has.
    fn installed(&self, round: u64) -> Result<Option<Adapter>, NetworkError> {
        let task = self.task()?;
        for home in self.homes {
            let folder = AdapterFolder::open(home, &task)?;
            let Some(version) = folder.record()?.current else { continue };
            match folder.load(version, &self.coordinator, &self.base) {
                Ok((manifest, adapter)) if manifest.origin.is_some_and(|origin| origin.round == round) => {
                    return Ok(Some(adapter));
                }
                // Another version, or one that the client has let go of since it was looked up.
                Ok(_) | Err(InstallError::Missing { .. } | InstallError::Disk { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// What the ledger says of each round that was paid for.
    async fn paid(&self) -> Result<BTreeMap<u64, Paid>, NetworkError> {
        let path = self.export.display().to_string();
        self.site.order(Order::ExportLedger(path)).await?;
        let text = std::fs::read_to_string(&self.export).map_err(NetworkError::io(&self.export))?;
        audit(&text, &self.coordinator, &self.scenario.name, self.scenario.privacy.delta)
    }

    async fn describe(
        &self,
        row: Row,
        bits: f64,
        clock: &mut PhaseClock,
        before: Option<&RoundReport>,
    ) -> Result<RoundReport, NetworkError> {
        let paid = self.paid().await?.remove(&row.round);
        if paid.is_none() && row.paid > 0 {
            return Err(NetworkError::NotInLedger { round: row.round });
        }
        let clip = self.scenario.privacy.clip;
        Ok(RoundReport {
            round: row.round,
            cohort: row.cohort,
            survivors: paid.as_ref().map_or(0, |paid| paid.survivors),
            heldout_bits_per_byte: bits,
            epsilon: paid
                .as_ref()
                .map_or_else(|| before.map_or(0.0, |before| before.epsilon), |paid| paid.epsilon),
            delta: self.scenario.privacy.delta,
            seconds: clock.take(row.round),
            virtual_seconds: None,
            failure: (!row.is_committed()).then(|| row.reason.unwrap_or_default()),
            dropped: BTreeMap::new(),
            clip: paid.as_ref().map_or(clip, |paid| paid.clip),
            unclipped_share: paid.as_ref().and_then(|paid| paid.unclipped_share),
            norms: None,
            mean_norm: None,
            noise_norm: paid.filter(|_| row.stage == "committed").map(|paid| paid.noise_norm),
            local_loss: None,
            traffic: None,
        })
    }

    /// Says what stands still, and what a client says of it.
    fn stalled(&self, standing: &Standing) -> NetworkError {
        let problem = |home: &PathBuf| {
            let (_, problem) = Status::read(home).ok()??.problem?;
            Some(format!("; a client says: {problem}"))
        };
        NetworkError::Stalled {
            minutes: PATIENCE.as_secs() / 60,
            standing: format!(
                "round {} is in {}, {} of {} clients are ready",
                standing.round, standing.step, standing.ready, standing.wanted
            ),
            client: self.homes.iter().find_map(problem).unwrap_or_default(),
        }
    }
}

fn parse<T: for<'a> Deserialize<'a>>(value: serde_json::Value) -> Result<T, NetworkError> {
    serde_json::from_value(value).map_err(|error| NetworkError::Said(error.to_string()))
}

/// How long each round was in each phase, as often as somebody looked.
#[derive(Debug, Default)]
struct PhaseClock {
    last: Option<(u64, String, Instant)>,
    seconds: BTreeMap<u64, BTreeMap<String, f64>>,
}

impl PhaseClock {
    fn note(&mut self, standing: &Standing) {
        let now = Instant::now();
        if let Some((round, phase, since)) = self.last.take() {
            let seconds = self.seconds.entry(round).or_default().entry(phase).or_default();
            *seconds += now.duration_since(since).as_secs_f64();
        }
        // Before a round is open its clients train; after the last one there is nothing to time.
        let phase = match standing.step.as_str() {
            "finished" => return,
            "waiting" => "train",
            step => step,
        };
        self.last = Some((standing.round, phase.to_owned(), now));
    }

    fn take(&mut self, round: u64) -> BTreeMap<String, f64> {
        self.seconds.remove(&round).unwrap_or_default()
    }
}

/// What the bar shows.
#[derive(Debug, Default)]
struct Shown {
    label: String,
    done: u64,
}

impl Shown {
    fn show(&mut self, standing: &Standing, progress: &dyn Progress) {
        let Standing { round, step, .. } = standing;
        let (label, done, total) = match step.as_str() {
            "finished" => ("installing the last version".to_owned(), 0, 1),
            "waiting" => (format!("round {round}: training"), standing.ready, standing.wanted),
            step => (format!("round {round}: {step}"), 0, standing.cohort.max(standing.invited)),
        };
        if label != self.label || done < self.done {
            progress.begin(&label, total as usize);
            (self.label, self.done) = (label, 0);
        }
        (self.done..done).for_each(|_| progress.advance());
        self.done = done;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn standing(round: u64, step: &str, ready: u64) -> Standing {
        let step = step.to_owned();
        Standing { round, step, ready, wanted: 3, invited: 3, cohort: 0, problem: None }
    }

    #[test]
    fn time_goes_to_the_phase_that_was_seen_before() {
        let mut clock = PhaseClock::default();
        let wait = || std::thread::sleep(Duration::from_millis(5));
        for (round, step) in [(1, "waiting"), (1, "waiting"), (1, "share"), (2, "waiting"), (2, "finished")] {
            clock.note(&standing(round, step, 0));
            wait();
        }
        let first = clock.take(1);
        assert_eq!(first.keys().collect::<Vec<_>>(), ["share", "train"]);
        assert!(first["train"] >= 0.01 && first["share"] >= 0.005);
        assert_eq!(clock.take(2).keys().collect::<Vec<_>>(), ["train"]);
        clock.note(&standing(3, "waiting", 0));
        assert!(clock.take(2).is_empty() && clock.take(3).is_empty(), "nothing is timed after the end");
    }

    #[derive(Default)]
    struct Noted(Mutex<Vec<String>>);

    impl Progress for Noted {
        fn begin(&self, label: &str, total: usize) {
            self.0.lock().expect("no panic").push(format!("{label} of {total}"));
        }
        fn advance(&self) {
            self.0.lock().expect("no panic").push("+".to_owned());
        }
        fn end(&self) {}
        fn line(&self, _text: &str) {}
    }

    #[test]
    fn the_bar_follows_the_clients_that_are_ready() {
        let (noted, mut shown) = (Noted::default(), Shown::default());
        for (step, ready) in [("waiting", 0), ("waiting", 2), ("waiting", 1), ("share", 0), ("share", 0)] {
            shown.show(&standing(1, step, ready), &noted);
        }
        let noted = noted.0.into_inner().expect("no panic");
        let expected =
            ["round 1: training of 3", "+", "+", "round 1: training of 3", "+", "round 1: share of 3"];
        assert_eq!(noted, expected);
    }

    #[test]
    fn rows_of_every_stage_are_read() {
        let rows = serde_json::json!([
            { "round": 3, "planned": 9, "stage": "planned" },
            { "round": 2, "planned": 5, "stage": "failed", "ended": 8, "reason": "too few", "cohort": 4, "paid": 0,
              "epsilon": null, "delta": null },
            { "round": 1, "planned": 1, "stage": "committed", "ended": 4, "reason": null, "cohort": 4, "paid": 3,
              "epsilon": 0.5, "delta": 1e-5 },
        ]);
        let rows: Vec<Row> = parse(rows).expect("rows");
        let ended: Vec<bool> = rows.iter().map(Row::has_ended).collect();
        assert_eq!(ended, [false, true, true]);
        assert!(rows[2].is_committed() && rows[2].paid == 3 && rows[1].reason.as_deref() == Some("too few"));
    }
}
