//! Tables in memory, for tests and simulations. Must never be served from: everything is gone with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use super::{Change, Epoch, Row, Store, StoreError, TABLES};

/// A store that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    epoch: Epoch,
    tables: BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Default for State {
    fn default() -> Self {
        Self { epoch: Epoch(0), tables: TABLES.iter().map(|name| (*name, BTreeMap::new())).collect() }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        self.state.lock().map_err(|_| StoreError::Backend {
            place: "memory".into(),
            problem: "a thread ended in the middle of a change".into(),
        })
    }
}

impl State {
    fn table(&self, name: &'static str) -> Result<&BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        self.tables.get(name).ok_or(StoreError::NoSuchTable { name })
    }
}

impl Store for MemoryStore {
    fn lease(&self) -> Result<Epoch, StoreError> {
        let mut state = self.state()?;
        state.epoch.0 += 1;
        Ok(state.epoch)
    }

    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state()?.table(table)?.get(key).cloned())
    }

    fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let state = self.state()?;
        let first = from.max(prefix).to_vec();
        let rows = state.table(table)?.range(first..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, epoch: Epoch, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut state = self.state()?;
        if epoch != state.epoch {
            return Err(StoreError::Fenced { held: epoch, current: state.epoch });
        }
        for change in &changes {
            let (Change::Put { table, .. } | Change::Delete { table, .. }) = change;
            state.table(table)?;
        }
        for change in changes {
            match change {
                Change::Put { table, key, value } => {
                    state.tables.entry(table).or_default().insert(key, value);
                }
                Change::Delete { table, key } => {
                    state.tables.entry(table).or_default().remove(&key);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::store::conformance;

    #[test]
    fn it_is_a_store() {
        conformance::check(&MemoryStore::new());
    }
}
