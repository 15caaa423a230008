//! What this client has spent, and the rounds that the coordinator's ledger still owes a word on. One file, so that a debit and
//! the claim to see it in the ledger become durable together. Must never lose either.

use crate::Millis;
use crate::budget::Budget;
use crate::folder::{self, Folder, FolderError, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tacit_aggregation::Digest;
use tacit_aggregation::params::TaskName;
use tacit_proto::fleet::RoundName;

const FILE: &str = "accounts";
/// Version 2: the limits in it say whether a roster is demanded.
const KIND: Kind = Kind { code: 1, version: 2 };

/// The client's books.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accounts {
    /// The budget, with every debit.
    pub budget: Budget,
    /// Rounds that this client uploaded to, and whose outcome the ledger has not shown yet; in the order of the uploads.
    pub awaiting: Vec<Awaiting>,
    /// For each task the last round that this client has refused to go on with. It does not join that one again.
    pub refused: BTreeMap<TaskName, u64>,
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
        Self { budget, awaiting: Vec::new(), refused: BTreeMap::new() }
    }

    /// The stored books; none where there are none.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn load(folder: &Folder) -> Result<Option<Self>, FolderError> {
        folder.load(FILE, KIND)
    }

    /// The stored books of a folder that a client may be using.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn peek(folder: &Path) -> Result<Option<Self>, FolderError> {
        folder::load(folder, FILE, KIND)
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

    /// Notes that this client has handed over its shares in a round. Whether that was news.
    pub(crate) fn note_unmasked(&mut self, name: &RoundName) -> bool {
        let awaiting = self.awaiting.iter_mut().find(|awaiting| awaiting.is(name) && !awaiting.unmasked);
        awaiting.map(|awaiting| awaiting.unmasked = true).is_some()
    }

    /// Whether this client may join a round: it has neither uploaded to it nor refused to go on with it.
    #[must_use]
    pub fn may_join(&self, name: &RoundName) -> bool {
        !self.has_uploaded(name) && self.refused.get(&name.task) != Some(&name.round)
    }

    /// Whether this client has uploaded a vector in a round.
    #[must_use]
    pub fn has_uploaded(&self, name: &RoundName) -> bool {
        self.budget.has_paid_in(&name.task, name.round)
    }
}
