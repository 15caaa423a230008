//! Tables as column families of an embedded RocksDB. Must never acknowledge what the disk does not have.

use std::path::Path;
use std::sync::Mutex;

use rocksdb::{
    ColumnFamily, DB, DBRecoveryMode, Direction, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{Change, Epoch, FORMAT, Row, Store, StoreError, TABLES};

/// Key of the format's version in the table `meta`, four bytes, big-endian.
const FORMAT_KEY: &[u8] = b"format";
/// Key of the last lease's epoch in the table `meta`, eight bytes, big-endian.
const EPOCH_KEY: &[u8] = b"epoch";
/// Files that the database may hold open; most systems allow 1,024 to a process, and connections need some too.
const MOST_OPEN_FILES: i32 = 256;

/// A store in a folder. One process can have it open.
pub struct RocksStore {
    db: DB,
    place: String,
    epoch: Mutex<Epoch>,
}

impl RocksStore {
    /// Opens the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Backend`] when another process has it open or the disk fails, [`StoreError::Format`] when another version
    /// wrote it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let place = folder.display().to_string();
        let failed =
            |error: rocksdb::Error| StoreError::Backend { place: place.clone(), problem: problem(&error) };
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        // The default would silently drop everything after a damaged record. What a crash cut short at the end of the log was never
        // acknowledged; anything else is refused.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_max_open_files(MOST_OPEN_FILES);
        options.set_compression_type(rocksdb::DBCompressionType::Zstd);
        let db = DB::open_cf(&options, folder, TABLES).map_err(failed)?;
        let store = Self { db, place, epoch: Mutex::new(Epoch(0)) };
        match store.get("meta", FORMAT_KEY)? {
            None => store.write(vec![meta(FORMAT_KEY, FORMAT.to_be_bytes().to_vec())])?,
            Some(found) => {
                let found = found.try_into().map_or(0, u32::from_be_bytes);
                if found != FORMAT {
                    return Err(StoreError::Format { place: store.place, found });
                }
            }
        }
        Ok(store)
    }

    /// Writes a consistent copy of the store into a folder that does not exist yet, while it is used.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub fn copy_to(&self, folder: &Path) -> Result<(), StoreError> {
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db);
        checkpoint
            .and_then(|checkpoint| checkpoint.create_checkpoint(folder))
            .map_err(|error| self.failed(&error))
    }

    fn table(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or(StoreError::NoSuchTable { name })
    }

    fn failed(&self, error: &rocksdb::Error) -> StoreError {
        StoreError::Backend { place: self.place.clone(), problem: problem(error) }
    }

    fn poisoned(&self) -> StoreError {
        let problem = "a thread ended in the middle of a change".to_owned();
        StoreError::Backend { place: self.place.clone(), problem }
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for change in changes {
            match change {
                Change::Put { table, key, value } => batch.put_cf(self.table(table)?, key, value),
                Change::Delete { table, key } => batch.delete_cf(self.table(table)?, key),
            }
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.write_opt(batch, &durable).map_err(|error| self.failed(&error))
    }
}

/// What the database says, and what to do where it is plain.
fn problem(error: &rocksdb::Error) -> String {
    let said = error.to_string();
    // It has no kind of error for this.
    if said.contains("No space left on device") { format!("{said}: free space there") } else { said }
}

fn meta(key: &[u8], value: Vec<u8>) -> Change {
    Change::Put { table: "meta", key: key.to_vec(), value }
}

