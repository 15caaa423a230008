//! How a machine becomes a client, as it travels. Must never carry a secret key.

use sha2::{Digest as _, Sha256};
use std::fmt;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{Certificate, PublicKey, Signature};

/// Longest one-time token, in bytes.
pub const MAX_TOKEN: usize = 128;
/// Longest version of a client's software, in bytes.
pub const MAX_VERSION: usize = 64;
/// Longest X.509 certificate, in bytes.
pub const MAX_X509: usize = 4 << 10;
/// Names format and version of what both keys sign.
const TAG: &[u8] = b"tacit/enrolment/v1";
/// Names format and version of what the root signs to name its coordinator.
const APPOINTMENT: &[u8] = b"tacit/identity/coordinator/v1";

/// A machine's request to become a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrol {
    /// The one-time token, as the operator gave it out.
    pub token: String,
    /// The key that the client will sign with.
    pub identity_key: PublicKey,
    /// The key that the client will open TLS connections with; another one.
    pub transport_key: PublicKey,
    /// Version of the client's software, such as 0.2.0.
    pub version: String,
    /// By the identity key, then by the transport key, over [`Self::payload`].
    pub signatures: [Signature; 2],
}

impl Enrol {
    /// What both keys sign: the tag, the token's SHA-256, the identity key, the transport key.
    #[must_use]
    pub fn payload(token: &str, identity_key: &PublicKey, transport_key: &PublicKey) -> Vec<u8> {
        let token = Sha256::digest(token.as_bytes());
        [TAG, token.as_slice(), &identity_key.0, &transport_key.0].concat()
    }

    /// Whether the caller has both keys, and they are two.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let payload = Self::payload(&self.token, &self.identity_key, &self.transport_key);
        self.identity_key != self.transport_key
            && self.identity_key.verify(&payload, &self.signatures[0])
            && self.transport_key.verify(&payload, &self.signatures[1])
    }
}

/// Without the token, which is a secret until it is used.
impl fmt::Debug for Enrol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrol")
            .field("identity_key", &self.identity_key)
            .field("transport_key", &self.transport_key)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The receipt for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// What [`Fetch`] asks with.
    pub ticket: Digest,
}

/// Asks for the credentials of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The ticket.
    pub ticket: Digest,
}

/// What the identity root made for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate that others in a cohort check.
    pub certificate: Certificate,
    /// The X.509 certificate of the transport key, DER.
    pub transport_certificate: Vec<u8>,
    /// The identity root's public key.
    pub root: PublicKey,
    /// The coordinator's public key: plans and ledger heads carry its signature.
    pub coordinator: PublicKey,
    /// The root's signature over [`appointment`].
    pub coordinator_signature: Signature,
}

impl Credentials {
    /// Whether the root has named this coordinator.
    #[must_use]
    pub fn appoints_coordinator(&self) -> bool {
        self.root.verify(&appointment(&self.coordinator), &self.coordinator_signature)
    }
}

/// What the root signs to name its coordinator.
#[must_use]
pub fn appointment(coordinator: &PublicKey) -> Vec<u8> {
    [APPOINTMENT, &coordinator.0].concat()
}
