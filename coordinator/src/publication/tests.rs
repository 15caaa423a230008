//! Publication over a store in memory and a folder of its own. Must never look into the records: what counts is what is read
//! through the publisher.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::{Epoch, MemoryStore};
use std::fs;
use tacit_proto::AdapterShape;
use tacit_proto::adapter::TrainedTensor;

const BASE_MODEL: Digest = [3; 32];

struct World {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
    epoch: Epoch,
    publisher: Publisher,
    task: TaskName,
    layout: AdapterLayout,
    head: Option<AdapterVersion>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let key = Arc::new(CoordinatorKey::from_bytes(&[7; 32]));
        let layout = AdapterLayout {
            base: "tacit-base".to_owned(),
            base_model: BASE_MODEL,
            adapter: AdapterShape { rank: 2, alpha: 4.0, targets: vec!["v_proj".to_owned()], seed: 5 },
            tensors: vec![TrainedTensor { name: "layers.0.b".to_owned(), shape: [2, 3] }],
        };
        let epoch = store.lease().unwrap();
        let publisher = Publisher::open(folder.path(), store.clone(), key).unwrap();
        Self { folder, store, epoch, publisher, task: TaskName::new("rust").unwrap(), layout, head: None }
    }

    fn next(&self) -> AdapterVersion {
        match &self.head {
            None => self.layout.initial().unwrap(),
            Some(head) => {
                let values = head.values().iter().map(|value| value + 0.5).collect();
                AdapterVersion::new(values, *head.digest()).unwrap()
            }
        }
    }

    fn prepare(
        &self,
        canary: u16,
        adapter: &AdapterVersion,
    ) -> Result<(Batch, SignedManifest), PublicationError> {
        let mut batch = Batch::new();
        let origin = Origin { plan: [1; 32], round: 8, entry: 9, entry_hash: [2; 32] };
        let publication = Publication {
            task: &self.task,
            layout: &self.layout,
            adapter,
            origin: self.head.as_ref().map(|_| origin),
            canary: BasisPoints::new(canary).unwrap(),
        };
        let signed = self.publisher.publish(&mut batch, &publication, 77)?;
        Ok((batch, signed))
    }

    fn publish(&mut self, canary: u16) -> SignedManifest {
        let adapter = self.next();
        let (batch, signed) = self.prepare(canary, &adapter).unwrap();
        self.commit(batch);
        self.head = Some(adapter);
        signed
    }

    fn commit(&self, batch: Batch) {
        batch.commit(&*self.store, self.epoch).unwrap();
    }

    fn promote(&self) -> Result<(), PublicationError> {
        let mut batch = Batch::new();
        self.publisher.promote(&mut batch, &self.task)?;
        self.commit(batch);
        Ok(())
    }

    fn rollback(&self, channel: Channel) -> Result<(), PublicationError> {
        let mut batch = Batch::new();
        self.publisher.rollback(&mut batch, &self.task, channel)?;
        self.commit(batch);
        Ok(())
    }

    fn present(&self, channel: Channel) -> Manifest {
        let signed = self.publisher.manifest(&self.task, channel).unwrap();
        let manifest = signed.verify(&CoordinatorKey::from_bytes(&[7; 32]).public_key()).unwrap().clone();
        assert_eq!((&manifest.task, manifest.channel), (&self.task, channel));
        manifest
    }

    /// Versions of stable, canary and training.
    fn versions(&self) -> [u64; 3] {
        Channel::ALL.map(|channel| self.present(channel).version)
    }

    fn retire(&self, keep: u64) -> Vec<u64> {
        let mut batch = Batch::new();
        let retired = self.publisher.retire(&mut batch, &self.task, keep).unwrap();
        self.commit(batch);
        retired
    }
}

