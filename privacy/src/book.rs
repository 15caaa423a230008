//! Who has spent how much: for every client the rounds that it joined, composed.
//! Must never forget a debit, and never round one down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::accountant::{AccountantError, Largest, RdpCurve, epsilon_spent};

/// Number of a client, as the identity root drew it.
pub type ClientNumber = u64;

/// The privacy spent by each client of a fleet.
///
/// Distinct curves are kept once; a client holds how often it joined a round of each. Epsilon counts the
/// protocol's own failure probability once per round joined ([`epsilon_spent`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BookForm")]
pub struct ParticipationBook {
    curves: Vec<RdpCurve>,
    clients: BTreeMap<ClientNumber, Rounds>,
}

/// How often a client joined a round of each curve, by the curve's place in the book.
type Rounds = BTreeMap<usize, u64>;

/// A debit that names a curve that is not in the book.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "client {client} is debited with curve {curve}, but the book has only {curves}; the stored book is \
     damaged"
)]
struct UnknownCurve {
    client: ClientNumber,
    curve: usize,
    curves: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BookForm {
    curves: Vec<RdpCurve>,
    clients: BTreeMap<ClientNumber, Rounds>,
}

impl TryFrom<BookForm> for ParticipationBook {
    type Error = UnknownCurve;

    fn try_from(form: BookForm) -> Result<Self, UnknownCurve> {
        let curves = form.curves.len();
        for (&client, rounds) in &form.clients {
            if let Some((&curve, _)) = rounds.range(curves..).next() {
                return Err(UnknownCurve { client, curve, curves });
            }
        }
        Ok(Self { curves: form.curves, clients: form.clients })
    }
}

impl ParticipationBook {
    /// A book in which nobody has spent anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Debits `client` with one round that costs `curve`.
    pub fn debit(&mut self, client: ClientNumber, curve: &RdpCurve) {
        self.debit_all([client], curve);
    }

    /// Debits each of `clients` with one round that costs `curve`.
    pub fn debit_all(&mut self, clients: impl IntoIterator<Item = ClientNumber>, curve: &RdpCurve) {
        let place = match self.curves.iter().rposition(|known| known == curve) {
            Some(place) => place,
            None => {
                self.curves.push(curve.clone());
                self.curves.len() - 1
            }
        };
        for client in clients {
            let times = self.clients.entry(client).or_default().entry(place).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// Rounds that `client` joined; 0 for one that the book does not know.
    #[must_use]
    pub fn rounds_of(&self, client: ClientNumber) -> u64 {
        self.clients.get(&client).map_or(0, count)
    }

    /// Everything that `client` spent, composed.
    #[must_use]
    pub fn curve_of(&self, client: ClientNumber) -> RdpCurve {
        self.clients.get(&client).map_or_else(RdpCurve::zero, |rounds| self.composed(rounds))
    }

    /// Epsilon of `client` at `delta`; 0 for one that the book does not know.
    ///
    /// # Errors
    /// As [`epsilon_spent`].
    pub fn epsilon_of(&self, client: ClientNumber, delta: f64) -> Result<f64, AccountantError> {
        self.epsilon_with(client, [], delta)
    }

    /// The largest epsilon at `delta` over all clients; 0 for an empty book.
    ///
    /// # Errors
    /// As [`epsilon_spent`].
    pub fn max_epsilon(&self, delta: f64) -> Result<f64, AccountantError> {
        self.max_epsilon_with([], delta)
    }

    /// The largest epsilon at `delta` over all clients once each of `debits` is in the book too.
    ///
    /// # Errors
    /// As [`epsilon_spent`].
    pub fn max_epsilon_with<'a>(
        &self,
        debits: impl IntoIterator<Item = (ClientNumber, &'a RdpCurve)>,
        delta: f64,
    ) -> Result<f64, AccountantError> {
        let mut more: BTreeMap<ClientNumber, Vec<&RdpCurve>> = BTreeMap::new();
        for (client, cost) in debits {
            more.entry(client).or_default().push(cost);
        }
        let mut largest = Largest::new(delta)?;
        // Whoever joined most rounds has likely spent most, and then nobody else needs a long look.
        let most = self.clients.values().max_by_key(|rounds| count(rounds));
        let mut spending = Vec::new();
        for rounds in most.into_iter().chain(self.clients.values()) {
            spending.clear();
            spending.extend(self.costs(rounds));
            largest.add(&spending)?;
        }
        for (client, costs) in &more {
            spending.clear();
            spending.extend(self.clients.get(client).into_iter().flat_map(|rounds| self.costs(rounds)));
            spending.extend(costs.iter().map(|cost| (*cost, 1)));
            largest.add(&spending)?;
        }
        Ok(largest.epsilon())
    }

    /// Epsilon of `client` at `delta` once it also paid each of `costs`.
    ///
    /// # Errors
    /// As [`epsilon_spent`].
    pub fn epsilon_with<'a>(
        &self,
        client: ClientNumber,
        costs: impl IntoIterator<Item = &'a RdpCurve>,
        delta: f64,
    ) -> Result<f64, AccountantError> {
        let (mut after, mut rounds) = (self.curve_of(client), self.rounds_of(client));
        for cost in costs {
            after.compose(cost);
            rounds = rounds.saturating_add(1);
        }
        epsilon_spent(&after, delta, rounds)
    }

    /// Whether one more round at the cost of `curve` would take `client` past epsilon `limit` at `delta`. A
    /// cost that cannot be stated exceeds any limit; so does anything when `limit` is not a number.
    #[must_use]
    pub fn would_exceed(&self, client: ClientNumber, curve: &RdpCurve, delta: f64, limit: f64) -> bool {
        // Not a number is not at most anything.
        !self.epsilon_with(client, [curve], delta).is_ok_and(|epsilon| epsilon <= limit)
    }

    /// Clients that were ever debited, ascending, with the rounds that each joined.
    pub fn clients(&self) -> impl Iterator<Item = (ClientNumber, u64)> + '_ {
        self.clients.iter().map(|(&client, rounds)| (client, count(rounds)))
    }

