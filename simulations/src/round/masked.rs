//! The protocol with masks: the coordinator's driver and the clients' participants, phase after phase, in virtual time.
//! Must never step in: what a phase closes with is what arrived before its deadline.

use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;
use tacit_client::participant::Joined;
use tacit_client::{Budget, Participant, ParticipantError};
use tacit_coordinator::{Account, Driver, Event, MemoryKeeper, Outcome, Outgoing, Refusal};
use tacit_proto::{ClientMessage, CommitmentCache, ServerMessage};

use super::behaviour::Stage;
use super::wire::Moved;
use super::{Floor, Seat};
use crate::error::SimulationError;
use crate::fleet::Fleet;
use crate::random::{Purpose, generator};

impl Seat {
    /// The generator of this client's secrets in one round, the key of its noise among them.
    pub(super) fn protocol_rng(&self, fleet: &Fleet, round: u64) -> ChaCha20Rng {
        generator(fleet.seed, Purpose::Protocol, self.id.0, round)
    }
}

/// A participant between two messages.
struct Playing {
    participant: Option<Participant>,
    /// Why it left of its own accord.
    left: Option<ParticipantError>,
    budget: Budget,
}

/// A driver with what its caller lends it.
struct Host<'a> {
    driver: &'a mut Driver,
    account: &'a mut Account,
    keeper: &'a mut MemoryKeeper,
}

/// A client's answer on its way.
struct Answer {
    arrival: u64,
    seat: usize,
    messages: Vec<ClientMessage>,
}

/// Runs the round to its end; gives the outcome and the time of it.
pub(super) fn finish(
    floor: &mut Floor<'_, '_>,
    mut driver: Driver,
    joined: Vec<Joined>,
    account: &mut Account,
    now: u64,
) -> Result<(Outcome, u64), SimulationError> {
    let pool = floor.workers.exact();
    let mut players: Vec<Playing> = floor
        .seats
        .iter()
        .zip(joined)
        .map(|(seat, joined)| Playing {
            participant: Some(Participant::Joined(joined)),
            left: None,
            budget: floor.fleet.clients[seat.place].budget.clone(),
        })
        .collect();
    let cache = CommitmentCache::new(floor.seats.len());
    let (mut now, mut keeper) = (now, MemoryKeeper::default());
    let mut host = Host { driver: &mut driver, account, keeper: &mut keeper };
    let adverts = advertise(floor, &players, now)?;
    let mut sends = floor
        .meter
        .measure("advertise", || pool.install(|| close_phase(&mut host, floor.seats, adverts, &mut now)))?;
    while !host.driver.has_ended() {
        let Some(stage) = Stage::of(host.driver.round().step()) else { break };
        floor.context.progress.begin(label(stage), sends.len());
        let meter = &mut *floor.meter;
        let (seats, wires, progress) = (floor.seats, &mut *floor.wires, floor.context.progress);
        sends = meter.measure(stage.name(), || {
            pool.install(|| {
                let began = now;
                let mut messages: Vec<Option<ServerMessage>> = seats.iter().map(|_| None).collect();
                for (to, message) in sends.drain(..) {
                    messages[to] = Some(message);
                }
                let answers = players
                    .par_iter_mut()
                    .zip(messages)
                    .enumerate()
                    .filter_map(|(index, (player, message))| Some((index, player, message?)))
                    .map(|(index, player, message)| {
                        let answer = answer(&seats[index], index, player, &message, &cache, (stage, began));
                        progress.advance();
                        answer
                    })
                    .collect::<Result<Vec<(Option<Answer>, Moved, usize)>, SimulationError>>()?;
                let mut arrived = Vec::with_capacity(answers.len());
                for (answer, moved, index) in answers {
                    wires.count(seats[index].id, moved);
                    arrived.extend(answer);
                }
                close_phase(&mut host, seats, arrived, &mut now)
            })
        })?;
    }
    for (seat, player) in floor.seats.iter().zip(players) {
        let client = &mut floor.fleet.clients[seat.place];
        client.budget = player.budget;
        if let Some(reason) = player.left {
            floor.refusals.push(format!("{}: {reason}", client.name));
        }
    }
    let outcome =
        driver.finish().map_err(|driver| SimulationError::Unfinished { step: driver.round().step() })?;
    Ok((outcome, now))
}

fn label(stage: Stage) -> &'static str {
    match stage {
        Stage::Advertise => "closing the cohort",
        Stage::Share => "sharing secrets",
        Stage::Collect => "noising, masking and uploading",
        Stage::Confirm => "confirming survivors",
        Stage::Unmask => "unmasking the sum",
    }
}

