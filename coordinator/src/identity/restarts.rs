//! What crosses between the machines when a coordinator was restored from a backup: the head of its ledger goes to the identity
//! root, and a restart comes back. Must never hold a secret.

use serde::{Deserialize, Serialize};
use tacit_aggregation::Digest;
use tacit_privacy::ledger::head::{Head, HeadError, SignedHead};
use tacit_privacy::ledger::restart::{Restart, SignedRestart};

/// The head of a restored ledger, as the coordinator signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoredHead {
    /// The coordinator's Ed25519 public key.
    #[serde(with = "hex::serde")]
    pub coordinator: [u8; 32],
    /// Entries of the ledger.
    pub size: u64,
    /// Root of the Merkle tree over them.
    #[serde(with = "hex::serde")]
    pub root: Digest,
    /// When it was signed, in milliseconds since 1970.
    pub time: u64,
    /// The coordinator's signature over size, root and time.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

impl RestoredHead {
    /// A head of a coordinator's.
    ///
    /// # Errors
    /// [`HeadError::Signature`] when the coordinator did not sign it.
    pub fn new(coordinator: [u8; 32], signed: &SignedHead) -> Result<Self, HeadError> {
        let Head { size, root, time } = *signed.verify(&coordinator)?;
        Ok(Self { coordinator, size, root, time, signature: *signed.signature() })
    }

    /// The head, if the coordinator that it names signed it.
    ///
    /// # Errors
    /// [`HeadError::Signature`].
    pub fn verify(&self) -> Result<Head, HeadError> {
        let Self { coordinator, size, root, time, signature } = *self;
        Head { size, root, time }.signed(signature).verify(&coordinator).copied()
    }
}

/// A restart as the identity root signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartForm {
    /// The coordinator's Ed25519 public key.
    #[serde(with = "hex::serde")]
    pub coordinator: [u8; 32],
    /// Number of the restart, from 1.
    pub number: u32,
    /// Entries of the ledger that goes on.
    pub size: u64,
    /// Root of the Merkle tree over them.
    #[serde(with = "hex::serde")]
    pub root: Digest,
    /// The identity root's signature.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

impl From<SignedRestart> for RestartForm {
    fn from(signed: SignedRestart) -> Self {
        let Restart { coordinator, number, size, root } = *signed.claimed();
        Self { coordinator, number, size, root, signature: *signed.signature() }
    }
}

impl From<RestartForm> for SignedRestart {
    fn from(form: RestartForm) -> Self {
        let RestartForm { coordinator, number, size, root, signature } = form;
        Restart { coordinator, number, size, root }.signed(signature)
    }
}
