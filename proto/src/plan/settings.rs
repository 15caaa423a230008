//! The parts of a plan. Must never be read before they were checked: a plan comes from a machine that may lie.

use crate::canonical::Fields;
use serde::{Deserialize, Serialize};
use tacit_aggregation::Digest;
use tacit_aggregation::params::ThreatModel;
use tacit_privacy::{AdaptiveClip, Adjacency, BasisPoints, NoiseLaw};

/// Most adapted matrices.
const MAX_TARGETS: usize = 32;
/// Longest name of an adapted matrix, in bytes.
const MAX_TARGET_BYTES: usize = 64;
/// Longest phase: 7 days, in milliseconds.
const MAX_PHASE: u64 = 7 * 24 * 3600 * 1000;

/// A value that no plan can have.
pub(super) struct Bad {
    pub(super) field: &'static str,
    pub(super) value: String,
    pub(super) expected: &'static str,
}

fn check(field: &'static str, good: bool, value: impl ToString, expected: &'static str) -> Result<(), Bad> {
    if good { Ok(()) } else { Err(Bad { field, value: value.to_string(), expected }) }
}

fn positive(field: &'static str, value: f64) -> Result<(), Bad> {
    check(field, value.is_finite() && value > 0.0, value, "positive and finite")
}

/// The public shape of a LoRA adapter; everyone who knows it can rebuild the frozen factors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterShape {
    /// Width of the bottleneck.
    pub rank: u32,
    /// The adapter's output is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Names of the adapted matrices in the Hugging Face layout, such as `q_proj`; in every block.
    pub targets: Vec<String>,
    /// Seed of the frozen factors.
    pub seed: u64,
}

impl AdapterShape {
    pub(super) fn write(&self, fields: Fields) -> Fields {
        let targets = self.targets.iter().map(String::as_bytes);
        fields.integer(self.rank).real(self.alpha).list(targets).integer(self.seed)
    }

    pub(super) fn check(&self) -> Result<(), Bad> {
        check("adapter.rank", self.rank >= 1, self.rank, "at least 1")?;
        positive("adapter.alpha", self.alpha)?;
        let plain = |name: &String| {
            (1..=MAX_TARGET_BYTES).contains(&name.len())
                && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
        };
        let fits = (1..=MAX_TARGETS).contains(&self.targets.len());
        let distinct = self.targets.iter().enumerate().all(|(i, name)| !self.targets[..i].contains(name));
        let good = fits && distinct && self.targets.iter().all(plain);
        // A list that is too long, or holds strange characters, is counted rather than shown.
        let shown = format!("a list of {}", self.targets.len());
        check(
            "adapter.targets",
            good,
            shown,
            "1 to 32 distinct names of 1 to 64 characters a-z, 0-9, '_', '.'",
        )
    }
}

/// What a client does between receiving an adapter and sending its update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalTraining {
    /// The update rule and its constants.
    pub rule: LocalRule,
    /// Step size.
    pub learning_rate: f64,
    /// Number of steps.
    pub steps: u32,
    /// Sequences per step.
    pub batch: u32,
    /// Tokens per sequence.
    pub sequence: u32,
}

/// The update rule of local training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LocalRule {
    /// Adam (Kingma and Ba 2015) with bias correction.
    Adam {
        /// Decay of the mean of the gradients.
        beta1: f32,
        /// Decay of the mean of the squared gradients.
        beta2: f32,
    },
    /// Stochastic gradient descent with heavy-ball momentum.
    Sgd {
        /// Share of the last step that is repeated.
        momentum: f32,
    },
}

impl LocalTraining {
    pub(super) fn write(&self, fields: Fields) -> Fields {
        let fields = match self.rule {
            LocalRule::Adam { beta1, beta2 } => fields.text("adam").real(beta1).real(beta2),
            LocalRule::Sgd { momentum } => fields.text("sgd").real(momentum),
        };
        fields.real(self.learning_rate).integer(self.steps).integer(self.batch).integer(self.sequence)
    }

