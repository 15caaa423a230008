//! A checked mechanism and what each accountant says about it. Must never invent a number where an accountant has none.

use serde::Serialize;
use tacit_privacy::{AccountantError, Adjacency, PrivacyLoss, RdpCurve, zcdp_epsilon};

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
    fn curve(&self) -> Result<RdpCurve, AccountantError> {
        Ok(match *self {
            Self::Gaussian { noise_multiplier } => RdpCurve::gaussian(noise_multiplier),
            Self::PoissonGaussian { noise_multiplier, sampling_rate, adjacency } => {
                RdpCurve::poisson_gaussian(noise_multiplier, sampling_rate, adjacency)?
            }
            Self::DiscreteGaussian { sigma, sensitivity } => {
                RdpCurve::discrete_gaussian(sigma, f64::from(sensitivity))
            }
            Self::Skellam { variance, sensitivity } => {
                RdpCurve::skellam(variance, f64::from(sensitivity), f64::from(sensitivity))
            }
            Self::Laplace { scale } => RdpCurve::laplace(scale),
            Self::Zcdp { rho } => RdpCurve::zcdp(rho),
            Self::SumOfDiscreteGaussians { dimension, sensitivity, local_sigma, honest } => {
                RdpCurve::sum_of_discrete_gaussians(dimension, sensitivity, local_sigma, honest)
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

    /// The rho of zero-concentrated privacy, for mechanisms whose divergence is exactly `alpha rho`.
    fn rho(&self) -> Option<f64> {
        match *self {
            Self::Gaussian { noise_multiplier } => Some(0.5 / (noise_multiplier * noise_multiplier)),
            Self::DiscreteGaussian { sigma, sensitivity } => {
                Some(0.5 * (f64::from(sensitivity) / sigma).powi(2))
            }
            Self::Zcdp { rho } => Some(rho),
            _ => None,
        }
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
            Self::Rdp => Ok(by_curve(releases, delta)?),
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

fn by_curve(releases: &[(Release, u64)], delta: f64) -> Result<f64, AccountantError> {
    let mut total = RdpCurve::zero();
    for (release, steps) in releases {
        total.compose(&release.curve()?.times(*steps));
    }
    let on_grid = total.epsilon(delta)?;
    // Straight lines compose to a straight line, for which every real order can be tried.
    let rho: Option<f64> = releases.iter().map(|(release, steps)| Some(release.rho()? * *steps as f64)).sum();
    rho.map_or(Ok(on_grid), |rho| Ok(on_grid.min(zcdp_epsilon(rho, delta)?)))
}
