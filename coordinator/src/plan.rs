//! From an operator's settings to the plan of the next round. Must never sign what no client could accept: every admissible
//! cohort is tried before the plan is given out.

use crate::Millis;
use crate::account::Account;
use crate::adapter::AdapterVersion;
use serde::{Deserialize, Serialize};
use tacit_aggregation::Digest;
use tacit_aggregation::params::{RoundParams, TaskName};
use tacit_privacy::{Adjacency, Infeasible, Mechanism};
use tacit_proto::{
    AdapterShape, CohortTerms, CoordinatorKey, Deadlines, LocalTraining, PlanError, PrivacyTerms, RoundPlan,
    SignedPlan,
};

/// Share by which the scale is lowered until it serves every admissible cohort.
const SCALE_STEP: f64 = 0.995;
/// Steps before the settings are given up as infeasible: the scale is then below 0.6 of what the largest cohort would allow.
const MOST_STEPS: u32 = 100;
/// Cohort sizes that are tried, of those with the smallest honest share.
const MOST_PROBES: usize = 32;

/// What an operator fixes about the rounds of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSettings {
    /// The learning task.
    pub task: TaskName,
    /// SHA-256 of the base model's files.
    pub base_model: Digest,
    /// Shape of the adapter.
    pub adapter: AdapterShape,
    /// How a client trains.
    pub training: LocalTraining,
    /// Size of the cohort, and whom the secure sum withstands.
    pub cohort: CohortTerms,
    /// Clip norm, in the units of the update.
    pub clip: f64,
    /// Standard deviation of the honest minimum's summed noise over the sensitivity.
    pub noise_multiplier: f64,
    /// Which cohorts count as neighbours.
    pub adjacency: Adjacency,
    /// The delta at which epsilon is stated.
    pub delta: f64,
    /// How long each phase stays open.
    pub deadlines: Deadlines,
}

impl PlanSettings {
    /// Plans and signs a round that continues from an adapter version, and from what the account says of the past.
    ///
    /// # Errors
    /// [`PlanError`] names the setting or the number that stands in the way.
    pub fn plan(
        &self,
        round: u64,
        adapter: &AdapterVersion,
        account: &Account,
        key: &CoordinatorKey,
    ) -> Result<SignedPlan, PlanError> {
        let dimension = u32::try_from(adapter.values().len()).unwrap_or(u32::MAX);
        let mut plan = RoundPlan {
            task: self.task.clone(),
            round,
            parents: vec![*adapter.digest()],
            ledger_head: account.ledger().head(),
            base_model: self.base_model,
            adapter: self.adapter.clone(),
            training: self.training.clone(),
            cohort: self.cohort,
            privacy: PrivacyTerms {
                dimension,
                clip: self.clip,
                noise_multiplier: self.noise_multiplier,
                adjacency: self.adjacency,
                scale: 1.0,
                bits: 16,
                delta: self.delta,
                epsilon: 1.0,
            },
            deadlines: self.deadlines,
            coordinator: key.public_key(),
        };
        plan.validate()?;
        choose_encoding(&mut plan)?;
        plan.privacy.epsilon = plan.least_promise()?;
        key.sign(plan)
    }

    /// Time from the opening of a round to its end at the latest.
    #[must_use]
    pub fn longest_round(&self) -> Millis {
        let Deadlines { advertise, share, collect, confirm, unmask } = self.deadlines;
        [share, collect, confirm, unmask].into_iter().fold(advertise, Millis::saturating_add)
    }
}

/// Picks bits and scale for the largest cohort, and lowers the scale until smaller cohorts fit as well: their honest minimum
/// may be a smaller share of them, because it is rounded down, and each share of noise then larger.
fn choose_encoding(plan: &mut RoundPlan) -> Result<(), PlanError> {
    let terms = plan.terms();
    let largest = terms.params(plan.cohort.max)?;
    let best = Mechanism::build(&plan.mechanism_request(largest.n, largest.n_min)?)?;
    // At most 32 bits, far below what the field holds.
    plan.privacy.bits = best.bits() as u8;
    plan.privacy.scale = best.scale();
    // What a cohort needs grows with its size and with its size over its honest minimum; infeasible sizes fail on their own
    // when they occur, before anything is spent.
    let mut sizes: Vec<_> =
        (plan.cohort.min..=plan.cohort.max).filter_map(|n| terms.params(n).ok()).collect();
    sizes.sort_by(|a, b| {
        let share = |params: &RoundParams| f64::from(params.n) / f64::from(params.honest_minimum().max(1));
        share(b).total_cmp(&share(a)).then(b.n.cmp(&a.n))
    });
    sizes.truncate(MOST_PROBES);
    let mut refused = None;
    for _ in 0..MOST_STEPS {
        refused = sizes.iter().find_map(|params| plan.mechanism(params).err());
        if !matches!(refused, Some(PlanError::Mechanism(Infeasible::RangeTooSmall { .. }))) {
            break;
        }
        plan.privacy.scale *= SCALE_STEP;
    }
    refused.map_or(Ok(()), Err)
}