/// The adverts of all who came.
fn advertise(
    floor: &mut Floor<'_, '_>,
    players: &[Playing],
    now: u64,
) -> Result<Vec<Answer>, SimulationError> {
    let mut adverts = Vec::with_capacity(players.len());
    for (index, (seat, player)) in floor.seats.iter().zip(players).enumerate() {
        let Some(Participant::Joined(joined)) = &player.participant else { continue };
        adverts.push(sent_advert(floor.wires, seat, index, joined, now)?);
    }
    Ok(adverts)
}

fn sent_advert(
    wires: &mut super::Wires,
    seat: &Seat,
    index: usize,
    joined: &Joined,
    now: u64,
) -> Result<Answer, SimulationError> {
    let mut moved = Moved::default();
    let messages = moved.send(&[joined.advert()])?;
    wires.count(seat.id, moved);
    Ok(Answer { arrival: now + seat.behaviour.delay(Stage::Advertise), seat: index, messages })
}

/// Closes the cohort from the adverts of clients that then leave the protocol.
pub(super) fn close_cohort(
    floor: &mut Floor<'_, '_>,
    driver: &mut Driver,
    joined: &[Joined],
    account: &mut Account,
    now: &mut u64,
) -> Result<(), SimulationError> {
    let mut adverts = Vec::with_capacity(joined.len());
    for (index, (seat, joined)) in floor.seats.iter().zip(joined).enumerate() {
        adverts.push(sent_advert(floor.wires, seat, index, joined, *now)?);
    }
    let pool = floor.workers.exact();
    let mut host = Host { driver, account, keeper: &mut MemoryKeeper::default() };
    floor
        .meter
        .measure("advertise", || pool.install(|| close_phase(&mut host, floor.seats, adverts, now)))?;
    Ok(())
}

/// One client's answer to one message, unless it is gone.
fn answer(
    seat: &Seat,
    index: usize,
    player: &mut Playing,
    message: &ServerMessage,
    cache: &CommitmentCache,
    (stage, now): (Stage, u64),
) -> Result<(Option<Answer>, Moved, usize), SimulationError> {
    let mut moved = Moved::default();
    if !seat.behaviour.answers(stage) {
        player.participant = None;
        return Ok((None, moved, index));
    }
    let message = moved.deliver(message, cache)?;
    let Some(participant) = player.participant.take() else { return Ok((None, moved, index)) };
    let answers = match participant.answer(&message, &mut player.budget, now) {
        Ok((participant, answers)) => {
            player.participant = Some(participant);
            answers
        }
        Err(reason) => {
            // The client leaves the round, as it would in production: too few of its neighbours were left, say.
            player.left = Some(reason);
            return Ok((None, moved, index));
        }
    };
    let messages = moved.send(&answers)?;
    Ok((Some(Answer { arrival: now + seat.behaviour.delay(stage), seat: index, messages }), moved, index))
}

/// Hands the answers over in the order of their arrival, and lets the deadline pass when somebody is missing. Gives what the next
/// phase sends, by seat.
fn close_phase(
    host: &mut Host<'_>,
    seats: &[Seat],
    mut answers: Vec<Answer>,
    now: &mut u64,
) -> Result<Vec<(usize, ServerMessage)>, SimulationError> {
    answers.sort_by_key(|answer| (answer.arrival, answer.seat));
    let step = host.driver.round().step();
    let mut sends = Vec::new();
    for Answer { arrival, seat, messages } in answers {
        for message in messages {
            if host.driver.round().step() != step {
                // The phase had all that it needed; this answer is late.
                break;
            }
            *now = arrival;
            let event = Event::Message { from: seats[seat].id, message };
            host.handle(event, arrival, seats, &mut sends)?;
        }
    }
    if host.driver.round().step() == step
        && let Some(deadline) = host.driver.deadline()
    {
        *now = deadline;
        host.handle(Event::Tick, deadline, seats, &mut sends)?;
    }
    Ok(sends)
}

impl Host<'_> {
    /// Hands an event over, and gathers by seat what goes out. What is to be stored is held in memory, and lost with the process.
    fn handle(
        &mut self,
        event: Event,
        now: u64,
        seats: &[Seat],
        sends: &mut Vec<(usize, ServerMessage)>,
    ) -> Result<(), SimulationError> {
        for item in self.driver.handle(event, now, self.account, self.keeper) {
            match item {
                Outgoing::Open(_) => {
                    sends.extend(self.driver.round().messages().filter_map(|(to, message)| {
                        Some((seats.binary_search_by_key(&to, |seat| seat.id).ok()?, message))
                    }))
                }
                Outgoing::Refuse(refusal) => {
                    return Err(SimulationError::Refused(Box::<Refusal>::new(refusal)));
                }
                Outgoing::End => {}
            }
        }
        Ok(())
    }
}
