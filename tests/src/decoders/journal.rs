//! What both sides store of a round, and come back from. Must never restore a part, nor bring back a session that says
//! something else when the same records are read once more.

use super::{envelope, number};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use tacit_aggregation::client;
use tacit_aggregation::journal::{Key, Record};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{self, Phase, VectorSummary};

/// Bytes of the checksum at the end of each record.
const TAG: usize = 32;

/// Records by key.
type Disk = BTreeMap<[u8; Key::BYTES], Vec<u8>>;

/// What lies on a disk after some event.
#[derive(Default)]
struct Journals {
    client: Vec<Vec<u8>>,
    server: Vec<Vec<u8>>,
}

fn keep(disk: &mut Disk) -> impl FnMut(&Record) -> Result<(), Infallible> {
    |record| {
        if record.replaces_all() {
            disk.clear();
        }
        disk.insert(record.key().to_bytes(), record.bytes().to_vec());
        Ok(())
    }
}

/// The records of a disk, each after its length.
fn written(disk: &Disk) -> Vec<u8> {
    let record = |record: &Vec<u8>| [&(record.len() as u32).to_be_bytes()[..], record].concat();
    disk.values().flat_map(record).collect()
}

/// A round of five, of whom the last does not upload: what its first member and its server store.
fn journals() -> &'static Journals {
    static JOURNALS: OnceLock<Journals> = OnceLock::new();
    JOURNALS.get_or_init(|| {
        let setups = envelope::setups();
        let (mut disks, mut stored) = (vec![Disk::new(); setups.len()], Disk::new());
        let mut journals = Journals::default();
        let terms = Arc::clone(&setups[0].terms);
        let mut server = server::Session::open(terms, setups[0].root).expect("fine terms");
        let mut sessions = Vec::new();
        for (setup, disk) in setups.iter().zip(&mut disks) {
            let secrets = envelope::secrets(setup);
            let begun = client::Session::begin(setup.clone(), secrets, 0, keep(disk));
            let (session, advert) = begun.expect("the plan is fine");
            server.advert(advert, 0, keep(&mut stored)).expect("honest");
            sessions.push((setup.certificate.client, session));
        }
        journals.client.push(written(&disks[0]));
        server.close(keep(&mut stored)).expect("open");
        for ((id, session), disk) in sessions.iter_mut().zip(&mut disks) {
            let Phase::Share(share) = server.phase() else { return Journals::default() };
            let (list, adverts) = (Arc::clone(share.list()), share.adverts_for(*id).expect("a member"));
            let message = session.share(&list, &adverts, 0, keep(disk)).expect("honest");
            server.share(message, keep(&mut stored)).expect("honest");
        }
        journals.server.push(written(&stored));
        server.close(keep(&mut stored)).expect("open");
        sessions.pop();
        let mut vectors = Vec::new();
        for ((id, session), disk) in sessions.iter_mut().zip(&mut disks) {
            let Phase::Collect(collect) = server.phase() else { return Journals::default() };
            let deliveries = collect.deliveries(*id).expect("it shared");
            let input = RingVector::new(16, &[1, 2, 3, 4]).expect("fits");
            let upload = session.mask(&deliveries, input, keep(disk)).expect("honest");
            server
                .vector(&upload.header, &VectorSummary::of(&upload.packed), keep(&mut stored))
                .expect("honest");
            vectors.push((*id, upload));
        }
        server.close(keep(&mut stored)).expect("open");
        vectors.iter().for_each(|(id, upload)| server.add(*id, &upload.packed).expect("a survivor"));
        server.checkpoint(keep(&mut stored)).expect("open");
        for ((_, session), disk) in sessions.iter_mut().zip(&mut disks) {
            let Phase::Confirm(confirm, _) = server.phase() else { return Journals::default() };
            let message = session.confirm(&confirm.maps().clone(), keep(disk)).expect("honest");
            server.confirm(&message, keep(&mut stored)).expect("honest");
        }
        journals.client.push(written(&disks[0]));
        journals.server.push(written(&stored));
        server.close(keep(&mut stored)).expect("open");
        for ((id, session), disk) in sessions.iter_mut().zip(&mut disks) {
            let Phase::Unmask(unmask, _) = server.phase() else { return Journals::default() };
            let request = unmask.request_for(*id).expect("it confirmed");
            let shares = session.unmask(&request, keep(disk)).expect("honest");
            server.unmask(&shares, keep(&mut stored)).expect("honest");
        }
        journals.client.push(written(&disks[0]));
        server.close(keep(&mut stored)).expect("open");
        journals.server.push(written(&stored));
        journals
    })
}

/// The journals of a client, then those of a server, at three times of a round.
pub(super) fn genuine() -> [Vec<Vec<u8>>; 2] {
    let Journals { client, server } = journals();
    [client.clone(), server.clone()]
}

/// Records, each after its length.
fn records(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = number(&mut bytes)? as usize;
        let (record, rest) = bytes.split_at_checked(length)?;
        records.push(record.to_vec());
        bytes = rest;
    }
    Some(records)
}

/// The same records with checksums that hold, so that changed bytes are read at all.
fn sealed(mut records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for record in &mut records {
        if let Some(covered) = record.len().checked_sub(TAG) {
            let tag = Sha256::new_with_prefix(b"tacit/secagg/v1/record").chain_update(&record[..covered]);
            record[covered..].copy_from_slice(&tag.finalize());
        }
    }
    records
}

/// Restores from records as they are and with their checksums mended, twice; `said` is what the session says.
fn check<T, E: std::fmt::Display>(
    bytes: &[u8],
    restore: impl Fn(&[Vec<u8>]) -> Result<T, E>,
    said: impl Fn(&T) -> String,
) -> bool {
    let Some(records) = records(bytes) else { return false };
    let mended = sealed(records.clone());
    if let Err(error) = restore(&records) {
        assert!(error.to_string().len() < 2_000, "an error echoes what it refuses");
    } else {
        assert_eq!(records, mended, "a wrong checksum passed");
    }
    let (Ok(first), Ok(second)) = (restore(&mended), restore(&mended)) else { return false };
    assert_eq!(said(&first), said(&second));
    true
}

pub(super) fn client(bytes: &[u8]) -> bool {
    let setup = &envelope::setups()[0];
    let restore = |records: &[Vec<u8>]| client::Session::restore(setup.clone(), records);
    check(bytes, restore, |session| format!("{:?} {:?} {session:?}", session.due(), session.context()))
}

pub(super) fn server(bytes: &[u8]) -> bool {
    let setup = &envelope::setups()[0];
    let restore =
        |records: &[Vec<u8>]| server::Session::restore(Arc::clone(&setup.terms), setup.root, records);
    check(bytes, restore, |session| match session.phase() {
        Phase::Released(sum) => format!("{:?} {:?}", sum.survivors, sum.vector.to_values()),
        phase => format!("{phase:?}"),
    })
}
