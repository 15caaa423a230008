//! Where a task demands a roster: which epoch it is for it, and what it waits for between two. Must never plan with a roster of
//! another time, nor stand still when the next epoch begins.

use super::{Task, Tools};
use crate::Millis;
use crate::plan::RosterSettings;
use crate::roster::Rosters;
use serde::Serialize;
use tacit_aggregation::params::RosterTerms;

/// What is missing where no roster holds, and none will.
pub(in crate::engine) const NO_ROSTER: &str = "the task demands a roster, and there is none of this epoch here: have one signed \
    with `tacit-coordinator identity roster`, and take it in with `tacit-coordinator client roster`";

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::engine) struct Awaited {
    /// In words.
    pub(in crate::engine) what: String,
    /// When it will be there; none where that depends on somebody.
    pub(in crate::engine) until: Option<Millis>,
}

impl Awaited {
    /// The epoch to come, or a roster; nothing while an epoch is present.
    fn of(rosters: &Rosters, now: Millis) -> Option<Self> {
        match (rosters.at(now), rosters.after(now)) {
            (Some(_), _) => None,
            (None, Some(next)) => Some(Self {
                what: format!("epoch {}, whose roster is here, has not begun", next.number()),
                until: Some(next.begins()),
            }),
            (None, None) => Some(Self { what: NO_ROSTER.to_owned(), until: None }),
        }
    }
}

impl Task {
    /// Goes on where another epoch has begun, or another roster was taken in, and waits where none holds.
    pub(super) fn follow_epochs(&mut self, now: Millis, tools: &mut Tools<'_>) {
        let epochs = Some(tools.rosters.numbers(now));
        if self.settings.plan.roster.is_none() || self.epochs == epochs {
            return;
        }
        // What could not be planned with one roster may be with another.
        (self.epochs, self.awaited, self.problem) = (epochs, Awaited::of(tools.rosters, now), None);
        *tools.changed = true;
        tracing::info!(task = self.name(), ?epochs, awaited = ?self.awaited, "another epoch, or another roster");
    }

    /// What a plan made at `now` says of the roster; none where the task demands none.
    pub(super) fn roster_terms(&self, now: Millis, tools: &Tools<'_>) -> Result<Option<RosterTerms>, String> {
        let Some(RosterSettings { colluders }) = self.settings.plan.roster else { return Ok(None) };
        let listed = tools.rosters.at(now).ok_or(NO_ROSTER)?;
        listed.terms(colluders, now).map(Some).map_err(|error| error.to_string())
    }
}
