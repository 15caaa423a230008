//! How a client knows its coordinator's certificate. Must never accept a server without the signature that proves its key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use super::ConnectionError;

/// What a client was told about its coordinator's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is the one with this fingerprint, whatever it says.
    Fingerprint(Fingerprint),
    /// It is for the server's name, valid, and of one of these authorities, DER.
    Authorities(Vec<Vec<u8>>),
}

impl Trust {
    /// Reads a file of authorities' certificates, PEM.
    ///
    /// # Errors
    /// [`ConnectionError::Authorities`].
    pub fn authorities(pem: &[u8]) -> Result<Self, ConnectionError> {
        let unusable = |problem: String| ConnectionError::Authorities { problem };
        let read = CertificateDer::pem_slice_iter(pem).map(|one| one.map(|one| one.to_vec()));
        let read = read.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(error.to_string()))?;
        if read.is_empty() {
            return Err(unusable("the file holds none in PEM form".into()));
        }
        Ok(Self::Authorities(read))
    }

    /// The check of a server's certificate.
    pub(super) fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, ConnectionError> {
        match self {
            Self::Fingerprint(expected) => Ok(Arc::new(Pinned { expected: *expected, provider })),
            Self::Authorities(authorities) => {
                let unusable = |problem: String| ConnectionError::Authorities { problem };
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    let added = roots.add(CertificateDer::from(authority.clone()));
                    added.map_err(|error| unusable(error.to_string()))?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
                Ok(verifier.map_err(|error| unusable(error.to_string()))?)
            }
        }
    }
}

/// SHA-256 of a certificate's DER form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// Text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is 64 hexadecimal digits, with or without colons: copy the one that the coordinator prints"
)]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits: String = text.chars().filter(|character| *character != ':').collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| FingerprintError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The certificate is another one than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its fingerprint is {found}, expected is {expected}")]
pub(super) struct Mismatch {
    pub(super) expected: Fingerprint,
    pub(super) found: Fingerprint,
}

impl Mismatch {
    /// The mismatch that TLS reports, if it is one.
    pub(super) fn of(error: &CertificateError) -> Option<Self> {
        match error {
            CertificateError::Other(OtherError(error)) => error.downcast_ref::<Self>().copied(),
            _ => None,
        }
    }
}

/// Accepts one certificate. Neither its names nor its dates count: the operator's word for the fingerprint does.
#[derive(Debug)]
struct Pinned {
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Fingerprint(Sha256::digest(end_entity).into());
        if found == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = Mismatch { expected: self.expected, found };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "0a".repeat(32);
        let fingerprint: Fingerprint = plain.parse().unwrap();
        assert_eq!((fingerprint.0, fingerprint.to_string()), ([10; 32], plain.clone()));
        let colons = vec!["0A"; 32].join(":");
        assert_eq!(colons.parse(), Ok(fingerprint));
        for wrong in ["", "0a", &plain[1..], &format!("{plain}0a"), &plain.replace('a', "g")] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
        }
    }

    #[test]
    fn a_file_of_authorities_must_hold_some() {
        for wrong in [b"" as &[u8], b"hello", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"]
        {
            assert!(matches!(Trust::authorities(wrong), Err(ConnectionError::Authorities { .. })));
        }
        let nonsense = Trust::authorities(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let refused = nonsense.unwrap().verifier(provider).map(|_| ()).unwrap_err();
        assert!(matches!(refused, ConnectionError::Authorities { .. }));
    }
}
