//! The identity root at work, in a folder on a machine that is not the server's.
//! Must never write the root's key anywhere else, forget whom it admitted, nor hand out what is not on the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rand_core::CryptoRng;
use tacit_aggregation::identity::{ClientId, IdentityRoot, PublicKey, RevocationError, RevocationList};
use tacit_privacy::ledger::head::HeadError;
use tacit_privacy::ledger::restart::Restart;
use tacit_proto::Wire as _;
use tacit_proto::enrolment::appointment;
use zeroize::Zeroizing;

use super::folder::{Folder, FolderError};
use super::forms::{Admission, Appointment, Issued, Revocations};
use super::restarts::{RestartForm, RestoredHead};
use super::x509;

mod roster;

pub use roster::EpochRequest;

/// The root's secret key: 64 hexadecimal digits.
const KEY: &str = "root.key";
/// One JSON object a line: who was admitted or renewed, when, until when. The last line of a client counts.
const ISSUED: &str = "issued.jsonl";
/// The newest list of revoked clients.
const REVOKED: &str = "revoked.json";
/// One JSON object a line: every restart that was signed. The last line has the highest number.
const RESTARTS: &str = "restarts.jsonl";

/// Why the identity root does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum OfficeError {
    /// A file cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is a root already.
    #[error(
        "{path} holds an identity root already, or what is left of one: a second one would lock every client out; choose another folder"
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is no root.
    #[error(
        "{path} holds no identity root: make one with `tacit-coordinator identity init`, or name the folder with --folder"
    )]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A key that was certified before, one key for two purposes, or no key.
    #[error("request {ticket}: {reason}; have the machine draw new keys and ask again")]
    Key {
        /// The request, in hexadecimal.
        ticket: String,
        /// What is wrong with its keys.
        reason: &'static str,
    },
    /// Not an Ed25519 public key.
    #[error("{key} is no Ed25519 public key: copy the one that the coordinator prints")]
    Coordinator {
        /// What was given.
        key: String,
    },
    /// Nobody with this number.
    #[error(
        "client {client} was never admitted by this root: `tacit-coordinator identity list` shows who was"
    )]
    Unknown {
        /// The number.
        client: ClientId,
    },
    /// Shut out for good.
    #[error("client {client} is revoked, for good: have its machine draw new keys and enrol again")]
    Revoked {
        /// The number.
        client: ClientId,
    },
    /// A time that has passed, or that a certificate cannot hold.
    #[error(
        "certificates and epochs cannot end at second {not_after}: it has passed, or is beyond the year 9999"
    )]
    Time {
        /// The last second.
        not_after: u64,
    },
    /// A renewal that is none.
    #[error("client {client}'s certificates end at {not_after} already: give more days")]
    NoLater {
        /// The client.
        client: ClientId,
        /// Last second of its certificates.
        not_after: u64,
    },
    /// The epoch has a roster.
    #[error("the roster of epoch {epoch} was signed before: hand out {path}, or sign the next epoch")]
    RosterExists {
        /// The epoch.
        epoch: u64,
        /// The file.
        path: PathBuf,
    },
    /// The epochs are numbered in the order of time.
    #[error("epoch {epoch} cannot follow epoch {last}, which has a roster: number it {}", last.saturating_add(1))]
    Epoch {
        /// The number that was wanted.
        epoch: u64,
        /// The last epoch with a roster.
        last: u64,
    },
    /// The head is not the coordinator's that it names.
    #[error("{0}; export the head again with `tacit-coordinator ledger head`")]
    Head(#[from] HeadError),
    /// The list of revoked clients is not this root's.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// A certificate cannot be encoded.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The identity root at work. While it lives, no other process can use its folder.
#[derive(Debug)]
pub struct Office {
    folder: Folder,
    root: IdentityRoot,
    /// The newest of each client.
    issued: BTreeMap<ClientId, Issued>,
    /// Whose each certified key is, identity and transport keys alike.
    owners: HashMap<[u8; 32], ClientId>,
    revoked: RevocationList,
}

impl Office {
    /// Draws a new root and keeps it in a folder, whose files nobody but their owner may read.
    ///
    /// # Errors
    /// [`OfficeError::Exists`] where there is a root, [`OfficeError::Folder`].
    pub fn init<R: CryptoRng>(path: &Path, rng: &mut R) -> Result<Self, OfficeError> {
        let folder = Folder::create(path)?;
        if folder.path(KEY).exists() || folder.path(ISSUED).exists() {
            return Err(OfficeError::Exists { path: path.to_owned() });
        }
        let root = IdentityRoot::generate(rng);
        let revoked = root.revoke(0, Vec::new());
        let office = Self { folder, root, issued: BTreeMap::new(), owners: HashMap::new(), revoked };
        office.write_revocations()?;
        // The key comes last: a folder with a key is complete.
        let text = Zeroizing::new(hex::encode(office.root.to_bytes().as_slice()) + "\n");
        office.folder.write(KEY, text.as_bytes())?;
        Ok(office)
    }

    /// Opens a root's folder.
    ///
    /// # Errors
    /// [`OfficeError::Missing`], [`OfficeError::Folder`], [`OfficeError::Revocations`].
    pub fn open(path: &Path) -> Result<Self, OfficeError> {
        let missing = || OfficeError::Missing { path: path.to_owned() };
        if !path.join(KEY).exists() {
            return Err(missing());
        }
        let folder = Folder::open(path)?;
        let text = Zeroizing::new(folder.read(KEY)?.ok_or_else(missing)?);
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_end(), key.as_mut_slice())
            .map_err(|error| folder.damaged(KEY, 1, &error))?;
        let root = IdentityRoot::from_bytes(&key);

        let text = folder.read(REVOKED)?;
        let text = text.ok_or_else(|| folder.damaged(REVOKED, 1, &"it is not there"))?;
        let revoked: Revocations =
            serde_json::from_str(&text).map_err(|error| folder.damaged(REVOKED, error.line(), &error))?;
        let revoked = RevocationList::from(revoked);
        revoked.verify(&root.public_key(), None)?;

        let lines: Vec<Issued> = folder.read_lines(ISSUED)?;
        let mut office = Self { folder, root, issued: BTreeMap::new(), owners: HashMap::new(), revoked };
        lines.into_iter().for_each(|issued| office.remember(issued));
        Ok(office)
    }

    /// The root's public key, which every client and the coordinator are told.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.root.public_key()
    }

    /// Signs that a key is this organisation's coordinator's.
    ///
    /// # Errors
    /// [`OfficeError::Coordinator`], [`OfficeError::Certificate`].
    pub fn appoint(&self, coordinator: [u8; 32]) -> Result<Appointment, OfficeError> {
        let key = PublicKey(coordinator);
        if !key.is_usable() {
            return Err(OfficeError::Coordinator { key: hex::encode(coordinator) });
        }
        Ok(Appointment {
            root: self.public_key().0,
            root_certificate: x509::root_certificate(&self.root)?,
            coordinator,
            signature: self.root.sign(&appointment(&key)).0,
        })
    }

    /// Everybody who was admitted, with the newest certificates, in the order of their numbers.
    pub fn issued(&self) -> impl Iterator<Item = &Issued> {
        self.issued.values()
    }

    /// The list of revoked clients.
    #[must_use]
    pub fn revoked(&self) -> &RevocationList {
        &self.revoked
    }

    /// Admits clients under fresh numbers: all of them, or none. A request that was answered before gets its newest answer.
    ///
    /// # Errors
    /// [`OfficeError::Key`] for a key that another request has, [`OfficeError::Time`], [`OfficeError::Revoked`],
    /// [`OfficeError::Folder`], [`OfficeError::Certificate`].
    pub fn issue<R: CryptoRng>(
        &mut self,
        admissions: &[Admission],
        not_after: u64,
        now: u64,
        rng: &mut R,
    ) -> Result<Vec<Issued>, OfficeError> {
        let mut answers = Vec::with_capacity(admissions.len());
        let (mut fresh, mut keys, mut numbers) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for admission in admissions {
            if let Some(before) = self.answered(admission) {
                if self.revoked.revokes(before.client) {
                    return Err(OfficeError::Revoked { client: before.client });
                }
                answers.push(before.clone());
                continue;
            }
            self.check_keys(admission, &mut keys)?;
            let client = loop {
                let client = ClientId::random(rng);
                if !self.issued.contains_key(&client) && numbers.insert(client) {
                    break client;
                }
            };
            let issued = self.certify(client, admission, not_after, now)?;
            fresh.push(issued.clone());
            answers.push(issued);
        }
        self.record(fresh)?;
        Ok(answers)
    }

    /// Gives clients certificates with a later end, under the same numbers and keys: all of them, or none.
    ///
    /// # Errors
    /// [`OfficeError::Unknown`], [`OfficeError::Revoked`], [`OfficeError::NoLater`], [`OfficeError::Time`],
    /// [`OfficeError::Folder`], [`OfficeError::Certificate`].
    pub fn renew(
        &mut self,
        clients: &[ClientId],
        not_after: u64,
        now: u64,
    ) -> Result<Vec<Issued>, OfficeError> {
        let renewed = clients.iter().collect::<BTreeSet<_>>().into_iter().map(|client| {
            let before = self.issued.get(client).ok_or(OfficeError::Unknown { client: *client })?;
            if self.revoked.revokes(*client) {
                return Err(OfficeError::Revoked { client: *client });
            }
            if not_after <= before.not_after {
                return Err(OfficeError::NoLater { client: *client, not_after: before.not_after });
            }
            self.certify(*client, &before.admission, not_after, now)
        });
        let renewed = renewed.collect::<Result<Vec<_>, _>>()?;
        self.record(renewed.clone())?;
        Ok(renewed)
    }

    /// Shuts clients out, for good: all of them, or none.
    ///
    /// # Errors
    /// [`OfficeError::Unknown`], [`OfficeError::Folder`].
    pub fn revoke(&mut self, clients: &[ClientId]) -> Result<&RevocationList, OfficeError> {
        if let Some(client) = clients.iter().find(|client| !self.issued.contains_key(client)) {
            return Err(OfficeError::Unknown { client: *client });
        }
        let mut all: BTreeSet<ClientId> = self.revoked.clients.iter().copied().collect();
        all.extend(clients);
        if all.len() > self.revoked.clients.len() {
            let longer = self.root.revoke(self.revoked.number + 1, all.into_iter().collect());
            let before = std::mem::replace(&mut self.revoked, longer);
            if let Err(error) = self.write_revocations() {
                self.revoked = before;
                return Err(error);
            }
        }
        Ok(&self.revoked)
    }

    /// Signs that a coordinator's ledger goes on from a head that was restored from a backup, under a number that no restart had: one above the last
    /// that this root has signed, and above `after`, which an earlier root has.
    ///
    /// # Errors
    /// [`OfficeError::Head`], [`OfficeError::Folder`].
    pub fn restart(&self, restored: &RestoredHead, after: u32) -> Result<RestartForm, OfficeError> {
        let head = restored.verify()?;
        let signed: Vec<RestartForm> = self.folder.read_lines(RESTARTS)?;
        let last = signed.last().map_or(0, |restart| restart.number).max(after);
        let number = last.checked_add(1).expect("nobody signs four billion of them");
        let restart = Restart { coordinator: restored.coordinator, number, size: head.size, root: head.root };
        let form = RestartForm::from(restart.signed(self.root.sign(&restart.payload()).0));
        // Before anybody has it: no number is given twice.
        self.folder.append(RESTARTS, std::slice::from_ref(&form))?;
        Ok(form)
    }

    /// What a request was answered with, most lately.
    fn answered(&self, admission: &Admission) -> Option<&Issued> {
        let owner = self.owners.get(&admission.identity_key)?;
        self.issued.get(owner).filter(|issued| issued.admission.same(admission))
    }

    /// No key may be certified for two purposes or two clients; `others` are the keys of the requests before this one.
    fn check_keys(&self, admission: &Admission, others: &mut BTreeSet<[u8; 32]>) -> Result<(), OfficeError> {
        let ticket = hex::encode(admission.ticket);
        let keys = [admission.identity_key, admission.transport_key];
        let reason = if keys[0] == keys[1] {
            "it has one key for two purposes"
        } else if !keys.iter().all(|key| PublicKey(*key).is_usable()) {
            "one of its keys is no Ed25519 public key"
        } else if keys.iter().any(|key| self.owners.contains_key(key) || !others.insert(*key)) {
            "one of its keys is in another request too"
        } else {
            return Ok(());
        };
        Err(OfficeError::Key { ticket, reason })
    }

    fn certify(
        &self,
        client: ClientId,
        admission: &Admission,
        not_after: u64,
        now: u64,
    ) -> Result<Issued, OfficeError> {
        let time = |error| match error {
            rcgen::Error::Time => OfficeError::Time { not_after },
            other => OfficeError::Certificate(other),
        };
        if not_after < now {
            return Err(OfficeError::Time { not_after });
        }
        let certificate = self.root.certify(client, PublicKey(admission.identity_key), not_after);
        Ok(Issued {
            admission: admission.clone(),
            client,
            not_after,
            issued_at: now,
            certificate: certificate.to_wire(),
            transport_certificate: x509::client_certificate(
                &self.root,
                client,
                admission.transport_key,
                not_after,
            )
            .map_err(time)?,
        })
    }

    /// Makes answers durable, then known.
    fn record(&mut self, issued: Vec<Issued>) -> Result<(), OfficeError> {
        if !issued.is_empty() {
            self.folder.append(ISSUED, &issued)?;
        }
        issued.into_iter().for_each(|issued| self.remember(issued));
        Ok(())
    }

    fn remember(&mut self, issued: Issued) {
        for key in [issued.admission.identity_key, issued.admission.transport_key] {
            self.owners.insert(key, issued.client);
        }
        self.issued.insert(issued.client, issued);
    }

    fn write_revocations(&self) -> Result<(), OfficeError> {
        Ok(self.folder.write_json(REVOKED, &Revocations::from(self.revoked.clone()))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;
    use std::fs;
    use tacit_aggregation::identity::Certificate;

    pub(super) fn admission(number: u8) -> Admission {
        let key = |purpose| {
            let mut rng = ChaCha20Rng::seed_from_u64(u64::from(number) * 2 + purpose);
            IdentityRoot::generate(&mut rng).public_key().0
        };
        Admission { ticket: [number; 32], identity_key: key(0), transport_key: key(1), note: String::new() }
    }

    pub(super) fn office(seed: u64) -> (tempfile::TempDir, Office, ChaCha20Rng) {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let office = Office::init(&folder.path().join("root"), &mut rng).unwrap();
        (folder, office, rng)
    }

    #[test]
    fn a_root_admits_and_revokes_and_remembers() {
        let (folder, mut office, mut rng) = office(1);
        let path = folder.path().join("root");
        let both = office.issue(&[admission(1), admission(2)], 2_000, 1_000, &mut rng).unwrap();
        let [first, second] = both.as_slice() else { panic!("two requests, two answers") };
        assert_ne!(first.client, second.client);
        let noted = Admission { note: "again".into(), ..admission(1) };
        let again = office.issue(&[noted], 9_999, 1_500, &mut rng).unwrap();
        assert_eq!(again.as_slice(), std::slice::from_ref(first), "a repeat");
        let certificate = Certificate::from_wire(&first.certificate).unwrap();
        assert_eq!(certificate.verify(&office.public_key(), 2_000), Ok(()));
        assert_eq!((certificate.client, certificate.public_key.0), (first.client, admission(1).identity_key));
        let claims = x509::Claims::read(&first.transport_certificate).unwrap();
        assert_eq!((claims.client, claims.not_after), (first.client, 2_000));
        assert_eq!(claims.transport_key, admission(1).transport_key);

        assert!(office.revoke(&[second.client]).unwrap().revokes(second.client));
        assert_eq!(office.revoke(&[second.client]).unwrap().number, 1, "a repeat signs nothing");
        let unknown = office.revoke(&[first.client, ClientId(3)]);
        assert!(matches!(unknown, Err(OfficeError::Unknown { client: ClientId(3) })));
        assert!(!office.revoked().revokes(first.client), "all or none");
        let again = office.issue(&[admission(2)], 9_999, 1_500, &mut rng);
        assert!(matches!(again, Err(OfficeError::Revoked { .. })), "{again:?}");

        let kept: Vec<_> = office.issued().cloned().collect();
        let (public, revoked) = (office.public_key(), office.revoked().clone());
        drop(office);
        let again = Office::open(&path).unwrap();
        assert_eq!((again.public_key(), again.revoked()), (public, &revoked));
        assert_eq!(again.issued().cloned().collect::<Vec<_>>(), kept);
        #[cfg(unix)]
        for file in fs::read_dir(&path).unwrap() {
            use std::os::unix::fs::PermissionsExt as _;
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o77, 0, "{:?}", file.path());
        }
    }

    #[test]
    fn a_folder_has_one_root_and_one_user() {
        let (folder, office, mut rng) = office(2);
        let path = folder.path().join("root");
        let busy = Office::open(&path).map(|_| ());
        assert!(matches!(busy, Err(OfficeError::Folder(FolderError::Busy { .. }))), "{busy:?}");
        drop(office);
        assert!(matches!(Office::init(&path, &mut rng), Err(OfficeError::Exists { .. })));
        assert!(matches!(Office::open(folder.path()), Err(OfficeError::Missing { .. })));
    }

    #[test]
    fn renewals_keep_number_and_keys() {
        let (folder, mut office, mut rng) = office(3);
        let both = office.issue(&[admission(1), admission(2)], 2_000, 1_000, &mut rng).unwrap();
        let (first, second) = (both[0].client, both[1].client);
        let [renewed] = &office.renew(&[first, first], 3_000, 1_900).unwrap()[..] else { panic!("one") };
        assert_eq!((renewed.client, &renewed.admission), (first, &admission(1)));
        assert_eq!(x509::Claims::read(&renewed.transport_certificate).unwrap().not_after, 3_000);
        let certificate = Certificate::from_wire(&renewed.certificate).unwrap();
        assert_eq!(certificate.verify(&office.public_key(), 3_000), Ok(()));
        let refused = [
            office.renew(&[second, first], 3_000, 1_950),
            office.renew(&[ClientId(1)], 9_000, 1_950),
            office.renew(&[second], 3_000, 3_001),
            office.renew(&[second], u64::MAX, 1_950),
        ]
        .map(|result| result.unwrap_err());
        assert!(matches!(refused[0], OfficeError::NoLater { not_after: 3_000, .. }));
        assert!(matches!(refused[1], OfficeError::Unknown { .. }));
        assert!(matches!(refused[2..], [OfficeError::Time { .. }, OfficeError::Time { .. }]), "{refused:?}");
        office.revoke(&[second]).unwrap();
        assert!(matches!(office.renew(&[second], 9_000, 1_950), Err(OfficeError::Revoked { .. })));
        drop(office);
        let again = Office::open(&folder.path().join("root")).unwrap();
        let ends: Vec<_> = [first, second].map(|client| again.issued[&client].not_after).to_vec();
        assert_eq!(ends, [3_000, 2_000], "the last line counts; a refused renewal wrote nothing");
    }

    #[test]
    fn no_key_has_two_owners_or_two_purposes() {
        let (_folder, mut office, mut rng) = office(4);
        office.issue(&[admission(1)], 2_000, 1_000, &mut rng).unwrap();
        let taken = [
            Admission { identity_key: admission(1).identity_key, ..admission(2) },
            Admission { identity_key: admission(1).transport_key, ..admission(2) },
            Admission { transport_key: admission(1).identity_key, ..admission(2) },
            Admission { transport_key: admission(2).identity_key, ..admission(2) },
            Admission { transport_key: [0; 32], ..admission(2) },
            Admission { transport_key: admission(3).identity_key, ..admission(2) },
        ];
        for taken in taken {
            let refused = office.issue(&[admission(3), taken], 2_000, 1_000, &mut rng);
            assert!(matches!(refused, Err(OfficeError::Key { .. })), "{refused:?}");
        }
        assert_eq!(office.issued().count(), 1, "all or none");
    }

    #[test]
    fn an_appointment_names_root_and_coordinator() {
        let (_folder, office, _) = office(6);
        let key = admission(9).identity_key;
        let appointed = office.appoint(key).unwrap();
        assert_eq!(appointed.verify(), Ok(()));
        assert_eq!((appointed.root(), appointed.coordinator()), (office.public_key(), PublicKey(key)));
        let other = Appointment { coordinator: admission(8).identity_key, ..appointed };
        assert!(other.verify().is_err());
        assert!(matches!(office.appoint([0; 32]), Err(OfficeError::Coordinator { .. })));
    }

    #[test]
    fn no_two_restarts_have_one_number() {
        use tacit_privacy::ledger::restart::SignedRestart;
        let (folder, office, mut rng) = office(8);
        let key = tacit_proto::CoordinatorKey::generate(&mut rng);
        let head = key.sign_head(tacit_privacy::ledger::head::Head { size: 9, root: [4; 32], time: 5 });
        let head = RestoredHead::new(key.public_key().0, &head).unwrap();
        let restart = |office: &Office, after| {
            let form = office.restart(&head, after).unwrap();
            let signed = SignedRestart::from(form);
            let restart = *signed.verify(&office.public_key().0).unwrap();
            assert_eq!((restart.coordinator, restart.size, restart.root), (head.coordinator, 9, [4; 32]));
            restart.number
        };
        assert_eq!([restart(&office, 0), restart(&office, 0)], [1, 2], "for the same head, too");
        drop(office);
        let office = Office::open(&folder.path().join("root")).unwrap();
        assert_eq!([restart(&office, 0), restart(&office, 7), restart(&office, 1)], [3, 8, 9]);
        for wrong in [
            RestoredHead { size: 8, ..head.clone() },
            RestoredHead { root: [5; 32], ..head.clone() },
            RestoredHead { coordinator: [5; 32], ..head.clone() },
        ] {
            assert!(matches!(office.restart(&wrong, 0), Err(OfficeError::Head(_))), "{wrong:?}");
        }
        assert_eq!(restart(&office, 0), 10, "what was refused has no number");
    }

    #[test]
    fn a_half_written_line_is_named_and_can_be_cut() {
        let (folder, mut office, mut rng) = office(7);
        let path = folder.path().join("root");
        office.issue(&[admission(1), admission(2)], 2_000, 1_000, &mut rng).unwrap();
        drop(office);
        let file = path.join(ISSUED);
        let good = fs::read(&file).unwrap();
        let first = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in [first + 1, good.len() - 1] {
            fs::write(&file, &good[..cut]).unwrap();
            let torn = Office::open(&path).unwrap_err();
            let OfficeError::Folder(FolderError::Torn { line: 2, whole, .. }) = torn else {
                panic!("{torn}")
            };
            assert!(torn.to_string().contains(&format!("truncate -s {first} ")), "{torn}");
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(whole as u64).unwrap();
            assert_eq!(Office::open(&path).unwrap().issued().count(), 1);
        }
    }

    #[test]
    fn a_damaged_folder_is_named() {
        let (folder, mut office, mut rng) = office(8);
        let path = folder.path().join("root");
        let issued = office.issue(&[admission(1)], 2_000, 1_000, &mut rng).unwrap();
        office.revoke(&[issued[0].client]).unwrap();
        drop(office);
        for (name, place) in [(KEY, 3), (ISSUED, 0), (REVOKED, 20)] {
            let file = path.join(name);
            let good = fs::read(&file).unwrap();
            let mut bad = good.clone();
            bad[place] = b'z';
            fs::write(&file, bad).unwrap();
            assert!(Office::open(&path).is_err(), "{name}");
            fs::write(&file, good).unwrap();
        }
        assert!(Office::open(&path).is_ok());
    }
}
