//! The ledger of a data folder that nobody serves, after it was restored from a backup: its head goes to the identity root, and
//! the root's restart is taken in. Must never go on from another ledger than the root has signed.

use super::data::{DataError, DataFolder};
use crate::Millis;
use crate::account::{Account, LoadError};
use crate::identity::{RestartForm, RestoredHead};
use crate::store::{Batch, RocksStore, Store, StoreError};
use tacit_aggregation::identity::PublicKey;
use tacit_privacy::ledger::LedgerError;
use tacit_privacy::ledger::head::HeadError;
use tacit_privacy::ledger::restart::{Restart, RestartError as Unsigned, SignedRestart};
use tacit_proto::crash::kill_point;

/// Why a ledger does not go on.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The store fails, or somebody serves it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The head cannot be written down.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not this organisation's root's, or for another coordinator.
    #[error("{0}: nothing was changed")]
    Unsigned(#[from] Unsigned),
    /// The ledger is another one than the root has signed.
    #[error("{0}: nothing was changed")]
    Ledger(#[from] LedgerError),
}

/// The head of the ledger in a data folder, signed at `now`.
///
/// # Errors
/// [`RestartError`].
pub fn restored_head(data: &DataFolder, now: Millis) -> Result<RestoredHead, RestartError> {
    let (key, store) = (data.key()?, RocksStore::open(&data.store())?);
    let head = Account::load(&store)?.signed_head(&key, now);
    Ok(RestoredHead::new(key.public_key().0, &head)?)
}

/// Takes a restart in: the ledger goes on from where it is. The same one again changes nothing.
///
/// # Errors
/// [`RestartError`]; nothing was changed then.
pub fn take_restart(data: &DataFolder, form: RestartForm, now: Millis) -> Result<Restart, RestartError> {
    let keys = (data.appointment()?.root(), data.key()?.public_key());
    restart_ledger(&RocksStore::open(&data.store())?, keys, form.into(), now)
}

/// As [`take_restart`], on a store that no engine writes to; given the public keys of identity root and coordinator.
///
/// # Errors
/// [`RestartError`]; nothing was changed then.
pub fn restart_ledger(
    store: &dyn Store,
    (root, coordinator): (PublicKey, PublicKey),
    signed: SignedRestart,
    now: Millis,
) -> Result<Restart, RestartError> {
    let restart = *signed.verify(&root.0)?;
    if restart.coordinator != coordinator.0 {
        return Err(Unsigned::Coordinator { number: restart.number }.into());
    }
    let mut account = Account::load(store)?;
    if account.ledger().restarts().last() != Some(&signed) {
        account.restart(signed, now)?;
        let mut batch = Batch::new();
        account.save(&mut batch);
        kill_point();
        batch.commit(store, store.lease()?)?;
        kill_point();
    }
    Ok(restart)
}