    pub(super) fn check(&self) -> Result<(), Bad> {
        let constants = match self.rule {
            LocalRule::Adam { beta1, beta2 } => vec![beta1, beta2],
            LocalRule::Sgd { momentum } => vec![momentum],
        };
        for value in constants {
            // A negative zero has other bits than zero, and would have another digest for the same plan.
            let good = (0.0..1.0).contains(&value) && value.is_sign_positive();
            check("training.rule", good, format!("{:?}", self.rule), "constants from 0 to below 1")?;
        }
        positive("training.learning_rate", self.learning_rate)?;
        check("training.steps", self.steps >= 1, self.steps, "at least 1")?;
        check("training.batch", self.batch >= 1, self.batch, "at least 1")?;
        check("training.sequence", self.sequence >= 2, self.sequence, "at least 2")
    }
}

/// Size of the cohort, and whom the secure sum withstands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortTerms {
    /// Smallest cohort that may be closed.
    pub min: u32,
    /// Largest cohort that may be closed.
    pub max: u32,
    /// Fewest survivors whose sum may be released, in a cohort of any size.
    pub n_min: u32,
    /// What the coordinator may do beyond reading everything that it receives.
    pub threat: ThreatModel,
    /// Colluding members assumed, per 10,000.
    pub corrupt_bp: u16,
    /// Members that may drop out, per 10,000.
    pub dropout_bp: u16,
    /// The sum fails for lack of shares with probability at most 2^-`correctness_bits`.
    pub correctness_bits: u8,
}

impl CohortTerms {
    pub(super) fn write(&self, fields: Fields) -> Fields {
        fields
            .integer(self.min)
            .integer(self.max)
            .integer(self.n_min)
            .text(&self.threat.to_string())
            .integer(self.corrupt_bp)
            .integer(self.dropout_bp)
            .integer(self.correctness_bits)
    }

    pub(super) fn check(&self) -> Result<(), Bad> {
        for (field, value) in [("cohort.corrupt_bp", self.corrupt_bp), ("cohort.dropout_bp", self.dropout_bp)]
        {
            check(field, value < BasisPoints::WHOLE, value, "below 10,000")?;
        }
        Ok(())
    }
}

/// The mechanism of differential privacy, and what taking part costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyTerms {
    /// Coordinates of an update.
    pub dimension: u32,
    /// Clip norm, in the units of the update.
    pub clip: f64,
    /// Standard deviation over the sensitivity: of the honest minimum's summed noise, or of the coordinator's.
    pub noise_multiplier: f64,
    /// Which cohorts count as neighbours.
    pub adjacency: Adjacency,
    /// The law of each client's noise share; the discrete Gaussian where a stored plan leaves it out.
    #[serde(default)]
    pub noise_law: NoiseLaw,
    /// Integer units per unit of the update.
    pub scale: f64,
    /// Bits per coordinate: sums are taken modulo 2^bits.
    pub bits: u8,
    /// The delta at which epsilon is stated.
    pub delta: f64,
    /// Most epsilon that taking part in this round alone may cost, at `delta`.
    pub epsilon: f64,
    /// Who adds the noise, and is trusted for it.
    pub trust: Trust,
}

/// Who adds the noise of a round, and is trusted for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trust {
    /// Each client adds its share before masking: nobody is trusted with a sum that is not private.
    Distributed,
    /// The coordinator adds it after the secure sum, and sees the sum without it.
    Central {
        /// [`tacit_privacy::NoiseKey::commitment`] of the key of the noise, chosen before the sum is known.
        noise_commitment: Digest,
        /// How the clip norm follows the updates' norms; none for one that stays.
        adaptive_clip: Option<AdaptiveClip>,
    },
}

