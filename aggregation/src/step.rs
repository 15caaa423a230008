//! The steps of a round, for error messages and the keys of records. Must never carry state.

use std::fmt;

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Keys are announced.
    Advertise = 1,
    /// Secrets are shared.
    Share,
    /// Masked vectors are collected.
    Collect,
    /// Survivors are confirmed.
    Confirm,
    /// Shares are handed over.
    Unmask,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Advertise, Self::Share, Self::Collect, Self::Confirm, Self::Unmask];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Advertise => "Advertise",
            Self::Share => "Share",
            Self::Collect => "Collect",
            Self::Confirm => "Confirm",
            Self::Unmask => "Unmask",
        })
    }
}
