//! A whole simulation: corpus and model in, report and adapter out. Must never write a file or to a terminal.

use sha2::{Digest, Sha256};
use tacit_model::evaluate::Sample;
use tacit_model::{Adapter, BaseModel};

use crate::compare;
use crate::completions::complete;
use crate::corpus::{Corpus, CorpusSource, Developer};
use crate::error::SimulationError;
use crate::evaluate::bits_per_byte;
use crate::federation::federate;
use crate::fleet::Fleet;
use crate::meter::{Stopwatch, peak_memory};
use crate::progress::Progress;
use crate::report::network::NetworkReport;
use crate::report::{
    Comparison, Completion, CorpusReport, EvaluationReport, Parameters, Report, RoundReport, SCHEMA, Summary,
    finite,
};
use crate::round::RoundContext;
use crate::sample::{Excerpt, Prompt, excerpts, prompts};
use crate::scenario::Scenario;
use crate::task::Task;
use crate::workers::Workers;

/// Completions in the report.
const COMPLETIONS: usize = 3;

/// How a simulation is run, besides its scenario.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Where the fleet's code comes from.
    pub source: CorpusSource,
    /// Worker threads; changes the time it takes and nothing else.
    pub threads: usize,
    /// Sum without masks; the adapter is the same, bit for bit.
    pub plain: bool,
    /// Also run the fleet without privacy, and central training.
    pub compare: bool,
}

/// What a simulation gives.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The report.
    pub report: Report,
    /// The last adapter.
    pub adapter: Adapter,
}

/// Runs a simulation with a model that is already loaded.
///
/// The adapter and every figure but the times are a function of scenario, model and corpus; noise is drawn from the scenario's seed,
/// which no production system does.
///
/// # Errors
/// [`SimulationError`] when the corpus cannot be used, the scenario is infeasible for it or the model, or training fails. A round that
/// the protocol aborts is not an error: the report says why.
pub fn simulate(
    scenario: &Scenario,
    model: &BaseModel,
    options: &RunOptions,
    progress: &dyn Progress,
) -> Result<Finished, SimulationError> {
    let clock = Stopwatch::start();
    scenario.validate()?;
    let task = Task::new(scenario, model)?;
    let mut premises = Premises::read(scenario, model, &options.source, progress)?;
    let mut workers = Workers::start(options.threads, model.decoder())?;
    let mut fleet = Fleet::new(scenario, std::mem::take(&mut premises.developers), model.digest())?;
    let state = task.start(scenario)?;
    let parameters = task.parameters(&state, &fleet.coordinator, model)?;
    let context = RoundContext { scenario, task: &task, model, masked: !options.plain, progress };
    let zeros = Adapter::zeros(task.lora.clone(), model.decoder().config())?;
    let sample = &premises.sample;
    let start = bits_per_byte(&mut workers, model, &zeros, sample, progress)?;
    progress.line(&before_training(start, sample)?);

    let federated = federate(&context, &mut fleet, &mut workers, sample, state, start)?;
    let comparison = match options.compare {
        true => Some(compare::compare(&context, &fleet, &mut workers, sample, &federated.records)?),
        false => None,
    };
    let completions = premises.complete(scenario, model, &mut workers, &federated.adapter, progress)?;
    let results = Results {
        start,
        rounds: federated.rounds,
        stopped_early: federated.stopped_early,
        epsilon: federated.epsilon,
        trained: federated.records.iter().map(|record| record.cohort.len() as u64).sum(),
        training_seconds: federated.training_seconds,
        wall_seconds: clock.seconds(),
        parameters,
        masked: !options.plain,
        threads: workers.threads(),
        comparison,
        completions,
        network: None,
    };
    report(scenario, &premises, results, federated.adapter)
}

/// What every run begins with, wherever its clients are.
pub(crate) struct Premises {
    /// Those who train.
    pub(crate) developers: Vec<Developer>,
    pub(crate) sample: Sample,
    corpus: CorpusReport,
    files: Vec<Excerpt>,
    prompts: Vec<Prompt>,
}

