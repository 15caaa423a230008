//! X.509 for TLS, under the same root as everything else. Must never certify a key for anything but opening connections.
//!
//! A client's number is the URI `tacit:client:NUMBER`, its certificate's only alternative name; the common names are for people.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use tacit_aggregation::identity::{ClientId, IdentityRoot, PublicKey, Signature};
use time::OffsetDateTime;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Before a client's number in its certificate.
const CLIENT_URI: &str = "tacit:client:";

/// The root's own certificate, DER, which a server gives TLS to check clients with. The same key gives the same certificate.
///
/// # Errors
/// [`rcgen::Error`] when it cannot be encoded.
pub fn root_certificate(root: &IdentityRoot) -> Result<Vec<u8>, rcgen::Error> {
    let signer = Signer::new(root);
    let mut params = root_params(&signer.public);
    params.serial_number = Some(SerialNumber::from_slice(&signer.public.0[..16]));
    Ok(params.self_signed(&signer)?.der().to_vec())
}

/// A client's certificate for the key with which it opens connections, DER, valid until a Unix second.
///
/// # Errors
/// [`rcgen::Error`] when it cannot be encoded; the time is beyond the year 9999, for one.
pub fn client_certificate(
    root: &IdentityRoot,
    client: ClientId,
    transport_key: [u8; 32],
    not_after: u64,
) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Tacit client {client}"));
    params.subject_alt_names = vec![SanType::URI(format!("{CLIENT_URI}{client}").try_into()?)];
    params.serial_number = Some(SerialNumber::from_slice(&transport_key[..16]));
    params.not_after = i64::try_from(not_after)
        .ok()
        .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
        .ok_or(rcgen::Error::Time)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::new(root_params(&root.public_key()), Signer::new(root));
    Ok(params.signed_by(&TransportKey(transport_key), &issuer)?.der().to_vec())
}

/// Each root has a name of its own, so that a certificate of another root is told from one with a bad signature.
fn root_params(public: &PublicKey) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Tacit identity root {}", hex::encode(&public.0[..8])));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// What a client's certificate for connections says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The client.
    pub client: ClientId,
    /// The key with which it opens connections.
    pub transport_key: [u8; 32],
    /// Last second, Unix time, at which the certificate is valid.
    pub not_after: u64,
}

impl Claims {
    /// Reads a client's certificate, DER; none when it is not of the form that [`client_certificate`] gives. Who signed it is
    /// not checked here.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
        let digits = uri.strip_prefix(CLIENT_URI)?;
        let client = ClientId(digits.parse().ok()?);
        let public = certificate.public_key();
        let read = Self {
            client,
            transport_key: public.subject_public_key.data.as_ref().try_into().ok()?,
            not_after: u64::try_from(certificate.validity().not_after.timestamp()).ok()?,
        };
        let exact = rest.is_empty()
            && client.to_string() == digits
            && public.algorithm.algorithm == OID_SIG_ED25519
            && !certificate.is_ca();
        exact.then_some(read)
    }

    /// Reads a client's certificate, DER, that a root signed; none when it did not. The time is not checked here.
    #[must_use]
    pub fn verified(der: &[u8], root: &PublicKey) -> Option<Self> {
        let claims = Self::read(der)?;
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let signature = Signature(certificate.signature_value.data.as_ref().try_into().ok()?);
        let signed = certificate.signature_algorithm.algorithm == OID_SIG_ED25519
            && root.verify(certificate.tbs_certificate.as_ref(), &signature);
        signed.then_some(claims)
    }
}

/// The identity root as a signer of certificates.
struct Signer<'a> {
    root: &'a IdentityRoot,
    public: PublicKey,
}

impl<'a> Signer<'a> {
    fn new(root: &'a IdentityRoot) -> Self {
        Self { root, public: root.public_key() }
    }
}

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.root.sign(message).0.to_vec())
    }
}

/// A client's Ed25519 key for TLS.
struct TransportKey([u8; 32]);

impl PublicKeyData for TransportKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn a_client_is_read_back_and_nothing_else_is_one() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (root, other) = (IdentityRoot::generate(&mut rng), IdentityRoot::generate(&mut rng));
        for client in [0, 7, u64::MAX].map(ClientId) {
            let der = client_certificate(&root, client, [9; 32], 4_000_000_000).unwrap();
            let claims = Claims { client, transport_key: [9; 32], not_after: 4_000_000_000 };
            assert_eq!(Claims::read(&der), Some(claims));
            assert_eq!(Claims::read(&[der.as_slice(), &[0]].concat()), None, "bytes after its end");
            assert_eq!(Claims::read(&der[..der.len() - 1]), None);
            assert_eq!(Claims::verified(&der, &root.public_key()), Some(claims));
            assert_eq!(Claims::verified(&der, &other.public_key()), None);
            let mut forged = der.clone();
            let place = forged.windows(4).position(|bytes| bytes == [9; 4]).unwrap();
            forged[place] ^= 1;
            assert!(Claims::read(&forged).is_some());
            assert_eq!(Claims::verified(&forged, &root.public_key()), None, "the signature is over the key");
        }
        assert_eq!(Claims::read(&root_certificate(&root).unwrap()), None, "a root is no client");
        assert!(client_certificate(&root, ClientId(1), [9; 32], u64::MAX).is_err(), "beyond the year 9999");

        let named = |uris: &[&str]| {
            let mut params = CertificateParams::default();
            params.subject_alt_names =
                uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
            let issuer = Issuer::new(root_params(&root.public_key()), Signer::new(&root));
            Claims::read(params.signed_by(&TransportKey([9; 32]), &issuer).unwrap().der())
        };
        assert_eq!(named(&["tacit:client:5"]).map(|claims| claims.client), Some(ClientId(5)));
        for uris in [
            &["tacit:client:05"] as &[_],
            &["tacit:client:+5"],
            &["tacit:client:"],
            &["tacit:client:18446744073709551616"],
            &["tacit:admin:5"],
            &["tacit:client:5", "tacit:client:6"],
            &[],
        ] {
            assert_eq!(named(uris), None, "{uris:?}");
        }
    }

    #[test]
    fn one_root_has_one_certificate() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (root, other) = (IdentityRoot::generate(&mut rng), IdentityRoot::generate(&mut rng));
        assert_eq!(root_certificate(&root).unwrap(), root_certificate(&root).unwrap());
        assert_ne!(root_certificate(&root).unwrap(), root_certificate(&other).unwrap());
    }
}
