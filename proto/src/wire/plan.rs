//! The plan's wire form. Must never change a value on the way: the digest on both sides is the same.

use super::check::{array, at_most, invalid, key, narrow, present, real, signature, task};
use super::{DecodeError, generated as wire};
use crate::plan::{
    AdapterShape, CohortTerms, Deadlines, LocalRule, LocalTraining, PrivacyTerms, RoundPlan, SignedPlan,
    Trust,
};
use std::num::NonZeroU64;
use tacit_aggregation::identity::{EpochTerms, Rate, SignedRoster};
use tacit_aggregation::params::{MAX_PARENTS, RosterTerms, ThreatModel};
use tacit_privacy::{AdaptiveClip, Adjacency, NoiseLaw};

/// Most names of matrices that are decoded; the plan's own check is stricter.
const MAX_TARGETS: usize = 256;

impl From<&RoundPlan> for wire::RoundPlan {
    fn from(plan: &RoundPlan) -> Self {
        Self {
            task: plan.task.as_str().to_owned(),
            round: plan.round,
            parents: plan.parents.iter().map(|parent| parent.to_vec()).collect(),
            ledger_head: plan.ledger_head.to_vec(),
            base_model: plan.base_model.to_vec(),
            adapter: Some((&plan.adapter).into()),
            training: Some((&plan.training).into()),
            cohort: Some((&plan.cohort).into()),
            privacy: Some((&plan.privacy).into()),
            deadlines: Some((&plan.deadlines).into()),
            coordinator: plan.coordinator.0.to_vec(),
            roster: plan.roster.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::RoundPlan> for RoundPlan {
    type Error = DecodeError;

    fn try_from(plan: wire::RoundPlan) -> Result<Self, DecodeError> {
        at_most("RoundPlan.parents", plan.parents.len(), MAX_PARENTS)?;
        Ok(Self {
            task: task("RoundPlan.task", &plan.task)?,
            round: plan.round,
            parents: plan
                .parents
                .iter()
                .map(|parent| array("RoundPlan.parents", parent))
                .collect::<Result<_, _>>()?,
            ledger_head: array("RoundPlan.ledger_head", &plan.ledger_head)?,
            base_model: array("RoundPlan.base_model", &plan.base_model)?,
            adapter: present("RoundPlan.adapter", plan.adapter)?.try_into()?,
            training: present("RoundPlan.training", plan.training)?.try_into()?,
            cohort: present("RoundPlan.cohort", plan.cohort)?.try_into()?,
            privacy: present("RoundPlan.privacy", plan.privacy)?.try_into()?,
            deadlines: present("RoundPlan.deadlines", plan.deadlines)?.into(),
            coordinator: key("RoundPlan.coordinator", &plan.coordinator)?,
            roster: plan.roster.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&RosterTerms> for wire::RosterTerms {
    fn from(terms: &RosterTerms) -> Self {
        let RosterTerms { roster, period, colluders, corrupt } = terms;
        Self { roster: Some(roster.into()), period: *period, colluders: *colluders, corrupt: *corrupt }
    }
}

impl TryFrom<wire::RosterTerms> for RosterTerms {
    type Error = DecodeError;

    fn try_from(terms: wire::RosterTerms) -> Result<Self, DecodeError> {
        let wire::RosterTerms { roster, period, colluders, corrupt } = terms;
        Ok(Self { roster: present("RosterTerms.roster", roster)?.try_into()?, period, colluders, corrupt })
    }
}

impl From<&SignedRoster> for wire::SignedRoster {
    fn from(signed: &SignedRoster) -> Self {
        let EpochTerms { number, not_before, not_after, period_seconds, rate, seed } = signed.epoch;
        Self {
            epoch: number,
            root: signed.root.to_vec(),
            size: signed.size,
            not_before,
            not_after,
            period_seconds: period_seconds.get(),
            rate: rate.parts(),
            seed: seed.to_vec(),
            signature: signed.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::SignedRoster> for SignedRoster {
    type Error = DecodeError;

    fn try_from(signed: wire::SignedRoster) -> Result<Self, DecodeError> {
        let period_seconds = NonZeroU64::new(signed.period_seconds)
            .ok_or_else(|| invalid("SignedRoster.period_seconds", "a period has at least one second"))?;
        let epoch = EpochTerms {
            number: signed.epoch,
            not_before: signed.not_before,
            not_after: signed.not_after,
            period_seconds,
            rate: Rate::from_parts(signed.rate),
            seed: array("SignedRoster.seed", &signed.seed)?,
        };
        Ok(Self {
            epoch,
            root: array("SignedRoster.root", &signed.root)?,
            size: signed.size,
            signature: signature("SignedRoster.signature", &signed.signature)?,
        })
    }
}

impl From<&SignedPlan> for wire::SignedPlan {
    fn from(signed: &SignedPlan) -> Self {
        Self { plan: Some((&signed.plan).into()), signature: signed.signature.0.to_vec() }
    }
}

impl TryFrom<wire::SignedPlan> for SignedPlan {
    type Error = DecodeError;

    fn try_from(signed: wire::SignedPlan) -> Result<Self, DecodeError> {
        Ok(Self {
            plan: present("SignedPlan.plan", signed.plan)?.try_into()?,
            signature: signature("SignedPlan.signature", &signed.signature)?,
        })
    }
}

impl From<&AdapterShape> for wire::AdapterShape {
    fn from(shape: &AdapterShape) -> Self {
        Self { rank: shape.rank, alpha: shape.alpha, targets: shape.targets.clone(), seed: shape.seed }
    }
}

impl TryFrom<wire::AdapterShape> for AdapterShape {
    type Error = DecodeError;

    fn try_from(shape: wire::AdapterShape) -> Result<Self, DecodeError> {
        at_most("AdapterShape.targets", shape.targets.len(), MAX_TARGETS)?;
        let alpha = real("AdapterShape.alpha", shape.alpha)?;
        Ok(Self { rank: shape.rank, alpha, targets: shape.targets, seed: shape.seed })
    }
}

impl From<&LocalTraining> for wire::LocalTraining {
    fn from(training: &LocalTraining) -> Self {
        let rule = match training.rule {
            LocalRule::Adam { beta1, beta2 } => wire::local_training::Rule::Adam(wire::Adam { beta1, beta2 }),
            LocalRule::Sgd { momentum } => wire::local_training::Rule::Sgd(wire::Sgd { momentum }),
        };
        Self {
            rule: Some(rule),
            learning_rate: training.learning_rate,
            steps: training.steps,
            batch: training.batch,
            sequence: training.sequence,
        }
    }
}

impl TryFrom<wire::LocalTraining> for LocalTraining {
    type Error = DecodeError;

    fn try_from(training: wire::LocalTraining) -> Result<Self, DecodeError> {
        let rule = match present("LocalTraining.rule", training.rule)? {
            wire::local_training::Rule::Adam(wire::Adam { beta1, beta2 }) => {
                LocalRule::Adam { beta1: real("Adam.beta1", beta1)?, beta2: real("Adam.beta2", beta2)? }
            }
            wire::local_training::Rule::Sgd(wire::Sgd { momentum }) => {
                LocalRule::Sgd { momentum: real("Sgd.momentum", momentum)? }
            }
        };
        Ok(Self {
            rule,
            learning_rate: real("LocalTraining.learning_rate", training.learning_rate)?,
            steps: training.steps,
            batch: training.batch,
            sequence: training.sequence,
        })
    }
}

impl From<&CohortTerms> for wire::CohortTerms {
    fn from(cohort: &CohortTerms) -> Self {
        Self {
            min: cohort.min,
            max: cohort.max,
            n_min: cohort.n_min,
            threat: wire::ThreatModel::from(cohort.threat).into(),
            corrupt_bp: cohort.corrupt_bp.into(),
            dropout_bp: cohort.dropout_bp.into(),
            correctness_bits: cohort.correctness_bits.into(),
        }
    }
}

impl TryFrom<wire::CohortTerms> for CohortTerms {
    type Error = DecodeError;

    fn try_from(cohort: wire::CohortTerms) -> Result<Self, DecodeError> {
        Ok(Self {
            min: cohort.min,
            max: cohort.max,
            n_min: cohort.n_min,
            threat: threat("CohortTerms.threat", cohort.threat)?,
            corrupt_bp: narrow("CohortTerms.corrupt_bp", cohort.corrupt_bp)?,
            dropout_bp: narrow("CohortTerms.dropout_bp", cohort.dropout_bp)?,
            correctness_bits: narrow("CohortTerms.correctness_bits", cohort.correctness_bits)?,
        })
    }
}

impl From<ThreatModel> for wire::ThreatModel {
    fn from(threat: ThreatModel) -> Self {
        match threat {
            ThreatModel::HonestButCurious => Self::HonestButCurious,
            ThreatModel::SemiMalicious => Self::SemiMalicious,
        }
    }
}

pub(super) fn threat(field: &'static str, value: i32) -> Result<ThreatModel, DecodeError> {
    match wire::ThreatModel::try_from(value) {
        Ok(wire::ThreatModel::HonestButCurious) => Ok(ThreatModel::HonestButCurious),
        Ok(wire::ThreatModel::SemiMalicious) => Ok(ThreatModel::SemiMalicious),
        Ok(wire::ThreatModel::Unspecified) | Err(_) => {
            Err(invalid(field, format!("{value} is no threat model")))
        }
    }
}

impl From<&PrivacyTerms> for wire::PrivacyTerms {
    fn from(privacy: &PrivacyTerms) -> Self {
        let adjacency = match privacy.adjacency {
            Adjacency::ZeroOut => wire::Adjacency::ZeroOut,
            Adjacency::ReplaceOne => wire::Adjacency::ReplaceOne,
        };
        let noise_law = match privacy.noise_law {
            NoiseLaw::DiscreteGaussian => wire::NoiseLaw::DiscreteGaussian,
            NoiseLaw::Skellam => wire::NoiseLaw::Skellam,
        };
        Self {
            dimension: privacy.dimension,
            clip: privacy.clip,
            noise_multiplier: privacy.noise_multiplier,
            adjacency: adjacency.into(),
            scale: privacy.scale,
            bits: privacy.bits.into(),
            delta: privacy.delta,
            epsilon: privacy.epsilon,
            noise_law: noise_law.into(),
            trust: Some((&privacy.trust).into()),
        }
    }
}

impl TryFrom<wire::PrivacyTerms> for PrivacyTerms {
    type Error = DecodeError;

    fn try_from(privacy: wire::PrivacyTerms) -> Result<Self, DecodeError> {
        let adjacency = match wire::Adjacency::try_from(privacy.adjacency) {
            Ok(wire::Adjacency::ZeroOut) => Adjacency::ZeroOut,
            Ok(wire::Adjacency::ReplaceOne) => Adjacency::ReplaceOne,
            Ok(wire::Adjacency::Unspecified) | Err(_) => {
                let reason = format!("{} is no adjacency", privacy.adjacency);
                return Err(invalid("PrivacyTerms.adjacency", reason));
            }
        };
        let noise_law = match wire::NoiseLaw::try_from(privacy.noise_law) {
            Ok(wire::NoiseLaw::DiscreteGaussian) => NoiseLaw::DiscreteGaussian,
            Ok(wire::NoiseLaw::Skellam) => NoiseLaw::Skellam,
            Ok(wire::NoiseLaw::Unspecified) | Err(_) => {
                let reason = format!("{} is no noise law", privacy.noise_law);
                return Err(invalid("PrivacyTerms.noise_law", reason));
            }
        };
        Ok(Self {
            dimension: privacy.dimension,
            clip: real("PrivacyTerms.clip", privacy.clip)?,
            noise_multiplier: real("PrivacyTerms.noise_multiplier", privacy.noise_multiplier)?,
            adjacency,
            scale: real("PrivacyTerms.scale", privacy.scale)?,
            bits: narrow("PrivacyTerms.bits", privacy.bits)?,
            delta: real("PrivacyTerms.delta", privacy.delta)?,
            epsilon: real("PrivacyTerms.epsilon", privacy.epsilon)?,
            noise_law,
            trust: present("PrivacyTerms.trust", privacy.trust)?.try_into()?,
        })
    }
}

impl From<&Trust> for wire::privacy_terms::Trust {
    fn from(trust: &Trust) -> Self {
        match trust {
            Trust::Distributed => Self::Distributed(wire::Distributed {}),
            Trust::Central { noise_commitment, adaptive_clip } => Self::Central(wire::Central {
                noise_commitment: noise_commitment.to_vec(),
                adaptive_clip: adaptive_clip.map(
                    |AdaptiveClip { target_quantile, learning_rate, count_noise }| wire::AdaptiveClip {
                        target_quantile,
                        learning_rate,
                        count_noise,
                    },
                ),
            }),
        }
    }
}

impl TryFrom<wire::privacy_terms::Trust> for Trust {
    type Error = DecodeError;

    fn try_from(trust: wire::privacy_terms::Trust) -> Result<Self, DecodeError> {
        Ok(match trust {
            wire::privacy_terms::Trust::Distributed(wire::Distributed {}) => Self::Distributed,
            wire::privacy_terms::Trust::Central(central) => Self::Central {
                noise_commitment: array("Central.noise_commitment", &central.noise_commitment)?,
                adaptive_clip: central.adaptive_clip.map(TryInto::try_into).transpose()?,
            },
        })
    }
}

impl TryFrom<wire::AdaptiveClip> for AdaptiveClip {
    type Error = DecodeError;

    fn try_from(rule: wire::AdaptiveClip) -> Result<Self, DecodeError> {
        Ok(Self {
            target_quantile: real("AdaptiveClip.target_quantile", rule.target_quantile)?,
            learning_rate: real("AdaptiveClip.learning_rate", rule.learning_rate)?,
            count_noise: real("AdaptiveClip.count_noise", rule.count_noise)?,
        })
    }
}

impl From<&Deadlines> for wire::Deadlines {
    fn from(deadlines: &Deadlines) -> Self {
        let &Deadlines { advertise, share, collect, confirm, unmask } = deadlines;
        Self { advertise, share, collect, confirm, unmask }
    }
}

impl From<wire::Deadlines> for Deadlines {
    fn from(deadlines: wire::Deadlines) -> Self {
        let wire::Deadlines { advertise, share, collect, confirm, unmask } = deadlines;
        Self { advertise, share, collect, confirm, unmask }
    }
}
