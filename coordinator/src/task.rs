//! A learning task as its operator describes it. Must never say anything about a client but who may take part.

use crate::Millis;
use crate::optimizer::{OptimizerError, ServerOptimizer};
use crate::plan::PlanSettings;
use serde::{Deserialize, Serialize};
use tacit_aggregation::params::TaskName;
use tacit_privacy::BasisPoints;
use tacit_proto::adapter::{AdapterLayout, LayoutError};

/// Most clients that a cohort may wait for beyond the plan's largest, in per cent: some of those invited do not come.
const MOST_OVERBOOKING: u32 = 100;
/// Most versions by which an update may be stale: what was trained long ago pulls back to where the adapter was then.
const MOST_STALENESS: u64 = 7;

/// Everything that an operator fixes about a task; the contents of the file given to `task create`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSettings {
    /// How the adapter's vector falls into matrices; `tacit-client model layout` prints it.
    pub layout: AdapterLayout,
    /// What every round's plan is made from.
    pub plan: PlanSettings,
    /// What is done with the mean of the updates.
    pub optimizer: ServerOptimizer,
    /// Who may take part.
    #[serde(default)]
    pub eligibility: Eligibility,
    /// When rounds take place.
    #[serde(default)]
    pub schedule: Schedule,
    /// Who installs new versions, and how many are kept.
    #[serde(default)]
    pub publication: PublicationSettings,
}

/// Who installs new versions of a task's adapter, and how many are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublicationSettings {
    /// Share of the fleet that installs a version before it is promoted; with none, everybody does at once.
    pub canary: BasisPoints,
    /// Newest versions whose files are kept.
    pub keep: u64,
}

impl Default for PublicationSettings {
    fn default() -> Self {
        Self { canary: BasisPoints::ZERO, keep: 10 }
    }
}

/// Who may take part in a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eligibility {
    /// Oldest version of the client's software, such as 0.2.0; any when left out.
    pub min_version: Option<String>,
    /// Rounds from one participation of a client to its next, at least.
    pub separation: u64,
    /// Rounds that a client may take part in, over the life of the task; any number when left out.
    pub rounds_per_client: Option<u64>,
    /// Epsilon that no client may be taken past, over all tasks, at the plan's delta; left out, only clients' own limits
    /// hold.
    pub epsilon_per_client: Option<f64>,
}

/// When rounds take place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Clients with a ready update that a cohort waits for; the plan's largest cohort when left out.
    pub cohort: Option<u32>,
    /// How long a cohort that has the plan's least size waits for more, in milliseconds.
    pub patience: Millis,
    /// How long a client that said that it is ready counts as connected, in milliseconds.
    pub ready_for: Millis,
    /// From the end of a round to the next, at least, in milliseconds.
    pub pause: Millis,
    /// Rounds after which the task ends; never when left out.
    pub rounds: Option<u64>,
    /// Clients that are invited beyond the cohort, in per cent of it.
    pub overbooking: u32,
    /// By how many versions the one that an update was trained on may be older than the newest; at most 7.
    pub staleness: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            cohort: None,
            patience: 60_000,
            ready_for: 30_000,
            pause: 0,
            rounds: None,
            overbooking: 0,
            staleness: 0,
        }
    }
}

/// Settings with which no round could take place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A number out of range.
    #[error("{field} is {value}; it must be {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// The layout of the adapter.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The server's optimiser.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
}

fn value(field: &'static str, value: impl ToString, expected: impl Into<String>) -> SettingsError {
    SettingsError::Value { field, value: value.to_string(), expected: expected.into() }
}

impl TaskSettings {
    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &TaskName {
        &self.plan.task
    }

    /// Clients that a cohort waits for.
    #[must_use]
    pub fn cohort(&self) -> u32 {
        self.schedule.cohort.unwrap_or(self.plan.cohort.max)
    }

    /// Checks what does not depend on the past. Whether the plan is feasible shows when it is made.
    ///
    /// # Errors
    /// [`SettingsError`] names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let terms = &self.plan.cohort;
        self.layout.check(&self.plan.base_model, &self.plan.adapter)?;
        if !(terms.min..=terms.max).contains(&self.cohort()) {
            let expected = format!("from cohort.min to cohort.max, {} to {}", terms.min, terms.max);
            return Err(value("schedule.cohort", self.cohort(), expected));
        }
        if self.schedule.overbooking > MOST_OVERBOOKING {
            let expected = format!("at most {MOST_OVERBOOKING}");
            return Err(value("schedule.overbooking", self.schedule.overbooking, expected));
        }
        if self.schedule.staleness > MOST_STALENESS {
            let expected = format!("at most {MOST_STALENESS}");
            return Err(value("schedule.staleness", self.schedule.staleness, expected));
        }
        if let Some(epsilon) = self.eligibility.epsilon_per_client
            && !(epsilon.is_finite() && epsilon > 0.0)
        {
            return Err(value("eligibility.epsilon_per_client", epsilon, "positive and finite"));
        }
        if let Some(version) = &self.eligibility.min_version
            && Version::parse(version).is_none()
        {
            let expected = "three numbers with dots between them, such as 0.2.0";
            return Err(value("eligibility.min_version", version, expected));
        }
        Ok(self.optimizer.validate()?)
    }

    /// Why a client with this version of the software may not take part; none when it may.
    #[must_use]
    pub fn refuses_version(&self, version: &str) -> Option<String> {
        let least = self.eligibility.min_version.as_deref()?;
        let old = Version::parse(version)
            .is_none_or(|found| Version::parse(least).is_some_and(|least| found < least));
        old.then(|| format!("version {version} is too old: the task needs {least} or newer"))
    }
}

/// A version of the client's software, without what comes after a hyphen or a plus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u64; 3]);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let numbers = text.split(['-', '+']).next()?;
        let parts: Vec<u64> = numbers.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        Some(Self(parts.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let parse = |text| Version::parse(text).expect("a version");
        assert!(parse("0.10.0") > parse("0.9.9") && parse("1.0.0") > parse("0.99.0"));
        assert_eq!(parse("0.2.0-dev+7"), parse("0.2.0"));
        for bad in ["", "1", "1.2", "1.2.x", "1.2.3.4", "v1.2.3"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
