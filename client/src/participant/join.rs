//! Joining: the plan is checked, the update clipped, the keys announced. Must never announce a key for a plan that is not the
//! trusted coordinator's, or that the budget cannot bear.

use super::{ParticipantError, Shared};
use crate::Millis;
use crate::budget::Budget;
use rand_core::CryptoRng;
use std::sync::Arc;
use tacit_aggregation::Digest;
use tacit_aggregation::client::{Advertised, ClientError, ClientSetup, RoundSecrets};
use tacit_aggregation::identity::{Certificate, ClientId, IdentityKey, PublicKey};
use tacit_aggregation::messages::{Advert, CohortList};
use tacit_privacy::{Clipped, PipelineError};
use tacit_proto::{ClientMessage, RoundPlan, SignedPlan};

/// What a client knows of itself and whom it trusts.
#[derive(Clone, Debug)]
pub struct Member {
    /// The organisation's identity root.
    pub root: PublicKey,
    /// The coordinator whose plans it accepts.
    pub coordinator: PublicKey,
    /// Its signing key.
    pub identity: Arc<IdentityKey>,
    /// The root's certificate for that key.
    pub certificate: Certificate,
    /// SHA-256 of the files of the base model that it has.
    pub base_model: Digest,
}

/// The client has announced its keys and waits for the cohort.
#[derive(Debug)]
pub struct Joined {
    advertised: Advertised,
    clipped: Clipped,
    plan: Arc<RoundPlan>,
}

impl Joined {
    /// Joins a round with an update that was trained from the adapter version `parent`.
    ///
    /// `now` is compared with the certificate's expiry. Draws the secrets of the round from `rng`: operating-system
    /// randomness, but in simulations.
    ///
    /// # Errors
    /// [`ParticipantError`] names what the plan, the budget or the update lacks. Nothing is debited yet.
    pub fn new<R: CryptoRng>(
        signed: &SignedPlan,
        member: &Member,
        parent: Digest,
        delta: Vec<f32>,
        budget: &Budget,
        now: Millis,
        rng: &mut R,
    ) -> Result<Self, ParticipantError> {
        Self::resume(signed, member, parent, delta, budget, now, RoundSecrets::generate(rng))
    }

    /// Comes back to this state after a crash, with the secrets that were stored before the advert was sent.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn resume(
        signed: &SignedPlan,
        member: &Member,
        parent: Digest,
        delta: Vec<f32>,
        budget: &Budget,
        now: Millis,
        secrets: RoundSecrets,
    ) -> Result<Self, ParticipantError> {
        let plan = Arc::new(signed.verify(&member.coordinator)?.clone());
        if plan.base_model != member.base_model {
            return Err(ParticipantError::BaseModel { round: plan.round });
        }
        let client = member.certificate.client;
        if budget.client() != client {
            return Err(ParticipantError::ForeignBudget { client, budget: budget.client() });
        }
        let terms = plan.terms();
        budget.check_terms(&terms)?;
        // The cost of the largest cohort; that of the one that comes together is checked when it is closed.
        let largest = terms.params(plan.cohort.max).map_err(ClientError::from)?;
        budget.check(plan.round, &plan.admitted_cost(&plan.mechanism(&largest)?)?)?;

        let expected = plan.privacy.dimension as usize;
        if delta.len() != expected {
            return Err(PipelineError::DimensionMismatch { expected, found: delta.len() }.into());
        }
        let clipped = Clipped::new(delta, plan.privacy.clip)?;
        let setup = ClientSetup {
            terms: Arc::new(terms),
            floors: budget.limits().floors,
            root: member.root,
            identity: Arc::clone(&member.identity),
            certificate: member.certificate.clone(),
            parent,
        };
        let advertised = Advertised::resume(setup, secrets, now / 1000)?;
        Ok(Self { advertised, clipped, plan })
    }

    /// The message that announces the keys; the secrets are stored before it is sent.
    #[must_use]
    pub fn advert(&self) -> ClientMessage {
        ClientMessage::Advert(Arc::clone(self.advertised.advert()))
    }

    /// The secrets of this round, for storage.
    #[must_use]
    pub fn secrets(&self) -> &RoundSecrets {
        self.advertised.secrets()
    }

    /// This client.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.advertised.advert().client()
    }

    /// Euclidean norm of the update before it was clipped, for this machine's eyes only.
    #[must_use]
    pub fn norm_before_clipping(&self) -> f64 {
        self.clipped.norm_before()
    }

    /// The clipped update, out of the round; for simulations that sum without masks.
    #[must_use]
    pub fn into_clipped(self) -> Clipped {
        self.clipped
    }

    /// Checks the closed cohort, what taking part in it costs, and the neighbours; and shares this round's secrets.
    ///
    /// # Errors
    /// [`ParticipantError`] names the lie, or the limit. The client has then left the round.
    pub fn share(
        self,
        list: &CohortList,
        adverts: &[Arc<Advert>],
        budget: &Budget,
        now: Millis,
    ) -> Result<(Shared, ClientMessage), ParticipantError> {
        let Self { advertised, clipped, plan } = self;
        let (shared, message) = advertised.share(list, adverts, now / 1000)?;
        // The parameters are checked by now. Scale and noise follow from them, and with them the cost.
        let mechanism = plan.mechanism(shared.params())?;
        let cost = plan.admitted_cost(&mechanism)?;
        budget.check(plan.round, &cost)?;
        Ok((Shared::new(shared, clipped, plan, mechanism, cost), ClientMessage::Share(message)))
    }

    pub(super) fn round(&self) -> u64 {
        self.plan.round
    }
}
