//! Signed heads: the coordinator's word on what its ledger is, and each client's memory of the last one that it saw.
//! Must never let a ledger be shown to anyone in two versions without leaving the proof of it.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::Hash;
use super::restart::{RestartError, Shown, SignedRestart};
use super::tree::{ProofError, verify_consistency, verify_inclusion};

/// First bytes of what is signed; names format and version.
const TAG: &[u8] = b"tacit/ledger/head/v1";

/// The ledger at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Root of the Merkle tree over them: [`super::tree::Tree::root`].
    pub root: Hash,
    /// When it was signed, in milliseconds since 1970.
    pub time: u64,
}

impl Head {
    /// What is signed: the tag, then size, root and time, integers big-endian.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        [TAG, &self.size.to_be_bytes(), &self.root, &self.time.to_be_bytes()].concat()
    }

    /// Puts the coordinator's name under it.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> SignedHead {
        let signature = key.sign(&self.payload()).to_bytes();
        self.signed(signature)
    }

    /// Puts a signature under it that was made before.
    #[must_use]
    pub fn signed(self, signature: [u8; 64]) -> SignedHead {
        SignedHead { head: self, signature }
    }
}

/// A head and a signature that may or may not be the coordinator's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedHead {
    head: Head,
    signature: [u8; 64],
}

impl SignedHead {
    /// Bytes of the stored form.
    pub const BYTES: usize = 8 + 32 + 8 + 64;

    /// The head, if the trusted coordinator signed it.
    ///
    /// # Errors
    /// [`HeadError::Signature`].
    pub fn verify(&self, coordinator: &[u8; 32]) -> Result<&Head, HeadError> {
        let signature = Signature::from_bytes(&self.signature);
        VerifyingKey::from_bytes(coordinator)
            .and_then(|key| key.verify_strict(&self.head.payload(), &signature))
            .map(|()| &self.head)
            .map_err(|_| HeadError::Signature { size: self.head.size })
    }

    /// The signature's bytes.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The stored form: size, root, time, signature.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..48].copy_from_slice(&self.head.payload()[TAG.len()..]);
        bytes[48..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads the stored form. Every string of this length is one; only [`Self::verify`] tells what it is worth.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut number, mut root, mut signature) = ([0; 8], [0; 32], [0; 64]);
        number.copy_from_slice(&bytes[..8]);
        let size = u64::from_be_bytes(number);
        root.copy_from_slice(&bytes[8..40]);
        number.copy_from_slice(&bytes[40..48]);
        signature.copy_from_slice(&bytes[48..]);
        Self { head: Head { size, root, time: u64::from_be_bytes(number) }, signature }
    }
}

impl fmt::Debug for SignedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedHead").field("head", &self.head).finish_non_exhaustive()
    }
}

/// Why a head is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not the coordinator's signature.
    #[error(
        "the head of a ledger of {size} entries is not signed by the coordinator that this machine trusts"
    )]
    Signature {
        /// Entries that it claims.
        size: u64,
    },
    /// Fewer entries than were seen before.
    #[error(
        "the coordinator shows a ledger of {size} entries, but {seen} were seen before: it was rolled back, and budgets that \
         were spent may be spent again; keep both signed heads and tell the operator"
    )]
    RolledBack {
        /// Entries now.
        size: u64,
        /// Entries seen before.
        seen: u64,
    },
    /// Two different ledgers of one coordinator.
    #[error(
        "the coordinator has signed two ledgers that contradict each other, of {seen} and of {size} entries: keep both signed \
         heads, they prove it, and tell the operator"
    )]
    Forked {
        /// Entries now.
        size: u64,
        /// Entries seen before.
        seen: u64,
    },
    /// A proof that should be there is missing or wrong.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// One machine's memory of a coordinator's ledger: the last signed head that it accepted. It moves forward only, unless the
/// identity root lets the ledger go on from an earlier head; the memory keeps the last such restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    coordinator: [u8; 32],
    seen: Option<SignedHead>,
    restart: Option<SignedRestart>,
}

impl Witness {
    /// Of a coordinator whose ledger was never seen.
    #[must_use]
    pub fn new(coordinator: [u8; 32]) -> Self {
        Self { coordinator, seen: None, restart: None }
    }

    /// As it was stored.
    ///
    /// # Errors
    /// [`HeadError::Signature`] when the stored head was not signed by this coordinator.
    pub fn restore(
        coordinator: [u8; 32],
        seen: SignedHead,
        restart: Option<SignedRestart>,
    ) -> Result<Self, HeadError> {
        seen.verify(&coordinator)?;
        Ok(Self { coordinator, seen: Some(seen), restart })
    }

    /// The last restart that was adopted, to be stored together with the head.
    #[must_use]
    pub fn restart(&self) -> Option<&SignedRestart> {
        self.restart.as_ref()
    }

    /// Number of the last restart that was adopted; 0 before the first.
    #[must_use]
    pub fn restart_number(&self) -> u32 {
        self.restart.map_or(0, |restart| restart.claimed().number)
    }

