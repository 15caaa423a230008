//! What this client has spent, and the rounds that the coordinator's ledger still owes a word on. One file, so that a debit and
//! the claim to see it in the ledger become durable together. Must never lose either.

use crate::Millis;
use crate::budget::{Budget, Participation};
use crate::folder::{self, Folder, FolderError, Kind};
use crate::ledger::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_privacy::ledger::restart::Restart;
use tacit_proto::fleet::RoundName;

const FILE: &str = "accounts";
/// Version 2: the limits in it say whether a roster is demanded. Version 3: where the ledger has each round, and what was lost.
const KIND: Kind = Kind { code: 1, version: 3 };
const VERSION_2: Kind = Kind { version: 2, ..KIND };

/// The client's books.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accounts {
    /// The budget, with every debit.
    pub budget: Budget,
    /// Rounds that this client uploaded to, and whose outcome the ledger has not shown yet; in the order of the uploads.
    pub awaiting: Vec<Awaiting>,
    /// For each task the last round that this client has refused to go on with. It does not join that one again.
    pub refused: BTreeMap<TaskName, u64>,
    /// Debits, the first so many, that this machine made under the numbers that it had before. Their rounds are others than those of
    /// the same names now.
    pub inherited: usize,
    /// Rounds for which the ledger was seen to debit this client.
    pub proved: Vec<Proved>,
    /// Rounds that this client has paid for, and that a restart of the ledger has left behind. They stay in the budget.
    pub lost: Vec<Lost>,
}

/// As version 2 had it.
#[derive(Deserialize)]
struct Version2 {
    budget: Budget,
    awaiting: Vec<Awaiting>,
    refused: BTreeMap<TaskName, u64>,
}

/// A round that the ledger was seen to debit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// The learning task.
    pub task: TaskName,
    /// The round within the task.
    pub round: u64,
    /// Place of the entry.
    pub place: u64,
}

/// A round that is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The learning task.
    pub task: TaskName,
    /// The round within the task.
    pub round: u64,
    /// Number of the restart.
    pub restart: u32,
}

/// A round whose outcome is awaited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// The learning task.
    pub task: TaskName,
    /// The round within the task.
    pub round: u64,
    /// Digest of the plan.
    pub plan: Digest,
    /// Whether this client has handed over shares that unmask the sum: from then on it has to be debited in the ledger.
    pub unmasked: bool,
    /// When it uploaded, in Unix milliseconds.
    pub since: Millis,
}

impl Lost {
    /// The round's name on the wire.
    #[must_use]
    pub fn name(&self) -> RoundName {
        RoundName { task: self.task.clone(), round: self.round }
    }
}

impl Awaiting {
    /// The round's name on the wire.
    #[must_use]
    pub fn name(&self) -> RoundName {
        RoundName { task: self.task.clone(), round: self.round }
    }

    fn is(&self, name: &RoundName) -> bool {
        self.task == name.task && self.round == name.round
    }
}

