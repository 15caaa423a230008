//! What a channel installs: one version of an adapter, with its files and where it comes from, under the coordinator's
//! signature. Must never give a manifest out before the signature was checked.

use crate::canonical::{Fields, Reader};
use crate::plan::{CoordinatorKey, signed_by};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{PublicKey, Signature};
use tacit_aggregation::params::TaskName;

/// First field of a manifest's canonical bytes; names format and version.
const TAG: &str = "tacit/manifest/v1";
/// Longest signed manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 16 << 10;
/// Most files of a version.
pub const MAX_FILES: usize = 16;
/// Longest file of a version, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Longest name of a file, in bytes.
const MAX_FILE_NAME: usize = 64;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// A line of versions: at every moment one version is its present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// What everybody installs.
    Stable,
    /// What a share of the fleet installs first.
    Canary,
    /// What the next update is trained on: always the newest version. Nobody installs it.
    Training,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stable, Self::Canary, Self::Training];

    /// The name: `stable`, `canary` or `training`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
            Self::Training => "training",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Channel {
    type Err = ManifestError;

    fn from_str(name: &str) -> Result<Self, ManifestError> {
        let known = Self::ALL.into_iter().find(|channel| channel.name() == name);
        known.ok_or(ManifestError::Malformed { problem: "there is no such channel" })
    }
}

/// Says that a version is the present one of a channel, and what it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The learning task.
    pub task: TaskName,
    /// The channel.
    pub channel: Channel,
    /// Counts the changes of the channel: a manifest with a lower number is out of date, whatever its version.
    pub serial: u64,
    /// Number of the version within the task, from 0 for the adapter that changes nothing.
    pub version: u64,
    /// [`AdapterVersion::digest`](crate::AdapterVersion::digest) of the version.
    pub adapter: Digest,
    /// The same of the version before; of version 0, the base model's digest.
    pub parent: Digest,
    /// SHA-256 of the base model's files.
    pub base_model: Digest,
    /// The round that made it; none for version 0.
    pub origin: Option<Origin>,
    /// Its files, in the order of their names.
    pub files: Vec<PublishedFile>,
    /// When the version was made, in milliseconds since 1970.
    pub created: u64,
    /// The coordinator's public key, under which the manifest is signed.
    pub coordinator: PublicKey,
}

/// The round that a version comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Digest of the round's plan.
    pub plan: Digest,
    /// Number of the round within the task.
    pub round: u64,
    /// Index of the ledger's entry that states what the round cost.
    pub entry: u64,
    /// Hash of that entry.
    pub entry_hash: Digest,
}

/// A file of a version; it is downloaded by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// A plain name: a letter, then letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A manifest that cannot be used, or is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Bytes that are no manifest.
    #[error("these bytes are no signed manifest: {problem}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
    },
    /// A value that no manifest can have.
    #[error("the manifest of version {version} of task {task} is refused: {problem}")]
    Value {
        /// The task that it names.
        task: TaskName,
        /// The version that it names.
        version: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// Signed by another coordinator than the trusted one.
    #[error(
        "the manifest of version {version} is by coordinator {named}, not by {trusted}, which this client trusts"
    )]
    Coordinator {
        /// The version that it names.
        version: u64,
        /// The coordinator that it names.
        named: PublicKey,
        /// The coordinator that is trusted.
        trusted: PublicKey,
    },
    /// A signature that does not verify.
    #[error(
        "the signature of coordinator {coordinator} on the manifest of version {version} does not verify"
    )]
    Signature {
        /// The version that it names.
        version: u64,
        /// The coordinator that it names.
        coordinator: PublicKey,
    },
}

