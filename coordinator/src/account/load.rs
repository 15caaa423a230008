//! The account from its store. Must never believe a record that the ledger does not commit to.

use super::tables::{self, PAGE, contradicts};
use super::{Account, AccountantError, Entries, Members, Reservation};
use crate::store::{Records, Store, StoreError};
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_privacy::ledger::{Debit, Decoder, Hash, LedgerError, Task, members_root};
use tacit_privacy::{RdpCurve, RoundMechanism};

/// Costs that are remembered while an account is loaded; those of a task's rounds differ by their survivors only.
const MOST_COSTS: usize = 4096;

/// Why an account cannot be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// A record cannot be read, or is not what the ledger commits to.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entries are no ledger.
    #[error("{0}: the stored ledger is damaged; stop, check the disk, and restore a backup")]
    Ledger(#[from] LedgerError),
    /// No cost can be stated for an entry.
    #[error("{0}: the stored ledger is damaged; stop, check the disk, and restore a backup")]
    Cost(#[from] AccountantError),
}

/// Costs that were computed before.
#[derive(Default)]
struct Costs(Vec<(RoundMechanism, u32, RdpCurve)>);

impl Costs {
    fn of(&mut self, debit: &Debit) -> Result<RdpCurve, AccountantError> {
        let Debit { mechanism, survivors, .. } = debit;
        let known =
            |(one, count, _): &&(RoundMechanism, u32, RdpCurve)| count == survivors && one == mechanism;
        if let Some((.., cost)) = self.0.iter().rev().find(known) {
            return Ok(cost.clone());
        }
        let cost = debit.cost()?;
        if self.0.len() == MOST_COSTS {
            self.0.clear();
        }
        self.0.push((mechanism.clone(), *survivors, cost.clone()));
        Ok(cost)
    }
}

impl Account {
    /// The account as it was stored. Reads every entry once, and who paid for it; the reservations that are then
    /// [`Account::reservations`] are those of rounds that never ended.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(store: &dyn Store) -> Result<Self, LoadError> {
        let (mut account, mut costs, mut decoder) = (Self::new(), Costs::default(), Decoder::new());
        loop {
            let next = account.ledger.size();
            let rows = Records(store).scan::<Entries>(&(), Some(&next), PAGE)?;
            let last = rows.len() < PAGE;
            for (index, encoded) in rows {
                if index != account.ledger.size() {
                    return Err(contradicts::<Entries>(account.ledger.size(), "it is missing".into()).into());
                }
                let entry = decoder.decode(&encoded)?;
                account.ledger.restore(&entry)?;
                if let Some(debit) = entry.event.debit() {
                    let paid = committed_to(store, index, &debit.participants_root)?;
                    let task = task_name(index, &entry.task)?;
                    account.debit(index, (&task, entry.round), &paid, &costs.of(debit)?);
                }
            }
            if last {
                break;
            }
        }
        for (task, round, open) in account.ledger.open() {
            let reserve = &open.reserve;
            let task = task_name(open.index, task)?;
            let reservation = Reservation {
                task: task.clone(),
                round,
                plan_digest: reserve.plan_digest,
                clients: committed_to(store, open.index, &reserve.cohort_root)?.into_iter().collect(),
                mechanism: reserve.mechanism.clone(),
                cost: reserve.cost()?,
                delta: reserve.delta,
            };
            account.reservations.insert((task, round), reservation);
        }
        account.saved = account.ledger.size();
        Ok(account)
    }
}

/// The clients of an entry, if they are those that it commits to.
fn committed_to(store: &dyn Store, index: u64, root: &Hash) -> Result<Vec<ClientId>, StoreError> {
    let clients = tables::members(store, index)?;
    if members_root(clients.iter().map(|client| client.0)) == *root {
        return Ok(clients);
    }
    Err(contradicts::<Members>(index, "the ledger commits to other clients".into()))
}

fn task_name(index: u64, task: &Task) -> Result<TaskName, StoreError> {
    TaskName::new(task.as_str()).map_err(|error| contradicts::<Entries>(index, error.to_string()))
}
