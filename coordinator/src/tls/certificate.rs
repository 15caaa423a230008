//! The server's own certificate: the operator's, or one made on first start. Must never replace a certificate by itself: clients
//! know it by its fingerprint.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;
use sha2::{Digest as _, Sha256};
use tacit_aggregation::Digest;
use zeroize::Zeroizing;

use crate::files::{FileError, failed, write_whole};

/// The certificate made on first start, PEM.
const CERTIFICATE: &str = "tls-certificate.pem";
/// Its key, PEM.
const KEY: &str = "tls-key.pem";
/// Names that it always has.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No PEM, or not of the kind that is needed.
    #[error("{path} holds no {what} in PEM form: {problem}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        problem: pem::Error,
    },
    /// One of the two files is missing.
    #[error(
        "{missing} is missing beside {present}: restore it from a copy, or remove both, have new ones made, and tell every client the new fingerprint"
    )]
    Half {
        /// The one that is there.
        present: PathBuf,
        /// The one that is not.
        missing: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("no certificate can be made for these host names: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key.
    #[error("the server's certificate and key cannot be used: {0}")]
    Server(rustls::Error),
    /// The root's certificate.
    #[error("the identity root's certificate in the appointment cannot be used: {0}")]
    Root(rustls::Error),
    /// The verifier of client certificates.
    #[error("client certificates cannot be checked: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// A server's certificate with its key.
pub struct ServerCertificate {
    /// The certificate first, then those that lead to a known authority.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ServerCertificate {
    /// Reads the operator's certificate, which may be followed by those of its issuers, and its key; both PEM.
    ///
    /// # Errors
    /// [`TlsError::File`], [`TlsError::Pem`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let text = fs::read(certificate).map_err(failed(certificate))?;
        let what = "certificate";
        let wrong = |problem| TlsError::Pem { path: certificate.to_owned(), what, problem };
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        if chain.is_empty() {
            return Err(wrong(pem::Error::NoItemsFound));
        }
        let text = Zeroizing::new(fs::read(key).map_err(failed(key))?);
        let wrong = |problem| TlsError::Pem { path: key.to_owned(), what: "private key", problem };
        Ok(Self { chain, key: PrivateKeyDer::from_pem_slice(&text).map_err(wrong)? })
    }

    /// The self-signed certificate of a folder. The first time it is made, for the machine itself and the given host names and
    /// addresses, and kept in files that only their owner may read; clients know it by its fingerprint, so it does not expire.
    ///
    /// # Errors
    /// [`TlsError::File`], [`TlsError::Pem`], [`TlsError::Half`], [`TlsError::Make`].
    pub fn load_or_make(folder: &Path, hosts: &[String]) -> Result<Self, TlsError> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (true, false) => return Err(TlsError::Half { present: certificate, missing: key }),
            // A key alone is what is left when the first start was interrupted: nobody has seen its certificate.
            (false, _) => make(&certificate, &key, hosts)?,
        }
        Self::load(&certificate, &key)
    }

    /// The certificate that [`Self::load_or_make`] has made in a folder.
    ///
    /// # Errors
    /// [`TlsError::File`] where it has made none, [`TlsError::Pem`].
    pub fn made_in(folder: &Path) -> Result<Self, TlsError> {
        Self::load(&folder.join(CERTIFICATE), &folder.join(KEY))
    }

    /// SHA-256 of the certificate's DER form.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.chain.first().map(Sha256::digest).unwrap_or_default().into()
    }

    /// The fingerprint as people compare it: 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint_text(&self) -> String {
        self.fingerprint().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(super) fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }
}

fn make(certificate: &Path, key: &Path, hosts: &[String]) -> Result<(), TlsError> {
    let mut names: Vec<String> = LOOPBACK.map(String::from).to_vec();
    names.extend(hosts.iter().filter(|host| !LOOPBACK.contains(&host.as_str())).cloned());
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Tacit coordinator");
    params.distinguished_name = name;
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let signed = params.self_signed(&pair)?;
    let secret = Zeroizing::new(pair.serialize_pem());
    write_whole(key, secret.as_bytes())?;
    Ok(write_whole(certificate, signed.pem().as_bytes())?)
}
