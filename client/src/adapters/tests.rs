//! Installation from a coordinator that is played here: manifests that it signs, files that it hands out. Must never need a
//! network, nor a trained model.

#![allow(clippy::unwrap_used)]

use super::*;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use tacit_model::Projection;
use tacit_proto::manifest::Origin;
use tacit_proto::{CoordinatorKey, ManifestError};

const BASE_MODEL: Digest = [3; 32];

struct World {
    home: tempfile::TempDir,
    folder: AdapterFolder,
    model: DecoderConfig,
    key: CoordinatorKey,
    /// What the coordinator hands out.
    files: BTreeMap<Digest, Vec<u8>>,
    versions: Vec<AdapterVersion>,
    serials: BTreeMap<Channel, u64>,
}

impl World {
    /// A coordinator with four versions, and a client that has none.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = AdapterFolder::open(home.path(), &TaskName::new("rust").unwrap()).unwrap();
        let key = CoordinatorKey::from_bytes(&[7; 32]);
        let model = DecoderConfig::new(300, 32, 2, 4, 2, 48);
        let (files, serials) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { home, folder, model, key, files, versions: vec![], serials };
        let dimension = lora().dimension(&world.model);
        for version in 0..4_u8 {
            let values = (0..dimension).map(|place| f32::from(version) * (place as f32 - 9.5)).collect();
            let parent = world.versions.last().map_or(BASE_MODEL, |before| *before.digest());
            world.versions.push(AdapterVersion::new(values, parent).unwrap());
        }
        world
    }

    fn publish(&mut self, name: &str, bytes: Vec<u8>) -> PublishedFile {
        let digest = Sha256::digest(&bytes).into();
        let size = bytes.len() as u64;
        self.files.insert(digest, bytes);
        PublishedFile { name: name.to_owned(), digest, size }
    }

    /// What the coordinator says when a version becomes the present one of a channel.
    fn manifest(&mut self, channel: Channel, version: u64) -> Manifest {
        let adapter = self.versions[version as usize].clone();
        let files = vec![
            self.publish(CONFIG, config("16.0")),
            self.publish(TRAINED, trained(&self.model, adapter.values())),
        ];
        let serial = self.serials.entry(channel).and_modify(|serial| *serial += 1).or_default();
        Manifest {
            task: self.folder.task.clone(),
            channel,
            serial: *serial,
            version,
            adapter: *adapter.digest(),
            parent: *adapter.parent(),
            base_model: BASE_MODEL,
            origin: (version > 0).then_some(Origin {
                plan: [1; 32],
                round: version,
                entry: 2 * version,
                entry_hash: [2; 32],
            }),
            files,
            created: 5,
            coordinator: self.key.public_key(),
        }
    }

    fn sign(&self, manifest: Manifest) -> SignedManifest {
        SignedManifest::sign(manifest, &self.key).unwrap()
    }

    fn say(&mut self, channel: Channel, version: u64) -> SignedManifest {
        let manifest = self.manifest(channel, version);
        self.sign(manifest)
    }

    fn base(&self) -> Base<'_> {
        Base { digest: BASE_MODEL, config: &self.model }
    }

    fn consider(&self, signed: &SignedManifest) -> Result<Wanted, InstallError> {
        self.folder.consider(signed, &self.key.public_key(), &BASE_MODEL)
    }

    fn install(&self, signed: &SignedManifest) -> Result<(), InstallError> {
        self.folder.install(signed, &self.key.public_key(), &self.base())
    }

    fn fetch(&self, signed: &SignedManifest) -> Result<(), InstallError> {
        let Wanted::Files(files) = self.consider(signed)? else { return Ok(()) };
        for file in files {
            let mut download = self.folder.download(&file)?;
            let offset = download.offset() as usize;
            download.push(&self.files[&file.digest][offset..])?;
            download.finish()?;
        }
        Ok(())
    }

    /// Does all that a client does with an offer.
    fn follow(&self, signed: &SignedManifest) -> Result<(), InstallError> {
        self.fetch(signed)?;
        match self.consider(signed)? {
            Wanted::Install => self.install(signed),
            _ => Ok(()),
        }
    }

    fn load(&self, version: u64) -> Result<Vec<f32>, InstallError> {
        let (_, adapter) = self.folder.load(version, &self.key.public_key(), &self.base())?;
        Ok(adapter.flat().to_vec())
    }

    fn current(&self) -> Option<u64> {
        let current = self.folder.record().unwrap().current;
        if let Some(version) = current {
            assert_eq!(self.load(version).unwrap(), self.versions[version as usize].values());
        }
        current
    }
}