impl Trust {
    /// How the clip norm follows the updates' norms, if it does.
    #[must_use]
    pub fn adaptive_clip(&self) -> Option<AdaptiveClip> {
        match *self {
            Self::Distributed => None,
            Self::Central { adaptive_clip, .. } => adaptive_clip,
        }
    }

    fn write(&self, fields: Fields) -> Fields {
        match self {
            Self::Distributed => fields.text("distributed"),
            Self::Central { noise_commitment, adaptive_clip } => {
                let fields = fields.text("central").bytes(noise_commitment);
                match adaptive_clip {
                    None => fields.text("fixed-clip"),
                    Some(AdaptiveClip { target_quantile, learning_rate, count_noise }) => fields
                        .text("adaptive-clip")
                        .real(*target_quantile)
                        .real(*learning_rate)
                        .real(*count_noise),
                }
            }
        }
    }

    fn check(&self) -> Result<(), Bad> {
        let Some(AdaptiveClip { target_quantile, learning_rate, count_noise }) = self.adaptive_clip() else {
            return Ok(());
        };
        let inside = target_quantile > 0.0 && target_quantile < 1.0;
        check("privacy.adaptive_clip.target_quantile", inside, target_quantile, "between 0 and 1")?;
        positive("privacy.adaptive_clip.learning_rate", learning_rate)?;
        positive("privacy.adaptive_clip.count_noise", count_noise)
    }
}

impl PrivacyTerms {
    /// Coordinates of the vectors that are summed: one more than of an update where clip bits are counted.
    #[must_use]
    pub fn ring_dimension(&self) -> u32 {
        self.dimension.saturating_add(u32::from(self.trust.adaptive_clip().is_some()))
    }

    pub(super) fn write(&self, fields: Fields) -> Fields {
        let fields = fields
            .integer(self.dimension)
            .real(self.clip)
            .real(self.noise_multiplier)
            .text(match self.adjacency {
                Adjacency::ZeroOut => "zero-out",
                Adjacency::ReplaceOne => "replace-one",
            })
            .text(self.noise_law.name())
            .real(self.scale)
            .integer(self.bits)
            .real(self.delta)
            .real(self.epsilon);
        self.trust.write(fields)
    }

    pub(super) fn check(&self) -> Result<(), Bad> {
        positive("privacy.clip", self.clip)?;
        positive("privacy.noise_multiplier", self.noise_multiplier)?;
        positive("privacy.scale", self.scale)?;
        check("privacy.delta", self.delta > 0.0 && self.delta < 1.0, self.delta, "between 0 and 1")?;
        positive("privacy.epsilon", self.epsilon)?;
        let drawn_by_clients = matches!(self.trust, Trust::Distributed);
        check(
            "privacy.noise_law",
            drawn_by_clients || self.noise_law == NoiseLaw::DiscreteGaussian,
            self.noise_law.name(),
            "discrete-gaussian where the coordinator adds the noise",
        )?;
        self.trust.check()
    }
}

/// How long each phase stays open, in milliseconds from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// Advertise.
    pub advertise: u64,
    /// Share.
    pub share: u64,
    /// Collect.
    pub collect: u64,
    /// Confirm.
    pub confirm: u64,
    /// Unmask.
    pub unmask: u64,
}

impl Deadlines {
    fn fields(&self) -> [(&'static str, u64); 5] {
        [
            ("deadlines.advertise", self.advertise),
            ("deadlines.share", self.share),
            ("deadlines.collect", self.collect),
            ("deadlines.confirm", self.confirm),
            ("deadlines.unmask", self.unmask),
        ]
    }

    pub(super) fn write(&self, fields: Fields) -> Fields {
        self.fields().into_iter().fold(fields, |fields, (_, value)| fields.integer(value))
    }

    pub(super) fn check(&self) -> Result<(), Bad> {
        for (field, value) in self.fields() {
            check(field, (1..=MAX_PHASE).contains(&value), value, "between 1 millisecond and 7 days")?;
        }
        Ok(())
    }
}