impl Manifest {
    /// The bytes that are signed and hashed: the tag, then every field in the order of its declaration, nested ones in
    /// place, each prefixed with its length in four bytes, big-endian. Integers take eight bytes, big-endian; lists and the
    /// origin are preceded by their count; the channel is its name.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let fields = Fields::new(TAG)
            .text(self.task.as_str())
            .text(self.channel.name())
            .integer(self.serial)
            .integer(self.version)
            .bytes(&self.adapter)
            .bytes(&self.parent)
            .bytes(&self.base_model)
            .integer(u64::from(self.origin.is_some()));
        let fields = self.origin.iter().fold(fields, |fields, origin| {
            let fields = fields.bytes(&origin.plan).integer(origin.round);
            fields.integer(origin.entry).bytes(&origin.entry_hash)
        });
        let fields = fields.integer(self.files.len() as u64);
        let fields = self
            .files
            .iter()
            .fold(fields, |fields, file| fields.text(&file.name).bytes(&file.digest).integer(file.size));
        fields.integer(self.created).bytes(&self.coordinator.0).into_bytes()
    }

    /// The file of a name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&PublishedFile> {
        self.files.iter().find(|file| file.name == name)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes, TAG)?;
        let task = TaskName::new(reader.text()?).ok()?;
        let channel = reader.text()?.parse().ok()?;
        let (serial, version) = (reader.integer()?, reader.integer()?);
        let (adapter, parent, base_model) = (reader.array()?, reader.array()?, reader.array()?);
        let origin = match reader.integer()? {
            0 => None,
            _ => Some(Origin {
                plan: reader.array()?,
                round: reader.integer()?,
                entry: reader.integer()?,
                entry_hash: reader.array()?,
            }),
        };
        let count = usize::try_from(reader.integer()?).ok().filter(|count| *count <= MAX_FILES)?;
        let files = (0..count)
            .map(|_| {
                let name = reader.text()?.to_owned();
                Some(PublishedFile { name, digest: reader.array()?, size: reader.integer()? })
            })
            .collect::<Option<_>>()?;
        let (created, coordinator) = (reader.integer()?, PublicKey(reader.array()?));
        let manifest = Self {
            task,
            channel,
            serial,
            version,
            adapter,
            parent,
            base_model,
            origin,
            files,
            created,
            coordinator,
        };
        reader.is_at_end().then_some(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let value =
            |problem| ManifestError::Value { task: self.task.clone(), version: self.version, problem };
        if (self.version == 0) != self.origin.is_none() {
            return Err(value("every version but the first comes from a round"));
        }
        if self.version == 0 && self.parent != self.base_model {
            return Err(value("the first version follows the base model"));
        }
        if !(1..=MAX_FILES).contains(&self.files.len()) {
            return Err(value("a version has 1 to 16 files"));
        }
        let plain = |name: &str| {
            name.len() <= MAX_FILE_NAME
                && name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        };
        if !self.files.iter().all(|file| plain(&file.name)) {
            return Err(value("a file has a name that is not plain: a letter, then a-z, 0-9, '.', '_', '-'"));
        }
        if !self.files.is_sorted_by(|left, right| left.name < right.name) {
            return Err(value("its files are not in the order of their names"));
        }
        if !self.files.iter().all(|file| (1..=MAX_FILE_BYTES).contains(&file.size)) {
            return Err(value("a file is empty or longer than 1 GiB"));
        }
        Ok(())
    }
}

/// A manifest and a signature that may or may not be the coordinator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Manifest,
    signature: Signature,
}

impl SignedManifest {
    /// Signs a manifest, after a check of its values.
    ///
    /// # Errors
    /// [`ManifestError`] when it names another coordinator or has a value that no manifest can have.
    pub fn sign(manifest: Manifest, key: &CoordinatorKey) -> Result<Self, ManifestError> {
        by(&manifest, &key.public_key())?;
        manifest.check()?;
        let signature = key.sign_bytes(&manifest.canonical_bytes());
        Ok(Self { manifest, signature })
    }

