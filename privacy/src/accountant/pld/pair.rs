//! Dominating pairs of the mechanisms that the accountant knows. Must never be made from parameters that were
//! not checked.

use super::grid::{Grid, Losses};
use super::integer::IntegerNoise;
use super::laplace::Laplace;
use super::mixture::Mixture;
use super::nodes::Nodes;

/// A pair (P, Q) of distributions whose hockey-stick divergence at each epsilon is at least that of the
/// mechanism on any two neighbours (Zhu, Dong, Wang 2022). The privacy loss is `ln(P/Q)` under P.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pair {
    Mixture(Mixture),
    Integer(IntegerNoise),
    Laplace(Laplace),
}

/// Which of two neighbours is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// (P, Q): the client's update is removed.
    Remove,
    /// (Q, P): it is added.
    Add,
}

impl Pair {
    /// Whether (P, Q) and (Q, P) have the same losses.
    pub(super) fn is_symmetric(&self) -> bool {
        match self {
            Self::Mixture(mixture) => mixture.is_symmetric(),
            Self::Integer(_) | Self::Laplace(_) => true,
        }
    }

    /// The distance between losses that atoms have, where a grid can meet all of them.
    pub(super) fn spacing(&self) -> Option<f64> {
        match self {
            Self::Mixture(_) => None,
            Self::Integer(noise) => noise.lattice(),
            Self::Laplace(laplace) => Some(laplace.spacing()),
        }
    }

    /// A typical distance between atoms that no grid meets unless made for them.
    pub(super) fn atom_gap(&self) -> Option<f64> {
        match self {
            Self::Mixture(_) => None,
            Self::Integer(noise) => Some(noise.typical_gap()),
            Self::Laplace(laplace) => Some(laplace.spacing()),
        }
    }

    /// Whether a grid that meets the atoms leaves nothing to be rounded.
    pub(super) fn is_lattice(&self) -> bool {
        matches!(self, Self::Integer(_)) && self.spacing().is_some()
    }

    /// A rough picture of the loss, without tails of probability `e^log_tail`.
    pub(super) fn nodes(&self, direction: Direction, log_tail: f64) -> Nodes {
        let nodes = match self {
            Self::Mixture(mixture) => mixture.nodes(log_tail),
            Self::Integer(noise) => noise.nodes(log_tail),
            Self::Laplace(laplace) => laplace.nodes(),
        };
        if direction == Direction::Add && !self.is_symmetric() { nodes.reversed() } else { nodes }
    }

    /// The loss on a grid, rounded pessimistically.
    pub(super) fn losses(&self, direction: Direction, grid: &Grid) -> Losses {
        let reverse = direction == Direction::Add && !self.is_symmetric();
        let sign = if reverse { -1.0 } else { 1.0 };
        let grid = Grid { centre: sign * grid.centre, bias: sign, ..*grid };
        let losses = match self {
            Self::Mixture(mixture) => mixture.losses(&grid),
            Self::Integer(noise) => noise.losses(&grid),
            Self::Laplace(laplace) => laplace.losses(&grid),
        };
        if reverse { losses.reversed() } else { losses }
    }
}
