//! The chain itself: what may follow what. Must never take an entry that a verifier would refuse.
//!
//! Entries are not kept: 64 bytes for each are enough to prove them, and open reservations and each task's last round to
//! check the next one.

use std::collections::BTreeMap;

use super::restart::{Restart, SignedRestart};
use super::tree::Tree;
use super::{Commit, Debit, EMPTY_HEAD, Entry, Event, Hash, LedgerError, Problem, Reserve, Task};
use crate::accountant::epsilon_spent;
use crate::central::AdaptiveClip;

/// An append-only ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    tree: Tree,
    tasks: BTreeMap<Task, Last>,
    open: BTreeMap<(Task, u64), Open>,
    /// In order; each is the entry whose place is its size.
    restarts: Vec<SignedRestart>,
}

/// What the next entry of a task depends on.
#[derive(Clone, Debug, Default, PartialEq)]
struct Last {
    /// The last round that was opened.
    round: u64,
    /// Entries of the ledger up to the task's last one.
    entries: u64,
    /// The clip norm that is due under a rule.
    next_clip: Option<(AdaptiveClip, f64)>,
}

/// A reservation whose round has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Place of its entry, from 0.
    pub index: u64,
    /// Time of its entry, in milliseconds since 1970.
    pub time: u64,
    /// What is set aside.
    pub reserve: Reserve,
}

impl Ledger {
    /// A ledger without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what happened, and returns the entry.
    ///
    /// # Errors
    /// [`LedgerError`] when no verifier would accept the entry; the ledger is then unchanged.
    pub fn append(&mut self, time: u64, task: Task, round: u64, event: Event) -> Result<Entry, LedgerError> {
        let entry = Entry { previous: self.head(), time, task, round, event };
        self.push(&entry)?;
        Ok(entry)
    }

    /// Appends an existing entry, verified.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn push(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        self.check(entry).and_then(|()| check_cost(entry)).map_err(|problem| self.refused(entry, problem))?;
        self.take(entry);
        Ok(())
    }

    /// Appends an entry that [`Self::append`] made and that comes from the owner's own store: checks everything but whether the
    /// stated epsilon covers the round's own cost, which takes a thousand times longer than the rest.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn restore(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        self.check(entry).map_err(|problem| self.refused(entry, problem))?;
        self.take(entry);
        Ok(())
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Hash of the last entry, which commits to all; [`EMPTY_HEAD`] for none.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head_at(self.size())
    }

    /// The tree over all entries, for proofs.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The reservations whose rounds have not ended, by task and round.
    pub fn open(&self) -> impl Iterator<Item = (&Task, u64, &Open)> {
        self.open.iter().map(|((task, round), open)| (task, *round, open))
    }

    /// The open reservation of a round.
    #[must_use]
    pub fn open_round(&self, task: &Task, round: u64) -> Option<&Open> {
        self.open.get(&(task.clone(), round))
    }

    /// The last round of a task that was opened, whether or not it ended; none before the first.
    #[must_use]
    pub fn last_round(&self, task: &Task) -> Option<u64> {
        self.tasks.get(task).map(|last| last.round)
    }

    /// The clip norm that the next round of a task is due to have under `rule`; none when its last commit did not follow
    /// that rule, so that the next may start anywhere.
    #[must_use]
    pub fn next_clip(&self, task: &Task, rule: &AdaptiveClip) -> Option<f64> {
        let (followed, clip) = self.tasks.get(task)?.next_clip.as_ref()?;
        (followed == rule).then_some(*clip)
    }

    /// Whether `head` was the head of this ledger at some time, and no entry of `task` came after it: a plan made then is
    /// still good, whatever other tasks did.
    #[must_use]
    pub fn admits(&self, task: &Task, head: &Hash) -> bool {
        let first = self.tasks.get(task).map_or(0, |last| last.entries);
        (first..=self.size()).rev().any(|size| self.head_at(size) == *head)
    }

    fn head_at(&self, size: u64) -> Hash {
        size.checked_sub(1).and_then(|last| self.tree.leaf(last)).unwrap_or(EMPTY_HEAD)
    }

    fn refused(&self, entry: &Entry, problem: Problem) -> LedgerError {
        LedgerError::Refused { index: self.size(), task: entry.task.clone(), round: entry.round, problem }
    }

    /// The restarts, oldest first. The place of each is its size.
    #[must_use]
    pub fn restarts(&self) -> &[SignedRestart] {
        &self.restarts
    }

    /// The first round, of any task, that may be opened: after a restart none whose number may have been used in what was lost.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        self.last_restart().map_or(0, Restart::first_round)
    }

    /// Appends a restart: the ledger goes on from here.
    ///
    /// # Errors
    /// As [`Self::append`], when it is for another ledger, or not later than every earlier one. Whose signature it has is not looked
    /// at.
    pub fn append_restart(&mut self, time: u64, signed: SignedRestart) -> Result<Entry, LedgerError> {
        let round = signed.claimed().first_round();
        self.append(time, SignedRestart::task(), round, Event::Restart(signed))
    }

    fn last_restart(&self) -> Option<&Restart> {
        self.restarts.last().map(SignedRestart::claimed)
    }

    /// Everything about an entry but its cost.
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        if entry.previous != self.head() {
            return Err(Problem::BrokenLink);
        }
        let (stated, debit) = match &entry.event {
            Event::Reserve(reserve) => return self.check_opening(entry, reserve),
            Event::Release(release) => (release.reservation, None),
            Event::Commit(commit) => {
                check_clip_bits(commit)?;
                (commit.debit.reservation, Some(&commit.debit))
            }
            Event::Forfeit(debit) => (debit.reservation, Some(debit)),
            Event::Restart(signed) => return self.check_restart(entry, signed.claimed()),
        };
        let open = self.open_round(&entry.task, entry.round).ok_or(Problem::NotOpen)?;
        if stated != open.index {
            return Err(Problem::OtherReservation { stated, due: open.index });
        }
        // How it ended in what was lost nobody can know from here.
        if let Some(restart) = self.last_restart().filter(|restart| open.index < restart.size) {
            return Err(Problem::BeforeRestart { number: restart.number });
        }
        debit.map_or(Ok(()), |debit| check_terms(debit, &open.reserve))
    }

    fn check_restart(&self, entry: &Entry, restart: &Restart) -> Result<(), Problem> {
        let last = self.last_restart().map_or(0, |last| last.number);
        if restart.number <= last {
            return Err(Problem::RestartNotAfter { before: last });
        }
        let due = (&SignedRestart::task(), restart.first_round());
        if (restart.size, restart.root) != (self.size(), self.tree.root())
            || (&entry.task, entry.round) != due
        {
            return Err(Problem::OtherRestart { number: restart.number, size: restart.size });
        }
        Ok(())
    }

    fn check_opening(&self, entry: &Entry, reserve: &Reserve) -> Result<(), Problem> {
        if entry.round < self.first_round() {
            return Err(Problem::RoundBeforeRestart { first: self.first_round() });
        }
        if let Some(before) = self.last_round(&entry.task).filter(|before| *before >= entry.round) {
            return Err(Problem::RoundNotAfter { before });
        }
        if !(reserve.delta > 0.0 && reserve.delta < 1.0) {
            return Err(Problem::InvalidDelta(reserve.delta));
        }
        let (rule, found) = (
            reserve.mechanism.central().and_then(|central| central.adaptive_clip()),
            reserve.mechanism.clip(),
        );
        match rule.and_then(|rule| self.next_clip(&entry.task, rule)) {
            Some(due) if due != found => Err(Problem::Clip { found, due }),
            _ => Ok(()),
        }
    }

    /// Appends an entry that was checked.
    fn take(&mut self, entry: &Entry) {
        let (index, round) = (self.size(), entry.round);
        self.tree.push(entry.hash());
        if let Event::Restart(signed) = &entry.event {
            self.restarts.push(*signed);
            return;
        }
        let last = self.tasks.entry(entry.task.clone()).or_default();
        last.entries = index + 1;
        if let Event::Reserve(reserve) = &entry.event {
            last.round = round;
            let open = Open { index, time: entry.time, reserve: reserve.clone() };
            self.open.insert((entry.task.clone(), round), open);
            return;
        }
        if let Event::Commit(commit) = &entry.event {
            last.next_clip = commit.next_clip().map(|(rule, clip)| (*rule, clip));
        }
        self.open.remove(&(entry.task.clone(), round));
    }
}