    /// The manifest, if the trusted coordinator signed it and each of its values is one that a manifest can have.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn verify(&self, trusted: &PublicKey) -> Result<&Manifest, ManifestError> {
        by(&self.manifest, trusted)?;
        if !signed_by(trusted, &self.manifest.canonical_bytes(), &self.signature) {
            return Err(ManifestError::Signature { version: self.manifest.version, coordinator: *trusted });
        }
        self.manifest.check()?;
        Ok(&self.manifest)
    }

    /// What it claims: for showing, not for trusting.
    #[must_use]
    pub fn claimed(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the manifest that is claimed: enough to tell two apart, not to trust one.
    #[must_use]
    pub fn claimed_digest(&self) -> Digest {
        Sha256::digest(self.manifest.canonical_bytes()).into()
    }

    /// Digest of the adapter version that is claimed.
    #[must_use]
    pub fn claimed_adapter(&self) -> Digest {
        self.manifest.adapter
    }

    /// The form in which it is stored and sent: the manifest's canonical bytes, then the signature's 64.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.manifest.canonical_bytes().as_slice(), &self.signature.0].concat()
    }

    /// Reads that form; whether the signature holds is for [`Self::verify`].
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] for anything but the one form of a manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let malformed = |problem| ManifestError::Malformed { problem };
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(malformed("they are more than 16 KiB"));
        }
        let (body, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(malformed("they end before the signature"))?;
        let manifest =
            Manifest::read(body).ok_or(malformed("a field is missing, or is not what it must be"))?;
        if manifest.canonical_bytes() != body {
            return Err(malformed("they are not in the canonical form"));
        }
        Ok(Self { manifest, signature: Signature(*signature) })
    }
}

fn by(manifest: &Manifest, trusted: &PublicKey) -> Result<(), ManifestError> {
    if manifest.coordinator == *trusted {
        return Ok(());
    }
    let (version, named) = (manifest.version, manifest.coordinator);
    Err(ManifestError::Coordinator { version, named, trusted: *trusted })
}

#[cfg(test)]
mod tests {
    use super::{Channel, MAX_FILES, Manifest, ManifestError, Origin, PublishedFile, SignedManifest};
    use crate::plan::CoordinatorKey;
    use tacit_aggregation::params::TaskName;

    fn key() -> CoordinatorKey {
        CoordinatorKey::from_bytes(&[7; 32])
    }

    fn file(name: &str) -> PublishedFile {
        PublishedFile { name: name.to_owned(), digest: [8; 32], size: 9 }
    }

    fn manifest() -> Manifest {
        Manifest {
            task: TaskName::new("rust-completion").expect("a plain name"),
            channel: Channel::Canary,
            serial: 5,
            version: 4,
            adapter: [1; 32],
            parent: [2; 32],
            base_model: [3; 32],
            origin: Some(Origin { plan: [4; 32], round: 6, entry: 11, entry_hash: [5; 32] }),
            files: vec![file("adapter_config.json"), file("trained.safetensors")],
            created: 12,
            coordinator: key().public_key(),
        }
    }

    fn changed(change: impl FnOnce(&mut Manifest)) -> Manifest {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest
    }

    fn first() -> Manifest {
        changed(|m| {
            m.version = 0;
            m.origin = None;
            m.parent = m.base_model;
        })
    }

    #[test]
    fn its_stored_form_comes_back() {
        for manifest in [manifest(), first(), changed(|m| m.channel = Channel::Training)] {
            let signed = SignedManifest::sign(manifest.clone(), &key()).expect("a good manifest");
            let again = SignedManifest::from_bytes(&signed.to_bytes()).expect("its own form");
            assert_eq!(again, signed);
            assert_eq!(again.verify(&key().public_key()), Ok(&manifest));
        }
    }

