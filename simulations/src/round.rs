//! One round of the fleet: invitation, training, and the protocol in virtual time. Must never answer for a client or decide for
//! the coordinator: both are the state machines that production runs.

mod behaviour;
mod masked;
mod plain;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use tacit_aggregation::identity::ClientId;
use tacit_client::participant::Joined;
use tacit_coordinator::round::{Failed, Released};
use tacit_coordinator::{
    Account, Driver, History, Outcome, RoundSetup, RoundStart, SelectionError, TaskState, select,
};
use tacit_model::{Adapter, BaseModel, LocalUpdate};
use tacit_proto::SignedPlan;

use crate::error::SimulationError;
use crate::fleet::Fleet;
use crate::meter::Meter;
use crate::progress::Progress;
use crate::random::{Purpose, generator};
use crate::report::{Norms, Traffic};
use crate::scenario::Scenario;
use crate::task::Task;
use crate::workers::Workers;
use behaviour::{Behaviour, Stage};
use wire::Wires;

/// What a round needs besides the fleet.
pub(crate) struct RoundContext<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) task: &'a Task,
    pub(crate) model: &'a BaseModel,
    /// Whether vectors are masked.
    pub(crate) masked: bool,
    pub(crate) progress: &'a dyn Progress,
}

/// How a round went, as the simulation sees it.
pub(crate) struct RoundRecord {
    pub(crate) ended: Result<Released, Failed>,
    /// Clients that advertised, by their places in the fleet.
    pub(crate) cohort: Vec<usize>,
    /// Clients whose updates are in the sum.
    pub(crate) survivors: Vec<usize>,
    pub(crate) dropped: BTreeMap<String, u32>,
    /// The clip norm of the round's plan.
    pub(crate) clip: f64,
    pub(crate) norms: Option<Norms>,
    pub(crate) local_loss: Option<[f64; 2]>,
    /// Tokens that the cohort trained on.
    pub(crate) tokens: u64,
    pub(crate) traffic: Traffic,
    /// Milliseconds of virtual time.
    pub(crate) duration: u64,
    pub(crate) meter: Meter,
}

/// A client in the round, with everything that it needs to answer.
pub(crate) struct Seat {
    /// Its place in the fleet.
    place: usize,
    id: ClientId,
    behaviour: Behaviour,
}

/// What came of the attempt at a round, with the task's state after it.
pub(crate) enum Attempt {
    /// A round, released or failed.
    Ended { state: TaskState, record: Box<RoundRecord> },
    /// No cohort can be invited any more: too few clients are rested, or can bear another round.
    NoCohort { state: TaskState, reason: String },
}

