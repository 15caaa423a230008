//! Joining: the plan is checked, the update clipped, the keys announced. Must never announce a key for a plan that is not the
//! trusted coordinator's, or that the budget cannot bear.

use super::secrets::{Bond, NoiseRng, stored};
use super::{JoinSecrets, ParticipantError, Shared};
use crate::Millis;
use crate::budget::{Budget, Participation};
use rand_core::CryptoRng;
use std::fmt;
use std::sync::Arc;
use tacit_aggregation::Digest;
use tacit_aggregation::client::{Advertised, ClientError, ClientSetup};
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::{Certificate, ClientId, IdentityKey, Membership, NewestEpoch, PublicKey};
use tacit_aggregation::messages::{Advert, CohortList};
use tacit_privacy::{Clipped, PipelineError};
use tacit_proto::{ClientMessage, RoundPlan, SignedPlan};
use zeroize::Zeroizing;

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
    /// Proof that it is on the roster of the plan at hand, where that demands one.
    pub membership: Option<Membership>,
}

/// The client has announced its keys and waits for the cohort.
#[derive(Debug)]
pub struct Joined {
    advertised: Advertised,
    clipped: Clipped,
    bond: Bond,
    plan: Arc<RoundPlan>,
}

/// An update out of its round, for simulations that sum without masks.
pub struct Unmasked {
    /// What is to be debited.
    pub participation: Participation,
    /// The update.
    pub clipped: Clipped,
    /// The generator of its rounding and noise.
    pub noise: NoiseRng,
}

/// The plan, if this client would join its round: it is the trusted coordinator's, for the base model that is here, within the
/// floors, and the budget bears what it may cost. What depends on the cohort is checked when that is closed.
///
/// # Errors
/// [`ParticipantError`] names what the plan or the budget lacks.
pub fn admit<'a>(
    signed: &'a SignedPlan,
    member: &Member,
    budget: &Budget,
) -> Result<&'a RoundPlan, ParticipantError> {
    let plan = signed.verify(&member.coordinator)?;
    if plan.base_model != member.base_model {
        return Err(ParticipantError::BaseModel { round: plan.round });
    }
    let client = member.certificate.client;
    if budget.client() != client {
        return Err(ParticipantError::ForeignBudget { client, budget: budget.client() });
    }
    let terms = plan.terms();
    budget.check_terms(&terms, plan.privacy.adjacency, &plan.privacy.trust)?;
    // The cost of the largest cohort; that of the one that comes together is checked when it is closed.
    // Where this round is debited already, only the exact check of the closed cohort can tell a replay.
    if !budget.has_paid_in(&plan.task, plan.round) {
        let largest = terms.params(plan.cohort.max).map_err(ClientError::from)?;
        budget.check_all(&plan.task, plan.round, &plan.admitted_cost(&plan.mechanism(&largest)?)?)?;
    }
    Ok(plan)
}