impl Premises {
    /// Reads the corpus and takes the held-out sample.
    pub(crate) fn read(
        scenario: &Scenario,
        model: &BaseModel,
        source: &CorpusSource,
        progress: &dyn Progress,
    ) -> Result<Self, SimulationError> {
        progress.begin("reading the corpus", 1);
        let corpus = Corpus::read(source, &scenario.corpus)?;
        progress.end();
        if corpus.training.len() < scenario.cohort.size as usize {
            return Err(SimulationError::FleetTooSmall {
                cohort: scenario.cohort.size,
                developers: corpus.training.len(),
                held_out: corpus.held_out.len(),
            });
        }
        let described = describe(source, &corpus);
        progress.line(&format!(
            "{} developers train, {} are held out; corpus sha256 {}",
            described.developers,
            described.held_out.len(),
            described.digest
        ));
        let wanted = &scenario.evaluation;
        let files = excerpts(&corpus.held_out, wanted.files, wanted.bytes_per_file);
        let prompts = prompts(&corpus.held_out, COMPLETIONS);
        let texts = files.iter().map(|file| file.text.as_str());
        let sample = Sample::new(texts, model.tokenizer(), wanted.window)?;
        Ok(Self { developers: corpus.training, sample, corpus: described, files, prompts })
    }

    /// Held-out functions, continued by the base model and by an adapter.
    pub(crate) fn complete(
        &self,
        scenario: &Scenario,
        model: &BaseModel,
        workers: &mut Workers,
        adapter: &Adapter,
        progress: &dyn Progress,
    ) -> Result<Vec<Completion>, SimulationError> {
        progress.begin("completing held-out code", 1);
        let tokens = scenario.evaluation.completion_tokens;
        let completions = complete(workers, model, adapter, &self.prompts, tokens)?;
        progress.end();
        Ok(completions)
    }
}

/// What a run found, wherever its clients were.
pub(crate) struct Results {
    /// Bits per byte of the base model.
    pub(crate) start: f64,
    pub(crate) rounds: Vec<RoundReport>,
    pub(crate) stopped_early: Option<String>,
    /// The largest over clients.
    pub(crate) epsilon: f64,
    /// Updates of all cohorts.
    pub(crate) trained: u64,
    pub(crate) training_seconds: f64,
    pub(crate) wall_seconds: f64,
    pub(crate) parameters: Parameters,
    pub(crate) masked: bool,
    pub(crate) threads: usize,
    pub(crate) comparison: Option<Comparison>,
    pub(crate) completions: Vec<Completion>,
    pub(crate) network: Option<NetworkReport>,
}

/// The line about the base model.
pub(crate) fn before_training(start: f64, sample: &Sample) -> Result<String, SimulationError> {
    finite(|| "held-out bits per byte before training".to_owned(), start)?;
    Ok(format!("before training: {start:.4} bits per byte on {} held-out bytes", sample.bytes()))
}

/// The report of a run.
pub(crate) fn report(
    scenario: &Scenario,
    premises: &Premises,
    results: Results,
    adapter: Adapter,
) -> Result<Finished, SimulationError> {
    let Results { start, rounds, comparison, parameters, .. } = results;
    let private = rounds.last().map_or(start, |round| round.heldout_bits_per_byte);
    let central = comparison.as_ref().and_then(compare::best_central);
    let (trained, seconds) = (results.trained as f64, results.training_seconds);
    let summary = Summary {
        heldout_start: start,
        heldout_private: private,
        heldout_federated_plain: comparison.as_ref().and_then(|runs| runs.federated_plain.last().copied()),
        heldout_central: central,
        recovered_share: central.and_then(|central| recovered_share(start, private, central)),
        dimension: parameters.dimension,
        epsilon: results.epsilon,
        delta: scenario.privacy.delta,
        noise_multiplier: scenario.privacy.noise_multiplier,
        wall_seconds: results.wall_seconds,
        client_updates_per_second: if seconds > 0.0 { trained / seconds } else { 0.0 },
        peak_rss_bytes: peak_memory(),
        rounds_released: rounds.iter().filter(|round| round.failure.is_none()).count() as u64,
        adapter_sha256: adapter_digest(&adapter),
    };
    let sample = &premises.sample;
    let report = Report {
        schema: SCHEMA.to_owned(),
        scenario: scenario.clone(),
        seed: scenario.seed,
        masked: results.masked,
        simulated_noise_is_seeded: results.network.is_none(),
        threads: results.threads,
        network: results.network,
        corpus: premises.corpus.clone(),
        evaluation: EvaluationReport {
            bytes: sample.bytes(),
            tokens: sample.score(0.0).tokens,
            files: premises.files.clone(),
        },
        parameters,
        rounds,
        stopped_early: results.stopped_early,
        comparison,
        completions: results.completions,
        summary,
    };
    report.check()?;
    Ok(Finished { report, adapter })
}