impl Store for RocksStore {
    fn lease(&self) -> Result<Epoch, StoreError> {
        let mut epoch = self.epoch.lock().map_err(|_| self.poisoned())?;
        let last = self
            .get("meta", EPOCH_KEY)?
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let next = Epoch(last + 1);
        self.write(vec![meta(EPOCH_KEY, next.0.to_be_bytes().to_vec())])?;
        *epoch = next;
        Ok(next)
    }

    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.table(table)?, key).map_err(|error| self.failed(&error))
    }

    fn scan(
        &self,
        table: &'static str,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        // An iterator reads one snapshot.
        let first = from.max(prefix);
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        let rows = self.db.iterator_cf_opt(
            self.table(table)?,
            options,
            IteratorMode::From(first, Direction::Forward),
        );
        let mut found = Vec::new();
        for row in rows.take(limit) {
            let (key, value) = row.map_err(|error| self.failed(&error))?;
            if !key.starts_with(prefix) {
                break;
            }
            found.push((key.into_vec(), value.into_vec()));
        }
        Ok(found)
    }

    fn commit(&self, epoch: Epoch, changes: Vec<Change>) -> Result<(), StoreError> {
        let current = *self.epoch.lock().map_err(|_| self.poisoned())?;
        if epoch != current {
            return Err(StoreError::Fenced { held: epoch, current });
        }
        // The database gathers concurrent batches into one write, so the lock is not held here. A takeover within this process
        // waits for its writers to stop; another process cannot have the folder open.
        self.write(changes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn it_is_a_store() {
        let folder = tempfile::tempdir().unwrap();
        conformance::check(&RocksStore::open(folder.path()).unwrap());
    }

    #[test]
    fn what_was_committed_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = {
            let store = RocksStore::open(folder.path()).unwrap();
            let epoch = store.lease().unwrap();
            conformance::fill(&store, epoch);
            assert!(
                matches!(RocksStore::open(folder.path()), Err(StoreError::Backend { .. })),
                "one process has it open"
            );
            epoch
        };
        let store = RocksStore::open(folder.path()).unwrap();
        conformance::check_filled(&store);
        assert!(store.lease().unwrap() > first);
        assert!(matches!(store.commit(first, Vec::new()), Err(StoreError::Fenced { .. })));
    }

    #[test]
    fn a_copy_holds_everything_and_lives_on_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        let store = RocksStore::open(&here).unwrap();
        let epoch = store.lease().unwrap();
        conformance::fill(&store, epoch);
        store.copy_to(&there).unwrap();
        assert!(store.copy_to(&there).is_err(), "a copy is not written over");
        conformance::check_filled(&RocksStore::open(&there).unwrap());
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = RocksStore::open(folder.path()).unwrap();
        store.write(vec![meta(FORMAT_KEY, 7_u32.to_be_bytes().to_vec())]).unwrap();
        drop(store);
        let refused = RocksStore::open(folder.path()).err();
        assert!(matches!(refused, Some(StoreError::Format { found: 7, .. })), "{refused:?}");
    }

    #[test]
    fn a_log_that_was_cut_short_is_read_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = || {
            let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
            let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
            logs.max().unwrap()
        };
        let store = RocksStore::open(folder.path()).unwrap();
        let epoch = store.lease().unwrap();
        conformance::fill(&store, epoch);
        store.lease().unwrap();
        drop(store);
        let path = log();
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, &good[..good.len() - 3]).unwrap();
        let store = RocksStore::open(folder.path()).unwrap();
        conformance::check_filled(&store);
        assert!(store.lease().unwrap() > epoch);
        conformance::fill(&store, store.lease().unwrap());
        drop(store);
        let path = log();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = RocksStore::open(folder.path()).err();
        assert!(matches!(refused, Some(StoreError::Backend { .. })), "{refused:?}");
    }

    #[test]
    fn a_damaged_file_is_named_and_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let store = RocksStore::open(folder.path()).unwrap();
        let epoch = store.lease().unwrap();
        conformance::fill(&store, epoch);
        store.db.flush_cf(store.table("ledger").unwrap()).unwrap();
        drop(store);
        let mut damaged = 0;
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "sst") {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[8..24].iter_mut().for_each(|byte| *byte ^= 0x55);
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "a table file was written");
        let scanned = RocksStore::open(folder.path()).and_then(|store| store.scan("ledger", b"", b"", 100));
        assert!(matches!(scanned, Err(StoreError::Backend { .. })), "{scanned:?}");
    }
}