/// Runs a round that begins at `now`.
pub(crate) fn run(
    context: &RoundContext<'_>,
    fleet: &mut Fleet,
    workers: &mut Workers,
    (history, account): (&mut History, &mut Account),
    state: TaskState,
    round: u64,
    now: u64,
) -> Result<Attempt, SimulationError> {
    let mut meter = Meter::default();
    let (key, noise) = (&fleet.coordinator, context.task.noise_key(round));
    let signed = {
        let noise = noise.as_ref();
        let start = RoundStart { noise, ..RoundStart::new(round, &state.adapter, account) };
        context.task.settings.plan(start, key)?
    };
    let ready = ready(fleet, &signed)?;
    let invitation = match invite(context.scenario, fleet, &ready, history, round) {
        Ok(invitation) => invitation,
        Err(reason) => return Ok(Attempt::NoCohort { state, reason: reason.to_string() }),
    };
    let Invitation { invited, seats } = invitation;
    let mut wires = Wires::new(&seats);
    let signed = wires.publish(&signed)?;

    let adapter = Adapter::from_flat(
        context.task.lora.clone(),
        context.model.decoder().config(),
        state.adapter.values().to_vec(),
    )?;
    let updates = meter.measure("train", || train(context, fleet, workers, &adapter, &seats, round))?;
    let losses = mean_losses(&updates);
    let tokens = updates.iter().map(|update| update.tokens).sum();
    let deltas = updates.into_iter().map(|update| update.delta).collect();

    let setup = RoundSetup {
        plan: signed.clone(),
        coordinator: fleet.coordinator.public_key(),
        root: fleet.root,
        invited: invited.clone(),
        noise,
    };
    let parent = *state.adapter.digest();
    let driver = Driver::open(setup, state, account, now)?;
    context.progress.begin("joining the cohort", seats.len());
    let joined =
        meter.measure("advertise", || join(fleet, workers, &signed, parent, deltas, &seats, round, now))?;
    let norms = joined.iter().map(Joined::norm_before_clipping).collect();
    let clip = driver.plan().privacy.clip;
    let norms = Norms::of(norms, clip);

    let mut floor = Floor {
        context,
        fleet,
        workers,
        seats: &seats,
        wires: &mut wires,
        meter: &mut meter,
        refusals: Vec::new(),
    };
    let (outcome, end) = if context.masked {
        masked::finish(&mut floor, driver, joined, account, now)?
    } else {
        plain::finish(&mut floor, driver, joined, account, now)?
    };
    let refusals = floor.refusals;
    context.progress.end();
    if let Some(first) = refusals.first() {
        context
            .progress
            .line(&format!("round {round}: {} clients left, the first because of {first}", refusals.len()));
    }

    let places = |clients: &[ClientId]| clients.iter().filter_map(|&client| fleet.place(client)).collect();
    let cohort: Vec<usize> = seats.iter().map(|seat| seat.place).collect();
    history.record(round, &seats.iter().map(|seat| seat.id).collect::<Vec<_>>());
    let mut dropped = stages(&seats);
    dropped.insert("refused".to_owned(), refusals.len() as u32);
    dropped.insert(Stage::Advertise.name().to_owned(), (invited.len() - seats.len()) as u32);
    let (ended, state, survivors) = match outcome {
        Outcome::Committed { released, state } => {
            let survivors = places(&released.survivors);
            (Ok(released), state, survivors)
        }
        Outcome::Failed { failed, state } => {
            let left = seats.iter().filter(|seat| seat.behaviour.uploads()).map(|seat| seat.place).collect();
            (Err(failed), state, left)
        }
    };
    let record = RoundRecord {
        ended,
        cohort,
        survivors,
        dropped,
        clip,
        norms,
        local_loss: losses,
        tokens,
        traffic: wires.traffic(),
        duration: end - now,
        meter,
    };
    Ok(Attempt::Ended { state, record: Box::new(record) })
}

/// What the two ways of summing have in common.
pub(crate) struct Floor<'a, 'b> {
    context: &'a RoundContext<'b>,
    fleet: &'a mut Fleet,
    workers: &'a Workers,
    /// In increasing order of client ids.
    seats: &'a [Seat],
    wires: &'a mut Wires,
    meter: &'a mut Meter,
    /// Why clients left of their own accord.
    refusals: Vec<String>,
}

/// Clients whose own budget bears one more round.
fn ready(fleet: &Fleet, signed: &SignedPlan) -> Result<Vec<ClientId>, SimulationError> {
    let plan = signed.verify(&fleet.coordinator.public_key())?;
    let cost = plan.admitted_cost(&plan.mechanism(&plan.terms().params(plan.cohort.max)?)?)?;
    let bears = |client: &&crate::fleet::Client| client.budget.check(plan.round, &cost).is_ok();
    Ok(fleet.clients.iter().filter(bears).map(crate::fleet::Client::id).collect())
}

struct Invitation {
    invited: BTreeSet<ClientId>,
    /// Those who come, in increasing order.
    seats: Vec<Seat>,
}

