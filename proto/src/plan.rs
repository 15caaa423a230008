//! The plan of a round: everything that is fixed before its cohort is known, and what it costs to take part.
//! Must never hold a value that two readers could read in two ways; its digest stands for all of it.

mod cost;
mod settings;
mod signed;

pub use settings::{AdapterShape, CohortTerms, Deadlines, LocalRule, LocalTraining, PrivacyTerms, Trust};
pub(crate) use signed::signed_by;
pub use signed::{CoordinatorKey, SignedPlan};

use crate::canonical::Fields;
use sha2::{Digest as _, Sha256};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::PublicKey;
use tacit_aggregation::params::{ParamsError, RosterTerms, RoundTerms, TaskName};
use tacit_privacy::{AccountantError, Infeasible};

/// First field of a plan's canonical bytes; names format and version.
const TAG: &str = "tacit/plan/v2";
/// First field of what a recipe's digest is of.
const RECIPE_TAG: &str = "tacit/recipe/v1";

/// Everything that is fixed about a round before its cohort is known.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundPlan {
    /// The learning task.
    pub task: TaskName,
    /// Number of the round within the task.
    pub round: u64,
    /// Digests of the adapter versions whose updates may join, strictly increasing: the newest, which updates are trained on, and
    /// as many before it as an update may be stale.
    pub parents: Vec<Digest>,
    /// Head of the ledger that the plan builds on.
    pub ledger_head: Digest,
    /// SHA-256 of the base model's files.
    pub base_model: Digest,
    /// Shape of the adapter that is trained.
    pub adapter: AdapterShape,
    /// How a client trains before it contributes.
    pub training: LocalTraining,
    /// Size of the cohort, and whom the secure sum withstands.
    pub cohort: CohortTerms,
    /// The mechanism of differential privacy and its cost.
    pub privacy: PrivacyTerms,
    /// How long each phase stays open.
    pub deadlines: Deadlines,
    /// The coordinator's public key, under which the plan is signed.
    pub coordinator: PublicKey,
    /// The roster that the cohort is drawn from. Without one the coordinator picks it, and what the plan promises holds if at
    /// most gamma of it collude.
    pub roster: Option<RosterTerms>,
}

/// A plan that cannot be used, or is not what it claims to be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A value that no plan can have.
    #[error("{field} is {value} in the plan of round {round}; it must be {expected}")]
    Value {
        /// The plan's round.
        round: u64,
        /// Which field, by its path.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// Terms that secure aggregation cannot serve.
    #[error("the terms of the secure sum are refused: {0}")]
    Terms(#[from] ParamsError),
    /// A mechanism that does not exist, or gives no privacy.
    #[error("the privacy mechanism is refused: {0}")]
    Mechanism(#[from] Infeasible),
    /// A cost that cannot be stated.
    #[error("the privacy cost cannot be stated: {0}")]
    Cost(#[from] AccountantError),
    /// Taking part costs more than the plan says.
    #[error(
        "taking part in a cohort of {clients} costs epsilon {cost} at delta {delta}, but the plan of round {round} promises \
         at most {promised}: refuse the cohort"
    )]
    CostAbovePlan {
        /// The plan's round.
        round: u64,
        /// Cohort size.
        clients: u32,
        /// What taking part costs.
        cost: f64,
        /// The delta at which it is stated.
        delta: f64,
        /// What the plan says.
        promised: f64,
    },
    /// Signed by another coordinator than the trusted one.
    #[error(
        "the plan of round {round} is by coordinator {named}, not by {trusted}, which this client trusts"
    )]
    Coordinator {
        /// The plan's round.
        round: u64,
        /// The coordinator that the plan names.
        named: PublicKey,
        /// The coordinator that the client trusts.
        trusted: PublicKey,
    },
    /// A signature that does not verify.
    #[error("the signature of coordinator {coordinator} on the plan of round {round} does not verify")]
    Signature {
        /// The plan's round.
        round: u64,
        /// The coordinator that the plan names.
        coordinator: PublicKey,
    },
}

