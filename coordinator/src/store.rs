//! Where the coordinator's state lives: a few tables of small records, changed in atomic, durable, fenced batches.
//! Must never let half a change be seen, nor a writer that was replaced write on.
//!
//! The trait knows bytes and order only, so that an embedded database, a server's tables or a map can stand behind it;
//! [`table`] gives the records their types. Masked vectors and adapters are no records: they lie in files.

#[cfg(test)]
mod conformance;
mod memory;
mod rocks;
pub mod table;

pub use memory::MemoryStore;
pub use rocks::RocksStore;
pub use table::{Batch, Records, Table};

/// Names of all tables. A store creates them when it is opened.
pub const TABLES: [&str; 21] = [
    "meta",
    "admins",
    "clients",
    "tokens",
    "requests",
    "keys",
    "decisions",
    "bans",
    "revocations",
    "rosters",
    "heard",
    "tasks",
    "states",
    "rounds",
    "journal",
    "ledger",
    "ledger_rounds",
    "members",
    "participants",
    "adapters",
    "channels",
];

/// Version of keys and values in the tables. History:
///
/// 1. The first.
pub const FORMAT: u32 = 1;

/// Number of a writer's lease: every writer that takes over gets a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// A change to one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a record, over an older one with the same key.
    Put {
        /// The table's name.
        table: &'static str,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a record; nothing happens where there is none.
    Delete {
        /// The table's name.
        table: &'static str,
        /// The key.
        key: Vec<u8>,
    },
}

/// A stored key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A store of tables.
///
/// All methods block, the writing ones until the disk has it: call them where blocking is allowed.
pub trait Store: Send + Sync {
    /// Makes the caller the only writer.
    ///
    /// # Behavior
    /// - Returns a higher epoch than every call before it, in this and in every earlier process.
    /// - From then on a commit with a lower epoch is refused.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    fn lease(&self) -> Result<Epoch, StoreError>;

    /// Reads one record.
    ///
    /// # Behavior
    /// - Gives the value of the last commit that wrote the key, or none if none did or a later one deleted it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchTable`], [`StoreError::Corrupted`], [`StoreError::Backend`].
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads the records whose keys begin with `prefix`, from the key `from` on, in the order of the keys as bytes.
    ///
    /// # Behavior
    /// - At most `limit` records: the first ones. To go on, ask from the last key with a zero byte appended.
    /// - Shows one moment: no commit is seen in part.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;

    /// Makes all changes, in order, or none.
    ///
    /// # Behavior
    /// - When it returns, the changes survive the death of the process and of the machine.
    /// - When it fails with [`StoreError::Fenced`] nothing has changed. After [`StoreError::Backend`] all or nothing has:
    ///   read before trying again.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when another writer took over, and as [`Self::get`].
    fn commit(&self, epoch: Epoch, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// Why a store does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another writer took over.
    #[error(
        "this coordinator's lease {held:?} has ended: another one took over with {current:?}; stop this one, or let it take over again"
    )]
    Fenced {
        /// The caller's epoch.
        held: Epoch,
        /// The present one.
        current: Epoch,
    },
    /// A table that this version does not know.
    #[error("there is no table \"{name}\" in the store")]
    NoSuchTable {
        /// Its name.
        name: &'static str,
    },
    /// The store was written by another version.
    #[error(
        "the store in {place} has format {found}, this coordinator knows {FORMAT}: use the version that wrote it, or restore a backup of format {FORMAT}"
    )]
    Format {
        /// Where the store is.
        place: String,
        /// The format found.
        found: u32,
    },
    /// A record is not what was written.
    #[error(
        "the record {key} in table \"{table}\" is damaged ({problem}): stop, check the disk, and restore a backup"
    )]
    Corrupted {
        /// The table.
        table: &'static str,
        /// The key, in hexadecimal.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The database or the disk fails.
    #[error("the store in {place} fails: {problem}")]
    Backend {
        /// Where the store is.
        place: String,
        /// What it says.
        problem: String,
    },
}
