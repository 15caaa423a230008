//! Hypergeometric tails in the log domain, for the choice of degree and threshold. Must never return a probability
//! that is too small because of underflow: a sum that overflows counts as certain.

/// Natural logarithms of the factorials of 0..=n.
pub(super) struct LogFactorials(Vec<f64>);

/// `Hyp(population, marked, draws)`: how many marked ones are among `draws` drawn without replacement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hypergeometric {
    pub(super) population: u32,
    pub(super) marked: u32,
    pub(super) draws: u32,
}

/// A term this small, relative to the sum so far, ends a tail whose terms shrink.
const NEGLIGIBLE: f64 = 1e-20;

impl LogFactorials {
    pub(super) fn up_to(n: u32) -> Self {
        let mut table = Vec::with_capacity(n as usize + 1);
        let mut sum = 0.0;
        table.push(sum);
        for i in 1..=n {
            sum += f64::from(i).ln();
            table.push(sum);
        }
        Self(table)
    }

    /// ln C(n, k); minus infinity where the coefficient is zero.
    pub(super) fn binomial(&self, n: u32, k: u32) -> f64 {
        if k > n {
            return f64::NEG_INFINITY;
        }
        self.0[n as usize] - self.0[k as usize] - self.0[(n - k) as usize]
    }

    fn probability(&self, law: Hypergeometric, j: u32) -> f64 {
        if j > law.draws {
            return f64::NEG_INFINITY;
        }
        self.binomial(law.marked, j) + self.binomial(law.population - law.marked, law.draws - j)
            - self.binomial(law.population, law.draws)
    }

    /// ln P[law < t].
    pub(super) fn below(&self, law: Hypergeometric, t: u32) -> f64 {
        let lowest = law.draws.saturating_sub(law.population - law.marked);
        let highest = law.marked.min(law.draws);
        if t <= lowest {
            return f64::NEG_INFINITY;
        }
        let start = (t - 1).min(highest);
        let (mut sum, mut term) = (1.0, 1.0);
        let mut j = start;
        while j > lowest {
            let unmarked_drawn = f64::from(law.draws - j + 1);
            let unmarked_left = f64::from(law.population - law.marked) - f64::from(law.draws - j);
            let ratio = f64::from(j) * unmarked_left / (f64::from(law.marked - j + 1) * unmarked_drawn);
            term *= ratio;
            sum += term;
            j -= 1;
            if ratio < 1.0 && term < NEGLIGIBLE * sum {
                break;
            }
        }
        self.probability(law, start) + sum.ln()
    }

    /// ln P[law > h].
    pub(super) fn above(&self, law: Hypergeometric, h: u32) -> f64 {
        let lowest = law.draws.saturating_sub(law.population - law.marked);
        let highest = law.marked.min(law.draws);
        if h >= highest {
            return f64::NEG_INFINITY;
        }
        let start = (h + 1).max(lowest);
        let (mut sum, mut term) = (1.0, 1.0);
        let mut j = start;
        while j < highest {
            let unmarked_left = f64::from(law.population - law.marked) - f64::from(law.draws - j) + 1.0;
            let ratio =
                f64::from(law.marked - j) * f64::from(law.draws - j) / (f64::from(j + 1) * unmarked_left);
            term *= ratio;
            sum += term;
            j += 1;
            if ratio < 1.0 && term < NEGLIGIBLE * sum {
                break;
            }
        }
        self.probability(law, start) + sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::{Hypergeometric, LogFactorials};

    fn choose(n: u32, k: u32) -> f64 {
        if k > n { 0.0 } else { (1..=k).map(|i| f64::from(n - k + i) / f64::from(i)).product() }
    }

    #[test]
    fn tails_match_direct_sums() {
        let table = LogFactorials::up_to(30);
        let mut compared = 0;
        for (population, marked, draws) in
            [(30, 12, 9), (30, 0, 5), (30, 30, 5), (17, 5, 16), (20, 19, 7), (10, 3, 10)]
        {
            let law = Hypergeometric { population, marked, draws };
            let p = |j: u32| {
                if j > draws {
                    0.0
                } else {
                    choose(marked, j) * choose(population - marked, draws - j) / choose(population, draws)
                }
            };
            for t in 0..=draws + 1 {
                let below: f64 = (0..t).map(p).sum();
                let above: f64 = (t + 1..=draws).map(p).sum();
                assert!((table.below(law, t).exp() - below).abs() < 1e-12, "{law:?} below {t}");
                assert!((table.above(law, t).exp() - above).abs() < 1e-12, "{law:?} above {t}");
                compared += 1;
            }
        }
        assert_eq!(compared, 11 + 7 + 7 + 18 + 9 + 12);
    }
}
