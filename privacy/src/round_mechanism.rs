//! The mechanism of a round under either trust: noise by the clients, or by the coordinator.
//! Must never let one be used, or accounted, as the other.

use serde::{Deserialize, Serialize};

use crate::accountant::{AccountantError, RdpCurve};
use crate::central::CentralMechanism;
use crate::mechanism::Mechanism;

/// A round's mechanism: what its clients apply, what it costs, and what its entry in the ledger states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "trust", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant, reason = "there is one mechanism per round")]
pub enum RoundMechanism {
    /// Each client adds its share of the noise before masking: nobody sees a sum that is not private.
    Distributed(Mechanism),
    /// The coordinator adds the noise after the secure sum, and is trusted for that.
    Central(CentralMechanism),
}

impl From<Mechanism> for RoundMechanism {
    fn from(mechanism: Mechanism) -> Self {
        Self::Distributed(mechanism)
    }
}

impl From<CentralMechanism> for RoundMechanism {
    fn from(mechanism: CentralMechanism) -> Self {
        Self::Central(mechanism)
    }
}

impl RoundMechanism {
    /// The cost of one released round with `survivors` updates in the sum: of the distributed mechanism as the
    /// coordinator sees it, of the central one as everybody else does.
    ///
    /// # Errors
    /// As [`RdpCurve::distributed`] and [`RdpCurve::central`].
    pub fn cost(&self, survivors: u32) -> Result<RdpCurve, AccountantError> {
        match self {
            Self::Distributed(mechanism) => RdpCurve::distributed(mechanism, survivors),
            Self::Central(mechanism) => RdpCurve::central(mechanism, survivors),
        }
    }

    /// The most that one released round may cost: [`Self::cost`] at the number of survivors at which it is largest.
    ///
    /// More survivors bring more noise; but where one share of noise is small, also a sum that is less like a discrete
    /// Gaussian (Skellam shares always add up to less cost). If no number of survivors is the worst at every order, the costs
    /// that none exceeds are added up, which is more than any. (Their distances from the exact law differ by less than
    /// 2^-50, far below what a delta resolves, and are not compared.)
    ///
    /// # Errors
    /// As [`Self::cost`].
    pub fn worst_cost(&self) -> Result<RdpCurve, AccountantError> {
        let covers = |most: &RdpCurve, least: &RdpCurve| {
            most.points().zip(least.points()).all(|((_, most), (_, least))| most >= least)
        };
        let mut worst: Vec<RdpCurve> = Vec::new();
        for survivors in self.n_min()..=self.clients() {
            let curve = self.cost(survivors)?;
            if !worst.iter().any(|known| covers(known, &curve)) {
                worst.retain(|known| !covers(&curve, known));
                worst.push(curve);
            }
        }
        let mut sum = RdpCurve::zero();
        worst.iter().for_each(|curve| sum.compose(curve));
        Ok(sum)
    }

    /// The central mechanism, if the coordinator adds the noise.
    #[must_use]
    pub fn central(&self) -> Option<&CentralMechanism> {
        match self {
            Self::Distributed(_) => None,
            Self::Central(mechanism) => Some(mechanism),
        }
    }

    /// Coordinates d of an update.
    #[must_use]
    pub fn dimension(&self) -> usize {
        match self {
            Self::Distributed(mechanism) => mechanism.dimension(),
            Self::Central(mechanism) => mechanism.dimension(),
        }
    }

    /// Coordinates of the vectors that are summed.
    #[must_use]
    pub fn ring_dimension(&self) -> usize {
        match self {
            Self::Distributed(mechanism) => mechanism.dimension(),
            Self::Central(mechanism) => mechanism.ring_dimension(),
        }
    }

    /// Cohort size n.
    #[must_use]
    pub fn clients(&self) -> u32 {
        match self {
            Self::Distributed(mechanism) => mechanism.clients(),
            Self::Central(mechanism) => mechanism.clients(),
        }
    }

    /// Fewest survivors with which anything is released.
    #[must_use]
    pub fn n_min(&self) -> u32 {
        match self {
            Self::Distributed(mechanism) => mechanism.n_min(),
            Self::Central(mechanism) => mechanism.n_min(),
        }
    }

    /// Clip norm c, in the units of the update.
    #[must_use]
    pub fn clip(&self) -> f64 {
        match self {
            Self::Distributed(mechanism) => mechanism.clip(),
            Self::Central(mechanism) => mechanism.clip(),
        }
    }

    /// Bits b per coordinate.
    #[must_use]
    pub fn bits(&self) -> u32 {
        match self {
            Self::Distributed(mechanism) => mechanism.bits(),
            Self::Central(mechanism) => mechanism.bits(),
        }
    }

    /// Scale s: integer units per unit of the update.
    #[must_use]
    pub fn scale(&self) -> f64 {
        match self {
            Self::Distributed(mechanism) => mechanism.scale(),
            Self::Central(mechanism) => mechanism.scale(),
        }
    }

    /// `Delta2 / (s c)`: by how much rounding to integers lengthens an update at worst.
    #[must_use]
    pub fn sensitivity_inflation(&self) -> f64 {
        match self {
            Self::Distributed(mechanism) => mechanism.sensitivity_inflation(),
            Self::Central(mechanism) => mechanism.sensitivity_inflation(),
        }
    }

    /// Standard deviation of the noise in each coordinate of the decoded sum of `survivors` updates, in the
    /// units of the update.
    #[must_use]
    pub fn total_noise_std(&self, survivors: u32) -> f64 {
        match self {
            Self::Distributed(mechanism) => mechanism.total_noise_std(survivors),
            Self::Central(mechanism) => mechanism.noise_std(),
        }
    }
}
