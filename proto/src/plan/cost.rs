//! What taking part in a planned round costs. Must never promise less than the worst that the round may turn out to be.

use super::{PlanError, RoundPlan, Trust};
use tacit_aggregation::params::{RoundParams, corrupt_share, fraction_of};
use tacit_privacy::{
    BasisPoints, CentralMechanism, CentralRequest, Infeasible, Mechanism, MechanismRequest, RdpCurve,
    RoundMechanism, epsilon_spent,
};

impl RoundPlan {
    /// The mechanism of a closed cohort: the plan's encoding with the cohort's own size and minimum. Local noise follows
    /// from these, so client and coordinator compute it alike.
    ///
    /// # Errors
    /// [`PlanError::Mechanism`] when the plan's encoding does not serve a cohort of this size.
    pub fn mechanism(&self, params: &RoundParams) -> Result<RoundMechanism, PlanError> {
        let (n, n_min) = (params.n, params.n_min);
        let (bits, scale) = (u32::from(self.privacy.bits), self.privacy.scale);
        Ok(match self.privacy.trust {
            Trust::Distributed => {
                Mechanism::with_encoding(&self.distributed_request(n, n_min)?, bits, scale)?.into()
            }
            Trust::Central { .. } => {
                CentralMechanism::with_encoding(&self.central_request(n, n_min), bits, scale)?.into()
            }
        })
    }

    /// The mechanism of a cohort of `clients` with the encoding that serves it best, whatever the plan's.
    ///
    /// # Errors
    /// [`PlanError::Mechanism`] when none serves it, [`PlanError::Value`] for a fraction above one.
    pub fn best_mechanism(&self, clients: u32, n_min: u32) -> Result<RoundMechanism, PlanError> {
        Ok(match self.privacy.trust {
            Trust::Distributed => Mechanism::build(&self.distributed_request(clients, n_min)?)?.into(),
            Trust::Central { .. } => CentralMechanism::build(&self.central_request(clients, n_min))?.into(),
        })
    }

    /// Colluding members assumed in a cohort of n, per 10,000.
    fn corrupt_share(&self, n: u32) -> u16 {
        corrupt_share(self.cohort.corrupt_bp, self.roster.as_ref(), n)
    }

    fn central_request(&self, clients: u32, n_min: u32) -> CentralRequest {
        CentralRequest {
            clients,
            n_min,
            dimension: self.privacy.dimension as usize,
            clip: self.privacy.clip,
            noise_multiplier: self.privacy.noise_multiplier,
            adjacency: self.privacy.adjacency,
            adaptive_clip: self.privacy.trust.adaptive_clip(),
        }
    }

    fn distributed_request(&self, clients: u32, n_min: u32) -> Result<MechanismRequest, PlanError> {
        let fraction = |field, value| {
            BasisPoints::new(value).map_err(|_| PlanError::Value {
                round: self.round,
                field,
                value: value.to_string(),
                expected: "at most 10,000",
            })
        };
        Ok(MechanismRequest {
            clients,
            n_min,
            corrupt: fraction("cohort.corrupt_bp", self.corrupt_share(clients))?,
            dropout: fraction("cohort.dropout_bp", self.cohort.dropout_bp)?,
            dimension: self.privacy.dimension as usize,
            clip: self.privacy.clip,
            noise_multiplier: self.privacy.noise_multiplier,
            adjacency: self.privacy.adjacency,
            noise_law: self.privacy.noise_law,
        })
    }

    /// Checks that taking part in a round of this mechanism costs no more than the plan promises, and returns the most that
    /// it can cost.
    ///
    /// # Errors
    /// [`PlanError::CostAbovePlan`], or [`PlanError::Cost`] when no cost can be stated.
    pub fn admitted_cost(&self, mechanism: &RoundMechanism) -> Result<RdpCurve, PlanError> {
        let worst = mechanism.worst_cost()?;
        let delta = self.privacy.delta;
        let cost = epsilon_spent(&worst, delta, 1)?;
        // Another machine's logarithm may differ in its last bits.
        if cost <= self.privacy.epsilon * (1.0 + 1e-9) {
            return Ok(worst);
        }
        let (round, clients) = (self.round, mechanism.clients());
        Err(PlanError::CostAbovePlan { round, clients, cost, delta, promised: self.privacy.epsilon })
    }