/// Checks a debit against the reservation that it ends.
fn check_terms(debit: &Debit, reserve: &Reserve) -> Result<(), Problem> {
    let differing = [
        ("plan", debit.plan_digest != reserve.plan_digest),
        ("mechanism", debit.mechanism != reserve.mechanism),
        ("delta", debit.delta != reserve.delta),
    ];
    if let Some((field, _)) = differing.into_iter().find(|(_, differs)| *differs) {
        return Err(Problem::OtherTerms { field });
    }
    if debit.epsilon.is_finite() && debit.epsilon.is_sign_positive() {
        return Ok(());
    }
    Err(Problem::InvalidEpsilon(debit.epsilon))
}

/// Checks that clip bits are there exactly where the clip norm adapts, and fit the ring.
fn check_clip_bits(commit: &Commit) -> Result<(), Problem> {
    let (mechanism, found) = (&commit.debit.mechanism, commit.clip_bits);
    let counted = mechanism.central().is_some_and(|central| central.adaptive_clip().is_some());
    let half = 1_i32 << (mechanism.bits() - 1);
    if found.is_some() == counted && found.is_none_or(|sum| (-half..half).contains(&sum)) {
        return Ok(());
    }
    Err(Problem::ClipBits { found })
}

/// Checks that a debit could be released with its survivors, and states no less than the round alone costs.
fn check_cost(entry: &Entry) -> Result<(), Problem> {
    let Some(debit) = entry.event.debit() else { return Ok(()) };
    let &Debit { epsilon, delta, .. } = debit;
    let cost = debit.cost().map_err(Problem::NotReleasable)?;
    let cost = epsilon_spent(&cost, delta, 1).map_err(Problem::NotReleasable)?;
    // Another machine's logarithm may differ in its last bits.
    if epsilon < cost * (1.0 - 1e-9) {
        return Err(Problem::Understated { epsilon, delta, cost });
    }
    Ok(())
}

/// Verifies a whole chain from its beginning and returns its ledger.
///
/// Checks that every entry commits to the one before; that each task's rounds increase; that each round is opened by one
/// reservation and ended at most once, on its terms; that each debit could be released with its survivors; that adaptive clip
/// norms follow their rule; that restarts are where they belong; and that no debit states less epsilon than its round costs alone.
/// A chain that ends early
/// is sound too: compare the head with a signed one, or use [`verify_against`].
///
/// # Errors
/// [`LedgerError`], naming the first bad entry.
pub fn verify<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Ledger, LedgerError> {
    let mut ledger = Ledger::new();
    entries.into_iter().try_for_each(|entry| ledger.push(entry))?;
    Ok(ledger)
}

/// [`verify`], and that the chain ends in `head`.
///
/// # Errors
/// As [`verify`], and [`LedgerError::HeadMismatch`].
pub fn verify_against<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    head: &Hash,
) -> Result<Ledger, LedgerError> {
    let ledger = verify(entries)?;
    if ledger.head() == *head {
        return Ok(ledger);
    }
    Err(LedgerError::HeadMismatch { entries: ledger.size() })
}
