//! The privacy loss of Laplace noise. Must never drop the atoms at its two ends.

use super::grid::{Grid, Losses, ROUNDOFF};
use super::nodes::Nodes;

/// Laplace noise of scale `scale` times the sensitivity: P around 0 against Q around 1. The loss is `1/scale`
/// with probability 1/2, `-1/scale` with probability `e^(-1/scale)/2`, and has the density `e^((L - 1/scale)/2)/4`
/// in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Laplace {
    pub(super) scale: f64,
}

impl Laplace {
    /// Distance between the two atoms.
    pub(super) fn spacing(&self) -> f64 {
        2.0 / self.scale
    }

    /// See [`super::pair::Pair::nodes`].
    pub(super) fn nodes(&self) -> Nodes {
        const PANELS: u32 = 256;
        let largest = self.scale.recip();
        let mut nodes = Nodes::default();
        let log_half = 0.5_f64.ln();
        nodes.push(-largest, log_half - largest);
        let width = 2.0 * largest / f64::from(PANELS);
        // The density is close to exponential: its mass in a panel sits near the panel's upper end when that is
        // wide, near the middle when it is narrow.
        for panel in 0..PANELS {
            let upper = largest - f64::from(panel) * width;
            let mass = -(-width / 2.0).exp_m1() / 2.0;
            let mean =
                if width < 1e-3 { upper - width / 2.0 } else { upper - 2.0 + width / (width / 2.0).exp_m1() };
            nodes.push(mean, mass.ln() + (upper - largest) / 2.0);
        }
        nodes.push(largest, log_half);
        nodes
    }

    /// See [`super::pair::Pair::losses`].
    pub(super) fn losses(&self, grid: &Grid) -> Losses {
        let largest = self.scale.recip();
        // The grid has a point at the upper atom.
        let mut losses = Losses::new(grid.step, largest);
        let shifted = Grid { centre: grid.centre - largest, ..*grid };
        let mut boundaries = shifted.boundaries(-2.0 * largest, 0.0);
        boundaries.retain(|index| *index < 0);
        boundaries.push(0);
        let error = 8.0 * ROUNDOFF * largest;
        losses.split_atom(error - largest, (-largest).exp() / 2.0);
        for pair in boundaries.windows(2) {
            let lower = losses.at(pair[0]).max(-largest);
            let upper = losses.at(pair[1]);
            if upper <= lower {
                continue;
            }
            let width = upper - lower;
            let mass = -(-width / 2.0).exp_m1() * ((upper - largest) / 2.0).exp() / 2.0;
            // (e^(u/2) - 2 e^(l/2) + e^(l - u/2)) e^(-largest/2) / 2 above a loss of l, without the cancellation.
            let above_lower = (-width / 2.0).exp_m1().powi(2) * ((upper - largest) / 2.0).exp() / 2.0;
            // The cell begins at the grid's point below l.
            let gap = (losses.at(pair[0]) - lower).min(0.0);
            let excess = gap.exp() * above_lower - gap.exp_m1() * mass;
            losses.split((pair[0], pair[1]), mass, excess, error);
        }
        losses.push(0, 0.5);
        losses
    }
}
