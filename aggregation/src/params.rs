//! What a round's parties agree on before they aggregate: the plan's terms, the parameters that follow from the cohort's
//! size, and a client's own floors. Must never compute a fraction in floating point.

mod choice;
mod error;
mod floors;
mod roster;
mod tails;
mod terms;

pub use choice::{COMPLETE_UP_TO, GraphChoice, GraphRequest, Infeasible, choose};
pub use error::ParamsError;
pub use floors::{BelowFloor, Floors};
pub(crate) use roster::admit_member;
pub use roster::{RosterTerms, corrupt_share, most_drawn};
pub use terms::{RoundTerms, TaskName};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest cohort, in clients.
pub const MAX_COHORT: u32 = 16_384;

/// Largest vector, in coordinates.
pub const MAX_DIMENSION: u32 = 1 << 28;

/// Largest ring, in bits per coordinate.
pub const MAX_BITS: u8 = 32;

/// Most admissible parent models in one plan.
pub const MAX_PARENTS: usize = 64;

/// What the server may do beyond reading everything that it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreatModel {
    /// It follows the protocol.
    HonestButCurious,
    /// It may lie about anything after the clients' keys are set up. The stronger model, and the default.
    #[default]
    SemiMalicious,
}

impl fmt::Display for ThreatModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HonestButCurious => "honest_but_curious",
            Self::SemiMalicious => "semi_malicious",
        })
    }
}

/// floor(n * `per_10000` / 10,000).
#[must_use]
pub fn fraction_of(n: u32, per_10000: u16) -> u32 {
    (u64::from(n) * u64::from(per_10000) / 10_000) as u32
}

/// Everything that a closed cohort of n aggregates under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundParams {
    /// Cohort size.
    pub n: u32,
    /// Fewest survivors whose sum may be released.
    pub n_min: u32,
    /// Neighbours of each client, k.
    pub degree: u32,
    /// Shares that reconstruct a secret, t.
    pub threshold: u32,
    /// Bits of the ring, b.
    pub bits: u8,
    /// Coordinates, d.
    pub dimension: u32,
    /// What the server may do.
    pub threat: ThreatModel,
    /// gamma: colluding members assumed, per 10,000. Where the cohort is drawn from a roster, [`corrupt_share`] of it.
    pub corrupt_bp: u16,
    /// delta: members that may drop out, per 10,000.
    pub dropout_bp: u16,
    /// The sum fails for lack of shares with probability at most 2^-`correctness_bits`.
    pub correctness_bits: u8,
}

impl RoundParams {
    /// A = floor(gamma n), members assumed to collude.
    #[must_use]
    pub fn corrupt(&self) -> u32 {
        fraction_of(self.n, self.corrupt_bp)
    }

    /// D = floor(delta n), members that may drop out.
    #[must_use]
    pub fn dropouts(&self) -> u32 {
        fraction_of(self.n, self.dropout_bp)
    }

    /// m = `n_min` - A, honest members in any sum that is released.
    #[must_use]
    pub fn honest_minimum(&self) -> u32 {
        self.n_min.saturating_sub(self.corrupt())
    }

    /// Members, itself included, that must have confirmed the same maps before a client hands over a share: more than
    /// (n + A)/2 when the server may lie, so that two such sets have an honest member in common, who signs once; else none.
    #[must_use]
    pub fn quorum(&self) -> u32 {
        match self.threat {
            ThreatModel::HonestButCurious => 0,
            ThreatModel::SemiMalicious => (self.n + self.corrupt()) / 2 + 1,
        }
    }

    /// Whether clients need the adverts of all members, to check confirmations by others than their neighbours.
    #[must_use]
    pub fn needs_all_adverts(&self) -> bool {
        self.quorum() > 0 && self.degree + 1 < self.n
    }

    /// Bytes of one masked vector on the wire, ceil(d b / 8).
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        crate::ring_vector::packed_bytes(self.bits, self.dimension as usize)
    }

    fn graph_request(&self) -> GraphRequest {
        GraphRequest {
            threat: self.threat,
            clients: self.n,
            corrupt_bp: self.corrupt_bp,
            dropout_bp: self.dropout_bp,
            correctness_bits: self.correctness_bits,
        }
    }

    /// Recomputes degree and threshold range and checks every value against them, as a client does when the cohort
    /// closes. (That the local noise is at least 1/2 is for the caller, who knows the mechanism.)
    ///
    /// # Errors
    /// [`ParamsError`] names the first value that breaks the rule.
    pub fn validate(&self) -> Result<(), ParamsError> {
        self.check(choose(&self.graph_request())?)
    }

    fn check(&self, choice: GraphChoice) -> Result<(), ParamsError> {
        check_ring(self.bits, self.dimension)?;
        if self.degree != choice.degree {
            return Err(ParamsError::Degree { offered: self.degree, expected: choice.degree });
        }
        if !(choice.threshold_min..=choice.threshold_max).contains(&self.threshold) {
            return Err(ParamsError::Threshold {
                offered: self.threshold,
                min: choice.threshold_min,
                max: choice.threshold_max,
            });
        }
        if self.n_min > self.n {
            return Err(ParamsError::SurvivorsAboveCohort { n_min: self.n_min, n: self.n });
        }
        let floor = self.n - self.dropouts();
        if self.n_min < floor {
            return Err(ParamsError::SurvivorsBelowDropout { n_min: self.n_min, floor });
        }
        if self.honest_minimum() < 2 {
            return Err(ParamsError::TooFewHonest { n_min: self.n_min, corrupt: self.corrupt() });
        }
        Ok(())
    }
}

