//! An adapter's way from the coordinator's flat vector to a folder that PEFT reads, with the files that one side writes and the
//! other side reads. Must never hand anything over but manifests and parts of files.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests stop where an assertion would")]

use std::path::Path;
use std::sync::Arc;

use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::TaskName;
use tacit_client::adapters::{self, AdapterFolder, Base, InstallError, Wanted};
use tacit_coordinator::AdapterVersion;
use tacit_coordinator::publication::{Publication, Publisher};
use tacit_coordinator::store::{Batch, RocksStore, Store};
use tacit_model::storage::load_adapter;
use tacit_model::{BaseModel, Compute, LoraConfig, Projection};
use tacit_privacy::BasisPoints;
use tacit_proto::fleet::{Download, DownloadPart};
use tacit_proto::manifest::{Origin, PublishedFile};
use tacit_proto::{CoordinatorKey, SignedManifest, Wire};

fn lora() -> LoraConfig {
    let targets = vec![Projection::Query, Projection::Value, Projection::Down];
    LoraConfig { rank: 4, alpha: 8.0, targets, seed: 23 }
}

/// Streams a file from one side to the other, and breaks off after some bytes.
fn stream(
    publisher: &Publisher,
    folder: &AdapterFolder,
    file: &PublishedFile,
    most: u64,
) -> Result<(), InstallError> {
    let mut download = folder.download(file)?;
    let request = Download { digest: file.digest, offset: download.offset() };
    let request = Download::from_wire(&request.to_wire()).unwrap();
    let mut blob = publisher.open_blob(&request.digest, request.offset).unwrap();
    while let Some(mut bytes) = blob.next_part().unwrap() {
        bytes.truncate((most - download.offset().min(most)) as usize);
        let part = DownloadPart::from_wire(&DownloadPart { bytes }.to_wire()).unwrap();
        download.push(&part.bytes)?;
    }
    download.finish()
}

#[test]
fn what_is_published_is_what_is_installed() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tacit-base");
    let model = BaseModel::load(&model, &Compute::Cpu.open().unwrap()).unwrap();
    let base = Base { digest: model.digest(), config: model.decoder().config() };
    let (server, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

    // The client's software describes the adapter; the coordinator never sees a model.
    let printed = serde_json::to_string(&adapters::layout(&model, lora()).unwrap()).unwrap();
    let layout: tacit_proto::adapter::AdapterLayout = serde_json::from_str(&printed).unwrap();
    layout.check(&model.digest(), &layout.adapter).unwrap();
    assert_eq!(layout.dimension(), lora().dimension(base.config) as u64);

    let store = Arc::new(RocksStore::open(&server.path().join("store")).unwrap());
    let epoch = store.lease().unwrap();
    let key = Arc::new(CoordinatorKey::from_bytes(&[7; 32]));
    let trusted = key.public_key();
    let publisher = Publisher::open(server.path(), store.clone(), key).unwrap();
    let task = TaskName::new("rust-completion").unwrap();
    let publish = |adapter: &AdapterVersion, origin: Option<Origin>| {
        let mut batch = Batch::new();
        let canary = BasisPoints::ZERO;
        let publication = Publication { task: &task, layout: &layout, adapter, origin, canary };
        publisher.publish(&mut batch, &publication, 1).unwrap();
        batch.commit(&*store, epoch).unwrap();
        let signed = publisher.installs(&task, ClientId(3), canary).unwrap();
        SignedManifest::from_bytes(&signed.to_bytes()).unwrap()
    };
    let initial = layout.initial().unwrap();
    let first = publish(&initial, None);
    let values = (0..initial.values().len()).map(|place| (place as f32).sin()).collect();
    let next = AdapterVersion::new(values, *initial.digest()).unwrap();
    let origin = Origin { plan: [1; 32], round: 1, entry: 1, entry_hash: [2; 32] };
    let second = publish(&next, Some(origin));

    let folder = AdapterFolder::open(home.path(), &task).unwrap();
    for (signed, adapter) in [(&first, &initial), (&second, &next)] {
        let Wanted::Files(files) = folder.consider(signed, &trusted, &base.digest).unwrap() else {
            panic!("nothing is installed yet")
        };
        for file in &files {
            let torn = stream(&publisher, &folder, file, file.size / 2);
            assert!(
                matches!(torn, Err(InstallError::Incomplete { received, .. }) if received == file.size / 2)
            );
            stream(&publisher, &folder, file, file.size).unwrap();
        }
        folder.install(signed, &trusted, &base).unwrap();
        let version = folder.record().unwrap().current.unwrap();
        let (manifest, installed) = folder.load(version, &trusted, &base).unwrap();
        assert_eq!(manifest.adapter, *adapter.digest());
        let as_peft_has_it = load_adapter(&folder.version_folder(version), base.config).unwrap();
        assert_eq!((as_peft_has_it.flat(), as_peft_has_it.config()), (adapter.values(), &lora()));
        assert_eq!(installed, as_peft_has_it);
    }
    assert_eq!(folder.rollback().unwrap(), 0);
}
