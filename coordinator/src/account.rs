//! What rounds cost, over all tasks: reserved before a cohort closes, committed with the outcome, all of it in the ledger.
//! Must never forget a reservation: until its outcome is known, it counts as spent.
//!
//! The account changes in memory and gathers the records of each change; [`Account::save`] moves them into the batch that
//! holds whatever else changes with them. When that batch cannot be committed, [`Account::load`] gives back what is stored.

mod export;
mod load;
mod prove;
mod tables;

pub use export::{ExportError, export};
pub use load::LoadError;
pub use tables::{EPOCH, Entries, LedgerRounds, Members, Participants, RoundRow, spent_by};

use crate::Millis;
use crate::cohort::History;
use crate::store::Batch;
use std::collections::{BTreeMap, BTreeSet};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_privacy::ledger::restart::SignedRestart;
use tacit_privacy::ledger::{
    Commit, Debit, Entry, Event, Ledger, LedgerError, Reason, Release, Reserve, Task, members_root,
};
use tacit_privacy::{AccountantError, AdaptiveClip, ParticipationBook, RdpCurve, RoundMechanism};

/// The most that a round may cost its cohort, set aside before the cohort is told that it is closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Reservation {
    /// The task.
    pub task: TaskName,
    /// The round.
    pub round: u64,
    /// Digest of the signed plan.
    pub plan_digest: Digest,
    /// The whole cohort.
    pub clients: BTreeSet<ClientId>,
    /// The mechanism of a cohort of this size.
    pub mechanism: RoundMechanism,
    /// The most that taking part may cost: the mechanism's [`RoundMechanism::worst_cost`].
    pub cost: RdpCurve,
    /// The delta at which the cost will be stated.
    pub delta: f64,
}

/// What a round made public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The noised sum of the clip bits, where the clip norm adapts.
    pub clip_bits: Option<i32>,
    /// Digest of the new adapter.
    pub adapter_digest: Digest,
}

/// The coordinator's book of all clients, the ledger of all tasks, and what is reserved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    book: ParticipationBook,
    ledger: Ledger,
    reservations: BTreeMap<(TaskName, u64), Reservation>,
    histories: BTreeMap<TaskName, History>,
    epoch: Epoch,
    unsaved: Batch,
    saved: u64,
    timeless: bool,
}

/// Which of the latest [`EPOCH`] entries debited whom.
#[derive(Clone, Debug, Default, PartialEq)]
struct Epoch {
    number: u64,
    bitmaps: BTreeMap<ClientId, u64>,
}