impl Accounts {
    /// Books of a client that has spent nothing.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let (awaiting, proved, lost) = (Vec::new(), Vec::new(), Vec::new());
        Self { budget, awaiting, refused: BTreeMap::new(), inherited: 0, proved, lost }
    }

    /// The stored books; none where there are none.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn load(folder: &Folder) -> Result<Option<Self>, FolderError> {
        Self::peek(folder.path())
    }

    /// The stored books of a folder that a client may be using.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn peek(folder: &Path) -> Result<Option<Self>, FolderError> {
        match folder::load(folder, FILE, KIND) {
            Err(FolderError::Version { found: 2, .. }) => {
                let stored: Option<Version2> = folder::load(folder, FILE, VERSION_2)?;
                let current =
                    |Version2 { budget, awaiting, refused }| Self { awaiting, refused, ..Self::new(budget) };
                Ok(stored.map(current))
            }
            read => read,
        }
    }

    /// Stores the books.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store(&self, folder: &Folder) -> Result<(), FolderError> {
        folder.store(FILE, KIND, self)
    }

    /// Notes that a round's outcome is awaited from now on; once, however often.
    pub(crate) fn await_outcome(&mut self, name: &RoundName, plan: Digest, now: Millis) {
        if !self.awaiting.iter().any(|awaiting| awaiting.is(name)) {
            let RoundName { task, round } = name.clone();
            self.awaiting.push(Awaiting { task, round, plan, unmasked: false, since: now });
        }
    }

    /// Notes what the ledger says of a round that was awaited, under the last restart that was adopted; nothing while it is open.
    pub fn settle(&mut self, awaiting: &Awaiting, verdict: Verdict, restart: u32) {
        let (task, round) = (awaiting.task.clone(), awaiting.round);
        match verdict {
            Verdict::Open => return,
            Verdict::Debited(place) => self.proved.push(Proved { task, round, place }),
            Verdict::Lost => self.lost.push(Lost { task, round, restart }),
            Verdict::Spared => {}
        }
        self.awaiting.retain(|other| other != awaiting);
    }

    /// Notes which rounds a restart of the ledger has left behind, those aside that are awaited still; once, however often. Whether
    /// there are any that were not known.
    pub fn restarted(&mut self, restart: &Restart) -> bool {
        let is_lost =
            |proved: &mut Proved| proved.place >= restart.size && proved.round < restart.first_round();
        let lost = self.proved.extract_if(.., is_lost);
        let lost = lost.map(|Proved { task, round, .. }| Lost { task, round, restart: restart.number });
        let before = self.lost.len();
        self.lost.extend(lost);
        self.lost.len() > before
    }

    /// Number of the restart that has left a round behind, if one has.
    #[must_use]
    pub fn lost_by(&self, name: &RoundName) -> Option<u32> {
        self.lost.iter().find(|lost| lost.name() == *name).map(|lost| lost.restart)
    }

    /// The books under another number, after this machine has enrolled anew: every debit stays, and nothing more is awaited.
    #[must_use]
    pub fn under(self, client: ClientId) -> Self {
        let Self { budget, lost, .. } = self;
        let inherited = budget.debits().len();
        Self { inherited, lost, ..Self::new(budget.under(client)) }
    }

    /// Notes that this client has handed over its shares in a round. Whether that was news.
    pub(crate) fn note_unmasked(&mut self, name: &RoundName) -> bool {
        let awaiting = self.awaiting.iter_mut().find(|awaiting| awaiting.is(name) && !awaiting.unmasked);
        awaiting.map(|awaiting| awaiting.unmasked = true).is_some()
    }

    /// The highest round, of any task, that was paid for under this client's present number.
    #[must_use]
    pub fn last_paid(&self) -> Option<u64> {
        self.own().map(|paid| paid.round).max()
    }

    fn own(&self) -> impl Iterator<Item = &Participation> {
        self.budget.debits().iter().skip(self.inherited).map(|debit| &debit.participation)
    }

    /// Whether this client may join a round: it has neither uploaded to it nor refused to go on with it.
    #[must_use]
    pub fn may_join(&self, name: &RoundName) -> bool {
        !self.has_uploaded(name) && self.refused.get(&name.task) != Some(&name.round)
    }

    /// Whether this client has uploaded a vector in a round.
    #[must_use]
    pub fn has_uploaded(&self, name: &RoundName) -> bool {
        self.own().any(|paid| paid.task == name.task && paid.round == name.round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, limits, task};
    use tacit_privacy::RdpCurve;
    use tacit_privacy::ledger::restart::ROUNDS_APART;

    fn paid(rounds: &[u64]) -> Accounts {
        let mut accounts = Accounts::new(Budget::new(ClientId(1), limits(50.0)).expect("limits"));
        for &round in rounds {
            let participation = Participation { task: task(), round, context: [round as u8; 32] };
            accounts.budget.debit(&participation, &RdpCurve::gaussian(2.0)).expect("within the limit");
            accounts.await_outcome(&RoundName { task: task(), round }, [8; 32], NOW);
        }
        accounts
    }

    #[test]
    fn a_restart_leaves_rounds_behind_and_no_debit() {
        let mut accounts = paid(&[1, 2, 3, 4, ROUNDS_APART + 1]);
        let verdicts =
            [Verdict::Debited(2), Verdict::Debited(5), Verdict::Open, Verdict::Lost, Verdict::Debited(6)];
        for (awaiting, verdict) in accounts.awaiting.clone().iter().zip(verdicts) {
            accounts.settle(awaiting, verdict, 1);
        }
        let before = accounts.budget.clone();
        let restart = Restart { coordinator: [7; 32], number: 1, size: 5, root: [0; 32] };
        assert!(accounts.restarted(&restart));
        let known = accounts.clone();
        assert!(!accounts.restarted(&restart), "once");
        assert_eq!(accounts, known);
        assert_eq!(accounts.budget, before, "what was spent stays spent");
        let lost: Vec<(u64, u32)> = accounts.lost.iter().map(|lost| (lost.round, lost.restart)).collect();
        assert_eq!(lost, [(4, 1), (2, 1)], "after the backup; nothing of before it, or of since");
        assert_eq!(accounts.lost_by(&RoundName { task: task(), round: 2 }), Some(1));
        assert_eq!(accounts.lost_by(&RoundName { task: task(), round: 1 }), None);
        let awaited: Vec<u64> = accounts.awaiting.iter().map(|awaiting| awaiting.round).collect();
        assert_eq!(awaited, [3]);
        let later = Restart { number: 2, size: 6, ..restart };
        assert!(accounts.restarted(&later), "the next one leaves others behind");
        assert_eq!(accounts.lost_by(&RoundName { task: task(), round: ROUNDS_APART + 1 }), Some(2));
    }

    #[test]
    fn under_another_number_everything_stays_spent_and_no_round_is_taken_for_another() {
        let old = paid(&[1, 2]);
        let spent = old.budget.spent().expect("stated");
        let mut new = old.under(ClientId(2));
        assert_eq!((new.budget.client(), new.budget.debits().len()), (ClientId(2), 2));
        assert_eq!(new.budget.spent(), Ok(spent));
        assert!(new.awaiting.is_empty());
        let round = RoundName { task: task(), round: 1 };
        assert!(new.may_join(&round), "the other coordinator's first round is another");
        assert_eq!(new.last_paid(), None);
        let participation = Participation { task: task(), round: 1, context: [9; 32] };
        new.budget.debit(&participation, &RdpCurve::gaussian(2.0)).expect("within the limit");
        assert_eq!(new.last_paid(), Some(1));
        assert!(!new.may_join(&round) && new.budget.spent().expect("stated") > spent);
    }

    #[test]
    fn books_of_the_version_before_are_read() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(root.path()).expect("new");
        let accounts = paid(&[1]);
        folder
            .store(FILE, VERSION_2, &(&accounts.budget, &accounts.awaiting, &accounts.refused))
            .expect("written");
        assert_eq!(Accounts::load(&folder).expect("readable"), Some(accounts.clone()));
        accounts.store(&folder).expect("written");
        assert_eq!(Accounts::load(&folder).expect("readable"), Some(accounts));
    }
}
