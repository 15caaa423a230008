//! Why a chain, or an entry, is refused. Must never leave open which entry it was.

use super::{Hash, Task};
use crate::accountant::AccountantError;
use crate::number::shortest;

/// Why a chain or an entry was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LedgerError {
    /// An entry breaks a rule.
    #[error("entry {index} of the ledger (task {task}, round {round}) {problem}")]
    Refused {
        /// Place of the entry, from 0.
        index: u64,
        /// Its task.
        task: Task,
        /// Its round.
        round: u64,
        /// Which rule.
        problem: Problem,
    },
    /// The chain is sound but does not end in the head that was promised.
    #[error(
        "the chain of {entries} entries ends in another head than the signed one: it was truncated, extended \
         or replaced"
    )]
    HeadMismatch {
        /// Entries in the chain.
        entries: u64,
    },
    /// The bytes of an entry are not in canonical form.
    #[error("the encoded entry is damaged at byte {offset}: {problem}")]
    Malformed {
        /// Where decoding stopped.
        offset: usize,
        /// What is wrong there.
        problem: String,
    },
}

/// A rule that an entry breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// It does not commit to the one before it.
    #[error("does not follow the entry before it: something was changed, dropped or inserted")]
    BrokenLink,
    /// The round does not come after the last one of its task.
    #[error("opens a round that does not come after round {before} of its task; give it a higher number")]
    RoundNotAfter {
        /// The last round that was opened.
        before: u64,
    },
    /// The round has a number that may have been used before the last restart.
    #[error("opens a round before {first}, the first after the last restart; give it a higher number")]
    RoundBeforeRestart {
        /// The first round that may be opened.
        first: u64,
    },
    /// It ends a round that was open when the ledger was put back.
    #[error(
        "ends a round that was open when restart {number} put the ledger back: how it ended is not known here, and what was set \
         aside for it stays spent"
    )]
    BeforeRestart {
        /// Number of the restart.
        number: u32,
    },
    /// A restart that is not later than the one before.
    #[error("is a restart that does not come after restart {before}; have the identity root sign a new one")]
    RestartNotAfter {
        /// Number of the last one.
        before: u32,
    },
    /// A restart of another ledger.
    #[error(
        "is restart {number} from a ledger of {size} entries, which is another one than this; export the head of this one, and have \
         the identity root sign a restart from that"
    )]
    OtherRestart {
        /// Its number.
        number: u32,
        /// Entries that it goes on from.
        size: u64,
    },
    /// It ends a round that is not open.
    #[error("ends a round that has no open reservation: it was never opened, or ended before")]
    NotOpen,
    /// It names another entry as its reservation.
    #[error("names entry {stated} as its reservation, which is entry {due}")]
    OtherReservation {
        /// What it names.
        stated: u64,
        /// Where the reservation is.
        due: u64,
    },
    /// Its plan, mechanism or delta is not what the reservation holds.
    #[error("states another {field} than its reservation, made for what the cohort agreed to")]
    OtherTerms {
        /// What differs.
        field: &'static str,
    },
    /// Fewer survivors than the mechanism's minimum, or more than its cohort.
    #[error("cannot have been released: {0}")]
    NotReleasable(AccountantError),
    /// Epsilon is not a number that a guarantee can have.
    #[error("states epsilon {}, which must be finite and not negative", shortest(*.0))]
    InvalidEpsilon(f64),
    /// Delta is not a probability that a guarantee can be stated for.
    #[error("states delta {}, which must lie strictly between 0 and 1", shortest(*.0))]
    InvalidDelta(f64),
    /// It states less than the round alone costs.
    #[error(
        "states epsilon {}, but this round alone costs {} at delta {}; state what the book gives",
        shortest(*epsilon),
        shortest(*cost),
        shortest(*delta)
    )]
    Understated {
        /// The epsilon stated.
        epsilon: f64,
        /// The delta stated.
        delta: f64,
        /// The round's own epsilon.
        cost: f64,
    },
    /// Clip bits where none are counted, none where they are, or more than the ring holds.
    #[error("states {found:?} as the sum of its clip bits, which its mechanism cannot have released")]
    ClipBits {
        /// What it states.
        found: Option<i32>,
    },
    /// The clip norm does not follow from the task's last commit, whose rule the entry keeps.
    #[error(
        "clips to {found}, but {due} follows from the last commit of its task by the same rule of adaptation"
    )]
    Clip {
        /// Its clip norm.
        found: f64,
        /// The clip norm that is due.
        due: f64,
    },
    /// Participants that are not the ones that it commits to.
    #[error("is shown with participants that lead to another root than the one it states, {}", short(.stated))]
    Participants {
        /// The root that it states.
        stated: Hash,
    },
}

fn short(hash: &Hash) -> String {
    hash[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>() + ".."
}
