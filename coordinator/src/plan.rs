//! From an operator's settings to the plan of the next round. Must never sign what no client could accept: every admissible
//! cohort is tried before the plan is given out.

use crate::Millis;
use crate::account::Account;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tacit_aggregation::Digest;
use tacit_aggregation::params::{RosterTerms, RoundParams, TaskName};
use tacit_privacy::{AdaptiveClip, Adjacency, Infeasible, NoiseKey, NoiseLaw};
use tacit_proto::AdapterVersion;
use tacit_proto::{
    AdapterShape, CohortTerms, CoordinatorKey, Deadlines, LocalTraining, PlanError, PrivacyTerms, RoundPlan,
    SignedPlan, Trust,
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
    /// SHA-256 of the base model's files, in text as hexadecimal digits.
    #[serde(with = "hex::serde")]
    pub base_model: Digest,
    /// Shape of the adapter.
    pub adapter: AdapterShape,
    /// How a client trains.
    pub training: LocalTraining,
    /// Size of the cohort, and whom the secure sum withstands.
    pub cohort: CohortTerms,
    /// Clip norm, in the units of the update; the first round's, where it adapts.
    pub clip: f64,
    /// Standard deviation over the sensitivity: of the honest minimum's summed noise, or of the coordinator's.
    pub noise_multiplier: f64,
    /// Which cohorts count as neighbours.
    pub adjacency: Adjacency,
    /// The law of each client's noise share; the discrete Gaussian when left out.
    #[serde(default)]
    pub noise_law: NoiseLaw,
    /// The delta at which epsilon is stated.
    pub delta: f64,
    /// How long each phase stays open.
    pub deadlines: Deadlines,
    /// Noise by the coordinator, which its clients must trust for that. Left out, each client adds its share.
    #[serde(default)]
    pub central: Option<CentralSettings>,
    /// Cohorts that are drawn from the identity root's roster. Left out, the coordinator picks them, and everything that is
    /// promised holds if at most `cohort.corrupt_bp` of each cohort collude.
    #[serde(default)]
    pub roster: Option<RosterSettings>,
}

/// What an operator fixes about cohorts that are drawn from a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterSettings {
    /// G, clients on the roster that are assumed to collude with the coordinator.
    pub colluders: u32,
}

/// What a round goes on from when it is planned.
#[derive(Clone, Debug)]
pub struct RoundStart<'a> {
    /// The round's number.
    pub round: u64,
    /// The newest version of the adapter.
    pub adapter: &'a AdapterVersion,
    /// Older versions; updates that were trained on one of them may join as well.
    pub older: &'a [Digest],
    /// What clients have spent, and the last clip norm that followed from a round.
    pub account: &'a Account,
    /// The key of the coordinator's noise, drawn for this plan and stored with it; none where each client adds its share.
    pub noise: Option<&'a NoiseKey>,
    /// What the cohort is drawn from at this time, with the settings' number of colluders; none where they demand no roster.
    pub roster: Option<RosterTerms>,
}

impl<'a> RoundStart<'a> {
    /// From one version, with no noise of the coordinator's and a cohort that it picks.
    #[must_use]
    pub fn new(round: u64, adapter: &'a AdapterVersion, account: &'a Account) -> Self {
        Self { round, adapter, older: &[], account, noise: None, roster: None }
    }
}

/// What an operator fixes about noise that the coordinator adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentralSettings {
    /// How the clip norm follows the updates' norms; left out, it stays.
    #[serde(default)]
    pub adaptive_clip: Option<AdaptiveClip>,
}

/// A round that cannot be planned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanningError {
    /// A setting or a number stands in the way.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The noise needs a key.
    #[error(
        "the settings make the coordinator add the noise of round {round}, but no key of noise was drawn for it: draw one, \
         and store it with the plan"
    )]
    NoNoiseKey {
        /// The round.
        round: u64,
    },
    /// The cohort needs a roster, or there is one where none is wanted.
    #[error(
        "round {round} is planned with another roster, or other colluders, than the settings demand: with their colluders where \
         they have `plan.roster`, and with no roster elsewhere"
    )]
    Roster {
        /// The round.
        round: u64,
    },
}

