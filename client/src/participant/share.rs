//! Shared: the client waits for its neighbours' shares, and then masks its update. Must never mask anything before the budget
//! was debited, nor anything but what the plan's mechanism makes of the update, nor that in two ways.

use super::secrets::Bond;
use super::{ParticipantError, Uploaded};
use crate::budget::{Budget, Participation};
use crate::contribution::contribute;
use std::fmt;
use tacit_aggregation::client;
use tacit_aggregation::messages::{CohortList, ShareDelivery};
use tacit_privacy::{Clipped, RdpCurve, RotationSeed, RoundMechanism};
use tacit_proto::ClientMessage;

/// The client has shared its secrets and waits for its neighbours' shares.
pub struct Shared {
    pub(super) shared: client::Shared,
    pub(super) clipped: Clipped,
    pub(super) bond: Bond,
    pub(super) participation: Participation,
    pub(super) mechanism: Box<RoundMechanism>,
    pub(super) cost: RdpCurve,
}

impl Shared {
    /// The mechanism of the closed cohort.
    #[must_use]
    pub fn mechanism(&self) -> &RoundMechanism {
        &self.mechanism
    }

    /// The most that taking part costs.
    #[must_use]
    pub fn cost(&self) -> &RdpCurve {
        &self.cost
    }

    /// Public seed of the rotation that all members of this cohort apply.
    #[must_use]
    pub fn rotation_seed(&self) -> RotationSeed {
        RotationSeed(self.shared.rotation_seed())
    }

    /// The recorded answer to a repeated cohort list.
    ///
    /// # Errors
    /// [`ParticipantError::Protocol`] for another list.
    pub fn repeat(&self, list: &CohortList) -> Result<ClientMessage, ParticipantError> {
        Ok(ClientMessage::Share(self.shared.repeat(list)?))
    }

    /// Debits the budget, noises the update and masks it. Rounding and noise follow from the stored noise key and the context,
    /// so the same deliveries give the same bytes again after a crash, and a replay is debited once.
    ///
    /// # Errors
    /// [`ParticipantError`] names the lie, or the limit, or says that another vector was masked in this context before. The
    /// client has then left the round; what was debited stays so.
    pub fn contribute(
        self,
        deliveries: &[ShareDelivery],
        budget: &mut Budget,
    ) -> Result<Uploaded, ParticipantError> {
        let rotation = self.rotation_seed();
        let Self { shared, clipped, bond, participation, mechanism, cost } = self;
        budget.debit(&participation, &cost)?;
        let vector = contribute(clipped, &mechanism, &rotation, &mut bond.noise(&participation.context))?;
        let (masked, upload) = shared.mask(deliveries, vector)?;
        budget.seal(&participation, upload.header.digest)?;
        Ok(Uploaded::new(masked, upload, participation.round))
    }

    pub(super) fn round(&self) -> u64 {
        self.participation.round
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
