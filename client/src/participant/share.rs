//! Shared: the client waits for its neighbours' shares, and then masks its update. Must never mask anything before the budget
//! was debited, nor anything but a noised update.

use super::{ParticipantError, Uploaded};
use crate::budget::Budget;
use crate::contribution::contribute;
use rand_core::CryptoRng;
use std::fmt;
use std::sync::Arc;
use tacit_aggregation::client;
use tacit_aggregation::messages::{CohortList, ShareDelivery};
use tacit_privacy::{Clipped, Mechanism, RdpCurve, RotationSeed};
use tacit_proto::{ClientMessage, RoundPlan};

/// The client has shared its secrets and waits for its neighbours' shares.
pub struct Shared {
    shared: client::Shared,
    clipped: Clipped,
    plan: Arc<RoundPlan>,
    mechanism: Mechanism,
    cost: RdpCurve,
}

impl Shared {
    pub(super) fn new(
        shared: client::Shared,
        clipped: Clipped,
        plan: Arc<RoundPlan>,
        mechanism: Mechanism,
        cost: RdpCurve,
    ) -> Self {
        Self { shared, clipped, plan, mechanism, cost }
    }

    /// The mechanism of the closed cohort.
    #[must_use]
    pub fn mechanism(&self) -> &Mechanism {
        &self.mechanism
    }

    /// The most that taking part costs.
    #[must_use]
    pub fn cost(&self) -> &RdpCurve {
        &self.cost
    }

    /// The recorded answer to a repeated cohort list.
    ///
    /// # Errors
    /// [`ParticipantError::Protocol`] for another list.
    pub fn repeat(&self, list: &CohortList) -> Result<ClientMessage, ParticipantError> {
        Ok(ClientMessage::Share(self.shared.repeat(list)?))
    }

    /// Debits the budget, noises the update and masks it. Draws 32 bytes from `rng`: fresh operating-system randomness, but
    /// in simulations.
    ///
    /// # Errors
    /// [`ParticipantError`] names the lie, or the limit. The client has then left the round; what was debited stays so.
    pub fn contribute<R: CryptoRng + ?Sized>(
        self,
        deliveries: &[ShareDelivery],
        budget: &mut Budget,
        rng: &mut R,
    ) -> Result<Uploaded, ParticipantError> {
        let Self { shared, clipped, plan, mechanism, cost } = self;
        budget.debit(plan.round, &cost)?;
        let rotation = RotationSeed(shared.rotation_seed());
        let vector = contribute(clipped, &mechanism, &rotation, rng)?;
        let (masked, upload) = shared.mask(deliveries, vector)?;
        Ok(Uploaded::new(masked, upload, plan.round))
    }

    pub(super) fn round(&self) -> u64 {
        self.plan.round
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("shared", &self.shared)
            .field("clipped", &self.clipped)
            .finish_non_exhaustive()
    }
}