    /// The first round that may be joined: after a restart none whose number may have been used in what was lost.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        self.restart.map_or(0, |restart| restart.claimed().first_round())
    }

    /// The last head that was accepted, to be stored before anything that relies on it is sent.
    #[must_use]
    pub fn seen(&self) -> Option<&SignedHead> {
        self.seen.as_ref()
    }

    /// Entries of the last ledger that was seen: from where the next consistency proof has to lead.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.head.size)
    }

    /// Takes a newer head, with the proof that its ledger extends the one seen before.
    ///
    /// # Errors
    /// [`HeadError`] names what is wrong; the memory is then unchanged.
    pub fn accept(&mut self, next: SignedHead, proof: &[Hash]) -> Result<(), HeadError> {
        let head = *next.verify(&self.coordinator)?;
        if let Some(SignedHead { head: seen, .. }) = self.seen {
            if head.size < seen.size {
                return Err(HeadError::RolledBack { size: head.size, seen: seen.size });
            }
            if head.size == seen.size && head.root != seen.root {
                return Err(HeadError::Forked { size: head.size, seen: seen.size });
            }
            verify_consistency(seen.size, &seen.root, head.size, &head.root, proof)?;
        }
        self.seen = Some(next);
        Ok(())
    }

    /// Takes a head together with a restart: the head need not extend the one seen before, if that was of a longer ledger than
    /// the restart goes on from. Whether the restart was news; what was adopted before is [`Self::accept`]ed as without it.
    ///
    /// # Errors
    /// [`RestartError`] names what is wrong; the memory is then unchanged.
    pub fn accept_restart(
        &mut self,
        next: SignedHead,
        proof: &[Hash],
        shown: &Shown<'_>,
        root: &[u8; 32],
    ) -> Result<bool, RestartError> {
        let head = *next.verify(&self.coordinator)?;
        let signed = shown.verify(root, &self.coordinator, &head)?;
        let (number, known) = (signed.claimed().number, self.restart_number());
        if number < known {
            return Err(RestartError::Older { number, known });
        }
        if number == known && self.restart != Some(signed) {
            return Err(RestartError::Forked { number });
        }
        let extended = self.clone().accept(next, proof);
        let is_news = number > known;
        if !(is_news && self.size() > signed.claimed().size) {
            extended?;
        }
        (self.seen, self.restart) = (Some(next), Some(signed));
        Ok(is_news)
    }

    /// Checks that an entry, given its [`super::tree::leaf_hash`], is at `index` in the ledger seen last.
    ///
    /// # Errors
    /// [`HeadError::Proof`].
    pub fn check_entry(&self, leaf: &Hash, index: u64, path: &[Hash]) -> Result<(), HeadError> {
        let (size, root) = self.seen.map_or((0, [0; 32]), |seen| (seen.head.size, seen.head.root));
        Ok(verify_inclusion(leaf, index, size, path, &root)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tree::{Tree, leaf_hash};
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn tree(size: u8, differing: u8) -> Tree {
        (0..size).map(|value| leaf_hash(&[if value == 1 { differing } else { value }])).collect()
    }

    fn head(tree: &Tree, time: u64) -> Head {
        Head { size: tree.size(), root: tree.root(), time }
    }

    #[test]
    fn a_witness_follows_a_ledger_that_only_grows() {
        let (coordinator, ledger) = (key(1), tree(9, 1));
        let public = coordinator.verifying_key().to_bytes();
        let mut witness = Witness::new(public);
        assert!(witness.check_entry(&leaf_hash(&[0]), 0, &[]).is_err(), "nothing was seen yet");
        for size in [0, 1, 1, 4, 9] {
            let signed = head(&tree(size, 1), 5).sign(&coordinator);
            let proof = ledger.consistency(witness.size(), size.into()).unwrap();
            assert_eq!(witness.accept(signed, &proof), Ok(()));
            assert_eq!(Witness::restore(public, *witness.seen().unwrap(), None), Ok(witness.clone()));
        }
        let path = ledger.inclusion(4, 9).unwrap();
        assert_eq!(witness.check_entry(&leaf_hash(&[4]), 4, &path), Ok(()));
        assert!(witness.check_entry(&leaf_hash(&[5]), 4, &path).is_err());
    }

    #[test]
    fn forks_and_rollbacks_are_refused_and_change_nothing() {
        let coordinator = key(1);
        let mut witness = Witness::new(coordinator.verifying_key().to_bytes());
        witness.accept(head(&tree(5, 1), 1).sign(&coordinator), &[]).unwrap();
        let before = witness.clone();
        let other = tree(8, 77);
        let refused = [
            (head(&tree(4, 1), 2).sign(&coordinator), vec![], HeadError::RolledBack { size: 4, seen: 5 }),
            (head(&tree(5, 77), 2).sign(&coordinator), vec![], HeadError::Forked { size: 5, seen: 5 }),
            (
                head(&other, 2).sign(&coordinator),
                other.consistency(5, 8).unwrap(),
                ProofError::NotExtended { before: 5, size: 8 }.into(),
            ),
            (head(&tree(8, 1), 2).sign(&key(2)), vec![], HeadError::Signature { size: 8 }),
        ];
        for (signed, proof, expected) in refused {
            assert_eq!(witness.accept(signed, &proof), Err(expected));
            assert_eq!(witness, before);
        }
    }

    #[test]
    fn nothing_of_a_signed_head_can_be_changed() {
        let coordinator = key(3);
        let public = coordinator.verifying_key().to_bytes();
        let bytes = head(&tree(5, 1), 1_700_000_000_000).sign(&coordinator).to_bytes();
        assert!(SignedHead::from_bytes(&bytes).verify(&public).is_ok());
        for place in 0..bytes.len() {
            let mut changed = bytes;
            changed[place] ^= 1;
            assert!(SignedHead::from_bytes(&changed).verify(&public).is_err(), "byte {place}");
            assert!(Witness::restore(public, SignedHead::from_bytes(&changed), None).is_err());
        }
    }
}
