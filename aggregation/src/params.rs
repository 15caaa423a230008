//! What a round's parties agree on before they aggregate: the plan's terms, the parameters that follow from the cohort's
//! size, and a client's own floors. Must never compute a fraction in floating point.

mod choice;
mod tails;

pub use choice::{COMPLETE_UP_TO, GraphChoice, GraphRequest, Infeasible, choose};

use crate::Digest;
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

/// The name of a learning task: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskName(String);

impl TaskName {
    /// Checks the name.
    ///
    /// # Errors
    /// [`ParamsError::TaskName`] when it is empty, too long, or has another character.
    pub fn new(name: &str) -> Result<Self, ParamsError> {
        let fits = (1..=64).contains(&name.len());
        let plain = name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if fits && plain { Ok(Self(name.to_owned())) } else { Err(ParamsError::TaskName) }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TaskName {
    type Error = ParamsError;
    fn try_from(name: String) -> Result<Self, ParamsError> {
        Self::new(&name)
    }
}

impl From<TaskName> for String {
    fn from(name: TaskName) -> Self {
        name.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the signed plan of a round fixes before its cohort is known. The caller has checked the plan's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundTerms {
    /// The learning task.
    pub task: TaskName,
    /// Round number within the task.
    pub round: u64,
    /// SHA-256 of the signed plan.
    pub plan: Digest,
    /// Digests of the parent models whose updates may join, strictly increasing.
    pub parents: Vec<Digest>,
    /// Head of the signed ledger that the plan builds on.
    pub ledger_head: Digest,
    /// Coordinates of the vectors to sum.
    pub dimension: u32,
    /// Bits of the ring: the sum is taken mod 2^`bits`.
    pub bits: u8,
    /// What the server may do.
    pub threat: ThreatModel,
    /// Colluding members assumed, per 10,000.
    pub corrupt_bp: u16,
    /// Members that may drop out, per 10,000.
    pub dropout_bp: u16,
    /// The sum fails for lack of shares with probability at most 2^-`correctness_bits`.
    pub correctness_bits: u8,
    /// Smallest cohort that may be closed.
    pub cohort_min: u32,
    /// Largest cohort that may be closed.
    pub cohort_max: u32,
    /// Fewest survivors that the plan allows to be summed, in a cohort of any size.
    pub n_min: u32,
}

impl RoundTerms {
    /// Checks what can be checked before a cohort is known.
    ///
    /// # Errors
    /// [`ParamsError`] names the first value that is out of range.
    pub fn validate(&self) -> Result<(), ParamsError> {
        check_ring(self.bits, self.dimension)?;
        if self.parents.is_empty()
            || self.parents.len() > MAX_PARENTS
            || self.parents.windows(2).any(|pair| pair[0] >= pair[1])
        {
            return Err(ParamsError::Parents { count: self.parents.len() });
        }
        if self.cohort_min > self.cohort_max || self.cohort_max > MAX_COHORT {
            return Err(ParamsError::CohortBounds { min: self.cohort_min, max: self.cohort_max });
        }
        if self.n_min > self.cohort_max {
            return Err(ParamsError::SurvivorsAboveCohort { n_min: self.n_min, n: self.cohort_max });
        }
        Ok(())
    }

    /// Checks parameters that the server offers for a closed cohort against this plan, and recomputes degree and
    /// threshold.
    ///
    /// # Errors
    /// [`ParamsError`] names the first parameter that differs from the plan or breaks the rule.
    pub fn admit(&self, params: &RoundParams) -> Result<(), ParamsError> {
        self.validate()?;
        for (parameter, same) in [
            ("bits", params.bits == self.bits),
            ("dimension", params.dimension == self.dimension),
            ("threat", params.threat == self.threat),
            ("corrupt_bp", params.corrupt_bp == self.corrupt_bp),
            ("dropout_bp", params.dropout_bp == self.dropout_bp),
            ("correctness_bits", params.correctness_bits == self.correctness_bits),
        ] {
            if !same {
                return Err(ParamsError::DiffersFromPlan { parameter });
            }
        }
        self.check_cohort(params.n)?;
        if params.n_min < self.n_min {
            return Err(ParamsError::SurvivorsBelowPlan { n_min: params.n_min, floor: self.n_min });
        }
        params.validate()
    }

    fn check_cohort(&self, n: u32) -> Result<(), ParamsError> {
        if (self.cohort_min..=self.cohort_max).contains(&n) {
            return Ok(());
        }
        Err(ParamsError::CohortOutsideBounds { n, min: self.cohort_min, max: self.cohort_max })
    }

    /// The parameters for a cohort of `n`: the smallest degree, the smallest private threshold (the larger ones of the
    /// range are no more private within the bound, and lose more rounds), and the smallest admissible `n_min`.
    ///
    /// # Errors
    /// [`ParamsError`] when a cohort of this size is outside the plan's bounds or infeasible.
    pub fn params(&self, n: u32) -> Result<RoundParams, ParamsError> {
        self.validate()?;
        self.check_cohort(n)?;
        let mut params = RoundParams {
            n,
            n_min: self.n_min.max(n - fraction_of(n, self.dropout_bp)),
            degree: 0,
            threshold: 0,
            bits: self.bits,
            dimension: self.dimension,
            threat: self.threat,
            corrupt_bp: self.corrupt_bp,
            dropout_bp: self.dropout_bp,
            correctness_bits: self.correctness_bits,
        };
        let choice = choose(&params.graph_request())?;
        (params.degree, params.threshold) = (choice.degree, choice.threshold_min);
        params.check(choice)?;
        Ok(params)
    }
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
    /// gamma: colluding members assumed, per 10,000.
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

/// The weakest parameters that a client accepts, whatever a plan says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Floors {
    /// Fewest survivors in a sum.
    pub n_min: u32,
    /// Smallest fraction of colluders that must be assumed, per 10,000.
    pub corrupt_bp: u16,
    /// Weakest server that must be withstood.
    pub threat: ThreatModel,
}

/// A parameter weaker than a client's own floor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter} is {offered}, below this client's own floor of {floor}: the round is refused")]
pub struct BelowFloor {
    /// Which parameter.
    pub parameter: &'static str,
    /// What was offered.
    pub offered: String,
    /// What the client demands at least.
    pub floor: String,
}

impl Floors {
    /// Whether a plan could ever satisfy this client: gamma and the threat model are known before the cohort.
    ///
    /// # Errors
    /// [`BelowFloor`] names the parameter.
    pub fn admit_terms(&self, terms: &RoundTerms) -> Result<(), BelowFloor> {
        at_least("threat", terms.threat, self.threat)?;
        at_least("corrupt_bp", terms.corrupt_bp, self.corrupt_bp)
    }

    /// Whether a closed cohort satisfies this client.
    ///
    /// # Errors
    /// [`BelowFloor`] names the parameter.
    pub fn admit(&self, params: &RoundParams) -> Result<(), BelowFloor> {
        at_least("threat", params.threat, self.threat)?;
        at_least("corrupt_bp", params.corrupt_bp, self.corrupt_bp)?;
        at_least("n_min", params.n_min, self.n_min)
    }
}

fn at_least<T: PartialOrd + fmt::Display>(
    parameter: &'static str,
    offered: T,
    floor: T,
) -> Result<(), BelowFloor> {
    if offered >= floor {
        return Ok(());
    }
    Err(BelowFloor { parameter, offered: offered.to_string(), floor: floor.to_string() })
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

/// Parameters that do not follow the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// No degree and threshold exist.
    #[error(transparent)]
    Infeasible(#[from] Infeasible),
    /// Not a task name.
    #[error("a task name has 1 to 64 characters of a-z, 0-9, '.', '_' and '-'")]
    TaskName,
    /// Ring bits out of range.
    #[error("{bits} bits per coordinate are outside 1..={MAX_BITS}")]
    Bits {
        /// The value given.
        bits: u8,
    },
    /// Dimension out of range.
    #[error("a dimension of {dimension} is outside 1..={MAX_DIMENSION}")]
    Dimension {
        /// The value given.
        dimension: u32,
    },
    /// The list of parents is empty, too long, or not strictly increasing.
    #[error("the {count} parent models must be 1 to {MAX_PARENTS}, strictly increasing")]
    Parents {
        /// How many there are.
        count: usize,
    },
    /// The plan's cohort bounds contradict each other.
    #[error("cohort bounds {min}..={max} are empty or exceed {MAX_COHORT}")]
    CohortBounds {
        /// Lower bound.
        min: u32,
        /// Upper bound.
        max: u32,
    },
    /// A cohort outside the plan's bounds.
    #[error("a cohort of {n} is outside the plan's {min}..={max}")]
    CohortOutsideBounds {
        /// Cohort size.
        n: u32,
        /// Lower bound.
        min: u32,
        /// Upper bound.
        max: u32,
    },
    /// Degree other than the rule's.
    #[error("degree {offered} is not the {expected} that the rule gives")]
    Degree {
        /// What was offered.
        offered: u32,
        /// What the rule gives.
        expected: u32,
    },
    /// Threshold outside the rule's range.
    #[error("threshold {offered} is outside {min}..={max}, the range that the rule gives")]
    Threshold {
        /// What was offered.
        offered: u32,
        /// Smallest private threshold.
        min: u32,
        /// Largest threshold that survives the drop-outs.
        max: u32,
    },
    /// `n_min` above the cohort.
    #[error("n_min {n_min} exceeds the cohort of {n}")]
    SurvivorsAboveCohort {
        /// Fewest survivors.
        n_min: u32,
        /// Cohort size.
        n: u32,
    },
    /// `n_min` below n - floor(delta n).
    #[error("n_min {n_min} is below {floor} = n - floor(delta n)")]
    SurvivorsBelowDropout {
        /// What was offered.
        n_min: u32,
        /// The least admissible.
        floor: u32,
    },
    /// A value that the plan fixes otherwise.
    #[error("{parameter} is not what the plan says")]
    DiffersFromPlan {
        /// Which parameter.
        parameter: &'static str,
    },
    /// `n_min` below the plan's.
    #[error("n_min {n_min} is below {floor}, the plan's least")]
    SurvivorsBelowPlan {
        /// What was offered.
        n_min: u32,
        /// The plan's least.
        floor: u32,
    },
    /// Fewer than two honest survivors guaranteed.
    #[error("n_min {n_min} less {corrupt} colluding leaves fewer than 2 honest survivors")]
    TooFewHonest {
        /// Fewest survivors.
        n_min: u32,
        /// A = floor(gamma n).
        corrupt: u32,
    },
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
        let floors = Floors { n_min: 231, corrupt_bp: 500, threat: ThreatModel::SemiMalicious };
        floors.admit(&params).expect("exactly at the floors");
        floors.admit_terms(&terms()).expect("exactly at the floors");
        let refused = |floors: Floors| floors.admit(&params).expect_err("below the floor").parameter;
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
        assert_eq!(TaskName::new("Rust"), Err(ParamsError::TaskName));
        assert_eq!(TaskName::new(""), Err(ParamsError::TaskName));
    }
}
