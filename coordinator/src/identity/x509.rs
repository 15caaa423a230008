//! X.509 for TLS, under the same root as everything else. Must never certify a key for anything but opening connections.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
};
use tacit_aggregation::identity::{ClientId, IdentityRoot, PublicKey};
use time::OffsetDateTime;

/// Common name of every identity root's certificate.
const ROOT_NAME: &str = "Tacit identity root";

/// The root's own certificate, DER, which a server gives TLS to check clients with. The same key gives the same certificate.
///
/// # Errors
/// [`rcgen::Error`] when it cannot be encoded.
pub fn root_certificate(root: &IdentityRoot) -> Result<Vec<u8>, rcgen::Error> {
    let signer = Signer::new(root);
    let mut params = root_params();
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
    params.distinguished_name = name(&client.to_string());
    params.serial_number = Some(SerialNumber::from_slice(&transport_key[..16]));
    params.not_after = i64::try_from(not_after)
        .ok()
        .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
        .ok_or(rcgen::Error::Time)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::new(root_params(), Signer::new(root));
    Ok(params.signed_by(&TransportKey(transport_key), &issuer)?.der().to_vec())
}

fn root_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(ROOT_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
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
