//! What the engine shows to whoever serves clients: a picture of all tasks, replaced as a whole. Must never show what is not
//! durable yet.

use crate::Millis;
use crate::roster::Listed;
use crate::task::TaskSettings;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::identity::{ClientId, Membership};
use tacit_aggregation::params::TaskName;
use tacit_aggregation::{Digest, Step};
use tacit_privacy::ledger::head::SignedHead;
use tacit_proto::SignedManifest;
use tacit_proto::SignedPlan;

/// All tasks.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// By name.
    pub tasks: BTreeMap<TaskName, TaskView>,
    /// The ledger's newest signed head, and its size.
    pub ledger: Option<(SignedHead, u64)>,
    /// Number of the ledger's last restart that the identity root has signed; 0 before the first.
    pub restart: u32,
}

/// A task as the engine shows it.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Its settings.
    pub settings: Arc<TaskSettings>,
    /// Why nobody may take part now.
    pub excuse: Option<&'static str>,
    /// The plan of the round that is open or comes next; while there is none, of the last one.
    pub plan: Option<Arc<SignedPlan>>,
    /// The roster that the plan demands, from which clients get their proofs, while it is here.
    pub roster: Option<Arc<Listed>>,
    /// Who is to join the round now, while its adverts are gathered.
    pub joining: Option<Arc<BTreeSet<ClientId>>>,
    /// What its channels install, once its first version is durable.
    pub channels: Option<Channels>,
    /// What people want to know.
    pub status: TaskStatus,
}

impl TaskView {
    /// A client's place on the roster that the plan demands, or why it may not take part; none where no roster is demanded.
    #[must_use]
    pub fn place(&self, client: ClientId) -> Option<Result<Membership, String>> {
        let terms = self.plan.as_ref()?.roster()?;
        Some(match &self.roster {
            Some(listed) => listed.place(terms, client),
            None => {
                let epoch = terms.roster.epoch.number;
                Err(format!("the roster of epoch {epoch} is not here any more: wait for the next round"))
            }
        })
    }
}

/// The present versions of a task's channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Channels {
    /// What updates are trained on.
    pub training: Installed,
    /// What the canary share installs.
    pub canary: Installed,
    /// What everybody else installs.
    pub stable: Installed,
}

/// A channel's present version.
#[derive(Clone, Debug, PartialEq)]
pub struct Installed {
    /// Its digest.
    pub adapter: Digest,
    /// Its manifest.
    pub signed: SignedManifest,
}

/// A task in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskStatus {
    /// Its name.
    pub task: String,
    /// Whether no new round begins.
    pub paused: bool,
    /// Number of the round that is open or comes next.
    pub round: u64,
    /// Where the open round stands: `advertise` to `unmask`; `waiting` while none is open, `finished` when none will be.
    pub step: &'static str,
    /// Clients invited to the open round.
    pub invited: usize,
    /// Clients in the open round's closed cohort.
    pub cohort: usize,
    /// Clients that have an update ready, while no round is open.
    pub ready: usize,
    /// Clients that the next cohort waits for.
    pub wanted: u32,
    /// When the open step ends at the latest, in milliseconds since 1970.
    pub deadline: Option<Millis>,
    /// Rounds that released a new version.
    pub committed: u64,
    /// The most that the open or next round costs a client, at the task's delta.
    pub round_epsilon: Option<f64>,
    /// The largest epsilon over clients, as the last release stated it.
    pub epsilon: Option<f64>,
    /// How the last round ended.
    pub last: Option<String>,
    /// Why the next round cannot be planned.
    pub problem: Option<String>,
    /// What the next plan waits for; it goes on by itself.
    pub awaits: Option<String>,
    /// When that will be there, in milliseconds since 1970; none where it depends on somebody.
    pub awaits_until: Option<Millis>,
    /// Why too few of the clients that wait may take part in it.
    pub shortage: Option<String>,
}

/// The step whose messages are taken, by its name in a [`TaskStatus`].
#[must_use]
pub fn step_of(name: &str) -> Option<Step> {
    Step::ALL.into_iter().find(|step| step.to_string().eq_ignore_ascii_case(name))
}
