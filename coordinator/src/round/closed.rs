//! The closed cohort, and what follows from it. Must never be made for a cohort whose mechanism or cost the plan does not
//! cover.

use super::FailureReason;
use crate::account::Reservation;
use std::sync::Arc;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::messages::CohortList;
use tacit_privacy::{RdpCurve, RotationSeed, RoundMechanism};
use tacit_proto::RoundPlan;

/// The closed cohort and what follows from it.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The members, and the parameters of the secure sum.
    pub list: Arc<CohortList>,
    /// The mechanism of a cohort of this size.
    pub mechanism: RoundMechanism,
    /// The most that taking part may cost.
    pub cost: RdpCurve,
    /// Public seed of the rotation.
    pub rotation: RotationSeed,
}

impl Closed {
    pub(super) fn new(
        plan: &RoundPlan,
        list: Arc<CohortList>,
        rotation: Digest,
    ) -> Result<Self, FailureReason> {
        let mechanism = plan.mechanism(&list.params)?;
        let cost = plan.admitted_cost(&mechanism)?;
        Ok(Self { list, mechanism, cost, rotation: RotationSeed(rotation) })
    }

    /// The members, in increasing order.
    pub fn members(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.list.entries.iter().map(|entry| entry.client)
    }

    pub(super) fn reservation(&self, plan: &RoundPlan) -> Reservation {
        Reservation {
            task: plan.task.clone(),
            round: plan.round,
            plan_digest: plan.digest(),
            clients: self.members().collect(),
            mechanism: self.mechanism.clone(),
            cost: self.cost.clone(),
            delta: plan.privacy.delta,
        }
    }
}
