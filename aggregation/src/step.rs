//! The steps of a round, for error messages. Must never carry state.

use std::fmt;

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Keys are announced.
    Advertise,
    /// Secrets are shared.
    Share,
    /// Masked vectors are collected.
    Collect,
    /// Survivors are confirmed.
    Confirm,
    /// Shares are handed over.
    Unmask,
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
