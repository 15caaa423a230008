//! The folder in which an organisation's identity root lives, on a machine that is not the server's.
//! Must never write the root's key anywhere else, nor forget whom it admitted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use tacit_aggregation::identity::{
    ClientId, IdentityRoot, PublicKey, RevocationError, RevocationList, Signature,
};
use tacit_proto::Wire as _;

use super::x509;

/// The root's secret key: 64 hexadecimal digits.
const KEY: &str = "root.key";
/// One JSON object a line: who was admitted, when, until when.
const ISSUED: &str = "issued.jsonl";
/// The newest list of revoked clients.
const REVOKED: &str = "revoked.json";
/// First field of what the root signs to name its coordinator.
const COORDINATOR: &[u8] = b"tacit/identity/coordinator/v1";

/// A request to become a client, as the coordinator exports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// The request's number at the coordinator, in hexadecimal.
    #[serde(with = "hex::serde")]
    pub ticket: [u8; 32],
    /// The Ed25519 key that the client signs with.
    #[serde(with = "hex::serde")]
    pub identity_key: [u8; 32],
    /// The Ed25519 key that the client opens connections with.
    #[serde(with = "hex::serde")]
    pub transport_key: [u8; 32],
}

/// What the root made for a client; it goes back to the coordinator, and from there to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// The request.
    #[serde(flatten)]
    pub admission: Admission,
    /// The number that was drawn for the client.
    pub client: ClientId,
    /// Last second of both certificates, Unix time.
    pub not_after: u64,
    /// When it was issued, Unix time in seconds.
    pub issued_at: u64,
    /// The wire form of the certificate that others in a cohort check.
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
    /// The X.509 certificate for connections, DER.
    #[serde(with = "hex::serde")]
    pub transport_certificate: Vec<u8>,
}

/// The newest list of revoked clients, for the coordinator and every client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Number of the list.
    pub number: u64,
    /// The clients.
    pub clients: Vec<ClientId>,
    /// The root's signature, in hexadecimal.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

impl From<RevocationList> for Revocations {
    fn from(list: RevocationList) -> Self {
        Self { number: list.number, clients: list.clients, signature: list.signature.0 }
    }
}

impl From<Revocations> for RevocationList {
    fn from(form: Revocations) -> Self {
        Self { number: form.number, clients: form.clients, signature: Signature(form.signature) }
    }
}

