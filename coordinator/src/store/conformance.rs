//! What every store must do: one suite that each implementation passes. Must never know what stands behind the trait.

use super::{Change, Epoch, Store, StoreError};

fn put(table: &'static str, key: &[u8], value: &[u8]) -> Change {
    Change::Put { table, key: key.to_vec(), value: value.to_vec() }
}

fn delete(table: &'static str, key: &[u8]) -> Change {
    Change::Delete { table, key: key.to_vec() }
}

/// Writes records that [`check_filled`] looks for.
pub(super) fn fill(store: &dyn Store, epoch: Epoch) {
    let records = (0..100_u8).map(|number| put("ledger", &[1, number], &[number; 50])).collect();
    store.commit(epoch, records).expect("a commit");
    store.commit(epoch, vec![delete("ledger", &[1, 7]), put("ledger", &[2], b"last")]).expect("a commit");
}

pub(super) fn check_filled(store: &dyn Store) {
    assert_eq!(store.get("ledger", &[1, 7]), Ok(None));
    assert_eq!(store.get("ledger", &[1, 8]), Ok(Some(vec![8; 50])));
    assert_eq!(store.scan("ledger", b"", b"", 1000).expect("a scan").len(), 100);
}

/// Every promise of the trait, on an empty store.
pub(super) fn check(store: &dyn Store) {
    let first = store.lease().expect("a lease");
    reads_give_the_last_commit(store, first);
    scans_are_ordered_and_bounded(store, first);
    a_batch_is_all_or_nothing(store, first);
    whoever_was_replaced_writes_nothing(store, first);
}

fn reads_give_the_last_commit(store: &dyn Store, epoch: Epoch) {
    assert_eq!(store.get("tasks", b"a"), Ok(None));
    store.commit(epoch, vec![put("tasks", b"a", b"1"), put("rounds", b"a", b"2")]).expect("a commit");
    assert_eq!(store.get("tasks", b"a"), Ok(Some(b"1".to_vec())));
    assert_eq!(store.get("rounds", b"a"), Ok(Some(b"2".to_vec())), "tables are apart");
    // In order, within one batch.
    let changes = vec![
        put("tasks", b"a", b"3"),
        delete("tasks", b"a"),
        put("tasks", b"a", b""),
        delete("tasks", b"none"),
    ];
    store.commit(epoch, changes).expect("a commit");
    assert_eq!(store.get("tasks", b"a"), Ok(Some(Vec::new())), "an empty value is a value");
    store.commit(epoch, vec![delete("tasks", b"a")]).expect("a commit");
    assert_eq!(store.get("tasks", b"a"), Ok(None));
    store.commit(epoch, Vec::new()).expect("nothing to do");
}

fn scans_are_ordered_and_bounded(store: &dyn Store, epoch: Epoch) {
    let keys: [&[u8]; 6] = [b"a", b"a\x00", b"a\xff", b"b", b"b\x01", b"\xff\xff"];
    store.commit(epoch, keys.iter().rev().map(|key| put("clients", key, key)).collect()).expect("a commit");
    let found = |prefix: &[u8], from: &[u8], limit| {
        let rows = store.scan("clients", prefix, from, limit).expect("a scan");
        assert!(rows.iter().all(|(key, value)| key == value));
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(found(b"", b"", 100), keys);
    assert_eq!(found(b"a", b"", 100), keys[..3]);
    assert_eq!(found(b"a", b"a\x00", 100), keys[1..3]);
    assert_eq!(found(b"b", b"a", 100), keys[3..5]);
    assert_eq!(found(b"a", b"b", 100), Vec::<Vec<u8>>::new());
    assert_eq!(found(b"", b"", 2), keys[..2]);
    assert_eq!(found(b"", b"", 0), Vec::<Vec<u8>>::new());
    assert_eq!(found(b"\xff", b"", 9), keys[5..]);
    // Going on from the last key.
    assert_eq!(found(b"", b"a\x00\x00", 2), keys[2..4]);
}

fn a_batch_is_all_or_nothing(store: &dyn Store, epoch: Epoch) {
    let unknown = vec![put("tasks", b"x", b"1"), put("nothing", b"x", b"1")];
    assert_eq!(store.commit(epoch, unknown), Err(StoreError::NoSuchTable { name: "nothing" }));
    assert_eq!(store.get("tasks", b"x"), Ok(None));
    assert_eq!(store.get("nothing", b"x"), Err(StoreError::NoSuchTable { name: "nothing" }));
    assert!(store.scan("nothing", b"", b"", 1).is_err());
}

fn whoever_was_replaced_writes_nothing(store: &dyn Store, first: Epoch) {
    let second = store.lease().expect("a lease");
    assert!(second > first);
    let refused = store.commit(first, vec![put("tasks", b"y", b"1")]);
    assert_eq!(refused, Err(StoreError::Fenced { held: first, current: second }));
    assert_eq!(store.get("tasks", b"y"), Ok(None));
    store.commit(second, vec![put("tasks", b"y", b"2")]).expect("the present writer");
    assert!(store.commit(Epoch(second.0 + 1), Vec::new()).is_err(), "a lease that nobody has");
}
