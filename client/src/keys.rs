//! The client's two long-term keys: one signs in rounds, one opens connections. Must never be one key, nor be printed.

use std::fmt;

use rand_core::CryptoRng;
use tacit_aggregation::identity::IdentityKey;
pub use tacit_proto::connection::TransportKey;
use tacit_proto::enrolment::Enrol;
use zeroize::Zeroizing;

/// Secret bytes of both keys, the identity key's first.
pub const KEYS_BYTES: usize = 64;

/// Both keys, drawn on this machine; only their public halves ever leave it.
pub struct ClientKeys {
    /// Signs adverts and the maps of a round.
    pub identity: IdentityKey,
    /// Opens TLS connections.
    pub transport: TransportKey,
}

/// Stored keys that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The wrong number of bytes.
    #[error(
        "the stored keys are {found} bytes long, not {KEYS_BYTES}: restore them from a copy, or enrol again"
    )]
    Length {
        /// How many there are.
        found: usize,
    },
    /// One key for two purposes.
    #[error("the two stored keys are one: enrol again, with new keys")]
    Same,
}

impl ClientKeys {
    /// Draws both keys.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        Self {
            identity: IdentityKey::generate(rng),
            transport: TransportKey::new(IdentityKey::generate(rng)),
        }
    }

    /// Restores both keys from their stored form.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeysError> {
        let wrong = KeysError::Length { found: bytes.len() };
        let (identity, rest) = bytes.split_first_chunk().ok_or(wrong)?;
        let transport = rest.try_into().map_err(|_| wrong)?;
        if identity == transport {
            return Err(KeysError::Same);
        }
        let restored = IdentityKey::from_bytes;
        Ok(Self { identity: restored(identity), transport: TransportKey::new(restored(transport)) })
    }

    /// The stored form of both keys; wiped when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEYS_BYTES]> {
        let mut bytes = Zeroizing::new([0; KEYS_BYTES]);
        let (identity, transport) = bytes.split_at_mut(KEYS_BYTES / 2);
        identity.copy_from_slice(self.identity.to_bytes().as_slice());
        transport.copy_from_slice(self.transport.to_bytes().as_slice());
        bytes
    }

    /// The request to become a client, signed by both keys.
    #[must_use]
    pub fn enrol(&self, token: &str, version: &str) -> Enrol {
        let (identity_key, transport_key) = (self.identity.public_key(), self.transport.public_key());
        let payload = Enrol::payload(token, &identity_key, &transport_key);
        Enrol {
            token: token.to_owned(),
            identity_key,
            transport_key,
            version: version.to_owned(),
            signatures: [self.identity.sign(&payload), self.transport.sign(&payload)],
        }
    }
}

impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKeys")
            .field("identity", &self.identity)
            .field("transport", &self.transport)
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn keys_survive_storage_and_are_two() {
        let keys = ClientKeys::generate(&mut ChaCha20Rng::seed_from_u64(1));
        let bytes = keys.to_bytes();
        let again = ClientKeys::from_bytes(bytes.as_slice()).unwrap();
        assert_eq!(again.identity.public_key(), keys.identity.public_key());
        assert_eq!(again.transport.public_key(), keys.transport.public_key());
        assert_ne!(keys.identity.public_key(), keys.transport.public_key());
        for length in [0, 31, 32, 63] {
            let refused = ClientKeys::from_bytes(&bytes[..length]).unwrap_err();
            assert_eq!(refused, KeysError::Length { found: length });
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(ClientKeys::from_bytes(&longer).unwrap_err(), KeysError::Length { found: 65 });
        assert_eq!(ClientKeys::from_bytes(&[7; 64]).unwrap_err(), KeysError::Same);
        let printed = format!("{keys:?}");
        for half in bytes.chunks(32) {
            assert!(!printed.contains(&hex::encode(&half[..4])), "{printed}");
        }
    }

    #[test]
    fn a_request_is_signed_by_both_keys() {
        let keys = ClientKeys::generate(&mut ChaCha20Rng::seed_from_u64(2));
        let enrol = keys.enrol("tacit-00", "0.2.0");
        assert!(enrol.is_signed());
        assert_eq!((enrol.token.as_str(), enrol.version.as_str()), ("tacit-00", "0.2.0"));
        assert!(!Enrol { token: "tacit-01".into(), ..enrol }.is_signed());
    }

    #[test]
    fn tls_signs_with_the_transport_key() {
        let keys = ClientKeys::generate(&mut ChaCha20Rng::seed_from_u64(3));
        let key = keys.transport.signer().unwrap();
        let signer = key.choose_scheme(&[rustls::SignatureScheme::ED25519]).unwrap();
        let signature =
            tacit_aggregation::identity::Signature(signer.sign(b"hello").unwrap().try_into().unwrap());
        assert!(keys.transport.public_key().verify(b"hello", &signature));
        assert!(!keys.identity.public_key().verify(b"hello", &signature));
    }
}
