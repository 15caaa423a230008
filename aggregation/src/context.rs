//! Canonical bytes: what is hashed or signed is a list of length-prefixed fields, so that no two lists share their bytes.
//! Must never take a field without its length.

use crate::Digest;
use crate::params::{RoundParams, RoundTerms};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// First field of everything that is hashed or signed.
pub const PROTOCOL: &str = "tacit/secagg/v1";

/// The primitives in use: share commitments, channels, envelopes, masks, and the hash of every derivation.
pub const SUITE: &str = "ristretto255-feldman/x25519/aes-256-gcm/aes-256-ctr/hkdf-sha256/ed25519";

/// A list of fields, each prefixed with its length as four bytes, big-endian. Integers are eight bytes, big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Starts a list for one purpose, which becomes part of the bytes.
    pub(crate) fn new(purpose: &str) -> Self {
        Self(Vec::with_capacity(256)).bytes(PROTOCOL.as_bytes()).bytes(purpose.as_bytes())
    }

    pub(crate) fn bytes(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&(field.len() as u32).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    pub(crate) fn integer(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn digest(&self) -> Digest {
        Sha256::digest(&self.0).into()
    }
}

/// What ties every secret, envelope and signature to one round, plan and cohort: the `ctx` of `docs/protocol.md`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context(Digest);

impl Context {
    /// SHA-256 of the length-prefixed fields protocol, suite, task, round, plan digest, digest of the list of parents,
    /// ledger head, n, `n_min`, k, t, d, b, cohort root.
    #[must_use]
    pub fn new(terms: &RoundTerms, params: &RoundParams, cohort_root: &Digest) -> Self {
        let parents =
            terms.parents.iter().fold(Fields::new("parents"), |fields, parent| fields.bytes(parent));
        let fields = Fields::new(SUITE)
            .bytes(terms.task.as_str().as_bytes())
            .integer(terms.round)
            .bytes(&terms.plan)
            .bytes(&parents.digest())
            .bytes(&terms.ledger_head)
            .integer(params.n.into())
            .integer(params.n_min.into())
            .integer(params.degree.into())
            .integer(params.threshold.into())
            .integer(params.dimension.into())
            .integer(params.bits.into())
            .bytes(cohort_root);
        Self(fields.digest())
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: Digest) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", Short(&self.0))
    }
}

/// The first eight bytes of a digest in hexadecimal, enough to tell two apart in a message.
pub(crate) struct Short<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if self.0.len() > 8 { f.write_str("..") } else { Ok(()) }
    }
}
