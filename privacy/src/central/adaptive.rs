//! A clip norm that follows a quantile of the updates' norms (Andrew, Thakkar, McMahan, Ramaswamy 2021,
//! "Differentially Private Learning with Adaptive Clipping"). Must never see a norm: only the noised count of clip bits.

use serde::{Deserialize, Serialize};

use crate::clip::{MAX_CLIP, MIN_CLIP};
use crate::mechanism::{Infeasible, positive};

/// Geometric updating of the clip norm: `c <- c exp(-eta (b - gamma))`, b the noised share of the updates that
/// were *not* clipped. Where more than gamma of them pass whole, the norm falls; where fewer do, it rises.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveClip {
    /// gamma: share of the updates that shall not be clipped; 0.5 follows the median norm.
    pub target_quantile: f64,
    /// eta: step of the logarithm of the clip norm; 0.2 is usual.
    pub learning_rate: f64,
    /// sigma_b: standard deviation of the noise in the number of updates that were not clipped, in clients,
    /// under zero-out adjacency; twice that under replace-one. A twentieth of the cohort is usual.
    pub count_noise: f64,
}

impl AdaptiveClip {
    /// The share of `survivors` that were not clipped, from the noised sum of their bits, +1 for not clipped
    /// and -1 for clipped. Noise may take it below 0 or above 1.
    #[must_use]
    pub fn unclipped_share(bit_sum: i32, survivors: u32) -> f64 {
        0.5 * (f64::from(bit_sum) / f64::from(survivors) + 1.0)
    }

    /// The next round's clip norm, within [`MIN_CLIP`] to [`MAX_CLIP`]; the same on every machine.
    #[must_use]
    pub fn next_clip(&self, clip: f64, bit_sum: i32, survivors: u32) -> f64 {
        let excess = Self::unclipped_share(bit_sum, survivors) - self.target_quantile;
        (clip * libm::exp(-self.learning_rate * excess)).clamp(MIN_CLIP, MAX_CLIP)
    }

    pub(super) fn check(&self) -> Result<(), Infeasible> {
        positive("learning_rate of the adaptive clip norm", self.learning_rate)?;
        positive("count_noise of the adaptive clip norm", self.count_noise)?;
        if !(self.target_quantile > 0.0 && self.target_quantile < 1.0) {
            return Err(Infeasible::TargetQuantile(self.target_quantile));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: AdaptiveClip = AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 1.0 };

    #[test]
    fn the_norm_falls_when_too_many_pass_whole_and_rises_when_too_many_are_clipped() {
        let up = RULE.next_clip(1.0, -10, 10);
        let down = RULE.next_clip(1.0, 10, 10);
        assert!((up - 0.1_f64.exp()).abs() < 1e-15, "{up}");
        assert!((down - (-0.1_f64).exp()).abs() < 1e-15, "{down}");
        assert_eq!(RULE.next_clip(0.7, 0, 10), 0.7);
        let high = AdaptiveClip { target_quantile: 0.9, ..RULE };
        assert!(high.next_clip(1.0, 0, 10) > 1.0, "half pass where nine tenths shall");
    }

    #[test]
    fn the_norm_stays_where_the_pipeline_can_carry_it() {
        let steep = AdaptiveClip { learning_rate: 1e6, ..RULE };
        assert_eq!(steep.next_clip(1.0, -10, 10), MAX_CLIP);
        assert_eq!(steep.next_clip(1.0, 10, 10), MIN_CLIP);
    }

    #[test]
    fn rules_that_follow_nothing_are_refused() {
        for bad in [
            AdaptiveClip { target_quantile: 0.0, ..RULE },
            AdaptiveClip { target_quantile: 1.0, ..RULE },
            AdaptiveClip { target_quantile: f64::NAN, ..RULE },
            AdaptiveClip { learning_rate: 0.0, ..RULE },
            AdaptiveClip { learning_rate: f64::INFINITY, ..RULE },
            AdaptiveClip { count_noise: -1.0, ..RULE },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert_eq!(RULE.check(), Ok(()));
    }
}