fn check_ring(bits: u8, dimension: u32) -> Result<(), ParamsError> {
    if !(1..=MAX_BITS).contains(&bits) {
        return Err(ParamsError::Bits { bits });
    }
    if !(1..=MAX_DIMENSION).contains(&dimension) {
        return Err(ParamsError::Dimension { dimension });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::{RoundParams, RoundTerms, TaskName, ThreatModel};

    /// Terms of a plausible plan.
    pub(crate) fn terms() -> RoundTerms {
        RoundTerms {
            task: TaskName::new("rust-completion").expect("a plain name"),
            round: 7,
            plan: [1; 32],
            parents: vec![[2; 32], [3; 32]],
            ledger_head: [4; 32],
            dimension: 100,
            bits: 16,
            threat: ThreatModel::SemiMalicious,
            corrupt_bp: 500,
            dropout_bp: 1_000,
            correctness_bits: 40,
            cohort_min: 10,
            cohort_max: 256,
            n_min: 9,
            roster: None,
        }
    }

    /// Its parameters for a cohort of n.
    pub(crate) fn params(n: u32) -> RoundParams {
        terms().params(n).expect("feasible")
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::terms;
    use super::{Floors, ParamsError, RoundParams, RoundTerms, TaskName, ThreatModel, fraction_of};

    #[test]
    fn fractions_are_exact_floors() {
        assert_eq!(fraction_of(10_000, 3_333), 3_333);
        assert_eq!(fraction_of(19, 500), 0);
        assert_eq!(fraction_of(20, 500), 1);
        assert_eq!(fraction_of(u32::MAX, 9_999), (u64::from(u32::MAX) * 9_999 / 10_000) as u32);
    }

    #[test]
    fn the_terms_give_valid_parameters_for_every_feasible_cohort() {
        let terms = terms();
        let mut feasible = 0;
        for n in terms.cohort_min..=terms.cohort_max {
            if let Ok(params) = terms.params(n) {
                params.validate().expect("what the terms derive is valid");
                assert!(params.n_min >= n - params.dropouts());
                feasible += 1;
            }
        }
        assert!(feasible > 200, "only {feasible} feasible cohort sizes");
    }

    #[test]
    fn each_weakened_parameter_is_refused() {
        let good = terms().params(256).expect("feasible");
        let weakened = |change: &dyn Fn(&mut RoundParams)| {
            let mut params = good;
            change(&mut params);
            params.validate().expect_err("weakened")
        };
        assert!(matches!(weakened(&|p| p.threshold -= 1), ParamsError::Threshold { .. }));
        assert!(matches!(weakened(&|p| p.threshold += 1), ParamsError::Threshold { .. }));
        assert!(matches!(weakened(&|p| p.degree -= 2), ParamsError::Degree { .. }));
        assert!(matches!(weakened(&|p| p.n_min -= 1), ParamsError::SurvivorsBelowDropout { .. }));
        assert!(matches!(weakened(&|p| p.n_min = 257), ParamsError::SurvivorsAboveCohort { .. }));
        assert!(matches!(weakened(&|p| p.corrupt_bp = 0), ParamsError::Degree { .. }));
        assert!(matches!(weakened(&|p| p.bits = 33), ParamsError::Bits { bits: 33 }));
        assert!(matches!(weakened(&|p| p.bits = 0), ParamsError::Bits { bits: 0 }));
        assert!(matches!(weakened(&|p| p.dimension = 0), ParamsError::Dimension { dimension: 0 }));
    }

    #[test]
    fn floors_hold_whatever_the_plan_says() {
        let params = terms().params(256).expect("feasible");
        let floors =
            Floors { n_min: 231, corrupt_bp: 500, threat: ThreatModel::SemiMalicious, roster: false };
        floors.admit(&terms(), &params).expect("exactly at the floors");
        floors.admit_terms(&terms()).expect("exactly at the floors");
        let refused =
            |floors: Floors| floors.admit(&terms(), &params).expect_err("below the floor").parameter;
        assert_eq!(refused(Floors { n_min: 232, ..floors }), "n_min");
        assert_eq!(refused(Floors { corrupt_bp: 501, ..floors }), "corrupt_bp");
        let curious = RoundTerms { threat: ThreatModel::HonestButCurious, ..terms() };
        assert_eq!(floors.admit_terms(&curious).expect_err("weaker model").parameter, "threat");
    }

    #[test]
    fn terms_out_of_range_are_refused() {
        let refused = |change: &dyn Fn(&mut RoundTerms)| {
            let mut terms = terms();
            change(&mut terms);
            terms.validate().expect_err("out of range")
        };
        assert!(matches!(refused(&|t| t.parents.clear()), ParamsError::Parents { count: 0 }));
        assert!(matches!(refused(&|t| t.parents.swap(0, 1)), ParamsError::Parents { count: 2 }));
        assert!(matches!(refused(&|t| t.cohort_min = 257), ParamsError::CohortBounds { .. }));
        assert!(matches!(refused(&|t| t.n_min = 257), ParamsError::SurvivorsAboveCohort { .. }));
        assert!(matches!(terms().params(9), Err(ParamsError::CohortOutsideBounds { n: 9, .. })));
        let long = "x".repeat(65);
        for bad in ["Rust", "", ".", "..", "...", "a/b", "a\\b", "a\0", &long] {
            assert_eq!(TaskName::new(bad), Err(ParamsError::TaskName), "{bad:?}");
        }
        for good in ["a", "-", "..a", "v1..2", ".hidden", &long[1..]] {
            assert_eq!(TaskName::new(good).expect("plain").as_str(), good);
        }
    }
}
