//! The law of one client's noise share, and its sampler. Must never let a cost be stated for another law than is drawn.

use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::keystream::KeyStream;
use crate::sampler::{DiscreteGaussian, MAX_SKELLAM_VARIANCE, MAX_VARIANCE, Skellam};

/// The law of one client's noise share. Both need a local standard deviation of at least 1/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseLaw {
    /// `P(x) ~ exp(-x^2 / (2 v))` over the integers (Kairouz, Liu, Steinke 2021). A sum of shares is close to one such law,
    /// and its privacy bound pays for the difference.
    #[default]
    DiscreteGaussian,
    /// The difference of two Poisson variables (Agarwal, Kairouz, Liu 2021). A sum of shares is exactly one such law; its
    /// tails are a little heavier than a Gaussian's.
    Skellam,
}

impl NoiseLaw {
    /// Every law.
    pub const ALL: [Self; 2] = [Self::DiscreteGaussian, Self::Skellam];

    /// The name in plans, files and ledger entries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DiscreteGaussian => "discrete-gaussian",
            Self::Skellam => "skellam",
        }
    }

    /// Largest standard deviation of a share that has a sampler, in integer units.
    pub(super) fn largest_deviation(self) -> f64 {
        match self {
            Self::DiscreteGaussian => MAX_VARIANCE.sqrt(),
            Self::Skellam => MAX_SKELLAM_VARIANCE.sqrt(),
        }
    }
}

/// The sampler of one client's share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NoiseSampler {
    DiscreteGaussian(DiscreteGaussian),
    Skellam(Skellam),
}

impl NoiseSampler {
    /// The sampler of `law` at `variance` rounded up to a multiple of 2^-32; `None` outside the variances served.
    pub(super) fn new(law: NoiseLaw, variance: f64) -> Option<Self> {
        match law {
            NoiseLaw::DiscreteGaussian => DiscreteGaussian::new(variance).ok().map(Self::DiscreteGaussian),
            NoiseLaw::Skellam => Skellam::new(variance).ok().map(Self::Skellam),
        }
    }

    /// The variance parameter of the law, in squared integer units.
    pub(crate) fn variance(&self) -> f64 {
        match self {
            Self::DiscreteGaussian(sampler) => sampler.variance(),
            Self::Skellam(sampler) => sampler.variance(),
        }
    }

    /// Adds a fresh sample to each of `values`, modulo 2^32.
    ///
    /// # Errors
    /// [`PipelineError::NoiseSampler`].
    pub(crate) fn add_to(&self, values: &mut [i32], stream: &mut KeyStream) -> Result<(), PipelineError> {
        match self {
            Self::DiscreteGaussian(sampler) => sampler.add_to(values, stream),
            Self::Skellam(sampler) => sampler.add_to(values, stream)?,
        }
        Ok(())
    }
}
