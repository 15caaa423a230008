//! Degree and threshold of the graph, from the number of clients and the fractions assumed to collude or to drop out.
//! Must never round a fraction in floating point, and never return a pair that misses one of its bounds.
//!
//! The rule is that of Bell, Bonawitz, Gascón, Lepoint and Raykova (CCS 2020), section 3, with the tails computed
//! exactly rather than bounded, and with the semi-malicious bound replaced by the one on consecutive places that
//! `docs/protocol.md` derives.

use super::tails::{Hypergeometric, LogFactorials};
use super::{MAX_COHORT, ThreatModel, fraction_of};
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// Up to this many clients the graph is complete.
pub const COMPLETE_UP_TO: u32 = 100;

/// Statistical security of each privacy bound in bits; one more pays for having two bounds.
const PRIVACY_BITS: f64 = 41.0;

/// What a lying server may gain by trying seeds, in bits: it chooses the cohort last.
const GRINDING_BITS: f64 = 60.0;

/// What the choice of degree and threshold depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphRequest {
    /// What the server may do.
    pub threat: ThreatModel,
    /// Cohort size n.
    pub clients: u32,
    /// Colluding members assumed, per 10,000.
    pub corrupt_bp: u16,
    /// Members that may drop out, per 10,000.
    pub dropout_bp: u16,
    /// The sum fails for lack of shares with probability at most 2^-`correctness_bits`.
    pub correctness_bits: u8,
}

/// Degree and the thresholds that meet every bound at that degree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphChoice {
    /// Neighbours of each client: even, or n-1 when the graph is complete.
    pub degree: u32,
    /// Smallest threshold that is private.
    pub threshold_min: u32,
    /// Largest threshold that survives the drop-outs.
    pub threshold_max: u32,
}

/// Why no degree and threshold exist for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Infeasible {
    /// A cohort of this size cannot be served at all.
    #[error("a cohort of {clients} clients is outside 3..={max}: choose another cohort size")]
    CohortSize {
        /// Cohort size asked for.
        clients: u32,
        /// Largest size supported.
        max: u32,
    },
    /// A fraction is not below one.
    #[error("{name} is {per_10000} per 10,000; it must be below 10,000")]
    Fraction {
        /// `corrupt_bp` or `dropout_bp`.
        name: &'static str,
        /// The value given.
        per_10000: u16,
    },
    /// The correctness target is outside the range that the tails resolve.
    #[error("correctness_bits is {bits}; it must be within 1..=80")]
    Correctness {
        /// The value given.
        bits: u8,
    },
    /// No threshold serves the complete graph.
    #[error(
        "no threshold for the complete graph of {clients} clients: with {corrupt} colluding it must be at least \
         {needed}, with {dropped} dropping out at most {available}: assume fewer of either, or ask for more clients"
    )]
    Complete {
        /// Cohort size n.
        clients: u32,
        /// A = floor(gamma n).
        corrupt: u32,
        /// D = floor(delta n).
        dropped: u32,
        /// Smallest private threshold.
        needed: u32,
        /// Shares that remain after the drop-outs.
        available: u32,
    },
    /// No even degree below n-1 has a threshold.
    #[error(
        "no degree below {clients}-1 has a threshold: at degree {degree}, with {corrupt} of {clients} colluding it must \
         be at least {needed}, with {dropped} dropping out at most {available}: assume fewer of either, or ask for \
         more clients"
    )]
    Sparse {
        /// Cohort size n.
        clients: u32,
        /// A = floor(gamma n).
        corrupt: u32,
        /// D = floor(delta n).
        dropped: u32,
        /// The largest degree tried.
        degree: u32,
        /// Smallest private threshold at that degree.
        needed: u32,
        /// Largest threshold that survives the drop-outs at that degree.
        available: u32,
    },
}

