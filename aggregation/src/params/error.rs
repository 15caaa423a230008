//! Why parameters are refused. Must never leave out the numbers.

use super::{Infeasible, MAX_BITS, MAX_COHORT, MAX_DIMENSION, MAX_PARENTS};

/// Parameters that do not follow the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// No degree and threshold exist.
    #[error(transparent)]
    Infeasible(#[from] Infeasible),
    /// Not a task name.
    #[error("a task name has 1 to 64 characters of a-z, 0-9, '.', '_' and '-', not only dots")]
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
    /// Both a fraction of the cohort and a roster say how many collude.
    #[error(
        "corrupt_bp is {corrupt_bp}, and a roster says how many collude: set it to 0, or demand no roster"
    )]
    CorruptTwice {
        /// The fraction, per 10,000.
        corrupt_bp: u16,
    },
    /// A period beyond the epoch's last.
    #[error("period {period} is beyond the last of the epoch's {periods}, which are counted from 0")]
    Period {
        /// The value given.
        period: u64,
        /// How many there are.
        periods: u64,
    },
    /// More colluders than the roster has clients.
    #[error("{colluders} clients of a roster of {size} cannot collude")]
    Colluders {
        /// G.
        colluders: u32,
        /// Clients on the roster.
        size: u64,
    },
    /// More colluders may be drawn than any cohort has members.
    #[error(
        "of {colluders} colluding clients a period may draw {MAX_COHORT} or more, a whole cohort: assume fewer, or have a \
         roster with a smaller rate signed"
    )]
    TooManyDrawn {
        /// G.
        colluders: u32,
    },
    /// Another A than follows from G, q and the number of periods.
    #[error(
        "the plan says that at most {offered} colluders are drawn, where {expected} follows from the roster"
    )]
    Drawn {
        /// What was offered.
        offered: u32,
        /// What the rule gives.
        expected: u32,
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
