//! A client's own floors. Must never be lowered by what a plan says.

use super::{RosterTerms, RoundParams, RoundTerms, ThreatModel};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The weakest parameters that a client accepts, whatever a plan says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Floors {
    /// Fewest survivors in a sum.
    pub n_min: u32,
    /// Smallest fraction of colluders that must be assumed, per 10,000: of the cohort, or of the roster that it is drawn from.
    pub corrupt_bp: u16,
    /// Weakest server that must be withstood.
    pub threat: ThreatModel,
    /// Whether a cohort must be drawn from a signed roster.
    pub roster: bool,
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
    /// Whether a plan could ever satisfy this client: gamma, the threat model and the roster are known before the cohort.
    ///
    /// # Errors
    /// [`BelowFloor`] names the parameter.
    pub fn admit_terms(&self, terms: &RoundTerms) -> Result<(), BelowFloor> {
        at_least("threat", terms.threat, self.threat)?;
        match &terms.roster {
            Some(RosterTerms { roster, colluders, .. }) => {
                // A part of a client counts as one: less than the share that the owner fears is never enough.
                let least = (u128::from(roster.size) * u128::from(self.corrupt_bp)).div_ceil(10_000);
                at_least("roster.colluders", u128::from(*colluders), least)
            }
            None if self.roster => {
                let (parameter, offered) = ("roster", "none".to_owned());
                Err(BelowFloor { parameter, offered, floor: "one that the identity root signed".to_owned() })
            }
            None => at_least("corrupt_bp", terms.corrupt_bp, self.corrupt_bp),
        }
    }

    /// Whether a closed cohort satisfies this client. The terms that it was closed under must have been admitted.
    ///
    /// # Errors
    /// [`BelowFloor`] names the parameter.
    pub fn admit(&self, terms: &RoundTerms, params: &RoundParams) -> Result<(), BelowFloor> {
        at_least("threat", params.threat, self.threat)?;
        if terms.roster.is_none() {
            at_least("corrupt_bp", params.corrupt_bp, self.corrupt_bp)?;
        }
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
