//! The ledger as a file for auditors: see [`tacit_privacy::ledger::export`]. Must never leave out an entry under the head.

use super::tables::{self, Entries, contradicts};
use crate::store::{Store, StoreError};
use std::io;
use tacit_aggregation::identity::PublicKey;
use tacit_privacy::ledger::Entry;
use tacit_privacy::ledger::export::{FIRST_LINE, entry_line, head_line};
use tacit_privacy::ledger::head::{HeadError, SignedHead};

/// Why a ledger cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A record cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The head is not this coordinator's.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The file cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Writes all entries under a head, who paid for each, and the head.
///
/// # Errors
/// [`ExportError`]; what was written until then is no whole export, and no auditor takes it for one.
pub fn export(
    store: &dyn Store,
    head: &SignedHead,
    coordinator: &PublicKey,
    to: &mut dyn io::Write,
) -> Result<(), ExportError> {
    let size = head.verify(&coordinator.0)?.size;
    to.write_all(FIRST_LINE.as_bytes())?;
    for index in 0..size {
        let entry = Entry::decode(&tables::entry(store, index)?)
            .map_err(|error| contradicts::<Entries>(index, error.to_string()))?;
        let paid = if entry.event.debit().is_some() { tables::members(store, index)? } else { Vec::new() };
        let numbers: Vec<u64> = paid.iter().map(|client| client.0).collect();
        to.write_all(entry_line(&entry, &numbers).as_bytes())?;
    }
    to.write_all(head_line(head).as_bytes())?;
    Ok(to.flush()?)
}