    #[test]
    fn every_field_is_signed() {
        let signature = SignedManifest::sign(manifest(), &key()).expect("a good manifest").signature;
        let mut digests = std::collections::BTreeSet::new();
        let changes: [fn(&mut Manifest); 17] = [
            |m| m.task = TaskName::new("other").expect("a plain name"),
            |m| m.channel = Channel::Stable,
            |m| m.serial += 1,
            |m| m.version += 1,
            |m| m.adapter[0] ^= 1,
            |m| m.parent[31] ^= 1,
            |m| m.base_model[0] ^= 1,
            |m| m.origin = None,
            |m| m.origin.as_mut().expect("one").plan[0] ^= 1,
            |m| m.origin.as_mut().expect("one").round += 1,
            |m| m.origin.as_mut().expect("one").entry += 1,
            |m| m.origin.as_mut().expect("one").entry_hash[0] ^= 1,
            |m| m.files[0].name.push('x'),
            |m| m.files[1].digest[0] ^= 1,
            |m| m.files[1].size += 1,
            |m| m.files.truncate(1),
            |m| m.created += 1,
        ];
        for change in changes {
            let forged = SignedManifest { manifest: changed(change), signature };
            let refused = forged.verify(&key().public_key());
            assert!(matches!(refused, Err(ManifestError::Signature { .. })), "{refused:?}");
            // What is forged has a form all the same, another one each.
            assert_eq!(SignedManifest::from_bytes(&forged.to_bytes()), Ok(forged.clone()));
            assert!(digests.insert(forged.claimed_digest()));
        }
    }

    #[test]
    fn only_the_trusted_coordinators_manifest_is_given_out() {
        let other = CoordinatorKey::from_bytes(&[9; 32]);
        let signed = SignedManifest::sign(manifest(), &key()).expect("a good manifest");
        let refused = signed.verify(&other.public_key());
        assert!(matches!(refused, Err(ManifestError::Coordinator { version: 4, .. })));
        assert!(matches!(SignedManifest::sign(manifest(), &other), Err(ManifestError::Coordinator { .. })));
        // Another's signature under the trusted one's name.
        let theirs = SignedManifest::sign(changed(|m| m.coordinator = other.public_key()), &other);
        let forged = SignedManifest { manifest: manifest(), signature: theirs.expect("its own").signature };
        let refused = forged.verify(&key().public_key());
        assert!(matches!(refused, Err(ManifestError::Signature { version: 4, .. })));
    }

    #[test]
    fn what_no_manifest_can_say_is_refused_though_signed() {
        let bad = [
            changed(|m| m.version = 0),
            changed(|m| m.origin = None),
            Manifest { parent: [9; 32], ..first() },
            changed(|m| m.files.clear()),
            changed(|m| m.files = (b'a'..=b'z').map(|c| file(&char::from(c).to_string())).collect()),
            changed(|m| m.files.reverse()),
            changed(|m| m.files[1] = m.files[0].clone()),
            changed(|m| m.files[0].size = 0),
            changed(|m| m.files[0].size = (1 << 30) + 1),
        ];
        let names = ["", ".hidden", "../up", "a/b", "a\\b", "A", "ab c", "nul\0", "1", &"a".repeat(65)]
            .map(|name| changed(|m| m.files = vec![file(name)]));
        for manifest in bad.into_iter().chain(names) {
            let refused = SignedManifest::sign(manifest.clone(), &key());
            assert!(matches!(refused, Err(ManifestError::Value { .. })), "{manifest:?}");
            let signature = key().sign_bytes(&manifest.canonical_bytes());
            let signed = SignedManifest { manifest, signature };
            let refused = signed.verify(&key().public_key());
            assert!(matches!(refused, Err(ManifestError::Value { .. })), "{refused:?}");
        }
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        let good = SignedManifest::sign(manifest(), &key()).expect("a good manifest").to_bytes();
        for length in 0..good.len() {
            assert!(SignedManifest::from_bytes(&good[..length]).is_err(), "{length} bytes");
        }
        assert!(SignedManifest::from_bytes(&[&good[..], &[0]].concat()).is_err());
        assert!(SignedManifest::from_bytes(&vec![0; super::MAX_MANIFEST_BYTES + 1]).is_err());
        // The mark of an origin has two values, not any.
        let place = good.windows(8).position(|bytes| bytes == 1_u64.to_be_bytes()).expect("the mark");
        let mut bad = good.clone();
        bad[place + 7] = 2;
        assert!(SignedManifest::from_bytes(&bad).is_err());
        let mut many = manifest();
        many.files = vec![file("a"); MAX_FILES + 1];
        let bytes = [many.canonical_bytes(), vec![0; 64]].concat();
        assert!(SignedManifest::from_bytes(&bytes).is_err());
    }
}
