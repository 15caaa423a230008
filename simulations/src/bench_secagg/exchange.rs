//! One step of all clients with the server, over the wire, timed and counted. Must never hand over a message that was not
//! read back from its bytes.

use std::collections::BTreeMap;

use rayon::ThreadPool;
use rayon::prelude::*;
use tacit_aggregation::identity::ClientId;
use tacit_proto::{ClientMessage, CommitmentCache, ServerMessage, Wire};

use super::BenchError;
use crate::meter::Stopwatch;
use crate::progress::Progress;

/// A client between two steps.
pub(super) struct Player<S> {
    pub(super) id: ClientId,
    /// Whether it stays to the end.
    pub(super) stays: bool,
    /// Whether its time is taken.
    pub(super) measured: bool,
    pub(super) state: S,
}

/// What a client makes of the server's message.
pub(super) struct Answer<S> {
    pub(super) state: S,
    pub(super) messages: Vec<ClientMessage>,
    /// Seconds that went into something that is not the client's work.
    pub(super) aside: f64,
}

/// Costs by phase.
#[derive(Default)]
pub(super) struct Costs {
    pub(super) client: BTreeMap<&'static str, f64>,
    pub(super) server: BTreeMap<&'static str, f64>,
    up: BTreeMap<&'static str, u64>,
    down: BTreeMap<&'static str, u64>,
}

/// Runs a round's exchanges.
pub(super) struct Exchange<'a> {
    pub(super) progress: &'a dyn Progress,
    pub(super) cache: CommitmentCache,
    /// One thread, for the clients that are measured.
    pub(super) alone: ThreadPool,
    pub(super) costs: Costs,
    /// How many clients stay, and how many of those are measured.
    pub(super) staying: u64,
    pub(super) measured: u64,
}

/// One client's turn, done.
struct Turn<S> {
    player: Player<S>,
    sent: Vec<Vec<u8>>,
    received: usize,
    server_seconds: f64,
    client_seconds: f64,
}

impl Exchange<'_> {
    /// One phase: the server asks, the clients answer, and the server accepts their messages one by one. Measured clients
    /// have their turns first, one after the other with nothing beside them; the others a few at a time on all cores.
    #[expect(clippy::too_many_arguments, reason = "the three parts of a step, and whom they concern")]
    pub(super) fn phase<Server: Sync, S: Send, T: Send>(
        &mut self,
        name: &'static str,
        label: &str,
        server: &mut Server,
        players: Vec<Player<S>>,
        ask: impl Fn(&Server, ClientId) -> Result<Option<ServerMessage>, BenchError> + Sync,
        answer: impl Fn(&Player<()>, S, Option<ServerMessage>) -> Result<Answer<T>, BenchError> + Sync,
        mut accept: impl FnMut(&mut Server, ClientId, ClientMessage) -> Result<(), BenchError>,
    ) -> Result<Vec<Player<T>>, BenchError> {
        self.progress.begin(label, players.len());
        let mut next = Vec::with_capacity(players.len());
        let (measured, others): (Vec<_>, Vec<_>) = players.into_iter().partition(|player| player.measured);
        for player in measured {
            let turn = self.alone.install(|| turn(&*server, &self.cache, player, &ask, &answer))?;
            next.push(self.finish(name, server, turn, &mut accept)?);
        }
        let at_once = 2 * rayon::current_num_threads();
        let mut waiting = others.into_iter();
        loop {
            let few: Vec<Player<S>> = waiting.by_ref().take(at_once).collect();
            if few.is_empty() {
                return Ok(next);
            }
            let (asked, cache) = (&*server, &self.cache);
            let turns: Vec<Turn<T>> = few
                .into_par_iter()
                .map(|player| turn(asked, cache, player, &ask, &answer))
                .collect::<Result<_, BenchError>>()?;
            for turn in turns {
                next.push(self.finish(name, server, turn, &mut accept)?);
            }
        }
    }

    /// The server's part of one client's turn, and the books.
    fn finish<Server, T>(
        &mut self,
        name: &'static str,
        server: &mut Server,
        turn: Turn<T>,
        accept: &mut impl FnMut(&mut Server, ClientId, ClientMessage) -> Result<(), BenchError>,
    ) -> Result<Player<T>, BenchError> {
        let Turn { player, sent, received, server_seconds, client_seconds } = turn;
        let bytes: usize = sent.iter().map(Vec::len).sum();
        let watch = Stopwatch::start();
        for bytes in sent {
            accept(server, player.id, ClientMessage::from_wire(&bytes)?)?;
        }
        *self.costs.server.entry(name).or_default() += server_seconds + watch.seconds();
        if player.stays {
            *self.costs.up.entry(name).or_default() += bytes as u64;
            *self.costs.down.entry(name).or_default() += received as u64;
        }
        if player.measured {
            *self.costs.client.entry(name).or_default() += client_seconds;
        }
        self.progress.advance();
        Ok(player)
    }

    /// Seconds of the server that belong to a phase but to no client.
    pub(super) fn serve<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let result = work();
        *self.costs.server.entry(name).or_default() += watch.seconds();
        result
    }

    /// Mean seconds of a measured client, by phase.
    pub(super) fn client_seconds(&self) -> BTreeMap<&'static str, f64> {
        let measured = self.measured.max(1) as f64;
        self.costs.client.iter().map(|(&name, seconds)| (name, seconds / measured)).collect()
    }

    /// Mean bytes that a client which stays sent and received, by phase.
    pub(super) fn bytes(&self) -> [BTreeMap<&'static str, u64>; 2] {
        let staying = self.staying.max(1);
        [&self.costs.up, &self.costs.down]
            .map(|costs| costs.iter().map(|(&name, bytes)| (name, (bytes + staying / 2) / staying)).collect())
    }
}

fn turn<Server, S, T>(
    server: &Server,
    cache: &CommitmentCache,
    player: Player<S>,
    ask: &impl Fn(&Server, ClientId) -> Result<Option<ServerMessage>, BenchError>,
    answer: &impl Fn(&Player<()>, S, Option<ServerMessage>) -> Result<Answer<T>, BenchError>,
) -> Result<Turn<T>, BenchError> {
    let Player { id, stays, measured, state } = player;
    let watch = Stopwatch::start();
    let asked = ask(server, id)?.map(|message| message.to_wire());
    let server_seconds = watch.seconds();
    let received = asked.as_ref().map_or(0, Vec::len);

    let watch = Stopwatch::start();
    let message = match asked {
        Some(bytes) if measured => Some(ServerMessage::from_wire(&bytes)?),
        Some(bytes) => Some(ServerMessage::from_wire_cached(&bytes, cache)?),
        None => None,
    };
    let known = Player { id, stays, measured, state: () };
    let Answer { state, messages, aside } = answer(&known, state, message)?;
    let sent: Vec<Vec<u8>> = messages.iter().map(Wire::to_wire).collect();
    let client_seconds = watch.seconds() - aside;
    Ok(Turn { player: Player { id, stays, measured, state }, sent, received, server_seconds, client_seconds })
}