/// An account that cannot take what it is given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AccountError {
    /// Nothing was set aside for the round.
    #[error(
        "round {round} of {task} has no open reservation: nothing may be released, and nobody can be charged for it"
    )]
    NotReserved {
        /// The task.
        task: TaskName,
        /// The round.
        round: u64,
    },
    /// A cost for a client that is not in the cohort.
    #[error(
        "client {client} has no reservation in round {round} of {task}: nothing may be released on its account"
    )]
    NotMember {
        /// The task.
        task: TaskName,
        /// The round.
        round: u64,
        /// The client.
        client: ClientId,
    },
    /// A list of clients with a repetition, or out of order.
    #[error("the survivors of round {round} of {task} are not distinct and in increasing order")]
    Survivors {
        /// The task.
        task: TaskName,
        /// The round.
        round: u64,
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

    /// An account of nothing, whose entries will all say time 0: for simulations, whose ledgers must not depend on how long a
    /// round takes, for every round is bound to the ledger before it.
    #[must_use]
    pub fn timeless() -> Self {
        Self { timeless: true, ..Self::default() }
    }

    /// What every client has spent, reservations aside.
    #[must_use]
    pub fn book(&self) -> &ParticipationBook {
        &self.book
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a plan that names `head` may open a round of a task: the ledger had this head, and the task's own part of it
    /// has not changed since.
    #[must_use]
    pub fn admits(&self, task: &TaskName, head: &Digest) -> bool {
        self.ledger.admits(&entry_task(task), head)
    }

    /// The clip norm that a task's next round is due to have under a rule; see [`Ledger::next_clip`].
    #[must_use]
    pub fn next_clip(&self, task: &TaskName, rule: &AdaptiveClip) -> Option<f64> {
        self.ledger.next_clip(&entry_task(task), rule)
    }

    /// What is set aside, by task and round.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.values()
    }

    /// What is set aside for a round.
    #[must_use]
    pub fn reservation(&self, task: &TaskName, round: u64) -> Option<&Reservation> {
        self.reservations.get(&(task.clone(), round))
    }

    /// How often and when each client took part in a task, reservations aside; none before its first debit.
    #[must_use]
    pub fn history(&self, task: &TaskName) -> Option<&History> {
        self.histories.get(task)
    }

    /// The largest epsilon at `delta` over clients, with every reservation counted as spent.
    ///
    /// # Errors
    /// As [`ParticipationBook::max_epsilon`].
    pub fn max_epsilon(&self, delta: f64) -> Result<f64, AccountantError> {
        self.book.max_epsilon_with(set_aside(self.reservations.values()), delta)
    }

    /// Whether one more round at this cost would take a client past epsilon `limit` at `delta`, every reservation counted as
    /// spent. A cost that cannot be stated exceeds any limit.
    #[must_use]
    pub fn would_exceed(&self, client: ClientId, cost: &RdpCurve, delta: f64, limit: f64) -> bool {
        let reserved = self.reservations.values().filter(|reservation| reservation.clients.contains(&client));
        let costs = reserved.map(|reservation| &reservation.cost).chain([cost]);
        // Not a number is not at most anything.
        !self.book.epsilon_with(client.0, costs, delta).is_ok_and(|epsilon| epsilon <= limit)
    }

    /// Sets the cost of a round aside.
    ///
    /// # Errors
    /// [`AccountError::Ledger`] when the task has opened this round or a later one before; the account is then unchanged.
    pub fn reserve(&mut self, reservation: Reservation, now: Millis) -> Result<Entry, AccountError> {
        let (task, round) = (reservation.task.clone(), reservation.round);
        let event = Event::Reserve(Reserve {
            plan_digest: reservation.plan_digest,
            cohort_root: members_root(reservation.clients.iter().map(|client| client.0)),
            mechanism: reservation.mechanism.clone(),
            delta: reservation.delta,
        });
        let (index, entry) = self.append(&task, round, event, now)?;
        self.unsaved.put::<LedgerRounds>(
            &(task.as_str().to_owned(), round),
            &RoundRow { reservation: index, end: None },
        );
        self.unsaved.put::<Members>(&index, &reservation.clients.iter().copied().collect());
        self.reservations.insert((task, round), reservation);
        Ok(entry)
    }

    /// Lets the ledger go on after it was restored from a backup. Reservations that are open stay so, and count as spent for ever:
    /// what became of their rounds is not known here.
    ///
    /// # Errors
    /// [`LedgerError`] when the restart is for another ledger; the account is then unchanged. Whose signature it has is not looked at.
    pub fn restart(&mut self, signed: SignedRestart, now: Millis) -> Result<Entry, LedgerError> {
        let index = self.ledger.size();
        let entry = self.ledger.append_restart(now, signed)?;
        self.unsaved.put::<Entries>(&index, &entry.encode());
        Ok(entry)
    }

    /// Ends a round that released nothing and could not have: its reservation is dropped.
    ///
    /// # Errors
    /// [`AccountError::NotReserved`]; the account is then unchanged.
    pub fn release(
        &mut self,
        task: &TaskName,
        round: u64,
        reason: &str,
        now: Millis,
    ) -> Result<Entry, AccountError> {
        let reservation = self.index_of(task, round)?;
        let release = Release { reservation, reason: Reason::shortened(reason) };
        self.end(task, round, Event::Release(release), None, now)
    }

    /// Ends a round after its first Unmask request without a release: the sum may be known all the same, so its survivors
    /// pay in full.
    ///
    /// # Errors
    /// [`AccountError`]; the account is then unchanged, and the reservation stays.
    pub fn forfeit(
        &mut self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
        now: Millis,
    ) -> Result<Entry, AccountError> {
        let (debit, cost) = self.debit_for(task, round, survivors)?;
        self.end(task, round, Event::Forfeit(debit), Some((survivors, cost)), now)
    }

    /// Ends a round with a release: its survivors pay, and the epsilon that follows, every other reservation counted as
    /// spent, is stated beside what was published.
    ///
    /// # Errors
    /// [`AccountError`]; the account is then unchanged, and the reservation stays.
    pub fn commit(
        &mut self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
        published: Published,
        now: Millis,
    ) -> Result<Entry, AccountError> {
        let (debit, cost) = self.debit_for(task, round, survivors)?;
        let Published { clip_bits, adapter_digest } = published;
        let event = Event::Commit(Commit { debit, clip_bits, adapter_digest });
        self.end(task, round, event, Some((survivors, cost)), now)
    }

    /// Moves the records of everything that happened since the last call into a batch, to be committed before anyone is told.
    pub fn save(&mut self, batch: &mut Batch) {
        batch.append(&mut self.unsaved);
        self.saved = self.ledger.size();
    }

    /// Entries that [`Self::save`] has not moved yet.
    #[must_use]
    pub fn unsaved(&self) -> u64 {
        self.ledger.size() - self.saved
    }

    fn index_of(&self, task: &TaskName, round: u64) -> Result<u64, AccountError> {
        let open = self.ledger.open_round(&entry_task(task), round);
        Ok(open.ok_or_else(|| AccountError::NotReserved { task: task.clone(), round })?.index)
    }

    /// What the survivors of a reserved round pay, and the cost to each.
    fn debit_for(
        &self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
    ) -> Result<(Debit, RdpCurve), AccountError> {
        let reservation = self.index_of(task, round)?;
        let not_reserved = || AccountError::NotReserved { task: task.clone(), round };
        let reserved = self.reservation(task, round).ok_or_else(not_reserved)?;
        if !survivors.is_sorted_by(|one, next| one < next) {
            return Err(AccountError::Survivors { task: task.clone(), round });
        }
        if let Some(&client) = survivors.iter().find(|client| !reserved.clients.contains(client)) {
            return Err(AccountError::NotMember { task: task.clone(), round, client });
        }
        let count = u32::try_from(survivors.len()).unwrap_or(u32::MAX);
        let cost = reserved.mechanism.cost(count)?;
        let others = self.reservations.values().filter(|other| *other != reserved);
        let paid = survivors.iter().map(|client| (client.0, &cost));
        let epsilon = self.book.max_epsilon_with(set_aside(others).chain(paid), reserved.delta)?;
        let debit = Debit {
            reservation,
            plan_digest: reserved.plan_digest,
            mechanism: reserved.mechanism.clone(),
            survivors: count,
            participants_root: members_root(survivors.iter().map(|client| client.0)),
            epsilon,
            delta: reserved.delta,
        };
        Ok((debit, cost))
    }

    fn append(
        &mut self,
        task: &TaskName,
        round: u64,
        event: Event,
        now: Millis,
    ) -> Result<(u64, Entry), AccountError> {
        let now = if self.timeless { 0 } else { now };
        let index = self.ledger.size();
        let entry = self.ledger.append(now, entry_task(task), round, event)?;
        self.unsaved.put::<Entries>(&index, &entry.encode());
        Ok((index, entry))
    }

    fn end(
        &mut self,
        task: &TaskName,
        round: u64,
        event: Event,
        paid: Option<(&[ClientId], RdpCurve)>,
        now: Millis,
    ) -> Result<Entry, AccountError> {
        let reservation = self.index_of(task, round)?;
        let (index, entry) = self.append(task, round, event, now)?;
        self.unsaved.put::<LedgerRounds>(
            &(task.as_str().to_owned(), round),
            &RoundRow { reservation, end: Some(index) },
        );
        self.unsaved.delete::<Members>(&reservation);
        self.reservations.remove(&(task.clone(), round));
        if let Some((survivors, cost)) = paid {
            self.debit(index, (task, round), survivors, &cost);
            self.unsaved.put::<Members>(&index, &survivors.to_vec());
            for client in survivors {
                self.unsaved.put::<Participants>(&(*client, self.epoch.number), &self.epoch.bitmaps[client]);
            }
        }
        Ok(entry)
    }

    /// Debits the participants that the entry at `index` names.
    fn debit(
        &mut self,
        index: u64,
        (task, round): (&TaskName, u64),
        participants: &[ClientId],
        cost: &RdpCurve,
    ) {
        self.book.debit_all(participants.iter().map(|client| client.0), cost);
        self.histories.entry(task.clone()).or_default().record(round, participants);
        if self.epoch.number != index / EPOCH {
            self.epoch = Epoch { number: index / EPOCH, bitmaps: BTreeMap::new() };
        }
        for client in participants {
            *self.epoch.bitmaps.entry(*client).or_default() |= 1 << (index % EPOCH);
        }
    }
}

/// A task's name as entries have it.
fn entry_task(task: &TaskName) -> Task {
    Task::new(task.as_str()).expect("the name of a task is short plain text")
}

/// What these reservations may cost each client.
fn set_aside<'a>(
    reservations: impl Iterator<Item = &'a Reservation>,
) -> impl Iterator<Item = (u64, &'a RdpCurve)> {
    reservations
        .flat_map(|Reservation { clients, cost, .. }| clients.iter().map(move |client| (client.0, cost)))
}

#[cfg(test)]
mod tests;
