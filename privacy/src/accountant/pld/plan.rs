//! Chooses grid, window and tilt for one question. Must never affect whether an answer is valid: each choice
//! gives an upper bound, and these make it tight.

use super::composition::{Answer, Composed, Window};
use super::grid::Grid;
use super::nodes::Sum;
use super::pair::{Direction, Pair};

/// Aim for the relative error of epsilon that the grid causes.
const TOLERANCE: f64 = 2e-5;
/// The same of the first attempt, which finds out where to look.
const FIRST_TOLERANCE: f64 = 4e-3;
/// Most attempts. The second nearly always settles it.
const ATTEMPTS: u32 = 6;
/// A delta that falls faster than assumed by more than this factor asks for a finer grid.
const STEEPER: f64 = 1.5;
/// Most points of the transform: 2^22, some 100 MB altogether.
const MOST_POINTS: usize = 1 << 22;
/// Fewest points.
const FEWEST_POINTS: usize = 64;
/// What is cut off, in probability relative to delta: `e^-17`, 4e-8.
const LOG_CUT: f64 = 17.0;
/// How much of their leading digits, as a natural logarithm, deltas may lose to a smaller tilt than the best.
const LOG_DIGITS: f64 = 9.0;
/// By how much, as a natural logarithm, the tilted sum's own probability may exceed delta where the tilt is smaller than
/// the best: a transform resolves some 1e-14 of it, and where losses are rare and large the best has little to spare.
const LOG_RESOLVED: f64 = 14.0;
/// Deltas below `e^-650` are not resolved but rounded up to it: doubles end at `e^-708`.
const LOG_LEAST_DELTA: f64 = -650.0;

/// Releases to compose in one direction, and what is known of their sum.
pub(super) struct Question<'a> {
    pairs: &'a [(Pair, u64)],
    direction: Direction,
    releases: f64,
}

/// Where an answer is expected.
#[derive(Clone, Copy)]
struct Target {
    epsilon: f64,
    log_delta: f64,
    /// The rate at which the logarithm of delta falls with epsilon.
    rate: f64,
    tolerance: f64,
}

impl<'a> Question<'a> {
    pub(super) fn new(pairs: &'a [(Pair, u64)], direction: Direction) -> Self {
        let releases = pairs.iter().map(|(_, count)| *count as f64).sum();
        Self { pairs, direction, releases }
    }

    /// An epsilon at which delta is at most `delta`; none when the cut-off tails alone exceed it.
    pub(super) fn epsilon(&self, delta: f64) -> Option<f64> {
        let log_delta = delta.ln();
        let sum = self.sum(log_delta);
        let (epsilon, rate) = sum.chernoff(0.0, 1.0, -log_delta, f64::INFINITY);
        let mut target = Target { epsilon: epsilon.max(0.0), log_delta, rate, tolerance: FIRST_TOLERANCE };
        let mut best: Option<f64> = None;
        for attempt in 0..ATTEMPTS {
            let Some(answer) = self.compose(&sum, &target).epsilon(delta) else { break };
            let Answer { epsilon, rate, inside } = answer;
            best = Some(best.map_or(epsilon, |best| best.min(epsilon)));
            let near = (epsilon - target.epsilon).abs() <= 0.2 * target.epsilon;
            let settled = attempt > 0 && inside && near && rate <= STEEPER * target.rate;
            if settled || epsilon == 0.0 {
                break;
            }
            target = Target { epsilon, log_delta, rate, tolerance: TOLERANCE };
        }
        best
    }

    /// A delta for `epsilon`.
    pub(super) fn delta(&self, epsilon: f64) -> f64 {
        let mut log_delta = LOG_LEAST_DELTA;
        let mut best = 1.0_f64;
        let mut rate = None;
        for attempt in 0..ATTEMPTS {
            let sum = self.sum(log_delta);
            let tilt = sum.tilt_with_mean(epsilon, LOG_LEAST_DELTA, f64::INFINITY);
            if attempt == 0 {
                let bound = sum.cumulants(tilt).value - tilt * epsilon;
                log_delta = bound.clamp(LOG_LEAST_DELTA, 0.0);
                continue;
            }
            let tolerance = if attempt == 1 { FIRST_TOLERANCE } else { TOLERANCE };
            let target = Target { epsilon, log_delta, rate: rate.unwrap_or(tilt), tolerance };
            let (delta, found_rate) = self.compose(&sum, &target).delta(epsilon);
            best = best.min(delta);
            let as_steep = found_rate <= STEEPER * target.rate;
            rate = Some(found_rate).filter(|rate| rate.is_finite());
            let found = best.ln().clamp(LOG_LEAST_DELTA, 0.0);
            // The cut is far enough below delta to be right for one that is a little smaller.
            if attempt > 1 && found > log_delta - 1.0 && as_steep {
                break;
            }
            log_delta = found;
        }
        best
    }

    /// A rough picture of the sum of all losses.
    fn sum(&self, log_delta: f64) -> Sum {
        let log_tail = self.log_tail(log_delta);
        let nodes = |(pair, count): &(Pair, u64)| (pair.nodes(self.direction, log_tail), *count as f64);
        Sum(self.pairs.iter().map(nodes).collect())
    }