/// Why the identity root's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OfficeError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// There is a root already.
    #[error(
        "{path} holds an identity root already: a second one would lock every client out; choose another folder"
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what this program wrote.
    #[error("{path}, line {line}, is not what this program wrote: {problem}; restore it from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A key that was certified before, or one key for two purposes.
    #[error("{reason}: have the machine draw new keys and ask again")]
    Key {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody with this number.
    #[error("client {client} was never admitted by this root")]
    Unknown {
        /// The number.
        client: ClientId,
    },
    /// The list of revoked clients is not this root's.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// A certificate cannot be encoded.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The identity root at work.
#[derive(Debug)]
pub struct Office {
    folder: PathBuf,
    root: IdentityRoot,
    issued: Vec<Issued>,
    revoked: RevocationList,
}

impl Office {
    /// Draws a new root and keeps it in a folder, whose files nobody but their owner may read.
    ///
    /// # Errors
    /// [`OfficeError::Exists`] where there is a root, [`OfficeError::File`].
    pub fn init<R: CryptoRng>(folder: &Path, rng: &mut R) -> Result<Self, OfficeError> {
        fs::create_dir_all(folder).map_err(file(folder))?;
        let root = IdentityRoot::generate(rng);
        let path = folder.join(KEY);
        match private(OpenOptions::new().create_new(true).write(true)).open(&path) {
            Ok(mut key) => {
                let text = zeroize::Zeroizing::new(hex::encode(root.to_bytes().as_slice()));
                writeln!(key, "{}", *text).and_then(|()| key.sync_all()).map_err(file(&path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(OfficeError::Exists { path: folder.to_owned() });
            }
            Err(error) => return Err(file(&path)(error)),
        }
        let office =
            Self { folder: folder.to_owned(), revoked: root.revoke(0, vec![]), root, issued: vec![] };
        office.write_revocations()?;
        Ok(office)
    }

    /// Opens a root's folder.
    ///
    /// # Errors
    /// [`OfficeError::File`], [`OfficeError::Damaged`], [`OfficeError::Revocations`].
    pub fn open(folder: &Path) -> Result<Self, OfficeError> {
        let path = folder.join(KEY);
        let text = zeroize::Zeroizing::new(fs::read_to_string(&path).map_err(file(&path))?);
        let mut key = zeroize::Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_end(), key.as_mut_slice())
            .map_err(|error| damaged(&path, 1, &error))?;
        let root = IdentityRoot::from_bytes(&key);

        let path = folder.join(REVOKED);
        let text = fs::read_to_string(&path).map_err(file(&path))?;
        let revoked: Revocations = serde_json::from_str(&text).map_err(|error| damaged(&path, 1, &error))?;
        let revoked = RevocationList::from(revoked);
        revoked.verify(&root.public_key(), None)?;

        let path = folder.join(ISSUED);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(file(&path))?,
        };
        let issued = text
            .lines()
            .enumerate()
            .map(|(line, text)| serde_json::from_str(text).map_err(|error| damaged(&path, line + 1, &error)))
            .collect::<Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), root, issued, revoked })
    }

    /// The root's public key, which every client and the coordinator are told.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.root.public_key()
    }

    /// The root's certificate, DER, which the coordinator checks connections with.
    ///
    /// # Errors
    /// [`OfficeError::Certificate`].
    pub fn certificate(&self) -> Result<Vec<u8>, OfficeError> {
        Ok(x509::root_certificate(&self.root)?)
    }

    /// The root's word that a key is its coordinator's.
    #[must_use]
    pub fn appoint(&self, coordinator: &PublicKey) -> Signature {
        self.root.sign(&appointment(coordinator))
    }

    /// Everybody who was admitted, in order.
    #[must_use]
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// The list of revoked clients.
    #[must_use]
    pub fn revoked(&self) -> &RevocationList {
        &self.revoked
    }

    /// Admits a client under a fresh number. A request that was answered before gets the same answer.
    ///
    /// # Errors
    /// [`OfficeError::Key`] for a key that another request has, [`OfficeError::File`], [`OfficeError::Certificate`].
    pub fn admit<R: CryptoRng>(
        &mut self,
        admission: &Admission,
        not_after: u64,
        now: u64,
        rng: &mut R,
    ) -> Result<Issued, OfficeError> {
        if let Some(before) = self.issued.iter().find(|issued| issued.admission == *admission) {
            return Ok(before.clone());
        }
        let keys = [admission.identity_key, admission.transport_key];
        if keys[0] == keys[1] {
            return Err(OfficeError::Key { reason: "the request has one key for two purposes" });
        }
        let taken =
            |known: &Admission| keys.contains(&known.identity_key) || keys.contains(&known.transport_key);
        if self.issued.iter().any(|issued| taken(&issued.admission)) {
            return Err(OfficeError::Key { reason: "a key of the request is another client's" });
        }
        let client = loop {
            let client = ClientId::random(rng);
            if self.issued.iter().all(|issued| issued.client != client) {
                break client;
            }
        };
        let certificate = self.root.certify(client, PublicKey(admission.identity_key), not_after);
        let transport_certificate =
            x509::client_certificate(&self.root, client, admission.transport_key, not_after)?;
        let issued = Issued {
            admission: admission.clone(),
            client,
            not_after,
            issued_at: now,
            certificate: certificate.to_wire(),
            transport_certificate,
        };
        let path = self.folder.join(ISSUED);
        let mut log =
            private(OpenOptions::new().create(true).append(true)).open(&path).map_err(file(&path))?;
        let line = serde_json::to_string(&issued).map_err(|error| damaged(&path, 0, &error))?;
        writeln!(log, "{line}").and_then(|()| log.sync_all()).map_err(file(&path))?;
        self.issued.push(issued.clone());
        Ok(issued)
    }

    /// Shuts a client out, for good.
    ///
    /// # Errors
    /// [`OfficeError::Unknown`], [`OfficeError::File`].
    pub fn revoke(&mut self, client: ClientId) -> Result<&RevocationList, OfficeError> {
        if self.issued.iter().all(|issued| issued.client != client) {
            return Err(OfficeError::Unknown { client });
        }
        if !self.revoked.revokes(client) {
            let clients = self.revoked.clients.iter().copied().chain([client]).collect();
            self.revoked = self.root.revoke(self.revoked.number + 1, clients);
            self.write_revocations()?;
        }
        Ok(&self.revoked)
    }

    fn write_revocations(&self) -> Result<(), OfficeError> {
        let path = self.folder.join(REVOKED);
        let text = serde_json::to_string_pretty(&Revocations::from(self.revoked.clone()))
            .map_err(|error| damaged(&path, 0, &error))?;
        let partial = self.folder.join(format!("{REVOKED}.partial"));
        File::create(&partial)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(file(&path))
    }
}

