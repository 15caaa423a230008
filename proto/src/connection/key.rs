//! The key with which a client opens TLS connections. Must never sign anything in a round.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use tacit_aggregation::identity::{IdentityKey, PublicKey, Signature};
use zeroize::Zeroizing;

/// What comes before the 32 secret bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8_HEADER: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The key with which TLS connections are opened.
pub struct TransportKey(IdentityKey);

impl TransportKey {
    /// A key that is used for nothing else.
    #[must_use]
    pub fn new(key: IdentityKey) -> Self {
        Self(key)
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// The 32 secret bytes, for storage.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.to_bytes()
    }

    /// Signs the request to become a client.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> Signature {
        self.0.sign(payload)
    }

    /// The key as TLS uses it.
    ///
    /// # Errors
    /// What TLS says of the key.
    pub fn signer(&self) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        let mut der = Zeroizing::new([0; PKCS8_HEADER.len() + 32]);
        let (header, secret) = der.split_at_mut(PKCS8_HEADER.len());
        header.copy_from_slice(&PKCS8_HEADER);
        secret.copy_from_slice(self.0.to_bytes().as_slice());
        any_eddsa_type(&PrivatePkcs8KeyDer::from(der.as_slice()))
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportKey({}, secret redacted)", self.public_key())
    }
}
