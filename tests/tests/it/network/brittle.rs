//! A store that dies at a chosen commit, before or after the disk has it. Must never change what it passes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tacit_coordinator::store::{Change, Epoch, Row, Store, StoreError};

/// The commit at which a store dies, counted from 1 since it was made, and on which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Nothing of the commit is durable.
    Before(u64),
    /// All of it is, and nobody has been told.
    After(u64),
}

/// A store that may die.
pub(super) struct Brittle {
    inner: Arc<dyn Store>,
    death: Option<Death>,
    commits: AtomicU64,
    dead: AtomicBool,
}

impl Brittle {
    pub(super) fn new(inner: Arc<dyn Store>, death: Option<Death>) -> Self {
        Self { inner, death, commits: AtomicU64::new(0), dead: AtomicBool::new(false) }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Everything fails from now on.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.is_dead() { Err(Self::gone()) } else { Ok(()) }
    }

    fn gone() -> StoreError {
        StoreError::Backend { place: "a test".into(), problem: "the process died here".into() }
    }
}

impl Store for Brittle {
    fn lease(&self) -> Result<Epoch, StoreError> {
        self.alive().and_then(|()| self.inner.lease())
    }

    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.alive().and_then(|()| self.inner.get(table, key))
    }

    fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.alive().and_then(|()| self.inner.scan(table, prefix, from, limit))
    }

    fn commit(&self, epoch: Epoch, changes: Vec<Change>) -> Result<(), StoreError> {
        self.alive()?;
        let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        match self.death {
            Some(Death::Before(at)) if at == number => self.die(),
            Some(Death::After(at)) if at == number => {
                self.inner.commit(epoch, changes)?;
                self.die();
            }
            _ => return self.inner.commit(epoch, changes),
        }
        Err(Self::gone())
    }
}
