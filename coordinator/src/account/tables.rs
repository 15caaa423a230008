//! The account's tables. Must never hold more than the ledger commits to: what is read from them is checked against it.

use crate::store::{Records, Store, StoreError, Table};
use serde::{Deserialize, Serialize};
use tacit_aggregation::identity::ClientId;

/// Consecutive entries that share a bitmap.
pub const EPOCH: u64 = 64;

/// The ledger: canonical encodings by place.
#[derive(Clone, Copy, Debug)]
pub enum Entries {}

impl Table for Entries {
    const NAME: &'static str = "ledger";
    type Key = u64;
    type Value = Vec<u8>;
}

/// Where the entries of a round are, by task and round.
#[derive(Clone, Copy, Debug)]
pub enum LedgerRounds {}

impl Table for LedgerRounds {
    const NAME: &'static str = "ledger_rounds";
    type Key = (String, u64);
    type Value = RoundRow;
}

/// The entries of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRow {
    /// Place of the reservation.
    pub reservation: u64,
    /// Place of the entry that ended the round; none while it is open.
    pub end: Option<u64>,
}

impl RoundRow {
    /// The places, in order.
    pub fn places(self) -> impl Iterator<Item = u64> {
        [Some(self.reservation), self.end].into_iter().flatten()
    }
}

/// The clients that an entry commits to by a root, in increasing order: the cohort of an open reservation, the
/// participants of a commit or a forfeit.
#[derive(Clone, Copy, Debug)]
pub enum Members {}

impl Table for Members {
    const NAME: &'static str = "members";
    type Key = u64;
    type Value = Vec<ClientId>;
}

/// By client and epoch, which of the epoch's [`EPOCH`] entries debited the client, the first as the lowest bit.
#[derive(Clone, Copy, Debug)]
pub enum Participants {}

impl Table for Participants {
    const NAME: &'static str = "participants";
    type Key = (ClientId, u64);
    type Value = u64;
}

/// Rows that are read at once.
pub(super) const PAGE: usize = 1024;

/// Places of the entries that debited a client, ascending.
///
/// # Errors
/// As [`Records::scan`].
pub fn spent_by(store: &dyn Store, client: ClientId) -> Result<Vec<u64>, StoreError> {
    let (records, mut places, mut from) = (Records(store), Vec::new(), 0);
    loop {
        let rows = records.scan::<Participants>(&(client,), Some(&(client, from)), PAGE)?;
        for ((_, epoch), bitmap) in &rows {
            let set = (0..EPOCH).filter(|bit| bitmap >> bit & 1 == 1);
            places.extend(set.map(|bit| epoch * EPOCH + bit));
            from = epoch + 1;
        }
        if rows.len() < PAGE {
            return Ok(places);
        }
    }
}

/// The refusal of a record that contradicts the ledger.
pub(super) fn contradicts<T: Table>(key: u64, problem: String) -> StoreError {
    StoreError::Corrupted { table: T::NAME, key: hex::encode(key.to_be_bytes()), problem }
}

/// The entry at a place, and those of its clients that are stored.
pub(super) fn entry(store: &dyn Store, index: u64) -> Result<Vec<u8>, StoreError> {
    let missing = || contradicts::<Entries>(index, "it is missing".into());
    Records(store).get::<Entries>(&index)?.ok_or_else(missing)
}

/// The clients of an entry that must have some.
pub(super) fn members(store: &dyn Store, index: u64) -> Result<Vec<ClientId>, StoreError> {
    let missing = || contradicts::<Members>(index, "it is missing".into());
    Records(store).get::<Members>(&index)?.ok_or_else(missing)
}
