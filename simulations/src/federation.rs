//! The rounds of a simulation, one after another. Must never go on when no client can bear another round.

use tacit_coordinator::{Account, History, TaskState};
use tacit_model::Adapter;
use tacit_model::evaluate::Sample;
use tacit_privacy::{AdaptiveClip, RoundMechanism};

use crate::error::SimulationError;
use crate::evaluate::bits_per_byte;
use crate::fleet::Fleet;
use crate::report::RoundReport;
use crate::round::{self, Attempt, RoundContext, RoundRecord};
use crate::workers::Workers;

/// Virtual time between two rounds, in milliseconds.
const PAUSE: u64 = 60_000;

/// What the rounds gave.
pub(crate) struct Federated {
    pub(crate) rounds: Vec<RoundReport>,
    pub(crate) records: Vec<RoundRecord>,
    pub(crate) adapter: Adapter,
    pub(crate) training_seconds: f64,
    /// The largest over clients.
    pub(crate) epsilon: f64,
    /// Why there are fewer rounds than the scenario wanted.
    pub(crate) stopped_early: Option<String>,
}

/// Runs all rounds, or those that the clients' budgets allow.
pub(crate) fn federate(
    context: &RoundContext<'_>,
    fleet: &mut Fleet,
    workers: &mut Workers,
    sample: &Sample,
    mut state: TaskState,
    start: f64,
) -> Result<Federated, SimulationError> {
    let (scenario, progress) = (context.scenario, context.progress);
    let delta = scenario.privacy.delta;
    let (mut history, mut account) = (History::new(), Account::timeless());
    let (mut rounds, mut records) = (Vec::new(), Vec::new());
    let (mut bits, mut now, mut training_seconds) = (start, 0, 0.0);
    let mut stopped_early = None;
    for number in 1..=u64::from(scenario.rounds) {
        let mut record =
            match round::run(context, fleet, workers, (&mut history, &mut account), state, number, now)? {
                Attempt::Ended { state: after, record } => {
                    state = after;
                    record
                }
                Attempt::NoCohort { state: unchanged, reason } => {
                    state = unchanged;
                    let when = format!("before round {number}: {reason}");
                    progress.line(&format!("stopping {when}"));
                    stopped_early = Some(when);
                    break;
                }
            };
        training_seconds += record.meter.of("train");
        now += record.duration + PAUSE;
        if record.ended.is_ok() {
            let adapter = current(context, &state)?;
            let mut meter = std::mem::take(&mut record.meter);
            bits = meter
                .measure("evaluate", || bits_per_byte(workers, context.model, &adapter, sample, progress))?;
            record.meter = meter;
        }
        let epsilon = account.max_epsilon(delta)?;
        let report = describe(number, &mut record, bits, epsilon, delta);
        report.check()?;
        progress.line(&line(&report));
        rounds.push(report);
        records.push(*record);
    }
    let epsilon = account.max_epsilon(delta)?;
    let adapter = current(context, &state)?;
    Ok(Federated { rounds, records, adapter, training_seconds, epsilon, stopped_early })
}

fn current(context: &RoundContext<'_>, state: &TaskState) -> Result<Adapter, SimulationError> {
    let config = context.model.decoder().config();
    Ok(Adapter::from_flat(context.task.lora.clone(), config, state.adapter.values().to_vec())?)
}

fn describe(round: u64, record: &mut RoundRecord, bits: f64, epsilon: f64, delta: f64) -> RoundReport {
    let (mean_norm, noise_norm, unclipped_share, failure) = match &record.ended {
        Ok(released) => {
            let survivors = released.survivors.len() as u32;
            let commit = released.entry.event.commit();
            let unclipped = commit
                .and_then(|commit| commit.clip_bits)
                .map(|bits| AdaptiveClip::unclipped_share(bits, survivors));
            let noise = commit.map(|commit| noise(&commit.debit.mechanism, survivors));
            (Some(norm(&released.mean)), noise, unclipped, None)
        }
        Err(failed) => (None, None, None, Some(failed.reason.to_string())),
    };
    RoundReport {
        round,
        cohort: record.cohort.len() as u32,
        survivors: record.survivors.len() as u32,
        heldout_bits_per_byte: bits,
        epsilon,
        delta,
        seconds: std::mem::take(&mut record.meter).into_seconds(),
        virtual_seconds: Some(record.duration as f64 / 1000.0),
        failure,
        dropped: std::mem::take(&mut record.dropped),
        clip: record.clip,
        unclipped_share,
        norms: record.norms,
        mean_norm,
        noise_norm,
        local_loss: record.local_loss,
        traffic: Some(std::mem::take(&mut record.traffic)),
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Expected norm of the noise in the mean, in the units of the update.
pub(crate) fn noise(mechanism: &RoundMechanism, survivors: u32) -> f64 {
    let deviation = mechanism.total_noise_std(survivors);
    deviation * (mechanism.dimension() as f64).sqrt() / f64::from(survivors)
}

/// One line about a round.
pub(crate) fn line(report: &RoundReport) -> String {
    let seconds: Vec<String> = crate::report::html::PHASES
        .iter()
        .filter_map(|phase| Some(format!("{phase} {:.1}", report.seconds.get(*phase)?)))
        .collect();
    let outcome = match &report.failure {
        None => format!("{:.4} bits per byte", report.heldout_bits_per_byte),
        Some(reason) => format!("nothing released ({reason})"),
    };
    format!(
        "round {:>2}: cohort {}, survivors {}, {outcome}, epsilon {:.3} at delta {:e}; seconds: {}",
        report.round,
        report.cohort,
        report.survivors,
        report.epsilon,
        report.delta,
        seconds.join(", ")
    )
}