    /// The least [`super::PrivacyTerms::epsilon`] that covers a cohort of any admissible size.
    ///
    /// # Errors
    /// [`PlanError`] when no admissible size is feasible, or no cost can be stated.
    pub fn least_promise(&self) -> Result<f64, PlanError> {
        // At n_min survivors every cohort has the same ratio of noise to sensitivity. What differs is how far the sum of m
        // shares is from one discrete Gaussian, which grows with m: the cohorts of the largest m cost the most. Of Skellam
        // shares all cohorts cost the same, but for the rounding of the variance, 2^-32.
        let honest = |&n: &u32| {
            let n_min = self.cohort.n_min.max(n - fraction_of(n, self.cohort.dropout_bp));
            (n_min.saturating_sub(fraction_of(n, self.corrupt_share(n))), n)
        };
        let mut sizes: Vec<u32> = (self.cohort.min..=self.cohort.max).collect();
        sizes.sort_by_key(|n| std::cmp::Reverse(honest(n)));
        let mut refused = None;
        for n in sizes {
            match self.terms().params(n).map_err(PlanError::from).and_then(|params| self.mechanism(&params)) {
                Ok(mechanism) => return Ok(epsilon_spent(&mechanism.worst_cost()?, self.privacy.delta, 1)?),
                Err(reason) => refused = refused.or(Some(reason)),
            }
        }
        Err(refused.unwrap_or(PlanError::Mechanism(Infeasible::Clients { clients: self.cohort.max })))
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::tests_support::{RULE, central_plan, drawn_plan, plan};
    use crate::plan::{PlanError, RoundPlan};
    use tacit_privacy::{NoiseLaw, RdpCurve, RoundMechanism, epsilon_spent};

    #[test]
    fn the_promise_covers_every_cohort_and_every_number_of_survivors() {
        for noise_law in NoiseLaw::ALL {
            let mut plan = plan();
            plan.privacy.noise_law = noise_law;
            plan.privacy.epsilon = plan.least_promise().expect("feasible");
            assert_covered(&plan);
        }
    }

    #[test]
    fn a_drawn_cohort_has_as_much_noise_as_its_honest_minimum_gives() {
        let mut plan = drawn_plan();
        let params = plan.terms().params(plan.cohort.max).expect("feasible");
        let best = plan.best_mechanism(params.n, params.n_min).expect("feasible");
        (plan.privacy.bits, plan.privacy.scale) = (best.bits() as u8, 0.7 * best.scale());
        plan.privacy.epsilon = plan.least_promise().expect("feasible");
        assert_covered(&plan);
        // More colluders, so more noise from each: the honest ones' noise alone has to do.
        let mut more = plan.clone();
        more.roster.iter_mut().for_each(|terms| terms.corrupt += 3);
        let noise = |plan: &RoundPlan| match plan.best_mechanism(params.n, params.n_min).expect("feasible") {
            RoundMechanism::Distributed(mechanism) => mechanism.local_sigma(),
            RoundMechanism::Central(_) => 0.0,
        };
        assert!(noise(&more) > noise(&plan) && noise(&plan) > 0.0);
    }

    fn assert_covered(plan: &RoundPlan) {
        let mut sizes = 0;
        for n in plan.cohort.min..=plan.cohort.max {
            let Ok(params) = plan.terms().params(n) else { continue };
            let mechanism = plan.mechanism(&params).expect("feasible");
            let worst = plan.admitted_cost(&mechanism).expect("covered by the promise");
            for survivors in params.n_min..=n {
                let curve = mechanism.cost(survivors).expect("released");
                for ((_, most), (_, cost)) in worst.points().zip(curve.points()) {
                    assert!(cost <= most);
                }
            }
            sizes += 1;
        }
        assert!(sizes >= 15, "only {sizes} sizes are feasible");
    }

    #[test]
    fn a_promise_that_is_too_low_is_refused() {
        let mut plan = plan();
        let params = plan.terms().params(plan.cohort.max).expect("feasible");
        let mechanism = plan.mechanism(&params).expect("feasible");
        let cost =
            epsilon_spent(&mechanism.worst_cost().expect("stated"), plan.privacy.delta, 1).expect("stated");
        plan.privacy.epsilon = 0.999 * cost;
        assert!(matches!(plan.admitted_cost(&mechanism), Err(PlanError::CostAbovePlan { clients: 40, .. })));
        plan.privacy.epsilon = cost;
        plan.admitted_cost(&mechanism).expect("exactly the promise");
    }

    #[test]
    fn the_coordinators_noise_costs_the_same_in_every_cohort() {
        for adaptive_clip in [None, Some(RULE)] {
            let mut plan = central_plan(adaptive_clip);
            let params = plan.terms().params(plan.cohort.max).expect("feasible");
            let best = plan.best_mechanism(params.n, params.n_min).expect("feasible");
            (plan.privacy.bits, plan.privacy.scale) = (best.bits() as u8, best.scale());
            let promise = plan.least_promise().expect("feasible");
            plan.privacy.epsilon = promise;
            let ideal = epsilon_spent(&RdpCurve::gaussian(2.0), plan.privacy.delta, 1).expect("stated");
            assert!((promise / ideal - 1.0).abs() < 1e-6, "{promise} where {ideal} is due");
            for n in plan.cohort.min..=plan.cohort.max {
                let Ok(params) = plan.terms().params(n) else { continue };
                let mechanism = plan.mechanism(&params).expect("what serves the largest serves all");
                assert!(mechanism.central().is_some());
                assert_eq!(mechanism.ring_dimension(), plan.terms().dimension as usize);
                plan.admitted_cost(&mechanism).expect("within the promise");
            }
        }
    }
}