#[test]
fn a_version_is_a_manifest_and_its_files() {
    let mut world = World::new();
    assert!(matches!(
        world.publisher.installs(&world.task, ClientId(1), BasisPoints::ZERO),
        Err(PublicationError::Channel { channel: Channel::Stable, .. })
    ));
    world.publish(0);
    world.publish(0);
    assert_eq!(world.versions(), [1, 1, 1]);
    let head = world.head.clone().unwrap();
    let manifest = world.present(Channel::Stable);
    assert_eq!((&manifest.adapter, &manifest.parent), (head.digest(), head.parent()));
    assert_eq!(manifest.base_model, BASE_MODEL);
    assert_eq!(manifest.origin.map(|origin| (origin.round, origin.entry)), Some((8, 9)));
    assert_eq!((manifest.serial, manifest.created), (1, 77));
    for file in &manifest.files {
        let mut blob = world.publisher.open_blob(&file.digest, 0).unwrap();
        assert_eq!(blob.left(), file.size);
        let bytes = blob.next_part().unwrap().unwrap();
        if file.name == files::TRAINED {
            let values: Vec<u8> = head.values().iter().flat_map(|value| value.to_le_bytes()).collect();
            assert!(bytes.ends_with(&values));
        }
    }
    let listed = world.publisher.list(&world.task, 0, 9).unwrap();
    assert_eq!(listed.iter().map(|listed| listed.manifest.version).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(world.publisher.list(&world.task, 1, 9).unwrap().len(), 1);
    assert!(world.publisher.list(&TaskName::new("rus").unwrap(), 0, 9).unwrap().is_empty());
}

#[test]
fn only_what_follows_the_newest_version_is_published() {
    let mut world = World::new();
    let foreign = AdapterVersion::new(vec![0.0; 6], [9; 32]).unwrap();
    let refused = world.prepare(0, &foreign).unwrap_err();
    assert!(matches!(refused, PublicationError::Chain { newest: None, .. }));
    world.publish(0);
    let (first, second) = (world.head.clone().unwrap(), world.next());
    world.publish(0);
    for adapter in [first, second, foreign] {
        let refused = world.prepare(0, &adapter).unwrap_err();
        assert!(matches!(refused, PublicationError::Chain { newest: Some(1), .. }));
    }
    let longer = AdapterVersion::new(vec![0.0; 7], *world.head.clone().unwrap().digest()).unwrap();
    let refused = world.prepare(0, &longer).unwrap_err();
    assert!(matches!(refused, PublicationError::Dimension { found: 7, expected: 6, .. }));
    assert_eq!(world.versions(), [1, 1, 1]);
}

#[test]
fn the_canary_share_goes_first_and_a_channel_goes_back() {
    let mut world = World::new();
    world.publish(500);
    assert_eq!(world.versions(), [0, 0, 0]);
    world.publish(500);
    world.publish(500);
    assert_eq!(world.versions(), [0, 2, 2]);
    world.promote().unwrap();
    assert_eq!(world.versions(), [2, 2, 2]);
    assert!(matches!(world.promote(), Err(PublicationError::Channel { .. })));
    let serial = |channel| world.present(channel).serial;
    assert_eq!((serial(Channel::Stable), serial(Channel::Canary)), (1, 2));
    // Back, each time under a higher number, over versions that the channel had: stable never had 1.
    world.rollback(Channel::Stable).unwrap();
    assert_eq!(world.versions(), [0, 2, 2]);
    assert_eq!(serial(Channel::Stable), 2);
    assert!(matches!(world.rollback(Channel::Stable), Err(PublicationError::Channel { .. })));
    world.rollback(Channel::Canary).unwrap();
    assert_eq!(world.versions(), [0, 1, 2]);
    assert!(matches!(world.rollback(Channel::Training), Err(PublicationError::Channel { .. })));
    // Training went on from the newest; without a share, the next version is everybody's.
    world.publish(0);
    assert_eq!(world.versions(), [3, 3, 3]);
    world.rollback(Channel::Canary).unwrap();
    assert_eq!(world.versions(), [3, 1, 3]);
}

#[test]
fn a_client_installs_what_its_channel_has() {
    let mut world = World::new();
    world.publish(0);
    world.publish(5_000);
    let share = BasisPoints::new(5_000).unwrap();
    let versions: BTreeSet<(bool, u64)> = (0..64)
        .map(|client| {
            let client = ClientId(client);
            let signed = world.publisher.installs(&world.task, client, share).unwrap();
            let manifest = signed.verify(&CoordinatorKey::from_bytes(&[7; 32]).public_key()).unwrap().version;
            (canary_member(&world.task, client, share), manifest)
        })
        .collect();
    assert_eq!(versions, BTreeSet::from([(false, 0), (true, 1)]));
}

#[test]
fn the_canary_share_is_the_share_and_grows() {
    const CLIENTS: u64 = 100_000;
    let (one, two) = (TaskName::new("one").unwrap(), TaskName::new("two").unwrap());
    let member =
        |task, client, share| canary_member(task, ClientId(client), BasisPoints::new(share).unwrap());
    for share in [1_u16, 100, 500, 5_000, 9_999] {
        let p = f64::from(share) / 10_000.0;
        let deviation = (CLIENTS as f64 * p * (1.0 - p)).sqrt();
        let count = (0..CLIENTS).filter(|client| member(&one, *client, share)).count();
        assert!((count as f64 - CLIENTS as f64 * p).abs() < 3.0 * deviation, "{count} clients at {share}");
    }
    assert!((0..1_000).all(|client| !member(&one, client, 0) && member(&one, client, 10_000)));
    assert!((0..10_000).all(|client| !member(&one, client, 500) || member(&one, client, 501)));
    // Another task has another share of the fleet: about 1 in 20 of 1 in 20.
    let both = (0..CLIENTS).filter(|client| member(&one, *client, 500) && member(&two, *client, 500)).count();
    assert!((200..300).contains(&both), "{both} clients are in both shares");
}

#[test]
fn a_crash_between_files_and_records_leaves_nothing_behind() {
    let mut world = World::new();
    world.publish(0);
    // The batch of version 1 is lost with the process; its file, and no other, is swept at the next start.
    let lost = world.next();
    let (batch, _) = world.prepare(0, &lost).unwrap();
    drop(batch);
    let key = Arc::new(CoordinatorKey::from_bytes(&[7; 32]));
    world.publisher = Publisher::open(world.folder.path(), world.store.clone(), key).unwrap();
    assert_eq!(world.publisher.sweep().unwrap(), Swept { removed: 1, missing: vec![] });
    assert_eq!(world.publisher.sweep().unwrap(), Swept::default());
    assert_eq!(world.versions(), [0, 0, 0]);
    // The round is published again after all.
    world.publish(0);
    assert_eq!(world.versions(), [1, 1, 1]);
    assert_eq!(world.publisher.sweep().unwrap(), Swept::default());
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    let mut world = World::new();
    world.publish(0);
    let trained = world.present(Channel::Stable).file(files::TRAINED).unwrap().clone();
    let path = world.folder.path().join("blobs").join(hex::encode(trained.digest));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let key = Arc::new(CoordinatorKey::from_bytes(&[7; 32]));
    let started = Publisher::open(world.folder.path(), world.store.clone(), key).unwrap();
    let refused = started.open_blob(&trained.digest, 0);
    assert!(matches!(refused, Err(PublicationError::Damaged { .. })), "{refused:?}");
    let missing = vec![(world.task.clone(), 0, files::TRAINED.to_owned())];
    assert_eq!(started.sweep().unwrap(), Swept { removed: 0, missing });
}

#[test]
fn old_versions_are_retired_but_not_what_a_channel_needs() {
    let mut world = World::new();
    for _ in 0..3 {
        world.publish(0);
    }
    for _ in 3..9 {
        world.publish(500);
    }
    // Stable has 2 and goes back to 1; canary has 8 and goes back to 7.
    assert_eq!(world.versions(), [2, 8, 8]);
    assert_eq!(world.retire(100), [0_u64; 0]);
    assert_eq!(world.retire(4), [0, 3, 4]);
    assert_eq!(world.retire(4), [0_u64; 0]);
    let held = world.publisher.hold();
    assert_eq!(world.publisher.sweep().unwrap(), Swept::default(), "a backup copies them");
    drop(held);
    assert_eq!(world.publisher.sweep().unwrap(), Swept { removed: 3, missing: vec![] });
    let listed = world.publisher.list(&world.task, 0, 99).unwrap();
    let retired: Vec<u64> =
        listed.iter().filter(|listed| listed.retired).map(|listed| listed.manifest.version).collect();
    assert_eq!(retired, [0, 3, 4]);
    // The configuration is one file of all versions, and stays.
    let manifest = world.present(Channel::Stable);
    assert!(manifest.files.iter().all(|file| world.publisher.open_blob(&file.digest, 0).is_ok()));
    world.rollback(Channel::Stable).unwrap();
    assert_eq!(world.versions(), [1, 8, 8]);
    let refused = world.rollback(Channel::Stable);
    assert!(matches!(refused, Err(PublicationError::NoSuchVersion { version: 0, .. })), "{refused:?}");
    world.promote().unwrap();
    // Never fewer than the present one and one to go back to: stable has 8 and goes back to 1.
    assert_eq!(world.retire(0), [2, 5, 6]);
    assert_eq!(world.versions(), [8, 8, 8]);
}

#[test]
fn the_versions_before_one_are_known_when_their_files_are_gone() {
    let mut world = World::new();
    let adapters: Vec<Digest> = (0..6).map(|_| world.publish(0).claimed_adapter()).collect();
    let before = |version, most| world.publisher.before(&world.task, version, most).unwrap();
    assert_eq!(before(5, 2), adapters[3..5]);
    assert_eq!(before(1, 7), adapters[..1]);
    assert!(before(0, 7).is_empty() && before(5, 0).is_empty());
    // A version whose batch is not committed yet has those before it all the same.
    assert_eq!(before(6, 2), adapters[4..]);
    let mut batch = Batch::new();
    assert_eq!(world.publisher.retire(&mut batch, &world.task, 2).unwrap(), [0, 1, 2, 3]);
    world.commit(batch);
    assert_eq!(before(5, 3), adapters[2..5]);
}
