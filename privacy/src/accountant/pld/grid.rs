//! A pair of distributions as finitely many losses on an equidistant grid, rounded pessimistically.
//! Must never lose probability: what has no place on the grid counts as infinite loss.

/// Relative error allowed for each mass that a mechanism computes: quadrature, exponentials, normalisation.
const MASS_ERROR: f64 = 1e-13;
/// Cells next to the centre that are one step wide.
const FINE_CELLS: i64 = 1 << 12;
/// Unit roundoff of a double.
pub(super) const ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// What a mechanism is to be discretised on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Distance between neighbouring losses.
    pub(super) step: f64,
    /// The loss around which every point of the grid is used.
    pub(super) centre: f64,
    /// 1 to move mass upwards by the rounding error of a loss, -1 to move it downwards: for the reversed pair.
    pub(super) bias: f64,
    /// Natural logarithm of the probability that may count as infinite loss, in each release.
    pub(super) log_tail: f64,
}

impl Grid {
    /// Points of the grid from at or below `lowest` to at or above `highest`: all of them near the centre, then
    /// every second, fourth, and so on, so that their number grows with the logarithm of the range. Each gap is at
    /// most 1/4,096 of its distance from the centre, or one step.
    pub(super) fn boundaries(&self, lowest: f64, highest: f64) -> Vec<i64> {
        let index = |loss: f64| (loss / self.step) as i64;
        let first = index(lowest) - 1;
        let last = index(highest) + 1;
        let centre = index(self.centre).clamp(first, last);
        let mut boundaries: Vec<i64> =
            offsets().map(|offset| centre - offset).take_while(|at| *at > first).collect();
        boundaries.push(first);
        boundaries.reverse();
        boundaries.extend(offsets().skip(1).map(|offset| centre + offset).take_while(|at| *at < last));
        boundaries.push(last);
        boundaries.dedup();
        boundaries
    }
}

/// 0, 1, 2, ..., then with gaps that double each time the offset does.
fn offsets() -> impl Iterator<Item = i64> {
    std::iter::successors(Some(0_i64), |offset| {
        let gap = 1_i64 << (offset / FINE_CELLS).max(1).ilog2();
        offset.checked_add(gap)
    })
}

/// The privacy loss of one release on a grid: losses `offset + index * step`, ascending, with their
/// probabilities, and the probability of an infinite loss.
///
/// The pair (P, Q) of distributions with these losses dominates the mechanism's own: at every epsilon its
/// hockey-stick divergence is at least as large.
#[derive(Clone, Debug)]
pub(super) struct Losses {
    pub(super) step: f64,
    pub(super) offset: f64,
    /// Indices with their probabilities under P.
    pub(super) masses: Vec<(i64, f64)>,
    /// Probability under P of outcomes that Q does not have.
    pub(super) infinite: f64,
    /// Probability under Q of outcomes that P does not have.
    pub(super) infinite_reversed: f64,
    /// Bound on the sum of the relative errors of the masses, each weighted by any probability.
    pub(super) relative_error: f64,
}

impl Losses {
    pub(super) fn new(step: f64, offset: f64) -> Self {
        let (infinite, infinite_reversed, relative_error) = (0.0, 0.0, MASS_ERROR);
        Self { step, offset, masses: Vec::new(), infinite, infinite_reversed, relative_error }
    }

    pub(super) fn at(&self, index: i64) -> f64 {
        self.offset + index as f64 * self.step
    }

    /// Adds `mass`, found with losses between two points of the grid, as masses at these two points that have
    /// the same probabilities under P and under Q: the hockey-stick divergence, convex in e^epsilon, is
    /// replaced by its chord ("connect the dots", Doroshenko et al. 2022).
    ///
    /// `excess` is the integral over the mass of `1 - e^(lower - loss)`. `loss_error`, a bound on the error of a
    /// loss as computed, moves mass upwards, or downwards where it is negative.
    pub(super) fn split(&mut self, (lower, upper): (i64, i64), mass: f64, excess: f64, loss_error: f64) {
        let width = (upper - lower) as f64 * self.step;
        let above = (excess + loss_error * mass) / -(-width).exp_m1();
        let above = above.clamp(0.0, mass);
        self.push(lower, mass - above);
        self.push(upper, above);
    }

    /// Adds an atom of `mass` whose loss is at most `loss`.
    pub(super) fn split_atom(&mut self, loss: f64, mass: f64) {
        let lower = ((loss - self.offset) / self.step).floor() as i64;
        let excess = -(self.at(lower) - loss).min(0.0).exp_m1() * mass;
        self.split((lower, lower + 1), mass, excess, 0.0);
    }

    /// Adds mass at a point of the grid, which must be the last one, its predecessor or a new last one.
    pub(super) fn push(&mut self, index: i64, mass: f64) {
        if mass <= 0.0 {
            return;
        }
        let found = self.masses.iter_mut().rev().take(2).find(|(at, _)| *at == index);
        match found {
            Some((_, sum)) => *sum += mass,
            None => self.masses.push((index, mass)),
        }
    }

    /// The pair (Q, P): the loss changes its sign, and the mass at loss L becomes `e^(-L)` times the old.
    pub(super) fn reversed(self) -> Self {
        let masses: Vec<(i64, f64)> =
            self.masses.iter().rev().map(|&(index, mass)| (-index, mass * (-self.at(index)).exp())).collect();
        let largest = self.masses.iter().map(|(index, _)| self.at(*index).abs()).fold(0.0, f64::max);
        Self {
            step: self.step,
            offset: -self.offset,
            masses,
            infinite: self.infinite_reversed,
            infinite_reversed: self.infinite,
            relative_error: self.relative_error + 4.0 * ROUNDOFF * largest,
        }
    }

    /// The lowest and the highest finite loss.
    pub(super) fn range(&self) -> (f64, f64) {
        let indices = || self.masses.iter().map(|(index, _)| *index);
        (self.at(indices().min().unwrap_or(0)), self.at(indices().max().unwrap_or(0)))
    }
}