/// `(start - private) / (start - central)`; none when central training gained nothing.
fn recovered_share(start: f64, private: f64, central: f64) -> Option<f64> {
    (start > central).then(|| (start - private) / (start - central))
}

fn describe(source: &CorpusSource, corpus: &Corpus) -> CorpusReport {
    let (bytes, files) = Corpus::size(&corpus.training);
    CorpusReport {
        source: match source {
            CorpusSource::Cargo { .. } => "cargo".to_owned(),
            CorpusSource::Folder(_) => "folder".to_owned(),
        },
        digest: hex::encode(corpus.digest),
        developers: corpus.training.len() as u64,
        files,
        bytes,
        held_out: corpus.held_out.iter().map(|developer| developer.name.clone()).collect(),
        held_out_bytes: Corpus::size(&corpus.held_out).0,
        skipped: corpus.skipped.clone(),
    }
}

/// SHA-256 of the adapter's values, little-endian, in hexadecimal.
fn adapter_digest(adapter: &Adapter) -> String {
    let mut hash = Sha256::new();
    adapter.flat().iter().for_each(|value| hash.update(value.to_le_bytes()));
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::testing::{tiny_model, write_corpus};

    struct Setup {
        _root: tempfile::TempDir,
        model: BaseModel,
        source: CorpusSource,
    }

    fn setup(developers: usize) -> Setup {
        let root = tempfile::tempdir().expect("a folder");
        let model = tiny_model(root.path());
        let corpus = root.path().join("corpus");
        write_corpus(&corpus, developers);
        Setup { _root: root, model, source: CorpusSource::Folder(corpus) }
    }

    fn scenario() -> Scenario {
        Scenario::parse(crate::scenario::tests::SMALL).expect("valid")
    }

    fn run(setup: &Setup, scenario: &Scenario, threads: usize, plain: bool, compare: bool) -> Finished {
        let options = RunOptions { source: setup.source.clone(), threads, plain, compare };
        simulate(scenario, &setup.model, &options, &Silent).expect("runs")
    }

    #[test]
    fn the_adapter_depends_on_the_seed_alone() {
        let setup = setup(20);
        let scenario = scenario();
        let one = run(&setup, &scenario, 1, false, false);
        assert!(one.adapter.flat().iter().any(|value| *value != 0.0), "something was learned");
        assert_eq!(one.report.summary.rounds_released, 2);
        let bits = |finished: &Finished| -> Vec<u32> {
            finished.adapter.flat().iter().map(|value| value.to_bits()).collect()
        };
        let measured = |finished: &Finished| -> Vec<u64> {
            finished.report.rounds.iter().map(|round| round.heldout_bits_per_byte.to_bits()).collect()
        };
        let three = run(&setup, &scenario, 3, false, false);
        assert_eq!(bits(&three), bits(&one), "the number of threads changes nothing");
        assert_eq!(measured(&three), measured(&one));
        let plain = run(&setup, &scenario, 2, true, false);
        assert_eq!(bits(&plain), bits(&one), "masks change nothing");
        assert_eq!(plain.report.summary.epsilon, one.report.summary.epsilon);
        assert!(!plain.report.masked && one.report.masked);
        let other = run(&setup, &Scenario { seed: 2, ..scenario }, 2, true, false);
        assert_ne!(bits(&other), bits(&one), "the seed changes everything");
    }

    #[test]
    fn a_report_holds_what_happened() {
        let setup = setup(20);
        let mut scenario = scenario();
        scenario.dropouts.share = 0.08;
        scenario.dropouts.collect = 0.08;
        let finished = run(&setup, &scenario, 2, false, true);
        let report = finished.report;
        assert_eq!((report.rounds.len(), report.stopped_early), (2, None));
        for (index, round) in report.rounds.iter().enumerate() {
            assert_eq!((round.round, round.cohort), (index as u64 + 1, 12));
            let lost = round.dropped["share"] + round.dropped["collect"];
            assert_eq!(round.survivors, 12 - lost, "{:?}", round.dropped);
            assert!(round.failure.is_none() && round.survivors >= 9);
            assert!(round.epsilon > 0.0 && round.virtual_seconds.is_some_and(|seconds| seconds > 0.0));
            assert!(round.norms.is_some_and(|norms| norms.minimum > 0.0));
            let traffic = round.traffic.as_ref().expect("counted");
            assert!(traffic.sent_per_client > 1_000.0 && traffic.received_per_client > 1_000.0);
            for phase in ["train", "advertise", "share", "collect", "confirm", "unmask", "evaluate"] {
                assert!(round.seconds[phase] > 0.0, "{phase}");
            }
        }
        assert!(report.rounds.iter().any(|round| round.survivors < 12), "somebody dropped out");
        assert!(report.rounds[0].epsilon <= report.rounds[1].epsilon);
        assert_eq!(report.summary.epsilon, report.rounds[1].epsilon);
        assert_eq!(report.corpus.held_out.len(), 2);
        let held_out = |name: &String| report.corpus.held_out.contains(name);
        assert!(report.evaluation.files.iter().all(|file| held_out(&file.developer)));
        assert_eq!(report.completions.len(), 3);
        assert!(report.completions.iter().all(|completion| held_out(&completion.developer)));
        let comparison = report.comparison.expect("asked for");
        assert_eq!(comparison.federated_plain.len(), 2);
        assert_eq!(comparison.tokens, 2 * 12 * 2 * 2 * 32);
        assert!(comparison.central.len() >= 3);
        assert!(report.summary.heldout_central.is_some() && report.summary.heldout_federated_plain.is_some());
    }

    #[test]
    fn a_round_that_loses_too_many_releases_nothing_and_says_why() {
        let setup = setup(20);
        let mut scenario = scenario();
        scenario.dropouts.collect = 0.9;
        for plain in [false, true] {
            let finished = run(&setup, &scenario, 2, plain, false);
            assert!(finished.adapter.flat().iter().all(|value| *value == 0.0));
            assert_eq!(finished.report.rounds.len(), 2);
            for round in &finished.report.rounds {
                assert!(round.cohort == 12 && round.survivors < 9, "{round:?}");
                let left = round.survivors;
                let reason = if plain {
                    format!(
                        "a plain sum over {left} clients is refused: it needs at least 9 distinct members of the cohort"
                    )
                } else {
                    format!(
                        "the round is aborted in Collect, releasing nothing: {left} clients survived where n_min is 9"
                    )
                };
                assert_eq!(round.failure.as_ref(), Some(&reason));
                assert_eq!(
                    (round.epsilon, round.heldout_bits_per_byte),
                    (0.0, finished.report.summary.heldout_start)
                );
            }
            assert_eq!(finished.report.summary.rounds_released, 0);
        }
    }

    #[test]
    fn the_fleet_stops_at_its_limit() {
        let setup = setup(15);
        let mut scenario = scenario();
        scenario.rounds = 5;
        scenario.privacy.epsilon_limit = 3.0;
        let report = run(&setup, &scenario, 2, true, false).report;
        assert!(!report.rounds.is_empty() && report.rounds.len() < 5, "{}", report.rounds.len());
        assert!(report.summary.epsilon <= 3.0 && report.summary.epsilon > 0.0);
        let reason = report.stopped_early.expect("why");
        let place = format!("before round {}: ", report.rounds.len() + 1);
        assert!(reason.len() > place.len() && reason.starts_with(&place), "{reason}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_numbers() {
        let setup = setup(8);
        let refuse = |scenario: &Scenario| {
            let options =
                RunOptions { source: setup.source.clone(), threads: 1, plain: true, compare: false };
            simulate(scenario, &setup.model, &options, &Silent).expect_err("refused").to_string()
        };
        let error = refuse(&scenario());
        assert!(error.contains("needs 12 developers") && error.contains("only 7"), "{error}");
        let mut wide = scenario();
        wide.evaluation.window = 10_000;
        assert!(refuse(&wide).contains("evaluation.window"));
        let mut long = scenario();
        long.local.sequence = 10_000;
        assert!(refuse(&long).contains("sequence"));
        let mut infeasible = scenario();
        infeasible.cohort.size = 6;
        infeasible.privacy.noise_multiplier = 1e-4;
        assert!(refuse(&infeasible).contains("no feasible plan"));
        let mut threshold = scenario();
        threshold.cohort.size = 6;
        threshold.cohort.dropout = tacit_privacy::BasisPoints::new(5_000).expect("half");
        let error = refuse(&threshold);
        assert!(error.contains("secure sum"), "{error}");
    }
}
