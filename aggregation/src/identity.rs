//! Long-term identities: the organisation's offline root, which admits clients, and the clients' signing keys.
//! Must never let anybody but the root issue a certificate, nor print a key.

mod revocation;
mod roster;

pub use revocation::{RevocationError, RevocationList};
#[cfg(test)]
pub(crate) use roster::tests_support as roster_tests;
#[cfg(test)]
pub(crate) use roster::ticket;
pub use roster::{
    CLOCK_SLACK, EpochTerms, MAX_MEMBERSHIP_PATH, Membership, NewestEpoch, Rate, Roster, RosterError,
    SignedRoster,
};

use crate::context::{Fields, Short};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// A client's number, drawn at random by the identity root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub u64);

impl ClientId {
    /// Draws a number. The root checks that it is not yet taken before it issues a certificate.
    pub fn random<R: CryptoRng>(rng: &mut R) -> Self {
        Self(rng.next_u64())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An Ed25519 public key, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Checks a signature, refusing keys of small order.
    #[must_use]
    pub fn verify(&self, payload: &[u8], signature: &Signature) -> bool {
        self.verifying().is_some_and(|key| crate::signatures::verify(&key, payload, signature))
    }

    /// Whether this is a point of the curve, and not one of small order.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.verifying().is_some()
    }

    pub(crate) fn verifying(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_bytes(&self.0).ok().filter(|key| !key.is_weak())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", Short(&self.0))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Short(&self.0).fmt(f)
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", Short(&self.0))
    }
}

/// The organisation's identity root, kept offline. It alone admits clients.
pub struct IdentityRoot(SigningKey);

/// A client's long-term signing key.
pub struct IdentityKey(SigningKey);

macro_rules! signing_key {
    ($name:ident) => {
        impl $name {
            /// Draws a key.
            pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
                Self(SigningKey::generate(rng))
            }

            /// Restores a key from its 32 secret bytes.
            #[must_use]
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(bytes))
            }

            /// The 32 secret bytes, for storage.
            #[must_use]
            pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// The public key.
            #[must_use]
            pub fn public_key(&self) -> PublicKey {
                PublicKey(self.0.verifying_key().to_bytes())
            }

            /// Signs bytes, which must begin with what they are for, as all payloads of this crate do.
            #[must_use]
            pub fn sign(&self, payload: &[u8]) -> Signature {
                Signature(self.0.sign(payload).to_bytes())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}, secret redacted)"), self.public_key())
            }
        }
    };
}

signing_key!(IdentityRoot);
signing_key!(IdentityKey);

/// The root's statement that a public key is a client's, until a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The client.
    pub client: ClientId,
    /// The client's signing key.
    pub public_key: PublicKey,
    /// Last second, Unix time, at which the certificate is valid.
    pub not_after: u64,
    /// The root that issued it.
    pub issuer: PublicKey,
    /// The root's signature over all of the above.
    pub signature: Signature,
}

impl IdentityRoot {
    /// Admits a client. The number must be fresh: see [`ClientId::random`].
    #[must_use]
    pub fn certify(&self, client: ClientId, public_key: PublicKey, not_after: u64) -> Certificate {
        let issuer = self.public_key();
        let mut certificate =
            Certificate { client, public_key, not_after, issuer, signature: Signature([0; 64]) };
        certificate.signature = self.sign(&certificate.payload());
        certificate
    }
}

/// A certificate that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Issued by another root.
    #[error(
        "the certificate of client {client} was issued by {issuer}, not by this organisation's root {root}"
    )]
    Issuer {
        /// The client it names.
        client: ClientId,
        /// Its issuer.
        issuer: PublicKey,
        /// The root that is trusted.
        root: PublicKey,
    },
    /// No longer valid.
    #[error("the certificate of client {client} expired at {not_after}, before {now}: have it renewed")]
    Expired {
        /// The client it names.
        client: ClientId,
        /// Its last second.
        not_after: u64,
        /// The time of the check.
        now: u64,
    },
    /// A key that is not a point of the curve, or one of small order.
    #[error("the certificate of client {client} holds an unusable public key")]
    Key {
        /// The client it names.
        client: ClientId,
    },
    /// The signature does not verify.
    #[error("the root's signature on the certificate of client {client} does not verify")]
    Signature {
        /// The client it names.
        client: ClientId,
    },
}

impl Certificate {
    /// The bytes that the root signs.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        Fields::new("certificate")
            .integer(self.client.0)
            .bytes(&self.public_key.0)
            .integer(self.not_after)
            .bytes(&self.issuer.0)
            .into_bytes()
    }

    /// Checks everything but the signature, which [`crate::signatures`] checks in batches.
    pub(crate) fn check_claims(&self, root: &PublicKey, now: u64) -> Result<VerifyingKey, CertificateError> {
        let client = self.client;
        if self.issuer != *root {
            return Err(CertificateError::Issuer { client, issuer: self.issuer, root: *root });
        }
        if now > self.not_after {
            return Err(CertificateError::Expired { client, not_after: self.not_after, now });
        }
        self.public_key.verifying().ok_or(CertificateError::Key { client })
    }

    /// Checks the certificate against the organisation's root at a time, in Unix seconds.
    ///
    /// # Errors
    /// [`CertificateError`] says what is wrong.
    pub fn verify(&self, root: &PublicKey, now: u64) -> Result<(), CertificateError> {
        self.check_claims(root, now)?;
        let valid = root.verify(&self.payload(), &self.signature);
        if valid { Ok(()) } else { Err(CertificateError::Signature { client: self.client }) }
    }
}

#[cfg(test)]
mod tests {
    use super::{CertificateError, ClientId, IdentityKey, IdentityRoot, PublicKey};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn a_certificate_holds_for_its_root_and_time_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let root = IdentityRoot::generate(&mut rng);
        let other = IdentityRoot::generate(&mut rng);
        let key = IdentityKey::generate(&mut rng);
        let client = ClientId::random(&mut rng);
        let good = root.certify(client, key.public_key(), 1_000);
        assert_eq!(good.verify(&root.public_key(), 1_000), Ok(()));
        assert!(matches!(
            good.verify(&root.public_key(), 1_001),
            Err(CertificateError::Expired { now: 1_001, .. })
        ));
        assert!(matches!(good.verify(&other.public_key(), 0), Err(CertificateError::Issuer { .. })));

        let forged = [
            super::Certificate { client: ClientId(client.0 ^ 1), ..good.clone() },
            super::Certificate { public_key: other.public_key(), ..good.clone() },
            super::Certificate { not_after: 2_000, ..good.clone() },
            super::Certificate { issuer: other.public_key(), ..good.clone() },
        ];
        for (index, forged) in forged.into_iter().enumerate() {
            let trusted = if index == 3 { other.public_key() } else { root.public_key() };
            let refused = forged.verify(&trusted, 0);
            assert!(matches!(refused, Err(CertificateError::Signature { .. })), "{index}: {refused:?}");
        }
        assert!(key.public_key().is_usable() && !PublicKey([0; 32]).is_usable());
        let weak = root.certify(client, PublicKey([0; 32]), 1_000);
        assert_eq!(weak.verify(&root.public_key(), 0), Err(CertificateError::Key { client }));
    }

    #[test]
    fn keys_survive_storage_and_are_not_printed() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let key = IdentityKey::generate(&mut rng);
        let bytes = key.to_bytes();
        assert_eq!(IdentityKey::from_bytes(&bytes).public_key(), key.public_key());
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!format!("{key:?}").contains(&secret[..8]));
    }
}
