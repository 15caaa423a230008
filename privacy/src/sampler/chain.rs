//! How a wide discrete Gaussian is put together from narrow ones: the multipliers, and the distance that this
//! costs. Must never pick a chain below the smoothness that the proof in `docs/privacy/mechanism.md` needs.

/// Every level's conditional Gaussian must have at least this variance: then summing it over the integers,
/// shifted anyhow, is constant up to a relative 2^-112.
const MIN_SMOOTHNESS: f64 = 4.0;
/// Largest standard deviation of the table, for which the fixed-point sums still fit.
const MAX_BASE_DEVIATION: f64 = 48.0;
/// Most levels tried.
const MAX_LEVELS: usize = 24;
/// Largest multiplier tried.
const MAX_MULTIPLIER: u64 = 24;
/// Table entries per standard deviation, from the cut at 2^-106 of the mass.
const ENTRIES_PER_DEVIATION: f64 = 12.0;
/// What one more level costs beside its table search, in table entries.
const LEVEL_COST: f64 = 200.0;

/// Multipliers `k_1, ..., k_L` of `X = X_0 + k_1 (X_1 + k_2 (X_2 + ...))`, all `X_i` from the same table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) multipliers: Vec<u64>,
}

impl Chain {
    /// The cheapest chain for the standard deviation `deviation`, or `None` when it is too wide for any.
    pub(super) fn cheapest(deviation: f64) -> Option<Self> {
        let mut best: Option<(f64, Self)> = None;
        for levels in 0..=MAX_LEVELS {
            // The same multiplier throughout, or one more than it in the outermost places.
            for smaller in 2..=MAX_MULTIPLIER {
                for larger_ones in 0..=levels.saturating_sub(1) {
                    let multiplier = |place| if place < larger_ones { smaller + 1 } else { smaller };
                    let chain = Self { multipliers: (0..levels).map(multiplier).collect() };
                    let base = deviation / chain.variance_factor().sqrt();
                    if base > MAX_BASE_DEVIATION || chain.smoothness(base * base) < MIN_SMOOTHNESS {
                        continue;
                    }
                    let cost = (levels + 1) as f64 * (ENTRIES_PER_DEVIATION * base + LEVEL_COST);
                    if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                        best = Some((cost, chain));
                    }
                }
                if levels == 0 {
                    break;
                }
            }
        }
        best.map(|(_, chain)| chain)
    }

    /// `S = 1 + k_1^2 (1 + k_2^2 (...))`: the variance of the whole over that of the table. Exact below 2^53.
    pub(super) fn variance_factor(&self) -> f64 {
        self.multipliers.iter().rev().fold(1.0, |factor, &k| 1.0 + (k * k) as f64 * factor)
    }

    /// The smallest variance, over the levels, of the inner sample given the outer sum; infinite for a single
    /// level.
    pub(super) fn smoothness(&self, base_variance: f64) -> f64 {
        let (mut factor, mut smallest) = (1.0, f64::INFINITY);
        for &k in self.multipliers.iter().rev() {
            let outer = 1.0 + (k * k) as f64 * factor;
            smallest = smallest.min(base_variance * factor / outer);
            factor = outer;
        }
        smallest
    }

    /// What each level's sample is multiplied by in the sum: 1, k_1, k_1 k_2, ...
    pub(super) fn weights(&self) -> Vec<i64> {
        let mut weights = vec![1_i64];
        for &k in &self.multipliers {
            weights.push(weights[weights.len() - 1].saturating_mul(k as i64));
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_is_smooth_and_reaches_its_deviation() {
        let mut deviation = 0.5;
        while deviation < 4e6 {
            let chain = Chain::cheapest(deviation).expect("deviations up to four million have a chain");
            let base = deviation / chain.variance_factor().sqrt();
            assert!(base <= MAX_BASE_DEVIATION, "{deviation}: {chain:?}");
            assert!(chain.smoothness(base * base) >= MIN_SMOOTHNESS, "{deviation}: {chain:?}");
            let weights = chain.weights();
            let sum: f64 = weights.iter().map(|&weight| (weight as f64).powi(2)).sum();
            assert_eq!(sum, chain.variance_factor(), "{deviation}: {chain:?}");
            deviation *= 1.01;
        }
    }

    #[test]
    fn narrow_deviations_need_one_table_and_wide_ones_few() {
        assert!(Chain::cheapest(0.5).is_some_and(|chain| chain.multipliers.is_empty()));
        assert!(Chain::cheapest(4.0).is_some_and(|chain| chain.multipliers.is_empty()));
        assert!(Chain::cheapest(400.0).is_some_and(|chain| (2..=5).contains(&chain.multipliers.len())));
        assert_eq!(Chain::cheapest(1e300), None);
    }
}
