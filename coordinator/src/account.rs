//! What releases cost: reserved before a cohort closes, committed with the outcome.
//! Must never forget a reservation: until its outcome is known, it counts as spent.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tacit_aggregation::identity::ClientId;
use tacit_privacy::ledger::{Entry, Ledger, LedgerError, Record};
use tacit_privacy::{AccountantError, ParticipationBook, RdpCurve};

/// The most that a round may cost its cohort, set aside before the cohort is told that it is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// The round.
    pub round: u64,
    /// The whole cohort.
    pub clients: BTreeSet<ClientId>,
    /// The most that taking part may cost.
    pub cost: RdpCurve,
}

/// The coordinator's book of all clients, the ledger of all releases, and what is reserved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    book: ParticipationBook,
    ledger: Ledger,
    reservations: BTreeMap<u64, Reservation>,
}

/// An account that cannot take what it is given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AccountError {
    /// The round has a reservation already.
    #[error("round {round} has a reservation already: it was opened twice, or never ended")]
    ReservedTwice {
        /// The round.
        round: u64,
    },
    /// A cost for a round or a client without a reservation.
    #[error("client {client} has no reservation in round {round}: nothing may be released on its account")]
    NotReserved {
        /// The round.
        round: u64,
        /// The client.
        client: ClientId,
    },
    /// No cost can be stated.
    #[error(transparent)]
    Cost(#[from] AccountantError),
    /// The ledger refuses the entry.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Account {
    /// An account of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The account as it was stored.
    #[must_use]
    pub fn restore(
        book: ParticipationBook,
        ledger: Ledger,
        reservations: impl IntoIterator<Item = Reservation>,
    ) -> Self {
        let reservations = reservations.into_iter().map(|reservation| (reservation.round, reservation));
        Self { book, ledger, reservations: reservations.collect() }
    }

    /// What every client has spent, reservations aside.
    #[must_use]
    pub fn book(&self) -> &ParticipationBook {
        &self.book
    }

    /// The releases.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is set aside.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.values()
    }

    /// The largest epsilon at `delta` over clients, with every reservation counted as spent.
    ///
    /// # Errors
    /// As [`ParticipationBook::max_epsilon`].
    pub fn max_epsilon(&self, delta: f64) -> Result<f64, AccountantError> {
        largest(self.book.clone(), self.reservations.values(), delta)
    }

    /// Sets the cost of a round aside.
    ///
    /// # Errors
    /// [`AccountError::ReservedTwice`].
    pub fn reserve(&mut self, reservation: Reservation) -> Result<(), AccountError> {
        let round = reservation.round;
        if self.reservations.contains_key(&round) {
            return Err(AccountError::ReservedTwice { round });
        }
        self.reservations.insert(round, reservation);
        Ok(())
    }

    /// Ends a round that released nothing and could not have: its reservation is dropped.
    pub fn release(&mut self, round: u64) {
        self.reservations.remove(&round);
    }

    /// Ends a round after its first Unmask request without a release: the sum may be known all the same, so its survivors
    /// pay in full.
    ///
    /// # Errors
    /// [`AccountError::NotReserved`]; the account is then unchanged.
    pub fn forfeit(
        &mut self,
        round: u64,
        survivors: &[ClientId],
        cost: &RdpCurve,
    ) -> Result<(), AccountError> {
        self.check_reserved(round, survivors)?;
        survivors.iter().for_each(|client| self.book.debit(client.0, cost));
        self.reservations.remove(&round);
        Ok(())
    }

    /// Ends a round with a release: debits the survivors, and records it with the epsilon that follows, every other
    /// reservation counted as spent.
    ///
    /// # Errors
    /// [`AccountError`]; the account is then unchanged.
    pub fn commit(
        &mut self,
        survivors: &[ClientId],
        record: impl FnOnce(f64) -> Record,
        cost: &RdpCurve,
        round: u64,
        delta: f64,
    ) -> Result<Entry, AccountError> {
        self.check_reserved(round, survivors)?;
        let mut book = self.book.clone();
        survivors.iter().for_each(|client| book.debit(client.0, cost));
        let others = self.reservations.values().filter(|reservation| reservation.round != round);
        let epsilon = largest(book.clone(), others, delta)?;
        let entry = self.ledger.append(record(epsilon))?.clone();
        self.book = book;
        self.reservations.remove(&round);
        Ok(entry)
    }

    fn check_reserved(&self, round: u64, clients: &[ClientId]) -> Result<(), AccountError> {
        let reserved = self.reservations.get(&round);
        match clients.iter().find(|client| reserved.is_none_or(|reserved| !reserved.clients.contains(client)))
        {
            Some(&client) => Err(AccountError::NotReserved { round, client }),
            None => Ok(()),
        }
    }
}

/// The largest epsilon at `delta` over clients once these reservations are spent too.
fn largest<'a>(
    mut book: ParticipationBook,
    reserved: impl IntoIterator<Item = &'a Reservation>,
    delta: f64,
) -> Result<f64, AccountantError> {
    for Reservation { clients, cost, .. } in reserved {
        clients.iter().for_each(|client| book.debit(client.0, cost));
    }
    book.max_epsilon(delta)
}

