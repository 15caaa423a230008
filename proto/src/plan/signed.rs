//! A plan under the coordinator's signature. Must never give the plan out before the signature was checked.

use super::{PlanError, RoundPlan};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use std::fmt;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{PublicKey, Signature};
use tacit_aggregation::params::RosterTerms;
use tacit_privacy::ledger::head::{Head, SignedHead};
use zeroize::Zeroizing;

/// The coordinator's signing key.
pub struct CoordinatorKey(SigningKey);

impl CoordinatorKey {
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

    /// Signs canonical bytes, whose first field says what they are.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }

    /// Signs a plan, after a check of its values.
    ///
    /// # Errors
    /// [`PlanError`] when the plan names another coordinator or has a value that no plan can have.
    pub fn sign(&self, plan: RoundPlan) -> Result<SignedPlan, PlanError> {
        let (round, named, trusted) = (plan.round, plan.coordinator, self.public_key());
        if named != trusted {
            return Err(PlanError::Coordinator { round, named, trusted });
        }
        plan.validate()?;
        let signature = self.sign_bytes(&plan.canonical_bytes());
        Ok(SignedPlan { plan, signature })
    }

    /// Signs the head of the ledger. Never two that contradict each other: whoever sees both can prove it.
    #[must_use]
    pub fn sign_head(&self, head: Head) -> SignedHead {
        head.sign(&self.0)
    }
}

impl fmt::Debug for CoordinatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoordinatorKey({}, secret redacted)", self.public_key())
    }
}

/// Whether a coordinator signed these bytes.
pub(crate) fn signed_by(coordinator: &PublicKey, bytes: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    VerifyingKey::from_bytes(&coordinator.0).and_then(|key| key.verify_strict(bytes, &signature)).is_ok()
}

/// A plan and a signature that may or may not be the coordinator's.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedPlan {
    pub(crate) plan: RoundPlan,
    pub(crate) signature: Signature,
}

impl SignedPlan {
    /// Digest of the plan that is claimed: enough to tell two apart, not to trust one.
    #[must_use]
    pub fn claimed_digest(&self) -> Digest {
        self.plan.digest()
    }

    /// The adapter versions that an update may have been trained on, as it is claimed.
    #[must_use]
    pub fn parents(&self) -> &[Digest] {
        &self.plan.parents
    }

    /// The roster that the cohort is to be drawn from, as it is claimed.
    #[must_use]
    pub fn roster(&self) -> Option<&RosterTerms> {
        self.plan.roster.as_ref()
    }

    /// The most that the round costs a client, at the plan's delta, as it is claimed.
    #[must_use]
    pub fn claimed_epsilon(&self) -> f64 {
        self.plan.privacy.epsilon
    }

    /// The plan, if the trusted coordinator signed it and each of its values is one that a plan can have.
    ///
    /// # Errors
    /// [`PlanError::Coordinator`], [`PlanError::Signature`], or as [`RoundPlan::validate`].
    pub fn verify(&self, trusted: &PublicKey) -> Result<&RoundPlan, PlanError> {
        let (round, named) = (self.plan.round, self.plan.coordinator);
        if named != *trusted {
            return Err(PlanError::Coordinator { round, named, trusted: *trusted });
        }
        if !signed_by(trusted, &self.plan.canonical_bytes(), &self.signature) {
            return Err(PlanError::Signature { round, coordinator: named });
        }
        self.plan.validate()?;
        Ok(&self.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::{CoordinatorKey, SignedPlan};
    use crate::plan::tests_support::{key, plan};
    use crate::plan::{PlanError, RoundPlan};

    #[test]
    fn only_the_trusted_coordinators_plan_is_given_out() {
        let signed = key().sign(plan()).expect("a good plan");
        assert_eq!(signed.verify(&key().public_key()), Ok(&plan()));

        let other = CoordinatorKey::from_bytes(&[9; 32]);
        assert!(matches!(signed.verify(&other.public_key()), Err(PlanError::Coordinator { round: 3, .. })));
        assert!(matches!(other.sign(plan()), Err(PlanError::Coordinator { .. })));
        // Another coordinator's signature under the trusted one's name.
        let theirs = other
            .sign(RoundPlan { coordinator: other.public_key(), ..plan() })
            .expect("a good plan of its own")
            .signature;
        let forged = SignedPlan { signature: theirs, ..signed.clone() };
        assert!(matches!(forged.verify(&key().public_key()), Err(PlanError::Signature { round: 3, .. })));
        let mut changed = signed;
        changed.plan.privacy.epsilon = 0.5;
        assert!(matches!(changed.verify(&key().public_key()), Err(PlanError::Signature { round: 3, .. })));
    }

    #[test]
    fn a_signed_plan_is_checked_all_the_same() {
        let mut bad = plan();
        bad.privacy.clip = f64::NAN;
        assert!(matches!(key().sign(bad.clone()), Err(PlanError::Value { field: "privacy.clip", .. })));
        let signature = tacit_aggregation::identity::Signature(
            ed25519_dalek::Signer::sign(&key().0, &bad.canonical_bytes()).to_bytes(),
        );
        let signed = SignedPlan { plan: bad, signature };
        assert!(matches!(
            signed.verify(&key().public_key()),
            Err(PlanError::Value { field: "privacy.clip", .. })
        ));
    }

    #[test]
    fn heads_are_signed_by_the_same_key() {
        let head = tacit_privacy::ledger::head::Head { size: 3, root: [5; 32], time: 1 };
        let signed = key().sign_head(head);
        assert_eq!(signed.verify(&key().public_key().0), Ok(&head));
        assert!(signed.verify(&CoordinatorKey::from_bytes(&[9; 32]).public_key().0).is_err());
    }

    #[test]
    fn the_secret_is_stored_and_not_printed() {
        let again = CoordinatorKey::from_bytes(&key().to_bytes());
        assert_eq!(again.public_key(), key().public_key());
        assert!(!format!("{again:?}").contains("0707"));
    }
}
