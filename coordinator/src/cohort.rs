//! Who is asked to join a round. Must never prefer a client for anything but how seldom it took part, for that would let
//! whoever chooses steer whose updates are summed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tacit_aggregation::identity::ClientId;

/// How often and when each client took part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    clients: BTreeMap<ClientId, Participation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Participation {
    rounds: u64,
    last: u64,
}

impl History {
    /// Nobody took part in anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that these clients took part in a round.
    pub fn record(&mut self, round: u64, clients: &[ClientId]) {
        for &client in clients {
            let entry = self.clients.entry(client).or_insert(Participation { rounds: 0, last: round });
            entry.rounds = entry.rounds.saturating_add(1);
            entry.last = entry.last.max(round);
        }
    }

    /// Rounds that a client took part in.
    #[must_use]
    pub fn rounds_of(&self, client: ClientId) -> u64 {
        self.clients.get(&client).map_or(0, |participation| participation.rounds)
    }

    /// Whether a client may take part in a round, if at least `separation` rounds lie from one participation to the next.
    #[must_use]
    pub fn is_rested(&self, client: ClientId, round: u64, separation: u64) -> bool {
        self.clients.get(&client).is_none_or(|participation| {
            round.checked_sub(participation.last).is_some_and(|since| since >= separation.max(1))
        })
    }
}

/// Too few clients for a cohort.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "round {round} needs {wanted} clients, but of the {ready} that are ready {resting} took part less than {separation} \
     rounds ago: wait for more clients, or ask for a smaller cohort"
)]
pub struct SelectionError {
    /// The round.
    pub round: u64,
    /// Clients wanted.
    pub wanted: usize,
    /// Distinct clients that are ready.
    pub ready: usize,
    /// Those of them that must still rest.
    pub resting: usize,
    /// Rounds from one participation to the next, at least.
    pub separation: u64,
}

/// Selects `size` of the clients that are ready: those that took part least often, ties in an order drawn from the seed.
/// The result is in increasing order and does not depend on the order of `ready`.
///
/// # Errors
/// [`SelectionError`] when too few are ready and rested.
pub fn select(
    ready: impl IntoIterator<Item = ClientId>,
    history: &History,
    round: u64,
    size: usize,
    separation: u64,
    seed: u64,
) -> Result<Vec<ClientId>, SelectionError> {
    let mut ready: Vec<ClientId> = ready.into_iter().collect();
    ready.sort_unstable();
    ready.dedup();
    let mut rested: Vec<ClientId> =
        ready.iter().copied().filter(|&client| history.is_rested(client, round, separation)).collect();
    if rested.len() < size {
        let resting = ready.len() - rested.len();
        return Err(SelectionError { round, wanted: size, ready: ready.len(), resting, separation });
    }
    rested.sort_by_cached_key(|&client| (history.rounds_of(client), lot(seed, round, client)));
    rested.truncate(size);
    rested.sort_unstable();
    Ok(rested)
}

/// A client's lot in a round: a hash, so that nobody's place depends on who else is ready.
fn lot(seed: u64, round: u64, client: ClientId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tacit/cohort/v1");
    for part in [seed, round, client.0] {
        hash.update(part.to_be_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{History, SelectionError, select};
    use std::collections::BTreeMap;
    use tacit_aggregation::identity::ClientId;

    fn clients(count: u64) -> Vec<ClientId> {
        (0..count).map(|number| ClientId(number * 7919)).collect()
    }

    #[test]
    fn everyone_takes_its_turn() {
        let (all, mut history) = (clients(10), History::new());
        for round in 0..15 {
            let chosen = select(all.iter().copied(), &history, round, 4, 1, 99).expect("enough");
            assert_eq!(chosen.len(), 4);
            assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            history.record(round, &chosen);
            let counts: Vec<u64> = all.iter().map(|&client| history.rounds_of(client)).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?}");
        }
        assert_eq!(all.iter().map(|&client| history.rounds_of(client)).sum::<u64>(), 60);
    }

    #[test]
    fn ties_are_drawn_by_the_seed_alone() {
        let all = clients(50);
        let draw = |seed, reversed: bool| {
            let ready: Vec<ClientId> =
                if reversed { all.iter().rev().copied().collect() } else { all.clone() };
            select(ready.into_iter().chain([all[3]]), &History::new(), 1, 10, 1, seed).expect("enough")
        };
        assert_eq!(draw(1, false), draw(1, true));
        assert_ne!(draw(1, false), draw(2, false));
        // Over many seeds everyone is drawn about as often as anyone: 10 of 50, 400 times.
        let mut counts: BTreeMap<ClientId, u32> = BTreeMap::new();
        (0..400)
            .flat_map(|seed| draw(seed, false))
            .for_each(|client| *counts.entry(client).or_default() += 1);
        assert_eq!(counts.len(), 50);
        let spread: f64 = counts.values().map(|&count| (f64::from(count) - 80.0).powi(2) / 64.0).sum();
        // Chi-squared with 49 degrees of freedom, up to dependence: 100 is beyond its 99.99th percentile.
        assert!(spread < 100.0, "{spread}");
    }

    #[test]
    fn clients_rest_for_the_separation() {
        let (all, mut history) = (clients(6), History::new());
        history.record(4, &all[..3]);
        assert!(!history.is_rested(all[0], 4, 0), "nobody takes part twice in one round");
        assert!(history.is_rested(all[0], 5, 1) && !history.is_rested(all[0], 5, 2));
        let chosen = select(all.iter().copied(), &history, 5, 3, 2, 0).expect("three are rested");
        assert_eq!(chosen, all[3..]);
        assert_eq!(
            select(all.iter().copied(), &history, 5, 4, 2, 0),
            Err(SelectionError { round: 5, wanted: 4, ready: 6, resting: 3, separation: 2 })
        );
        assert_eq!(select(all.iter().copied(), &history, 6, 6, 2, 0).expect("all are rested"), all);
    }
}