fn lora() -> LoraConfig {
    let targets = vec![Projection::Query, Projection::Value];
    LoraConfig { rank: 3, alpha: 16.0, targets, seed: 11 }
}

fn config(alpha: &str) -> Vec<u8> {
    format!(
        r#"{{"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "tacit-base", "r": 3,
        "lora_alpha": {alpha}, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "bias": "none",
        "fan_in_fan_out": false, "inference_mode": true, "tacit_seed": 11}}"#
    )
    .into_bytes()
}

fn trained(model: &DecoderConfig, flat: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = flat.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut start = 0;
    let tensors: BTreeMap<String, TensorView<'_>> = trained_tensors(&lora(), model)
        .into_iter()
        .map(|(name, shape)| {
            let end = start + 4 * shape[0] * shape[1];
            let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes[start..end]).unwrap();
            start = end;
            (name, view)
        })
        .collect();
    assert_eq!(start, bytes.len());
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn a_version_is_installed_as_peft_has_it() {
    let mut world = World::new();
    let first = world.say(Channel::Stable, 1);
    assert!(matches!(world.consider(&first), Ok(Wanted::Files(files)) if files.len() == 2));
    world.follow(&first).unwrap();
    assert_eq!(world.current(), Some(1));
    assert_eq!(world.consider(&first).unwrap(), Wanted::Nothing);
    let folder = world.folder.version_folder(1);
    let adapter = load_adapter(&folder, &world.model).unwrap();
    assert_eq!((adapter.config(), adapter.flat()), (&lora(), world.versions[1].values()));
    let bytes = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for layer in 0..2 {
        for (module, output) in [("q_proj", 32), ("v_proj", 16)] {
            let shape = |factor: &str| {
                let name =
                    format!("base_model.model.model.layers.{layer}.self_attn.{module}.lora_{factor}.weight");
                file.tensor(&name).unwrap().shape().to_vec()
            };
            assert_eq!((shape("A"), shape("B")), (vec![3, 32], vec![output, 3]));
        }
    }
    assert_eq!(file.len(), 8);
    // The next one; what was downloaded is not kept twice.
    let second = world.say(Channel::Stable, 2);
    world.follow(&second).unwrap();
    assert_eq!((world.current(), world.folder.record().unwrap().previous), (Some(2), Some(1)));
    assert_eq!(fs::read_dir(world.folder.folder.join(INCOMING)).unwrap().count(), 0);
    assert_eq!(AdapterFolder::tasks(world.home.path()).unwrap(), [world.folder.task.clone()]);
    world.follow(&world.sign(Manifest { serial: 9, ..second.claimed().clone() })).unwrap();
    assert_eq!((world.current(), world.folder.record().unwrap().previous), (Some(2), Some(1)));
}

#[test]
fn what_was_not_signed_for_this_task_and_model_is_refused() {
    let mut world = World::new();
    let good = world.manifest(Channel::Stable, 1);
    let other = CoordinatorKey::from_bytes(&[8; 32]);
    let theirs = Manifest { coordinator: other.public_key(), ..good.clone() };
    let forged = SignedManifest::sign(theirs, &other).unwrap();
    assert!(matches!(world.follow(&forged), Err(InstallError::Manifest(ManifestError::Coordinator { .. }))));
    let mut bytes = world.sign(good.clone()).to_bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let forged = SignedManifest::from_bytes(&bytes).unwrap();
    assert!(matches!(world.follow(&forged), Err(InstallError::Manifest(ManifestError::Signature { .. }))));
    assert!(matches!(world.install(&forged), Err(InstallError::Manifest(ManifestError::Signature { .. }))));
    let elsewhere = world.sign(Manifest { task: TaskName::new("go").unwrap(), ..good.clone() });
    assert!(matches!(world.follow(&elsewhere), Err(InstallError::Task { .. })));
    let larger = world.sign(Manifest { base_model: [4; 32], ..good.clone() });
    assert!(matches!(world.follow(&larger), Err(InstallError::BaseModel { version: 1, .. })));
    let file = PublishedFile { name: "weights.bin".to_owned(), digest: [1; 32], size: 1 };
    let later = world.sign(Manifest { files: vec![file], ..good });
    assert!(matches!(world.follow(&later), Err(InstallError::NoSuchFile { .. })));
    assert_eq!((world.current(), world.folder.versions().unwrap()), (None, vec![]));
}

