//! The parameters of a mechanism as they are given on the command line or in a file.
//! Must never pass on a value that was not checked: [`Step::release`] is the only way to a mechanism.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tacit_privacy::{AccountantError, Adjacency, MAX_CLIENTS, MAX_DIMENSION, MIN_LOCAL_SIGMA, shortest};

use crate::release::Release;

/// The mechanisms that can be accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Name {
    /// Normal noise on a sum of vectors
    Gaussian,
    /// The same on a sum that each client joins by chance, unseen: needs --sampling-rate
    PoissonGaussian,
    /// Discrete Gaussian noise on an integer
    DiscreteGaussian,
    /// Skellam noise (the difference of two Poisson variables) on an integer
    Skellam,
    /// Laplace noise; --sensitivity is in the l1 norm
    Laplace,
    /// Anything that is rho-zero-concentrated private: --rho instead of --sigma
    Zcdp,
    /// Sum of one discrete Gaussian share from each client, on an integer vector: needs --clients and --dimension
    DistributedDiscreteGaussian,
}

impl Name {
    /// The name that is written on the command line and in files.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::PoissonGaussian => "poisson-gaussian",
            Self::DiscreteGaussian => "discrete-gaussian",
            Self::Skellam => "skellam",
            Self::Laplace => "laplace",
            Self::Zcdp => "zcdp",
            Self::DistributedDiscreteGaussian => "distributed-discrete-gaussian",
        }
    }
}

/// One mechanism, run `steps` times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) mechanism: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sigma: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sensitivity: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sampling_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rho: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clients: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dimension: Option<usize>,
    #[serde(default = "once")]
    pub(crate) steps: u64,
}

fn once() -> u64 {
    1
}

/// Why parameters are refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the mechanism {mechanism} needs {field}")]
    Missing { mechanism: &'static str, field: &'static str },
    #[error("{field} means nothing to the mechanism {mechanism}; {advice}")]
    Foreign { mechanism: &'static str, field: &'static str, advice: &'static str },
    #[error(
        "sigma {} is refused; it is the standard deviation of the noise, and must be a positive, finite number",
        shortest(*.0)
    )]
    Sigma(f64),
    #[error(
        "sigma {} is refused; of distributed-discrete-gaussian it is the deviation of one client's share, in integer \
         units, and nothing is proven below {MIN_LOCAL_SIGMA}: scale the values up before rounding",
        shortest(*.0)
    )]
    LocalSigma(f64),
    #[error(
        "sensitivity {} is refused; it must be a positive, finite number: how far one client can move the sum",
        shortest(*.0)
    )]
    Sensitivity(f64),
    #[error(
        "sensitivity {} is refused; {mechanism} adds noise to an integer, which one client can only move by a \
         whole number from 1 to 2^30: count in the integer units after scaling and rounding, sigma too",
        shortest(*sensitivity)
    )]
    NotAnInteger { mechanism: &'static str, sensitivity: f64 },
    #[error("rho {} is refused; it must be a positive, finite number", shortest(*.0))]
    Rho(f64),
    #[error("{0} clients are refused; give the number whose noise can be relied on, from 1 to {MAX_CLIENTS}")]
    Clients(u32),
    #[error("dimension {0} is refused; give the number of coordinates, from 1 to {MAX_DIMENSION}")]
    Dimension(usize),
    #[error("0 steps are refused; a mechanism that never runs costs nothing")]
    Steps,
    #[error(
        "replace-one is refused for zcdp: rho already states the cost for one kind of neighbours; under the definition of \
         zero-out, 4 rho holds for replace-one"
    )]
    ZcdpAdjacency,
    #[error(transparent)]
    Accountant(#[from] AccountantError),
}

