//! What makes this machine a client: its keys, and what the identity root made for them. Must never hold credentials that are
//! not for its own keys, or of a coordinator that the root has not appointed.

use crate::folder::{Folder, FolderError, Kind};
use crate::keys::ClientKeys;
use crate::participant::Member;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{CertificateError, ClientId, IdentityKey, PublicKey};
use tacit_proto::Wire as _;
use tacit_proto::enrolment::Credentials as Issued;
use zeroize::{Zeroize, ZeroizeOnDrop};

const FILE: &str = "credentials";
const KIND: Kind = Kind { code: 8, version: 1 };

/// A client's credentials.
#[derive(Debug)]
pub struct Credentials {
    /// The keys that it has drawn.
    pub keys: ClientKeys,
    /// What the identity root made for both.
    pub issued: Issued,
    /// What they are fetched with, and what the identity root makes when they end.
    pub ticket: Digest,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Form {
    keys: Vec<u8>,
    issued: Vec<u8>,
    ticket: Digest,
}

/// Credentials that this client cannot use.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// They cannot be stored or read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There are none.
    #[error("this client is not enrolled: `tacit-client enrol` with a token from the coordinator's operator")]
    Missing,
    /// Of another identity root than its owner expects.
    #[error(
        "these credentials are of the identity root {found}, not of {expected}: ask the operator which is right"
    )]
    Root {
        /// Its public key.
        found: String,
        /// The one expected.
        expected: String,
    },
    /// The certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is for another key.
    #[error("the certificate of client {client} is not for the key that this machine has drawn")]
    ForeignKey {
        /// The client that it names.
        client: ClientId,
    },
    /// The root has not named this coordinator.
    #[error(
        "the identity root has not appointed this coordinator: its signature over the coordinator's key does not verify"
    )]
    NotAppointed,
    /// The X.509 certificate cannot be used with the transport key.
    #[error("the X.509 certificate is not for the transport key that this machine has drawn")]
    Transport,
}

impl Credentials {
    /// Takes what was issued, if it is for these keys, by this root if one is expected, and valid at `now` (Unix seconds).
    ///
    /// # Errors
    /// [`CredentialsError`] says what is wrong.
    pub fn new(
        keys: ClientKeys,
        issued: Issued,
        ticket: Digest,
        root: Option<&PublicKey>,
        now: u64,
    ) -> Result<Self, CredentialsError> {
        if let Some(root) = root.filter(|root| **root != issued.root) {
            let [found, expected] = [&issued.root, root].map(|key| hex::encode(key.0));
            return Err(CredentialsError::Root { found, expected });
        }
        issued.certificate.verify(&issued.root, now)?;
        if issued.certificate.public_key != keys.identity.public_key() {
            return Err(CredentialsError::ForeignKey { client: issued.certificate.client });
        }
        if !issued.appoints_coordinator() {
            return Err(CredentialsError::NotAppointed);
        }
        let chain = vec![CertificateDer::from(issued.transport_certificate.clone())];
        let signer = keys.transport.signer().map_err(|_| CredentialsError::Transport)?;
        // It compares the certificate's key with the signer's.
        CertifiedKey::new(chain, signer).keys_match().map_err(|_| CredentialsError::Transport)?;
        Ok(Self { keys, issued, ticket })
    }

    /// The stored credentials. An expired certificate is for whoever is shown it to refuse.
    ///
    /// # Errors
    /// [`CredentialsError::Missing`] before enrolment.
    pub fn load(folder: &Folder) -> Result<Self, CredentialsError> {
        let form: Form = folder.load(FILE, KIND)?.ok_or(CredentialsError::Missing)?;
        let issued =
            Issued::from_wire(&form.issued).map_err(|error| folder.damaged(FILE, &error.to_string()))?;
        let keys =
            ClientKeys::from_bytes(&form.keys).map_err(|error| folder.damaged(FILE, &error.to_string()))?;
        Ok(Self { keys, issued, ticket: form.ticket })
    }

    /// Stores them.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn store(&self, folder: &Folder) -> Result<(), FolderError> {
        let form =
            Form { keys: self.keys.to_bytes().to_vec(), issued: self.issued.to_wire(), ticket: self.ticket };
        folder.store(FILE, KIND, &form)
    }

    /// Whether they end within some time, or have ended; both in seconds.
    #[must_use]
    pub fn end_within(&self, time: u64, now: u64) -> bool {
        self.issued.certificate.not_after < now.saturating_add(time)
    }

    /// This client.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.issued.certificate.client
    }

    /// This client in rounds of a base model.
    #[must_use]
    pub fn member(&self, base_model: Digest) -> Member {
        Member {
            membership: None,
            root: self.issued.root,
            coordinator: self.issued.coordinator,
            identity: Arc::new(IdentityKey::from_bytes(&self.keys.identity.to_bytes())),
            certificate: self.issued.certificate.clone(),
            base_model,
        }
    }
}