    /// Logarithm of the probability that each release may lose to infinity.
    fn log_tail(&self, log_delta: f64) -> f64 {
        log_delta - LOG_CUT - self.releases.ln()
    }

    fn compose(&self, sum: &Sum, target: &Target) -> Composed {
        // Where delta falls off a cliff, no tilt sees more than the room left for errors.
        let size = target.epsilon.max(1e-4 * sum.cumulants(0.0).variance.sqrt());
        let room = target.tolerance * size;
        let steepest = 5.0 / room;
        let rate = target.rate.max(sum.tilt_with_mean(target.epsilon, LOG_LEAST_DELTA, steepest));
        let (highest, tilt_above) = sum.chernoff(0.0, 1.0, LOG_CUT - target.log_delta, steepest);
        let (tilt, lowest, highest_tilted) = tilt_and_range(sum, target, steepest);
        let (least, most) = sum.range();
        // What the grid adds to the range: its gaps, which are fine unless far from the centre.
        let margin = (most - least) / 1_000.0;
        let highest = highest.max(highest_tilted).max(target.epsilon);
        let highest = if self.releases <= 64.0 { highest.min(most + margin) } else { highest };
        let lowest = lowest.max(least - margin).min(target.epsilon);
        let span = (highest - lowest).max(f64::MIN_POSITIVE);

        let wanted = self.step(room, rate.min(steepest), span);
        let spare = if self.releases <= 64.0 { 4.0 * self.releases } else { 4.0 };
        // Saturates; NaN becomes 0.
        let points = (span / wanted + spare).ceil() as usize;
        let points = points.clamp(FEWEST_POINTS, MOST_POINTS).next_power_of_two();
        let step = wanted.max(span / (points as f64 - spare));
        let releases: Vec<_> = self
            .pairs
            .iter()
            .zip(&sum.0)
            .map(|((pair, count), (nodes, _))| {
                let centre = nodes.cumulants(tilt).mean;
                let grid = Grid { step, centre, bias: 1.0, log_tail: self.log_tail(target.log_delta) };
                (pair.losses(self.direction, &grid), *count)
            })
            .collect();
        Composed::new(&releases, &Window { points, lowest: lowest - step, tilt, tilt_above })
    }

    /// The distance between losses on the grid.
    ///
    /// Splitting a loss inside a cell of width h adds a variable of mean about h^2/12 and variance h^2/6 to it.
    /// Where delta falls like `e^(-r epsilon)`, k of them add `k h^2 (1 + r) / 12` to epsilon. Atoms that the
    /// grid misses cost more: they spread by `h sqrt(k)`, of which a fraction reaches epsilon.
    fn step(&self, room: f64, rate: f64, span: f64) -> f64 {
        let smooth = |releases: f64| (12.0 * room / (releases * (1.0 + rate))).sqrt();
        let all = smooth(self.releases);
        let met = self.pairs.iter().find_map(|(pair, _)| {
            pair.spacing().filter(|spacing| *spacing >= all).map(|spacing| (pair, spacing))
        });
        let mut step = f64::INFINITY;
        for (pair, count) in self.pairs {
            let count = *count as f64;
            let is_met = met.is_some_and(|(met, _)| met == pair);
            if !(is_met && pair.is_lattice()) {
                step = step.min(all);
            }
            if !is_met && pair.atom_gap().is_some_and(|gap| gap > step) {
                step = step.min((4.0 * room / count.sqrt()).max(span / MOST_POINTS as f64 * 8.0));
            }
        }
        match met {
            Some((_, spacing)) => spacing / (spacing / step).ceil().max(1.0),
            None => step,
        }
    }
}

/// The tilt, with a range outside of which the tilted sum has next to no probability: what lies there comes
/// back at the other end, and the tilt's removal would enlarge it.
///
/// The tilt that moves the sum to the target keeps most digits of delta; where losses have heavy tails, a
/// smaller one has a much shorter range.
fn tilt_and_range(sum: &Sum, target: &Target, most: f64) -> (f64, f64, f64) {
    let best = sum.tilt_with_mean(target.epsilon, LOG_LEAST_DELTA, most);
    let least = sum.cumulants(best).value - best * target.epsilon;
    let allowed = (least + LOG_DIGITS).min(target.log_delta + LOG_RESOLVED);
    let range = |tilt: f64| {
        let (highest, _) = sum.chernoff(tilt, 1.0, LOG_CUT, most);
        let (lowest, _) = sum.chernoff(tilt, -1.0, LOG_CUT, most);
        (tilt, lowest, highest)
    };
    [0.75, 0.5, 0.25]
        .into_iter()
        .map(|part| part * best)
        .filter(|tilt| sum.cumulants(*tilt).value - tilt * target.epsilon <= allowed)
        .map(range)
        .fold(
            range(best),
            |kept, other| if other.2 - other.1 < 0.7 * (kept.2 - kept.1) { other } else { kept },
        )
}