impl Step {
    /// The mechanism, with everything checked and the adjacency applied.
    pub(crate) fn release(&self, adjacency: Adjacency) -> Result<Release, StepError> {
        self.refuse_foreign()?;
        if self.steps == 0 {
            return Err(StepError::Steps);
        }
        if self.mechanism == Name::Zcdp {
            return self.zcdp(adjacency);
        }
        let sigma = self.sigma.ok_or(self.missing("sigma"))?;
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(StepError::Sigma(sigma));
        }
        let sensitivity = self.sensitivity();
        if !(sensitivity > 0.0 && sensitivity.is_finite()) {
            return Err(StepError::Sensitivity(sensitivity));
        }
        let factor = adjacency.sensitivity_factor();
        Ok(match self.mechanism {
            Name::PoissonGaussian => {
                let sampling_rate = self.sampling_rate.ok_or(self.missing("sampling-rate"))?;
                if !(sampling_rate > 0.0 && sampling_rate <= 1.0) {
                    return Err(AccountantError::SamplingRateOutOfRange(sampling_rate).into());
                }
                // The accountants take both adjacencies by the length of one update.
                Release::PoissonGaussian { noise_multiplier: sigma / sensitivity, sampling_rate, adjacency }
            }
            Name::DiscreteGaussian => {
                Release::DiscreteGaussian { sigma, sensitivity: self.whole()? * factor as u32 }
            }
            Name::Skellam => {
                Release::Skellam { variance: sigma * sigma, sensitivity: self.whole()? * factor as u32 }
            }
            Name::Laplace => {
                let scale = sigma / std::f64::consts::SQRT_2;
                Release::Laplace { scale: scale / (factor * sensitivity) }
            }
            Name::DistributedDiscreteGaussian => {
                let clients = self.clients.ok_or(self.missing("clients"))?;
                if !(1..=MAX_CLIENTS).contains(&clients) {
                    return Err(StepError::Clients(clients));
                }
                let dimension = self.dimension.ok_or(self.missing("dimension"))?;
                if !(1..=MAX_DIMENSION).contains(&dimension) {
                    return Err(StepError::Dimension(dimension));
                }
                if sigma < MIN_LOCAL_SIGMA {
                    return Err(StepError::LocalSigma(sigma));
                }
                let sensitivity = factor * sensitivity;
                Release::SumOfDiscreteGaussians {
                    dimension,
                    sensitivity,
                    local_sigma: sigma,
                    honest: clients,
                }
            }
            Name::Gaussian | Name::Zcdp => {
                Release::Gaussian { noise_multiplier: sigma / (factor * sensitivity) }
            }
        })
    }

    /// How far one client can move the sum; 1 if nothing else was said.
    pub(crate) fn sensitivity(&self) -> f64 {
        self.sensitivity.unwrap_or(1.0)
    }

    fn zcdp(&self, adjacency: Adjacency) -> Result<Release, StepError> {
        let rho = self.rho.ok_or(self.missing("rho"))?;
        if !(rho > 0.0 && rho.is_finite()) {
            return Err(StepError::Rho(rho));
        }
        match adjacency {
            Adjacency::ZeroOut => Ok(Release::Zcdp { rho }),
            Adjacency::ReplaceOne => Err(StepError::ZcdpAdjacency),
        }
    }

    /// The sensitivity of a mechanism on the integers. Twice as much still fits into 32 bits.
    fn whole(&self) -> Result<u32, StepError> {
        let sensitivity = self.sensitivity();
        if sensitivity.fract() == 0.0 && (1.0..=f64::from(1 << 30)).contains(&sensitivity) {
            return Ok(sensitivity as u32);
        }
        Err(StepError::NotAnInteger { mechanism: self.mechanism.text(), sensitivity })
    }

    fn missing(&self, field: &'static str) -> StepError {
        StepError::Missing { mechanism: self.mechanism.text(), field }
    }

    /// A parameter that would be ignored is a misunderstanding about what is computed.
    fn refuse_foreign(&self) -> Result<(), StepError> {
        let name = self.mechanism;
        let sampled = self.sampling_rate.is_some_and(|rate| rate != 1.0);
        let distributed = name == Name::DistributedDiscreteGaussian;
        let foreign = [
            (sampled && name != Name::PoissonGaussian, "sampling-rate", "only poisson-gaussian is sampled"),
            (self.rho.is_some() && name != Name::Zcdp, "rho", "leave it out, or take zcdp"),
            (self.sigma.is_some() && name == Name::Zcdp, "sigma", "give --rho instead"),
            (self.sensitivity.is_some() && name == Name::Zcdp, "sensitivity", "rho already contains it"),
            (self.clients.is_some() && !distributed, "clients", "sigma is the deviation of the total noise"),
            (self.dimension.is_some() && !distributed, "dimension", "the cost does not depend on it"),
        ];
        match foreign.into_iter().find(|(present, ..)| *present) {
            Some((_, field, advice)) => Err(StepError::Foreign { mechanism: name.text(), field, advice }),
            None => Ok(()),
        }
    }
}
