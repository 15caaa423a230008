//! A checked mechanism and what each accountant says about it. Must never invent a number where an accountant has none.

use serde::Serialize;
use tacit_privacy::{AccountantError, Adjacency, PrivacyLoss, RenyiDivergence, composed_epsilon};

/// One release, sensitivity doubled under replace-one where that is how it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Release {
    Gaussian { noise_multiplier: f64 },
    PoissonGaussian { noise_multiplier: f64, sampling_rate: f64, adjacency: Adjacency },
    DiscreteGaussian { sigma: f64, sensitivity: u32 },
    Skellam { variance: f64, sensitivity: u32 },
    Laplace { scale: f64 },
    Zcdp { rho: f64 },
    SumOfDiscreteGaussians { dimension: usize, sensitivity: f64, local_sigma: f64, honest: u32 },
}

impl Release {
    fn divergence(&self) -> Result<RenyiDivergence, AccountantError> {
        Ok(match *self {
            Self::Gaussian { noise_multiplier } => RenyiDivergence::gaussian(noise_multiplier),
            Self::PoissonGaussian { noise_multiplier, sampling_rate, adjacency } => {
                RenyiDivergence::poisson_gaussian(noise_multiplier, sampling_rate, adjacency)?
            }
            Self::DiscreteGaussian { sigma, sensitivity } => {
                RenyiDivergence::discrete_gaussian(sigma, f64::from(sensitivity))
            }
            Self::Skellam { variance, sensitivity } => {
                RenyiDivergence::skellam_on_an_integer(variance, sensitivity)
            }
            Self::Laplace { scale } => RenyiDivergence::laplace(scale),
            Self::Zcdp { rho } => RenyiDivergence::zcdp(rho),
            Self::SumOfDiscreteGaussians { dimension, sensitivity, local_sigma, honest } => {
                RenyiDivergence::sum_of_discrete_gaussians(dimension, sensitivity, local_sigma, honest)
            }
        })
    }

    /// The privacy loss distribution, if one is known to dominate the mechanism.
    pub(crate) fn loss(&self) -> Result<PrivacyLoss, NoNumber> {
        Ok(match *self {
            Self::Gaussian { noise_multiplier } => PrivacyLoss::gaussian(noise_multiplier)?,
            Self::PoissonGaussian { noise_multiplier, sampling_rate, adjacency } => {
                PrivacyLoss::poisson_gaussian(noise_multiplier, sampling_rate, adjacency)?
            }
            Self::DiscreteGaussian { sigma, sensitivity } => {
                PrivacyLoss::discrete_gaussian(sigma, sensitivity)?
            }
            Self::Skellam { variance, sensitivity } => PrivacyLoss::skellam(variance, sensitivity)?,
            Self::Laplace { scale } => PrivacyLoss::laplace(scale)?,
            Self::Zcdp { .. } => return Err(NoNumber::NotFromRho),
            Self::SumOfDiscreteGaussians { .. } => return Err(NoNumber::NotForSums),
        })
    }
}

/// Why an accountant states no epsilon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoNumber {
    #[error(
        "rho bounds a mechanism's Rényi divergences and does not say which privacy loss distribution it has"
    )]
    NotFromRho,
    #[error(
        "no pair of distributions is proven to dominate a sum of discrete Gaussians in many dimensions; Rényi divergences \
         state its cost"
    )]
    NotForSums,
    #[error(transparent)]
    Accountant(#[from] AccountantError),
}

/// Which accountant states an epsilon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accountant {
    /// Privacy loss distributions: nearly exact
    Pld,
    /// Rényi divergences: an upper bound
    Rdp,
}

impl Accountant {
    /// Epsilon at `delta` of all releases, each as often as the number beside it says; or why there is none.
    pub(crate) fn epsilon(self, releases: &[(Release, u64)], delta: f64) -> Result<f64, NoNumber> {
        match self {
            Self::Pld => by_loss(releases, delta),
            Self::Rdp => Ok(by_divergence(releases, delta)?),
        }
    }
}

fn by_loss(releases: &[(Release, u64)], delta: f64) -> Result<f64, NoNumber> {
    let mut total = PrivacyLoss::zero();
    for (release, steps) in releases {
        total = total.compose(&release.loss()?.times(*steps)?)?;
    }
    Ok(total.epsilon(delta)?)
}

fn by_divergence(releases: &[(Release, u64)], delta: f64) -> Result<f64, AccountantError> {
    let composed: Result<Vec<_>, _> =
        releases.iter().map(|(release, steps)| Ok((release.divergence()?, *steps))).collect();
    composed_epsilon(&composed?, delta)
}