/// The smallest even degree for which a threshold exists, and the range of its thresholds; the complete graph for up to
/// [`COMPLETE_UP_TO`] clients. Takes milliseconds at n = 10,000.
///
/// # Errors
/// [`Infeasible`] says which bound cannot be met, with the numbers.
pub fn choose(request: &GraphRequest) -> Result<GraphChoice, Infeasible> {
    let n = request.clients;
    if !(3..=MAX_COHORT).contains(&n) {
        return Err(Infeasible::CohortSize { clients: n, max: MAX_COHORT });
    }
    for (name, per_10000) in [("corrupt_bp", request.corrupt_bp), ("dropout_bp", request.dropout_bp)] {
        if per_10000 >= 10_000 {
            return Err(Infeasible::Fraction { name, per_10000 });
        }
    }
    if !(1..=80).contains(&request.correctness_bits) {
        return Err(Infeasible::Correctness { bits: request.correctness_bits });
    }
    if n <= COMPLETE_UP_TO { complete(request) } else { sparse(request) }
}

fn complete(request: &GraphRequest) -> Result<GraphChoice, Infeasible> {
    let n = request.clients;
    let corrupt = fraction_of(n, request.corrupt_bp);
    let dropped = fraction_of(n, request.dropout_bp);
    let needed = match request.threat {
        // A single neighbour must never hold a whole secret, even when nobody is assumed to collude.
        ThreatModel::HonestButCurious => (corrupt + 1).max(2),
        ThreatModel::SemiMalicious => (n - 1 + corrupt) / 2 + 1,
    };
    let available = (n - 1).saturating_sub(dropped);
    if needed > available {
        return Err(Infeasible::Complete { clients: n, corrupt, dropped, needed, available });
    }
    Ok(GraphChoice { degree: n - 1, threshold_min: needed, threshold_max: available })
}

fn sparse(request: &GraphRequest) -> Result<GraphChoice, Infeasible> {
    let n = request.clients;
    let corrupt = fraction_of(n, request.corrupt_bp);
    let dropped = fraction_of(n, request.dropout_bp);
    let table = LogFactorials::up_to(n);
    let ln_n = f64::from(n).ln();
    let lost = -f64::from(request.correctness_bits) * LN_2 - ln_n;
    let private = match request.threat {
        ThreatModel::HonestButCurious => -PRIVACY_BITS * LN_2 - ln_n,
        ThreatModel::SemiMalicious => -(PRIVACY_BITS + GRINDING_BITS) * LN_2 - ln_n,
    };

    // A larger neighbourhood holds stochastically more survivors and more colluders, so both cuts only move up.
    let (mut available, mut colluders) = (0, 0);
    let (mut degree, mut needed) = (0, 0);
    for k in (2..n - 1).step_by(2) {
        let survivors = Hypergeometric { population: n, marked: n - dropped, draws: k };
        while available < k && table.below(survivors, available + 1) <= lost {
            available += 1;
        }
        let (seen, connected) = match request.threat {
            ThreatModel::HonestButCurious => {
                let seen = Hypergeometric { population: n, marked: corrupt, draws: k };
                (seen, disconnected(&table, n, k, corrupt + dropped) < -PRIVACY_BITS * LN_2)
            }
            ThreatModel::SemiMalicious => {
                (Hypergeometric { population: n - 1, marked: corrupt, draws: k / 2 }, true)
            }
        };
        while table.above(seen, colluders) > private {
            colluders += 1;
        }
        degree = k;
        needed = match request.threat {
            ThreatModel::HonestButCurious => (colluders + 1).max(2),
            ThreatModel::SemiMalicious => k / 2 + colluders + 1,
        };
        if connected && needed <= available {
            return Ok(GraphChoice { degree, threshold_min: needed, threshold_max: available });
        }
    }
    Err(Infeasible::Sparse { clients: n, corrupt, dropped, degree, needed, available })
}

/// ln of the union bound on two honest survivors being cut off from each other, n(n-k-1)/2 C(n-k, B-k)/C(n, B), where
/// `missing` is B, those who collude or dropped.
fn disconnected(table: &LogFactorials, n: u32, k: u32, missing: u32) -> f64 {
    if k > missing {
        return f64::NEG_INFINITY;
    }
    if missing > n {
        return f64::INFINITY;
    }
    let pairs = f64::from(n) * f64::from(n - k - 1) / 2.0;
    pairs.ln() + table.binomial(n - k, missing - k) - table.binomial(n, missing)
}