impl RoundPlan {
    /// The bytes that are signed and hashed: the tag, then every field in the order of its declaration, nested ones in
    /// place, each prefixed with its length in four bytes, big-endian. Integers and reals take eight bytes, big-endian; a list
    /// is preceded by its count; an alternative is its name. Of a roster what the root signed is one field, and its signature
    /// is another; where there is none, nothing follows the coordinator's key.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let fields = Fields::new(TAG)
            .text(self.task.as_str())
            .integer(self.round)
            .list(self.parents.iter().map(Digest::as_slice))
            .bytes(&self.ledger_head)
            .bytes(&self.base_model);
        let fields = self.adapter.write(fields);
        let fields = self.training.write(fields);
        let fields = self.cohort.write(fields);
        let fields = self.privacy.write(fields);
        let fields = self.deadlines.write(fields).bytes(&self.coordinator.0);
        let Some(RosterTerms { roster, period, colluders, corrupt }) = &self.roster else {
            return fields.into_bytes();
        };
        fields
            .text("roster")
            .bytes(&roster.payload())
            .bytes(&roster.signature.0)
            .integer(*period)
            .integer(*colluders)
            .integer(*corrupt)
            .into_bytes()
    }

    /// SHA-256 of [`Self::canonical_bytes`], which stands for the plan everywhere else.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Sha256::digest(self.canonical_bytes()).into()
    }

    /// What an update depends on besides the version that it was trained on: base model, shape, local training. An update for
    /// one plan serves another of the same recipe that lists its parent; the clip norm is none of it, for an update is clipped
    /// when it joins.
    #[must_use]
    pub fn recipe(&self) -> Digest {
        let fields = Fields::new(RECIPE_TAG).text(self.task.as_str()).bytes(&self.base_model);
        let fields = self.training.write(self.adapter.write(fields));
        Sha256::digest(fields.integer(self.privacy.dimension).into_bytes()).into()
    }

    /// What secure aggregation needs to know of the plan.
    #[must_use]
    pub fn terms(&self) -> RoundTerms {
        RoundTerms {
            task: self.task.clone(),
            round: self.round,
            plan: self.digest(),
            parents: self.parents.clone(),
            ledger_head: self.ledger_head,
            dimension: self.privacy.ring_dimension(),
            bits: self.privacy.bits,
            threat: self.cohort.threat,
            corrupt_bp: self.cohort.corrupt_bp,
            dropout_bp: self.cohort.dropout_bp,
            correctness_bits: self.cohort.correctness_bits,
            cohort_min: self.cohort.min,
            cohort_max: self.cohort.max,
            n_min: self.cohort.n_min,
            roster: self.roster.clone(),
        }
    }

    /// Checks every value on its own. Whether a cohort of some size is feasible is for [`RoundTerms::params`] and
    /// [`Self::mechanism`].
    ///
    /// # Errors
    /// [`PlanError::Value`] or [`PlanError::Terms`] names the first value that no plan can have.
    pub fn validate(&self) -> Result<(), PlanError> {
        self.terms().validate()?;
        let checks = self
            .adapter
            .check()
            .and_then(|()| self.training.check())
            .and_then(|()| self.cohort.check())
            .and_then(|()| self.privacy.check())
            .and_then(|()| self.deadlines.check());
        checks.map_err(|bad| PlanError::Value {
            round: self.round,
            field: bad.field,
            value: bad.value,
            expected: bad.expected,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::{
        AdapterShape, CohortTerms, CoordinatorKey, Deadlines, LocalRule, LocalTraining, PrivacyTerms,
        RoundPlan, Trust,
    };
    use tacit_aggregation::identity::{ClientId, EpochTerms, IdentityRoot, Rate, Roster};
    use tacit_aggregation::params::{RosterTerms, TaskName, ThreatModel};
    use tacit_privacy::{AdaptiveClip, Adjacency, BasisPoints, Mechanism, MechanismRequest, NoiseLaw};

    pub(crate) fn key() -> CoordinatorKey {
        CoordinatorKey::from_bytes(&[7; 32])
    }

    /// How the clip norm of the central plans here adapts.
    pub(crate) const RULE: AdaptiveClip =
        AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 3.0 };

    /// The same plan with noise by the coordinator.
    pub(crate) fn central_plan(adaptive_clip: Option<AdaptiveClip>) -> RoundPlan {
        let mut plan = plan();
        plan.privacy.trust = Trust::Central { noise_commitment: [6; 32], adaptive_clip };
        plan
    }

    /// The same plan with its cohort drawn from a roster of 400, of whom 10 are assumed to collude.
    pub(crate) fn drawn_plan() -> RoundPlan {
        let root = IdentityRoot::from_bytes(&[5; 32]);
        let epoch = EpochTerms {
            number: 4,
            not_before: 1_000,
            not_after: 9_999,
            period_seconds: std::num::NonZeroU64::new(3_000).expect("not zero"),
            rate: Rate::new(1, 10).expect("a rate"),
            seed: [6; 32],
        };
        let roster = root.sign_roster(&Roster::new((0..400).map(ClientId).collect()), epoch);
        let mut plan = plan();
        plan.cohort.corrupt_bp = 0;
        plan.roster = Some(RosterTerms::new(roster, 1, 10).expect("feasible"));
        plan
    }

    /// A plan whose encoding the builder chose for its largest cohort.
    pub(crate) fn plan() -> RoundPlan {
        let request = MechanismRequest {
            clients: 40,
            n_min: 36,
            corrupt: BasisPoints::new(500).expect("a fraction"),
            dropout: BasisPoints::new(1_000).expect("a fraction"),
            dimension: 100,
            clip: 0.5,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        };
        let mechanism = Mechanism::build(&request).expect("feasible");
        RoundPlan {
            task: TaskName::new("rust-completion").expect("a plain name"),
            round: 3,
            parents: vec![[1; 32], [2; 32]],
            ledger_head: [3; 32],
            base_model: [4; 32],
            adapter: AdapterShape {
                rank: 4,
                alpha: 8.0,
                targets: vec!["q_proj".into(), "v_proj".into()],
                seed: 5,
            },
            training: LocalTraining {
                rule: LocalRule::Adam { beta1: 0.9, beta2: 0.99 },
                learning_rate: 0.01,
                steps: 8,
                batch: 4,
                sequence: 128,
            },
            cohort: CohortTerms {
                min: 20,
                max: 40,
                n_min: 18,
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: 500,
                dropout_bp: 1_000,
                correctness_bits: 40,
            },
            privacy: PrivacyTerms {
                dimension: 100,
                clip: 0.5,
                noise_multiplier: 2.0,
                adjacency: Adjacency::ZeroOut,
                // A little below the largest: a smaller cohort has other rounding in n / m.
                scale: 0.9 * mechanism.scale(),
                bits: mechanism.bits() as u8,
                delta: 1e-5,
                epsilon: 3.0,
                noise_law: NoiseLaw::DiscreteGaussian,
                trust: Trust::Distributed,
            },
            deadlines: Deadlines { advertise: 1, share: 2, collect: 3, confirm: 4, unmask: 5 },
            coordinator: key().public_key(),
            roster: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::{RULE, central_plan, drawn_plan, plan};
    use super::{LocalRule, PlanError, PrivacyTerms, RoundPlan, Trust};
    use std::collections::BTreeSet;
    use tacit_aggregation::identity::{PublicKey, Rate};
    use tacit_aggregation::params::{ParamsError, RosterTerms, TaskName, ThreatModel};
    use tacit_privacy::{AdaptiveClip, Adjacency, NoiseLaw};

    /// A change of a plan, and the name of what it changes.
    type Change = (&'static str, fn(&mut RoundPlan));

    fn adaptive(rule: AdaptiveClip) -> Trust {
        central_plan(Some(rule)).privacy.trust
    }

    fn changes() -> Vec<Change> {
        vec![
            ("task", |p| p.task = TaskName::new("other").expect("a plain name")),
            ("round", |p| p.round += 1),
            ("parents", |p| p.parents[1] = [9; 32]),
            ("fewer parents", |p| p.parents.truncate(1)),
            ("ledger_head", |p| p.ledger_head[31] ^= 1),
            ("base_model", |p| p.base_model[0] ^= 1),
            ("rank", |p| p.adapter.rank += 1),
            ("alpha", |p| p.adapter.alpha += 1.0),
            ("targets", |p| p.adapter.targets[0] = "k_proj".into()),
            ("joined targets", |p| p.adapter.targets = vec!["q_projv_proj".into()]),
            ("seed", |p| p.adapter.seed += 1),
            ("beta1", |p| p.training.rule = LocalRule::Adam { beta1: 0.8, beta2: 0.99 }),
            ("beta2", |p| p.training.rule = LocalRule::Adam { beta1: 0.9, beta2: 0.98 }),
            ("sgd", |p| p.training.rule = LocalRule::Sgd { momentum: 0.9 }),
            ("learning_rate", |p| p.training.learning_rate *= 2.0),
            ("steps", |p| p.training.steps += 1),
            ("batch", |p| p.training.batch += 1),
            ("sequence", |p| p.training.sequence += 1),
            ("min", |p| p.cohort.min += 1),
            ("max", |p| p.cohort.max += 1),
            ("n_min", |p| p.cohort.n_min += 1),
            ("threat", |p| p.cohort.threat = ThreatModel::HonestButCurious),
            ("corrupt_bp", |p| p.cohort.corrupt_bp += 1),
            ("dropout_bp", |p| p.cohort.dropout_bp += 1),
            ("correctness_bits", |p| p.cohort.correctness_bits -= 1),
            ("dimension", |p| p.privacy.dimension += 1),
            ("clip", |p| p.privacy.clip *= 2.0),
            ("noise_multiplier", |p| p.privacy.noise_multiplier *= 2.0),
            ("adjacency", |p| p.privacy.adjacency = Adjacency::ReplaceOne),
            ("noise_law", |p| p.privacy.noise_law = NoiseLaw::Skellam),
            ("scale", |p| p.privacy.scale *= 0.5),
            ("bits", |p| p.privacy.bits += 1),
            ("delta", |p| p.privacy.delta *= 0.5),
            ("epsilon", |p| p.privacy.epsilon *= 2.0),
            ("central", |p| p.privacy.trust = central_plan(None).privacy.trust),
            ("noise_commitment", |p| {
                p.privacy.trust = Trust::Central { noise_commitment: [7; 32], adaptive_clip: None };
            }),
            ("adaptive_clip", |p| p.privacy.trust = adaptive(RULE)),
            ("target_quantile", |p| {
                p.privacy.trust = adaptive(AdaptiveClip { target_quantile: 0.6, ..RULE })
            }),
            ("clip learning_rate", |p| {
                p.privacy.trust = adaptive(AdaptiveClip { learning_rate: 0.1, ..RULE });
            }),
            ("count_noise", |p| p.privacy.trust = adaptive(AdaptiveClip { count_noise: 4.0, ..RULE })),
            ("advertise", |p| p.deadlines.advertise += 1),
            ("share", |p| p.deadlines.share += 1),
            ("collect", |p| p.deadlines.collect += 1),
            ("confirm", |p| p.deadlines.confirm += 1),
            ("unmask", |p| p.deadlines.unmask += 1),
            ("coordinator", |p| p.coordinator = PublicKey([8; 32])),
        ]
    }

    #[test]
    fn every_field_changes_the_digest() {
        let mut digests = BTreeSet::from([plan().digest()]);
        for (name, change) in changes() {
            let mut changed = plan();
            change(&mut changed);
            assert!(
                digests.insert(changed.digest()),
                "{name} leaves the digest as it was, or gives another's"
            );
        }
        assert_eq!(plan().digest(), plan().digest());
    }

    #[test]
    fn every_field_of_a_roster_changes_the_digest() {
        let with = |change: fn(&mut RosterTerms)| {
            let mut plan = drawn_plan();
            plan.roster.iter_mut().for_each(change);
            plan.digest()
        };
        let changed = [
            with(|_| {}),
            with(|terms| terms.roster.epoch.number += 1),
            with(|terms| terms.roster.epoch.not_before += 1),
            with(|terms| terms.roster.epoch.not_after += 1),
            with(|terms| terms.roster.epoch.period_seconds = std::num::NonZeroU64::MIN),
            with(|terms| terms.roster.epoch.rate = Rate::ONE),
            with(|terms| terms.roster.epoch.seed[0] ^= 1),
            with(|terms| terms.roster.root[0] ^= 1),
            with(|terms| terms.roster.size += 1),
            with(|terms| terms.roster.signature.0[0] ^= 1),
            with(|terms| terms.period += 1),
            with(|terms| terms.colluders += 1),
            with(|terms| terms.corrupt += 1),
            RoundPlan { roster: None, ..drawn_plan() }.digest(),
        ];
        assert_eq!(BTreeSet::from(changed).len(), changed.len());
    }

    #[test]
    fn a_roster_says_how_many_collude_and_nothing_else_does() {
        drawn_plan().validate().expect("a good plan");
        let corrupt = drawn_plan().roster.map_or(0, |terms| terms.corrupt);
        for n in [25, 33, 40] {
            assert_eq!(drawn_plan().terms().params(n).map(|params| params.corrupt()), Ok(corrupt), "{n}");
        }
        let mut twice = drawn_plan();
        twice.cohort.corrupt_bp = 500;
        assert!(matches!(twice.validate(), Err(PlanError::Terms(ParamsError::CorruptTwice { .. }))));
        let mut fewer = drawn_plan();
        fewer.roster.iter_mut().for_each(|terms| terms.corrupt -= 1);
        assert!(matches!(fewer.validate(), Err(PlanError::Terms(ParamsError::Drawn { .. }))));
    }

    #[test]
    fn a_recipe_is_what_shapes_an_update_besides_its_parent() {
        let shapes = [
            "task",
            "base_model",
            "rank",
            "alpha",
            "targets",
            "joined targets",
            "seed",
            "beta1",
            "beta2",
            "sgd",
            "learning_rate",
            "steps",
            "batch",
            "sequence",
            "dimension",
        ];
        let mut known = 0;
        for (name, change) in changes() {
            let mut changed = plan();
            change(&mut changed);
            assert_eq!(changed.recipe() != plan().recipe(), shapes.contains(&name), "{name}");
            known += usize::from(shapes.contains(&name));
        }
        assert_eq!(known, shapes.len());
    }

    #[test]
    fn clip_bits_take_one_more_coordinate_of_the_sum() {
        assert_eq!((plan().terms().dimension, central_plan(None).terms().dimension), (100, 100));
        assert_eq!(central_plan(Some(RULE)).terms().dimension, 101);
    }

    #[test]
    fn a_value_that_no_plan_can_have_is_named() {
        plan().validate().expect("a good plan");
        let bad: Vec<Change> = vec![
            ("adapter.rank", |p| p.adapter.rank = 0),
            ("adapter.alpha", |p| p.adapter.alpha = f64::NAN),
            ("adapter.targets", |p| p.adapter.targets.clear()),
            ("adapter.targets", |p| p.adapter.targets.push("q_proj".into())),
            ("adapter.targets", |p| p.adapter.targets.push("Q proj".into())),
            ("training.rule", |p| p.training.rule = LocalRule::Adam { beta1: 1.0, beta2: 0.9 }),
            ("training.rule", |p| p.training.rule = LocalRule::Sgd { momentum: -0.0 }),
            ("training.learning_rate", |p| p.training.learning_rate = 0.0),
            ("training.steps", |p| p.training.steps = 0),
            ("training.batch", |p| p.training.batch = 0),
            ("training.sequence", |p| p.training.sequence = 1),
            ("cohort.corrupt_bp", |p| p.cohort.corrupt_bp = 10_000),
            ("cohort.dropout_bp", |p| p.cohort.dropout_bp = 10_000),
            ("privacy.clip", |p| p.privacy.clip = f64::INFINITY),
            ("privacy.noise_multiplier", |p| p.privacy.noise_multiplier = 0.0),
            ("privacy.scale", |p| p.privacy.scale = -1.0),
            ("privacy.delta", |p| p.privacy.delta = 1.0),
            ("privacy.epsilon", |p| p.privacy.epsilon = f64::NAN),
            ("privacy.adaptive_clip.target_quantile", |p| {
                p.privacy.trust = adaptive(AdaptiveClip { target_quantile: 1.0, ..RULE });
            }),
            ("privacy.adaptive_clip.learning_rate", |p| {
                p.privacy.trust = adaptive(AdaptiveClip { learning_rate: -0.0, ..RULE });
            }),
            ("privacy.adaptive_clip.count_noise", |p| {
                p.privacy.trust = adaptive(AdaptiveClip { count_noise: f64::NAN, ..RULE });
            }),
            ("privacy.noise_law", |p| {
                p.privacy = PrivacyTerms { noise_law: NoiseLaw::Skellam, ..central_plan(None).privacy };
            }),
            ("deadlines.collect", |p| p.deadlines.collect = 0),
        ];
        for (name, change) in bad {
            let mut changed = plan();
            change(&mut changed);
            match changed.validate() {
                Err(PlanError::Value { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        let no_parents = RoundPlan { parents: Vec::new(), ..plan() };
        assert!(matches!(no_parents.validate(), Err(PlanError::Terms(_))));
    }
}
