//! The cost of a round whose noise the coordinator added, as everybody but the coordinator sees it.
//! Must never be stated for a round in which only some of the noise was added.

use super::{AccountantError, RdpCurve};
use crate::central::CentralMechanism;
use crate::sampler;

impl RdpCurve {
    /// The curve of one released round of `mechanism`, the count of clipped updates included: the curve of
    /// Gaussian noise whose multiplier z satisfies `1/z^2 = Delta^2/v + Delta_b^2/v_b`, with the variances v
    /// really used (Canonne, Kamath, Steinke 2020, theorem 4, coordinate by coordinate; independent noises
    /// add). It does not depend on the survivors, and colluding clients take nothing of the noise away.
    ///
    /// # Errors
    /// [`AccountantError::TooFewSurvivors`] below `n_min`, [`AccountantError::MoreSurvivorsThanClients`]
    /// above n.
    pub fn central(mechanism: &CentralMechanism, survivors: u32) -> Result<Self, AccountantError> {
        mechanism.check_survivors(survivors)?;
        let multiplier = (1.0 / mechanism.inverse_squared_multiplier()).sqrt();
        let distance = sampler::DISTANCE * mechanism.ring_dimension() as f64;
        Ok(Self::gaussian(multiplier).with_sampling_distance(distance))
    }
}