#[cfg(test)]
mod tests {
    use super::{GraphChoice, GraphRequest, Infeasible, choose};
    use crate::params::{MAX_COHORT, ThreatModel};
    use serde::Deserialize;
    use std::time::{Duration, Instant};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        model: ThreatModel,
        correctness_bits: u8,
        clients: u32,
        corrupt_bp: u16,
        dropout_bp: u16,
        degree: u32,
        threshold_min: u32,
        threshold_max: u32,
    }

    fn request(threat: ThreatModel, clients: u32, corrupt_bp: u16, dropout_bp: u16) -> GraphRequest {
        GraphRequest { threat, clients, corrupt_bp, dropout_bp, correctness_bits: 40 }
    }

    #[test]
    fn every_reference_row_is_reproduced() {
        let rows: Vec<Row> = serde_json::from_str(include_str!("../../tests/vectors/secagg_params.json"))
            .expect("the reference rows parse");
        assert_eq!(rows.len(), 128);
        for row in rows {
            let request = GraphRequest {
                threat: row.model,
                clients: row.clients,
                corrupt_bp: row.corrupt_bp,
                dropout_bp: row.dropout_bp,
                correctness_bits: row.correctness_bits,
            };
            let expected = GraphChoice {
                degree: row.degree,
                threshold_min: row.threshold_min,
                threshold_max: row.threshold_max,
            };
            assert_eq!(choose(&request), Ok(expected), "{request:?}");
        }
    }

    #[test]
    fn the_largest_cohorts_take_well_under_a_second() {
        let start = Instant::now();
        for threat in [ThreatModel::HonestButCurious, ThreatModel::SemiMalicious] {
            choose(&request(threat, 10_000, 2_000, 2_000)).expect("feasible");
            choose(&request(threat, MAX_COHORT, 6_000, 6_000))
                .expect_err("infeasible: every degree is tried");
        }
        assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    }

    #[test]
    fn complete_graphs_follow_their_formulas() {
        for n in 3..=100 {
            let curious = choose(&request(ThreatModel::HonestButCurious, n, 1_000, 1_000));
            let (a, d) = (n / 10, n / 10);
            assert_eq!(
                curious,
                Ok(GraphChoice { degree: n - 1, threshold_min: (a + 1).max(2), threshold_max: n - d - 1 })
            );
            let lying = choose(&request(ThreatModel::SemiMalicious, n, 1_000, 1_000)).expect("feasible");
            assert_eq!(lying.threshold_min, (n - 1 + a) / 2 + 1);
            assert_eq!(lying.threshold_max, n - d - 1);
            // Nobody gathers both kinds of share: 2t > k + corrupt.
            assert!(2 * lying.threshold_min > lying.degree + a);
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_the_numbers() {
        let lying = ThreatModel::SemiMalicious;
        assert_eq!(
            choose(&request(lying, 10, 4_000, 4_000)),
            Err(Infeasible::Complete { clients: 10, corrupt: 4, dropped: 4, needed: 7, available: 5 })
        );
        assert!(matches!(
            choose(&request(lying, 128, 3_300, 3_300)),
            Err(Infeasible::Sparse { degree: 126, .. })
        ));
        assert!(matches!(choose(&request(lying, 2, 0, 0)), Err(Infeasible::CohortSize { clients: 2, .. })));
        assert!(matches!(choose(&request(lying, MAX_COHORT + 1, 0, 0)), Err(Infeasible::CohortSize { .. })));
        assert!(matches!(
            choose(&request(lying, 10, 10_000, 0)),
            Err(Infeasible::Fraction { name: "corrupt_bp", .. })
        ));
        assert!(matches!(choose(&request(lying, 10, 0, u16::MAX)), Err(Infeasible::Fraction { .. })));
        let mut vague = request(lying, 10, 0, 0);
        vague.correctness_bits = 0;
        assert_eq!(choose(&vague), Err(Infeasible::Correctness { bits: 0 }));
    }
}
