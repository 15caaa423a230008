//! What a signed plan fixes about a round before its cohort is known. Must never depend on who joins.

use super::{
    MAX_COHORT, MAX_PARENTS, ParamsError, RosterTerms, RoundParams, ThreatModel, check_ring, choose,
    corrupt_share, fraction_of,
};
use crate::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a learning task: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, not only dots. A name may become a part of a
/// path, and there `..` is another folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskName(String);

impl TaskName {
    /// Checks the name.
    ///
    /// # Errors
    /// [`ParamsError::TaskName`] when it is empty, too long, has another character, or has nothing but dots.
    pub fn new(name: &str) -> Result<Self, ParamsError> {
        let fits = (1..=64).contains(&name.len());
        let plain = name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        let dots = name.bytes().all(|c| c == b'.');
        if fits && plain && !dots { Ok(Self(name.to_owned())) } else { Err(ParamsError::TaskName) }
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
    /// Colluding members assumed, per 10,000; 0 where the cohort is drawn from a roster.
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
    /// The roster that the cohort is drawn from. Without one the server picks it, and gamma is an assumption.
    pub roster: Option<RosterTerms>,
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
        if let Some(roster) = &self.roster {
            if self.corrupt_bp != 0 {
                return Err(ParamsError::CorruptTwice { corrupt_bp: self.corrupt_bp });
            }
            roster.validate()?;
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
            ("corrupt_bp", params.corrupt_bp == self.corrupt_share(params.n)),
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

    /// Colluding members assumed in a cohort of n, per 10,000.
    #[must_use]
    pub fn corrupt_share(&self, n: u32) -> u16 {
        corrupt_share(self.corrupt_bp, self.roster.as_ref(), n)
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
            corrupt_bp: self.corrupt_share(n),
            dropout_bp: self.dropout_bp,
            correctness_bits: self.correctness_bits,
        };
        let choice = choose(&params.graph_request())?;
        (params.degree, params.threshold) = (choice.degree, choice.threshold_min);
        params.check(choice)?;
        Ok(params)
    }
}