    fn costs(&self, rounds: &Rounds) -> impl Iterator<Item = (&RdpCurve, u64)> {
        rounds.iter().map(|(&place, &times)| (&self.curves[place], times))
    }

    fn composed(&self, rounds: &Rounds) -> RdpCurve {
        let mut sum = RdpCurve::zero();
        for (curve, times) in self.costs(rounds) {
            sum.compose(&curve.times(times));
        }
        sum
    }
}

fn count(rounds: &Rounds) -> u64 {
    rounds.values().fold(0, |sum, times| sum.saturating_add(*times))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DELTA: f64 = 1e-5;

    fn curve(noise_multiplier: f64) -> RdpCurve {
        RdpCurve::gaussian(noise_multiplier)
    }

    #[test]
    fn every_client_pays_for_the_rounds_it_joined() {
        let (cheap, dear) = (curve(4.0), curve(1.0));
        let mut book = ParticipationBook::new();
        assert_eq!(book.max_epsilon(DELTA), Ok(0.0));
        for client in [1, 2, 3] {
            book.debit(client, &cheap);
        }
        book.debit(2, &dear);
        book.debit(2, &cheap);
        assert_eq!((book.rounds_of(1), book.rounds_of(2), book.rounds_of(9)), (1, 3, 0));

        let mut expected = cheap.times(2);
        expected.compose(&dear);
        assert_eq!(book.epsilon_of(2, DELTA), epsilon_spent(&expected, DELTA, 3));
        assert_eq!(book.epsilon_of(1, DELTA), epsilon_spent(&cheap, DELTA, 1));
        assert_eq!(book.epsilon_of(9, DELTA), Ok(0.0));
        assert!(book.epsilon_of(2, DELTA).unwrap() > book.epsilon_of(1, DELTA).unwrap());
        assert_eq!(book.max_epsilon(DELTA), book.epsilon_of(2, DELTA));
        assert_eq!(book.clients().collect::<Vec<_>>(), [(1, 1), (2, 3), (3, 1)]);
    }

    #[test]
    fn a_limit_is_hit_exactly_where_the_debit_would_pass_it() {
        let cost = curve(2.0);
        let mut book = ParticipationBook::new();
        book.debit(7, &cost);
        let mut after = book.clone();
        after.debit(7, &cost);
        let next = after.epsilon_of(7, DELTA).unwrap();
        assert!(!book.would_exceed(7, &cost, DELTA, next));
        assert!(book.would_exceed(7, &cost, DELTA, next.next_down()));
        assert!(book.would_exceed(7, &cost, DELTA, f64::NAN));
        assert!(book.would_exceed(7, &cost, 0.0, f64::MAX), "a delta of 0 states nothing");
        assert_eq!(book.rounds_of(7), 1, "asking must not debit");
    }

    #[test]
    fn the_largest_is_found_among_many() {
        let mut book = ParticipationBook::new();
        let costs: Vec<_> = [0.9, 1.5, 2.5, 6.0, 40.0].map(curve).into_iter().collect();
        let mut state = 5_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..60_u64 {
            let (client, cost) = (draw(20), draw(5) as usize);
            book.debit(client, &costs[cost]);
            for delta in [1e-5, 1e-9] {
                let each = |book: &ParticipationBook| {
                    (0..20).map(|client| book.epsilon_of(client, delta).unwrap()).fold(0.0, f64::max)
                };
                let (largest, exact) = (book.max_epsilon(delta).unwrap(), each(&book));
                assert!((largest - exact).abs() <= 1e-11 * exact, "round {round}: {largest}, not {exact}");
                let more = [(3, &costs[0]), (round % 20, &costs[3]), (3, &costs[1])];
                let mut after = book.clone();
                more.iter().for_each(|(client, cost)| after.debit(*client, cost));
                let (largest, exact) = (book.max_epsilon_with(more, delta).unwrap(), each(&after));
                assert!((largest - exact).abs() <= 1e-11 * exact, "round {round}: {largest}, not {exact}");
            }
        }
        book.debit(77, &curve(0.0));
        assert_eq!(book.max_epsilon(DELTA), Err(AccountantError::Unbounded));
    }

    #[test]
    fn a_book_survives_storage_and_a_damaged_one_is_refused() {
        let mut book = ParticipationBook::new();
        book.debit(1, &curve(1.0));
        book.debit(u64::MAX, &curve(2.0));
        let json = serde_json::to_string(&book).unwrap();
        let back: ParticipationBook = serde_json::from_str(&json).unwrap();
        let (before, after) = (book.max_epsilon(DELTA).unwrap(), back.max_epsilon(DELTA).unwrap());
        assert!((before - after).abs() <= 1e-12 * before);
        let damaged = json.replace("\"1\":{\"0\"", "\"1\":{\"2\"");
        assert_ne!(damaged, json);
        let error = serde_json::from_str::<ParticipationBook>(&damaged).unwrap_err().to_string();
        assert!(error.contains("curve 2"), "{error}");
    }
}
