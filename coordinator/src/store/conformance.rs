//! What every store must do: one suite that each implementation passes. Must never know what stands behind the trait.

use super::{Change, Epoch, Row, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::thread::ScopedJoinHandle;

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
    many_records_agree_with_a_map(store, first);
    long_records_come_back_whole(store, first);
    a_batch_is_all_or_nothing(store, first);
    no_reader_sees_half_a_batch(store, first);
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

/// Puts and deletes of short keys at random, in batches, and scans from anywhere: a map does the same.
fn many_records_agree_with_a_map(store: &dyn Store, epoch: Epoch) {
    let (mut map, mut state) = (BTreeMap::new(), 11_u64);
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as usize
    };
    for batch in 0..40_u8 {
        let mut changes = Vec::new();
        for number in 0..20_u8 {
            let key: Vec<u8> = (0..=draw(3)).map(|_| [0, 1, b'a', 0xfe, 0xff][draw(5)]).collect();
            if draw(3) == 0 {
                changes.push(delete("journal", &key));
                map.remove(&key);
            } else {
                changes.push(put("journal", &key, &[batch, number]));
                map.insert(key, vec![batch, number]);
            }
        }
        store.commit(epoch, changes).expect("a commit");
        let (prefix, from, limit) =
            ([0xff, b'a', 0, 1][draw(4)], [draw(256) as u8, draw(256) as u8], draw(30));
        let prefix = &[prefix][..draw(2)];
        let expected: Vec<Row> = map
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && key.as_slice() >= &from[..])
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(store.scan("journal", prefix, &from, limit), Ok(expected), "batch {batch}");
    }
    // Page by page, every record comes once.
    let (mut paged, mut from) = (BTreeMap::new(), Vec::new());
    loop {
        let page = store.scan("journal", b"", &from, 7).expect("a scan");
        let Some((last, _)) = page.last() else { break };
        from = [last.as_slice(), &[0]].concat();
        paged.extend(page);
    }
    assert_eq!(paged, map);
    assert!(map.len() > 60, "{} records say little", map.len());
}

fn long_records_come_back_whole(store: &dyn Store, epoch: Epoch) {
    let value: Vec<u8> = (0..3_000_000_u32).map(|place| (place * 7 % 251) as u8).collect();
    let key = vec![7; 300];
    store.commit(epoch, vec![put("states", &key, &value)]).expect("a commit");
    assert!(store.get("states", &key) == Ok(Some(value.clone())), "three megabytes");
    assert!(store.scan("states", &key, b"", 2) == Ok(vec![(key, value)]));
}

/// One thread changes two records in each batch, others read: they never find them apart.
fn no_reader_sees_half_a_batch(store: &dyn Store, epoch: Epoch) {
    let pair = |number: u64| {
        let value = number.to_be_bytes();
        vec![put("clients", b"pair/a", &value), put("clients", b"pair/z", &value)]
    };
    store.commit(epoch, pair(0)).expect("a commit");
    std::thread::scope(|scope| {
        // Until it has seen many batches come and go.
        let look = || {
            let mut seen = BTreeSet::new();
            while seen.len() < 10 {
                let rows = store.scan("clients", b"pair/", b"", 9).expect("a scan");
                assert!(rows.len() == 2 && rows[0].1 == rows[1].1, "half a batch: {rows:?}");
                seen.insert(rows[0].1.clone());
            }
        };
        let readers = [scope.spawn(look), scope.spawn(look)];
        let mut number = 0;
        while !readers.iter().all(ScopedJoinHandle::is_finished) {
            number += 1;
            store.commit(epoch, pair(number)).expect("a commit");
        }
    });
}

fn a_batch_is_all_or_nothing(store: &dyn Store, epoch: Epoch) {
    let unknown = vec![put("tasks", b"x", b"1"), put("nothing", b"x", b"1"), put("tasks", b"z", b"1")];
    assert_eq!(store.commit(epoch, unknown), Err(StoreError::NoSuchTable { name: "nothing" }));
    assert_eq!(store.get("tasks", b"x"), Ok(None));
    assert_eq!(store.get("tasks", b"z"), Ok(None));
    assert_eq!(store.get("nothing", b"x"), Err(StoreError::NoSuchTable { name: "nothing" }));
    assert!(store.scan("nothing", b"", b"", 1).is_err());
}

fn whoever_was_replaced_writes_nothing(store: &dyn Store, first: Epoch) {
    let second = store.lease().expect("a lease");
    assert!(second > first);
    let refused = store.commit(first, vec![put("tasks", b"y", b"1")]);
    assert_eq!(refused, Err(StoreError::Fenced { held: first, current: second }));
    assert_eq!(store.get("tasks", b"y"), Ok(None));
    // An empty batch, or one of several changes, is refused alike, and reading needs no lease.
    assert!(matches!(store.commit(first, Vec::new()), Err(StoreError::Fenced { .. })));
    let several = vec![delete("tasks", b"y"), put("rounds", b"y", b"1")];
    assert!(matches!(store.commit(first, several), Err(StoreError::Fenced { .. })));
    assert_eq!(store.get("rounds", b"y"), Ok(None));
    store.commit(second, vec![put("tasks", b"y", b"2")]).expect("the present writer");
    assert!(store.commit(Epoch(second.0 + 1), Vec::new()).is_err(), "a lease that nobody has");
}