/// What the root signs to name its coordinator.
#[must_use]
pub fn appointment(coordinator: &PublicKey) -> Vec<u8> {
    [COORDINATOR, &coordinator.0].concat()
}

fn file(path: &Path) -> impl Fn(io::Error) -> OfficeError + '_ {
    |source| OfficeError::File { path: path.to_owned(), source }
}

fn damaged(path: &Path, line: usize, problem: &impl ToString) -> OfficeError {
    OfficeError::Damaged { path: path.to_owned(), line, problem: problem.to_string() }
}

/// Files that nobody but their owner may read.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;
    use tacit_aggregation::identity::Certificate;

    fn admission(number: u8) -> Admission {
        let key = |purpose| {
            let mut rng = ChaCha20Rng::seed_from_u64(u64::from(number) * 2 + purpose);
            IdentityRoot::generate(&mut rng).public_key().0
        };
        Admission { ticket: [number; 32], identity_key: key(0), transport_key: key(1) }
    }

    #[test]
    fn a_root_admits_and_revokes_and_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root");
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut office = Office::init(&path, &mut rng).unwrap();
        assert!(matches!(Office::init(&path, &mut rng), Err(OfficeError::Exists { .. })));
        let first = office.admit(&admission(1), 2_000, 1_000, &mut rng).unwrap();
        let second = office.admit(&admission(2), 2_000, 1_000, &mut rng).unwrap();
        assert_ne!(first.client, second.client);
        assert_eq!(office.admit(&admission(1), 9_999, 1_500, &mut rng).unwrap(), first, "a repeat");
        let certificate = Certificate::from_wire(&first.certificate).unwrap();
        assert_eq!(certificate.verify(&office.public_key(), 2_000), Ok(()));
        assert_eq!((certificate.client, certificate.public_key.0), (first.client, admission(1).identity_key));
        assert!(office.revoke(second.client).unwrap().revokes(second.client));
        assert!(matches!(office.revoke(ClientId(3)), Err(OfficeError::Unknown { .. })));

        let again = Office::open(&path).unwrap();
        assert_eq!(again.public_key(), office.public_key());
        assert_eq!(again.issued(), [first, second]);
        assert_eq!(again.revoked(), office.revoked());
        assert_eq!(again.certificate().unwrap(), office.certificate().unwrap());
        #[cfg(unix)]
        for name in [KEY, ISSUED] {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o77, 0, "{name}");
        }
    }

    #[test]
    fn no_key_has_two_owners_or_two_purposes() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut office = Office::init(folder.path(), &mut rng).unwrap();
        office.admit(&admission(1), 2_000, 1_000, &mut rng).unwrap();
        let taken = [
            Admission { identity_key: admission(1).identity_key, ..admission(2) },
            Admission { identity_key: admission(1).transport_key, ..admission(2) },
            Admission { transport_key: admission(1).identity_key, ..admission(2) },
            Admission { transport_key: admission(2).identity_key, ..admission(2) },
        ];
        for taken in taken {
            assert!(matches!(office.admit(&taken, 2_000, 1_000, &mut rng), Err(OfficeError::Key { .. })));
        }
        assert_eq!(office.issued().len(), 1);
    }

    #[test]
    fn a_damaged_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut office = Office::init(folder.path(), &mut rng).unwrap();
        let issued = office.admit(&admission(1), 2_000, 1_000, &mut rng).unwrap();
        office.revoke(issued.client).unwrap();
        for (name, place) in [(KEY, 3), (ISSUED, 0), (REVOKED, 20)] {
            let path = folder.path().join(name);
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[place] = b'z';
            fs::write(&path, bad).unwrap();
            assert!(Office::open(folder.path()).is_err(), "{name}");
            fs::write(&path, good).unwrap();
        }
        assert!(Office::open(folder.path()).is_ok());
    }
}