impl PlanSettings {
    /// Plans and signs a round.
    ///
    /// # Errors
    /// [`PlanningError`] names the setting or the number that stands in the way.
    pub fn plan(&self, start: RoundStart<'_>, key: &CoordinatorKey) -> Result<SignedPlan, PlanningError> {
        let RoundStart { round, adapter, older, account, noise, roster } = start;
        // A plan that demands less than the settings, or other colluders, is never signed.
        if self.roster.map(|settings| settings.colluders) != roster.as_ref().map(|terms| terms.colluders) {
            return Err(PlanningError::Roster { round });
        }
        let (trust, clip) = match &self.central {
            None => (Trust::Distributed, self.clip),
            Some(CentralSettings { adaptive_clip }) => {
                let noise_commitment = noise.ok_or(PlanningError::NoNoiseKey { round })?.commitment();
                let due = adaptive_clip.and_then(|rule| account.next_clip(&self.task, &rule));
                let trust = Trust::Central { noise_commitment, adaptive_clip: *adaptive_clip };
                (trust, due.unwrap_or(self.clip))
            }
        };
        // Sorted, as a plan lists them, whatever the order of time.
        let parents: BTreeSet<Digest> = older.iter().chain([adapter.digest()]).copied().collect();
        let dimension = u32::try_from(adapter.values().len()).unwrap_or(u32::MAX);
        let mut plan = RoundPlan {
            task: self.task.clone(),
            round,
            parents: parents.into_iter().collect(),
            ledger_head: account.ledger().head(),
            base_model: self.base_model,
            adapter: self.adapter.clone(),
            training: self.training.clone(),
            cohort: self.cohort,
            privacy: PrivacyTerms {
                dimension,
                clip,
                noise_multiplier: self.noise_multiplier,
                adjacency: self.adjacency,
                scale: 1.0,
                bits: 16,
                delta: self.delta,
                epsilon: 1.0,
                noise_law: self.noise_law,
                trust,
            },
            deadlines: self.deadlines,
            coordinator: key.public_key(),
            roster,
        };
        plan.validate()?;
        choose_encoding(&mut plan)?;
        plan.privacy.epsilon = plan.least_promise()?;
        Ok(key.sign(plan)?)
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
    let best = plan.best_mechanism(largest.n, largest.n_min)?;
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

#[cfg(test)]
mod tests {
    use super::{
        Account, AdapterVersion, CentralSettings, CoordinatorKey, PlanSettings, PlanningError,
        RosterSettings, RosterTerms, RoundStart,
    };
    use tacit_aggregation::identity::{ClientId, EpochTerms, IdentityRoot, Rate, Roster};
    use tacit_aggregation::params::{TaskName, ThreatModel};
    use tacit_privacy::{
        AccountantError, AdaptiveClip, Adjacency, Infeasible, NoiseKey, NoiseLaw, RdpCurve, epsilon_spent,
    };
    use tacit_proto::{AdapterShape, CohortTerms, Deadlines, LocalRule, LocalTraining, PlanError, Trust};

    fn settings() -> PlanSettings {
        PlanSettings {
            task: TaskName::new("rust-completion").expect("a plain name"),
            base_model: [1; 32],
            adapter: AdapterShape { rank: 4, alpha: 8.0, targets: vec!["q_proj".into()], seed: 1 },
            training: LocalTraining {
                rule: LocalRule::Sgd { momentum: 0.0 },
                learning_rate: 0.1,
                steps: 1,
                batch: 1,
                sequence: 8,
            },
            cohort: CohortTerms {
                min: 60,
                max: 96,
                n_min: 50,
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: 500,
                dropout_bp: 1_500,
                correctness_bits: 40,
            },
            clip: 0.5,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
            delta: 1e-5,
            deadlines: Deadlines { advertise: 5, share: 4, collect: 3, confirm: 2, unmask: 1 },
            central: None,
            roster: None,
        }
    }

    fn key() -> CoordinatorKey {
        CoordinatorKey::from_bytes(&[3; 32])
    }

    fn adapter(dimension: usize) -> AdapterVersion {
        AdapterVersion::new(vec![0.0; dimension], [1; 32]).expect("finite")
    }

    #[test]
    fn every_admissible_cohort_is_feasible_and_covered_by_the_promise() {
        let mut tried = 0;
        for dimension in [1, 50, 6_144, 200_000] {
            for noise_multiplier in [0.7, 2.0, 4.0] {
                let settings = PlanSettings { noise_multiplier, ..settings() };
                let signed = settings
                    .plan(RoundStart::new(1, &adapter(dimension), &Account::new()), &key())
                    .expect("feasible");
                let plan = signed.verify(&key().public_key()).expect("its own plan");
                for n in (60..=96).step_by(if dimension > 10_000 { 12 } else { 3 }) {
                    let params = plan.terms().params(n).expect("feasible");
                    let mechanism = plan.mechanism(&params).expect("the encoding fits");
                    plan.admitted_cost(&mechanism).expect("within the promise");
                    tried += 1;
                }
                // At noise multiplier z a Gaussian release costs about sqrt(2 ln(1/delta)) / z, and no less than half.
                let promise = plan.privacy.epsilon * noise_multiplier;
                assert!((2.4..6.5).contains(&promise), "{dimension}, {noise_multiplier}: {promise}");
            }
        }
        assert_eq!(tried, 3 * (3 * 13 + 4));
    }

    #[test]
    fn a_plan_continues_from_the_adapter_and_the_ledger() {
        let version = adapter(10);
        let signed =
            settings().plan(RoundStart::new(4, &version, &Account::new()), &key()).expect("feasible");
        let plan = signed.verify(&key().public_key()).expect("its own plan");
        assert_eq!((plan.round, plan.parents.as_slice()), (4, &[*version.digest()][..]));
        assert_eq!(plan.ledger_head, Account::new().ledger().head());
        assert_eq!(plan.privacy.dimension, 10);
        assert_eq!(settings().longest_round(), 15);
        // Older versions stand beside it, in the order that every plan has.
        let older = [[0xff; 32], [0; 32]];
        let account = Account::new();
        let start = RoundStart { older: &older, ..RoundStart::new(4, &version, &account) };
        let signed = settings().plan(start, &key()).expect("feasible");
        let plan = signed.verify(&key().public_key()).expect("its own plan");
        assert_eq!(plan.parents, [[0; 32], *version.digest(), [0xff; 32]]);
    }

    #[test]
    fn infeasible_settings_are_refused_with_the_reason() {
        let refused = |change: &dyn Fn(&mut PlanSettings)| {
            let mut settings = settings();
            change(&mut settings);
            match settings.plan(RoundStart::new(1, &adapter(1000), &Account::new()), &key()) {
                Err(PlanningError::Plan(error)) => error,
                other => panic!("{other:?}"),
            }
        };
        // Half of a cohort colluding and a third dropping out leave no threshold.
        let error = refused(&|s| (s.cohort.corrupt_bp, s.cohort.dropout_bp) = (5_000, 3_300));
        assert!(matches!(error, PlanError::Terms(_)), "{error}");
        let error = refused(&|s| s.noise_multiplier = 1e6);
        assert!(matches!(error, PlanError::Mechanism(Infeasible::RangeTooSmall { .. })), "{error}");
        let error = refused(&|s| s.noise_multiplier = 1e-4);
        assert!(matches!(error, PlanError::Cost(AccountantError::DeltaExhausted { .. })), "{error}");
        let error = refused(&|s| s.clip = f64::NAN);
        assert!(matches!(error, PlanError::Value { field: "privacy.clip", .. }), "{error}");
        let error = refused(&|s| s.adapter.targets.clear());
        assert!(matches!(error, PlanError::Value { field: "adapter.targets", .. }), "{error}");
    }

    #[test]
    fn a_plan_demands_a_roster_exactly_where_the_settings_do() {
        let epoch = EpochTerms {
            number: 1,
            not_before: 0,
            not_after: 999,
            period_seconds: std::num::NonZeroU64::new(100).expect("not zero"),
            rate: Rate::new(1, 10).expect("a rate"),
            seed: [7; 32],
        };
        let roster = Roster::new((0..800).map(ClientId).collect());
        let signed = IdentityRoot::from_bytes(&[1; 32]).sign_roster(&roster, epoch);
        let terms = |colluders| RosterTerms::new(signed.clone(), 3, colluders).expect("feasible");
        let mut drawn = PlanSettings { roster: Some(RosterSettings { colluders: 10 }), ..settings() };
        drawn.cohort.corrupt_bp = 0;
        let plan = |settings: &PlanSettings, roster| {
            let (adapter, account) = (adapter(1000), Account::new());
            settings.plan(RoundStart { roster, ..RoundStart::new(2, &adapter, &account) }, &key())
        };
        let signed = plan(&drawn, Some(terms(10))).expect("feasible");
        let good = signed.verify(&key().public_key()).expect("its own plan");
        assert_eq!(good.roster, Some(terms(10)));
        for n in [60, 77, 96] {
            let params = good.terms().params(n).expect("feasible");
            assert_eq!(params.corrupt(), terms(10).corrupt);
            good.admitted_cost(&good.mechanism(&params).expect("fits")).expect("within the promise");
        }
        let refused = Err(PlanningError::Roster { round: 2 });
        assert_eq!(plan(&drawn, None), refused);
        assert_eq!(plan(&drawn, Some(terms(9))), refused, "with fewer colluders than the settings assume");
        assert_eq!(plan(&settings(), Some(terms(10))), refused);
        drawn.cohort.corrupt_bp = 500;
        let twice = plan(&drawn, Some(terms(10)));
        assert!(matches!(twice, Err(PlanningError::Plan(PlanError::Terms(_)))), "{twice:?}");
    }

    #[test]
    fn a_central_plan_is_bound_to_one_noise_key_and_covers_every_cohort() {
        let rule = AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 5.0 };
        for adaptive_clip in [None, Some(rule)] {
            let settings = PlanSettings { central: Some(CentralSettings { adaptive_clip }), ..settings() };
            let noise = NoiseKey::from_bytes(&[5; 32]);
            let (adapter, account) = (adapter(1000), Account::new());
            let start = RoundStart::new(3, &adapter, &account);
            let unkeyed = settings.plan(start.clone(), &key());
            assert_eq!(unkeyed, Err(PlanningError::NoNoiseKey { round: 3 }));
            let start = RoundStart { noise: Some(&noise), ..start };
            let signed = settings.plan(start, &key()).expect("feasible");
            let plan = signed.verify(&key().public_key()).expect("its own plan");
            let noise_commitment = noise.commitment();
            assert_eq!(plan.privacy.trust, Trust::Central { noise_commitment, adaptive_clip });
            assert_eq!(plan.privacy.clip, settings.clip);
            for n in 60..=96 {
                let mechanism = plan.mechanism(&plan.terms().params(n).expect("feasible")).expect("fits");
                plan.admitted_cost(&mechanism).expect("within the promise");
            }
            let ideal = epsilon_spent(&RdpCurve::gaussian(2.0), 1e-5, 1).expect("stated");
            assert!((plan.privacy.epsilon / ideal - 1.0).abs() < 1e-6, "{}", plan.privacy.epsilon);
        }
    }
}