#[cfg(test)]
mod tests {
    use super::{Account, AccountError, Reservation};
    use std::collections::BTreeSet;
    use tacit_aggregation::identity::ClientId;
    use tacit_privacy::ledger::Record;
    use tacit_privacy::{Adjacency, BasisPoints, Mechanism, MechanismRequest, NoiseLaw, RdpCurve};

    const DELTA: f64 = 1e-5;

    fn mechanism() -> Mechanism {
        Mechanism::build(&MechanismRequest {
            clients: 4,
            n_min: 3,
            corrupt: BasisPoints::ZERO,
            dropout: BasisPoints::new(2_500).expect("a fraction"),
            dimension: 10,
            clip: 1.0,
            noise_multiplier: 3.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        })
        .expect("feasible")
    }

    fn cost(survivors: u32) -> RdpCurve {
        RdpCurve::distributed(&mechanism(), survivors).expect("released")
    }

    fn members() -> Vec<ClientId> {
        (1..=4).map(ClientId).collect()
    }

    fn reservation(round: u64) -> Reservation {
        Reservation { round, clients: BTreeSet::from_iter(members()), cost: cost(3) }
    }

    fn record(round: u64, epsilon: f64) -> Record {
        Record {
            round,
            plan_digest: [1; 32],
            mechanism: mechanism().into(),
            clip_bits: None,
            survivors: 3,
            participants_root: [2; 32],
            epsilon,
            delta: DELTA,
            adapter_digest: [3; 32],
        }
    }

    #[test]
    fn a_reservation_counts_until_its_round_ends() {
        let mut account = Account::new();
        account.reserve(reservation(1)).expect("the first");
        let reserved = account.max_epsilon(DELTA).expect("stated");
        assert!(reserved > 0.5);
        assert_eq!(account.book().max_epsilon(DELTA), Ok(0.0));
        assert_eq!(account.reserve(reservation(1)), Err(AccountError::ReservedTwice { round: 1 }));
        account.release(1);
        assert_eq!(account.max_epsilon(DELTA), Ok(0.0));

        account.reserve(reservation(2)).expect("another round");
        let survivors = &members()[..3];
        let entry =
            account.commit(survivors, |epsilon| record(2, epsilon), &cost(3), 2, DELTA).expect("reserved");
        assert!((entry.record.epsilon - reserved).abs() < 1e-12);
        assert_eq!(account.ledger().entries(), [entry]);
        assert_eq!(account.book().clients().collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(account.reservations().count(), 0);
    }

    #[test]
    fn an_abort_after_unmask_costs_the_survivors_in_full() {
        let mut account = Account::new();
        account.reserve(reservation(1)).expect("the first");
        account.forfeit(1, &members()[1..], &cost(3)).expect("reserved");
        assert_eq!(account.book().clients().collect::<Vec<_>>(), [(2, 1), (3, 1), (4, 1)]);
        assert!(account.ledger().entries().is_empty() && account.reservations().count() == 0);
    }

    #[test]
    fn nothing_is_released_without_a_reservation() {
        let mut account = Account::new();
        let survivors = [ClientId(1)];
        let refused = AccountError::NotReserved { round: 1, client: ClientId(1) };
        assert_eq!(
            account.commit(&survivors, |epsilon| record(1, epsilon), &cost(3), 1, DELTA),
            Err(refused.clone())
        );
        assert_eq!(account.forfeit(1, &survivors, &cost(3)), Err(refused));
        account.reserve(reservation(1)).expect("the first");
        let stranger = [ClientId(9)];
        assert_eq!(
            account.forfeit(1, &stranger, &cost(3)),
            Err(AccountError::NotReserved { round: 1, client: ClientId(9) })
        );
        // An entry that the ledger refuses leaves book and reservation as they were.
        let before = account.clone();
        let understated = account.commit(&members()[..3], |_| record(1, 0.0), &cost(3), 1, DELTA);
        assert!(matches!(understated, Err(AccountError::Ledger(_))), "{understated:?}");
        assert_eq!(account, before);
    }

    #[test]
    fn a_release_states_what_a_crashed_round_may_have_cost() {
        let mut account = Account::new();
        account.reserve(reservation(1)).expect("the first");
        account.reserve(reservation(2)).expect("another round");
        let before = account.max_epsilon(DELTA).expect("stated");
        let survivors = &members()[..3];
        let entry =
            account.commit(survivors, |epsilon| record(2, epsilon), &cost(3), 2, DELTA).expect("reserved");
        let stated = entry.record.epsilon;
        assert_eq!(Ok(stated), account.max_epsilon(DELTA));
        assert!((stated - before).abs() < 1e-12, "{stated} leaves out round 1, which makes it {before}");
    }

    #[test]
    fn an_account_is_restored_with_its_reservations() {
        let mut account = Account::new();
        account.reserve(reservation(1)).expect("the first");
        let restored = Account::restore(
            account.book().clone(),
            account.ledger().clone(),
            account.reservations().cloned().collect::<Vec<_>>(),
        );
        assert_eq!(restored, account);
    }
}