#[test]
fn a_coordinator_that_contradicts_itself_is_refused() {
    let mut world = World::new();
    let first = world.say(Channel::Stable, 1);
    let second = world.say(Channel::Stable, 2);
    world.follow(&second).unwrap();
    // An old statement, played again.
    assert!(matches!(world.follow(&first), Err(InstallError::OutOfDate { serial: 0, seen: 1, .. })));
    // Another statement under the same number.
    let twice = world.sign(Manifest { created: 6, ..second.claimed().clone() });
    assert!(matches!(world.follow(&twice), Err(InstallError::TwoStatements { serial: 1, .. })));
    let next = world.manifest(Channel::Stable, 3);
    // A third version that does not follow the second, a second that is another, a first that the second did not follow.
    let wrong = [
        (Manifest { parent: [9; 32], ..next.clone() }, 2),
        (Manifest { version: 2, ..next.clone() }, 2),
        (Manifest { version: 1, ..next.clone() }, 1),
    ];
    for (manifest, version) in wrong {
        let refused = world.follow(&world.sign(manifest));
        let Err(InstallError::Contradiction { version: named, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(named, version);
    }
    assert_eq!(world.current(), Some(2));
    world.follow(&world.sign(next)).unwrap();
    assert_eq!(world.current(), Some(3));
}

#[test]
fn a_coordinator_that_was_restored_is_followed_after_a_restart_and_once_for_each() {
    let mut world = World::new();
    for version in [1, 2] {
        let signed = world.say(Channel::Stable, version);
        world.follow(&signed).unwrap();
    }
    // Restored to version 1; the next one is another version 2 under a number that was used before.
    let lost = world.versions[2].clone();
    let values = lost.values().iter().map(|value| value + 1.0).collect();
    let again = AdapterVersion::new(values, *world.versions[1].digest()).unwrap();
    world.versions[2] = again;
    world.serials.insert(Channel::Stable, 0);
    let next = world.say(Channel::Stable, 2);
    assert!(matches!(world.follow(&next), Err(InstallError::TwoStatements { serial: 1, .. })));
    world.folder.restarted(0).unwrap();
    assert!(matches!(world.follow(&next), Err(InstallError::TwoStatements { serial: 1, .. })));
    world.folder.restarted(3).unwrap();
    // The version that is here under that number is another one: it stays until this one is whole.
    assert!(matches!(world.consider(&next), Ok(Wanted::Files(_))));
    assert!(matches!(world.install(&next), Err(InstallError::Missing { .. })));
    assert_eq!(
        (world.folder.record().unwrap().current, world.load(2).unwrap()),
        (Some(2), lost.values().to_vec())
    );
    world.follow(&next).unwrap();
    assert_eq!(world.current(), Some(2));
    // Under the same restart it is held to what it says now.
    for restart in [3, 2] {
        world.folder.restarted(restart).unwrap();
        let twice = world.sign(Manifest { created: 6, ..next.claimed().clone() });
        assert!(matches!(world.follow(&twice), Err(InstallError::TwoStatements { serial: 1, .. })));
    }
    world.folder.change_coordinator().unwrap();
    let first = world.sign(Manifest { serial: 0, ..next.claimed().clone() });
    world.follow(&first).unwrap();
}

#[test]
fn a_channel_that_goes_back_is_followed() {
    let mut world = World::new();
    for version in [1, 2, 3] {
        let signed = world.say(Channel::Canary, version);
        world.follow(&signed).unwrap();
    }
    // A version that is still here, and then one that was never here.
    let back = world.say(Channel::Canary, 2);
    assert_eq!(world.consider(&back).unwrap(), Wanted::Install);
    world.follow(&back).unwrap();
    assert_eq!(world.current(), Some(2));
    let further = world.say(Channel::Canary, 0);
    world.follow(&further).unwrap();
    assert_eq!(world.current(), Some(0));
    // Another channel counts for itself.
    let stable = world.say(Channel::Stable, 3);
    assert_eq!(stable.claimed().serial, 0);
    world.follow(&stable).unwrap();
    assert_eq!(world.current(), Some(3));
    // A version to train on is put together, not installed.
    let training = world.say(Channel::Training, 1);
    world.follow(&training).unwrap();
    assert_eq!(world.current(), Some(3));
    assert_eq!(world.consider(&training).unwrap(), Wanted::Nothing);
    assert_eq!(world.load(1).unwrap(), world.versions[1].values());
}

#[test]
fn the_owner_goes_back_and_stays_there() {
    let mut world = World::new();
    assert!(matches!(world.folder.rollback(), Err(InstallError::NoEarlier { .. })));
    for version in [1, 2] {
        let signed = world.say(Channel::Stable, version);
        world.follow(&signed).unwrap();
    }
    assert_eq!(world.folder.rollback().unwrap(), 1);
    assert_eq!(world.current(), Some(1));
    assert!(matches!(world.folder.rollback(), Err(InstallError::NoEarlier { .. })));
    let third = world.say(Channel::Stable, 3);
    assert_eq!(world.consider(&third).unwrap(), Wanted::Pinned);
    // Files that came while the owner went back do not undo it.
    world.folder.unpin().unwrap();
    world.fetch(&third).unwrap();
    let mut record = world.folder.record().unwrap();
    record.pinned = true;
    world.folder.write(&record).unwrap();
    world.install(&third).unwrap();
    assert_eq!(world.current(), Some(1));
    world.folder.unpin().unwrap();
    assert_eq!(world.consider(&third).unwrap(), Wanted::Install);
    world.follow(&third).unwrap();
    assert_eq!((world.current(), world.folder.record().unwrap().previous), (Some(3), Some(1)));
}

#[test]
fn files_that_are_not_the_version_are_not_installed() {
    let mut world = World::new();
    let first = world.say(Channel::Stable, 1);
    world.follow(&first).unwrap();
    let values = world.versions[2].values().to_vec();
    let mut infinite = values.clone();
    infinite[7] = f32::INFINITY;
    let mut other = values.clone();
    other[7] += 1.0;
    let whole = trained(&world.model, &values);
    let bad = [
        (config("16.0"), trained(&world.model, &other)),
        (config("16.0"), trained(&world.model, &infinite)),
        (config("16.0"), trained(&DecoderConfig::new(300, 32, 1, 4, 2, 48), &values[..144])),
        (config("16.0"), whole[..whole.len() - 4].to_vec()),
        (config("-16.0"), whole.clone()),
        (b"{}".to_vec(), whole),
    ];
    for (config, trained) in bad {
        let mut manifest = world.manifest(Channel::Stable, 2);
        manifest.files = vec![world.publish(CONFIG, config), world.publish(TRAINED, trained)];
        let refused = world.follow(&world.sign(manifest));
        assert!(matches!(refused, Err(InstallError::Damaged { .. } | InstallError::Model(_))), "{refused:?}");
        assert_eq!((world.current(), world.folder.versions().unwrap()), (Some(1), vec![1]));
    }
    let second = world.say(Channel::Stable, 2);
    world.follow(&second).unwrap();
    assert_eq!(world.current(), Some(2));
}

#[test]
fn a_version_that_is_damaged_on_the_disk_is_named_and_fetched_again() {
    let mut world = World::new();
    let signed = world.say(Channel::Stable, 1);
    for (name, from, to) in [
        (CONFIG, &b"\"lora_alpha\": 16.0"[..], &b"\"lora_alpha\": 17.0"[..]),
        ("adapter_model.safetensors", b"lora_B", b"lora_X"),
        (MANIFEST, b"rust", b"rusd"),
    ] {
        world.follow(&signed).unwrap();
        assert_eq!(world.current(), Some(1));
        let path = world.folder.version_folder(1).join(name);
        let mut bytes = fs::read(&path).unwrap();
        let place = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[place..place + from.len()].copy_from_slice(to);
        fs::write(&path, bytes).unwrap();
        assert!(world.load(1).is_err(), "{name}");
        // Another statement about the same version finds it out as well, and asks for the files.
        let again = world.sign(Manifest { serial: 9, ..signed.claimed().clone() });
        assert!(matches!(world.follow(&again), Err(InstallError::Missing { .. })));
        assert!(matches!(world.consider(&signed), Ok(Wanted::Files(_))));
    }
    // A value of the adapter itself.
    world.follow(&signed).unwrap();
    let path = world.folder.version_folder(1).join("adapter_model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(world.load(1).is_err());
    world.folder.discard(1).unwrap();
    world.follow(&signed).unwrap();
    assert_eq!(world.current(), Some(1));
    fs::write(world.folder.folder.join(RECORD), "{").unwrap();
    assert!(matches!(world.consider(&signed), Err(InstallError::Damaged { .. })));
}

#[test]
fn a_crash_at_any_step_leaves_a_whole_version_or_none() {
    let mut world = World::new();
    let signed = world.say(Channel::Stable, 1);
    world.fetch(&signed).unwrap();
    // Half of a version that was being put together, half of a record, half of a folder that was being removed.
    let staging = world.folder.folder.join(STAGING);
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("adapter_model.safetensors"), b"half").unwrap();
    fs::write(staging.join("of an earlier client"), b"half").unwrap();
    fs::write(world.folder.folder.join("record.partial"), b"{").unwrap();
    fs::create_dir(world.folder.folder.join("1.removed")).unwrap();
    assert_eq!((world.current(), world.folder.versions().unwrap()), (None, vec![]));
    world.follow(&signed).unwrap();
    assert_eq!(world.current(), Some(1));
    let entries = fs::read_dir(world.folder.version_folder(1)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [CONFIG, "adapter_model.safetensors", MANIFEST]);
    // Put together, but not yet the present one.
    let second = world.say(Channel::Stable, 2);
    world.fetch(&second).unwrap();
    let manifest = second.claimed().clone();
    world.folder.assemble(&second, &manifest, &world.base()).unwrap();
    assert_eq!(world.current(), Some(1));
    assert_eq!(world.consider(&second).unwrap(), Wanted::Install);
    world.follow(&second).unwrap();
    assert_eq!(world.current(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_nothing_is_half_installed() {
    let mut world = World::new();
    let first = world.say(Channel::Stable, 1);
    world.follow(&first).unwrap();
    let second = world.say(Channel::Stable, 2);
    world.fetch(&second).unwrap();
    let partial = world.folder.folder.join("record.partial");
    std::os::unix::fs::symlink("/dev/full", &partial).unwrap();
    let refused = world.install(&second);
    let Err(InstallError::Disk { path, source }) = refused else { panic!("{refused:?}") };
    assert_eq!((&path, source.kind()), (&partial, io::ErrorKind::StorageFull));
    assert_eq!(world.current(), Some(1));
    fs::remove_file(partial).unwrap();
    world.follow(&second).unwrap();
    assert_eq!(world.current(), Some(2));
}

#[test]
fn only_what_is_needed_is_kept() {
    let mut world = World::new();
    fs::write(world.folder.folder.join(INCOMING).join("torn.part"), b"half").unwrap();
    for (channel, version, kept) in [
        (Channel::Stable, 0, &[0_u64] as &[_]),
        (Channel::Training, 1, &[0, 1]),
        (Channel::Training, 2, &[0, 2]),
        (Channel::Stable, 1, &[0, 1, 2]),
        (Channel::Stable, 2, &[1, 2]),
        (Channel::Training, 3, &[1, 2, 3]),
        (Channel::Stable, 3, &[2, 3]),
    ] {
        let signed = world.say(channel, version);
        world.follow(&signed).unwrap();
        assert_eq!(world.folder.versions().unwrap(), kept, "{channel} {version}");
        assert_eq!(fs::read_dir(world.folder.folder.join(INCOMING)).unwrap().count(), 0);
    }
}

#[test]
fn a_task_with_a_strange_name_stays_in_its_folder() {
    let home = tempfile::tempdir().unwrap();
    for name in ["..a", "-", "a.b-c_d"] {
        let task = TaskName::new(name).unwrap();
        let folder = AdapterFolder::open(home.path(), &task).unwrap();
        assert_eq!(folder.folder.parent().unwrap(), home.path().join(FOLDER));
        assert!(AdapterFolder::tasks(home.path()).unwrap().contains(&task));
    }
    assert_eq!(fs::read_dir(home.path().join(FOLDER)).unwrap().count(), 3);
}