/// Invites until a whole cohort comes, or everybody who is ready was asked.
fn invite(
    scenario: &Scenario,
    fleet: &Fleet,
    ready: &[ClientId],
    history: &History,
    round: u64,
) -> Result<Invitation, SelectionError> {
    let wanted = scenario.cohort.size as usize;
    let separation = u64::from(scenario.cohort.separation) + 1;
    let rested = ready.iter().filter(|&&client| history.is_rested(client, round, separation)).count();
    let seat = |id: ClientId| {
        let place = fleet.place(id)?;
        let rng = &mut generator(scenario.seed, Purpose::Behaviour, id.0, round);
        Some(Seat { place, id, behaviour: Behaviour::draw(&scenario.dropouts, rng) })
    };
    let mut size = wanted;
    loop {
        let chosen = select(
            ready.iter().copied(),
            history,
            round,
            size.min(rested.max(wanted)),
            separation,
            scenario.seed,
        )?;
        let seats: Vec<Seat> =
            chosen.iter().filter_map(|&id| seat(id)).filter(|seat| seat.behaviour.comes()).collect();
        if seats.len() >= wanted || chosen.len() >= rested {
            return Ok(Invitation { invited: chosen.into_iter().collect(), seats });
        }
        // Selection is by rank, so the larger one has everybody of the smaller, and at most as many more who come.
        size += wanted - seats.len();
    }
}

fn train(
    context: &RoundContext<'_>,
    fleet: &Fleet,
    workers: &mut Workers,
    adapter: &Adapter,
    seats: &[Seat],
    round: u64,
) -> Result<Vec<LocalUpdate>, SimulationError> {
    let places: Vec<usize> = seats.iter().map(|seat| seat.place).collect();
    train_clients(context, fleet, workers, adapter, &places, round)
}

/// Local training of some clients, by their places in the fleet.
pub(crate) fn train_clients(
    context: &RoundContext<'_>,
    fleet: &Fleet,
    workers: &mut Workers,
    adapter: &Adapter,
    places: &[usize],
    round: u64,
) -> Result<Vec<LocalUpdate>, SimulationError> {
    context.progress.begin("training clients", places.len());
    let updates = workers.map(places.len(), "training", |tools, index| {
        let client = &fleet.clients[places[index]];
        let text = client.text(context.model.tokenizer())?;
        let mut rng = generator(context.scenario.seed, Purpose::Training, client.id().0, round);
        let update = tools
            .trainer
            .train(adapter, &context.scenario.local, text, &mut rng)
            .map_err(|source| SimulationError::Training { developer: client.name.clone(), source })?;
        context.progress.advance();
        Ok(update)
    })?;
    context.progress.end();
    Ok(updates)
}

fn mean_losses(updates: &[LocalUpdate]) -> Option<[f64; 2]> {
    let mean = |loss: fn(&LocalUpdate) -> f64| updates.iter().map(loss).sum::<f64>() / updates.len() as f64;
    (!updates.is_empty()).then(|| [mean(|update| update.first_loss), mean(|update| update.last_loss)])
}

#[allow(clippy::too_many_arguments)]
fn join(
    fleet: &Fleet,
    workers: &Workers,
    signed: &SignedPlan,
    parent: [u8; 32],
    deltas: Vec<Vec<f32>>,
    seats: &[Seat],
    round: u64,
    now: u64,
) -> Result<Vec<Joined>, SimulationError> {
    use rayon::prelude::*;
    let join = |(seat, delta): (&Seat, Vec<f32>)| {
        let client = &fleet.clients[seat.place];
        let mut rng = seat.protocol_rng(fleet, round);
        Joined::new(signed, &client.member, parent, delta, &client.budget, now, &mut rng)
            .map_err(|source| SimulationError::Client { developer: client.name.clone(), source })
    };
    workers.exact().install(|| seats.par_iter().zip(deltas).map(join).collect())
}

/// Clients that drop out after advertising, by step.
fn stages(seats: &[Seat]) -> BTreeMap<String, u32> {
    let mut dropped = BTreeMap::new();
    for stage in Stage::ALL {
        let count = seats.iter().filter(|seat| seat.behaviour.drops_at() == Some(stage)).count();
        dropped.insert(stage.name().to_owned(), count as u32);
    }
    dropped
}