/// Whether this client may be in the cohort of a plan: where that demands a roster, it is the identity root's and of now, not of
/// an epoch before `newest`, and this client is on it and drawn. Checked again when the client joins, and of everybody when the
/// cohort is closed. What it returns is to be remembered as the newest epoch before the client joins.
///
/// # Errors
/// [`ParticipantError::Protocol`] says what is wrong with the roster, or this client's place on it.
pub fn check_place(
    plan: &RoundPlan,
    member: &Member,
    newest: Option<&NewestEpoch>,
    now: Millis,
) -> Result<Option<NewestEpoch>, ParticipantError> {
    let Some(terms) = &plan.roster else { return Ok(None) };
    let check = || {
        terms.verify(&member.root, now / 1000)?;
        let epoch = NewestEpoch::follow(newest, &terms.roster, &member.root)?;
        terms.admit(member.certificate.client, member.membership.as_ref())?;
        Ok(Some(epoch))
    };
    Ok(check().map_err(ClientError::Roster)?)
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
        // From here on the update is wiped wherever the way into the round ends.
        let delta = Zeroizing::new(delta);
        let secrets = JoinSecrets::generate(signed.claimed_digest(), &parent, &delta, rng);
        Self::enter(signed, member, parent, delta, budget, now, secrets)
    }

    /// Comes back to this state after a crash, with the plan, the update and the secrets that were stored before the advert was
    /// sent. A round that `budget` was debited for already is not held against its limit again.
    ///
    /// # Errors
    /// As [`Self::new`]; and [`ParticipantError::AnotherPlan`] or [`ParticipantError::AnotherUpdate`] when the secrets were not
    /// drawn for these.
    pub fn resume(
        signed: &SignedPlan,
        member: &Member,
        parent: Digest,
        delta: Vec<f32>,
        budget: &Budget,
        now: Millis,
        secrets: JoinSecrets,
    ) -> Result<Self, ParticipantError> {
        let delta = Zeroizing::new(delta);
        let round = signed.verify(&member.coordinator)?.round;
        if !secrets.bond.is_for_plan(&signed.claimed_digest()) {
            return Err(ParticipantError::AnotherPlan { round });
        }
        if !secrets.bond.is_for_update(&parent, &delta) {
            return Err(ParticipantError::AnotherUpdate { round });
        }
        Self::enter(signed, member, parent, delta, budget, now, secrets)
    }

    fn enter(
        signed: &SignedPlan,
        member: &Member,
        parent: Digest,
        mut delta: Zeroizing<Vec<f32>>,
        budget: &Budget,
        now: Millis,
        secrets: JoinSecrets,
    ) -> Result<Self, ParticipantError> {
        let plan = Arc::new(admit(signed, member, budget)?.clone());
        let terms = plan.terms();
        let expected = plan.privacy.dimension as usize;
        if delta.len() != expected {
            return Err(PipelineError::DimensionMismatch { expected, found: delta.len() }.into());
        }
        let clipped = Clipped::new(std::mem::take(&mut *delta), plan.privacy.clip)?;
        let setup = ClientSetup {
            terms: Arc::new(terms),
            floors: budget.limits().floors,
            root: member.root,
            identity: Arc::clone(&member.identity),
            certificate: member.certificate.clone(),
            membership: member.membership.clone(),
            parent,
        };
        let JoinSecrets { round, bond } = secrets;
        let advertised = Advertised::resume(setup, round, now / 1000)?;
        Ok(Self { advertised, clipped, bond, plan })
    }

    /// The message that announces the keys; the secrets are stored before it is sent.
    #[must_use]
    pub fn advert(&self) -> ClientMessage {
        ClientMessage::Advert(Arc::clone(self.advertised.advert()))
    }

    /// The [`JoinSecrets`] of this round, for storage beside the plan and the update.
    #[must_use]
    pub fn secrets(&self) -> Zeroizing<[u8; JoinSecrets::BYTES]> {
        stored(self.advertised.secrets(), &self.bond)
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

    /// The context of a closed cohort.
    #[must_use]
    pub fn context(&self, list: &CohortList) -> Context {
        Context::new(&self.plan.terms(), &list.params, &list.root())
    }

    /// The clipped update, out of the round; for simulations that sum without masks.
    #[must_use]
    pub fn into_unmasked(self, context: &Context) -> Unmasked {
        let participation = Participation::new(&self.plan, context);
        Unmasked { noise: self.bond.noise(context.as_bytes()), participation, clipped: self.clipped }
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
        let Self { advertised, clipped, bond, plan } = self;
        let (shared, message) = advertised.share(list, adverts, now / 1000)?;
        // The parameters are checked by now. Scale and noise follow from them, and with them the cost.
        let mechanism = plan.mechanism(shared.params())?;
        let cost = plan.admitted_cost(&mechanism)?;
        let participation = Participation::new(&plan, shared.context());
        budget.check_unpaid(&participation, &cost)?;
        let mechanism = Box::new(mechanism);
        let next = Shared { shared, clipped, bond, participation, mechanism, cost };
        Ok((next, ClientMessage::Share(message)))
    }

    pub(super) fn round(&self) -> u64 {
        self.plan.round
    }
}

impl fmt::Debug for Unmasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unmasked").field("participation", &self.participation).finish_non_exhaustive()
    }
}
