//! A task as people and clients see it. Must never show more than figures and public messages.

use super::{Arc, Task};
use crate::engine::board::{Channels, Installed, TaskStatus, TaskView};
use crate::publication::Publisher;
use crate::roster::Rosters;
use tacit_proto::Channel;

impl Task {
    pub(in crate::engine) fn view(&self, publisher: &Publisher, rosters: &Rosters) -> TaskView {
        let round = self.open.as_ref().map(|open| open.driver.round());
        let gathers = round.is_some_and(|round| round.step() == "advertise");
        let step = match round {
            Some(round) => round.step(),
            None if self.is_finished() => "finished",
            None => "waiting",
        };
        let plan = self.plan.as_ref().map(|plan| &plan.signed).or(self.last_plan.as_ref());
        TaskView {
            settings: Arc::clone(&self.settings),
            plan: plan.cloned(),
            roster: plan.and_then(|plan| plan.roster()).and_then(|terms| rosters.of(terms)).cloned(),
            excuse: self.excuse(),
            joining: self.open.as_ref().filter(|_| gathers).map(|open| Arc::clone(&open.invited)),
            channels: self.channels(publisher),
            status: TaskStatus {
                task: self.name().to_owned(),
                paused: self.row.paused,
                round: self.open_round().unwrap_or(self.row.next_round),
                step,
                invited: self.open.as_ref().map_or(0, |open| open.invited.len()),
                cohort: round.and_then(|round| round.cohort()).map_or(0, |cohort| cohort.list.entries.len()),
                ready: self.ready.len(),
                wanted: self.settings.cohort(),
                deadline: self.open.as_ref().and_then(|open| open.driver.deadline()),
                committed: self.row.committed,
                round_epsilon: self.plan.as_ref().map(|plan| plan.signed.claimed_epsilon()),
                epsilon: self.epsilon,
                last: self.last.clone(),
                problem: self.problem.clone(),
                awaits: self.awaited.as_ref().map(|awaited| awaited.what.clone()),
                awaits_until: self.awaited.as_ref().and_then(|awaited| awaited.until),
                shortage: self.shortage.clone(),
            },
        }
    }

    /// Why nobody may take part now.
    fn excuse(&self) -> Option<&'static str> {
        if self.open.is_some() {
            None
        } else if self.is_finished() {
            Some("the task has had all its rounds")
        } else if self.row.paused {
            Some("the operator has paused the task")
        } else if self.plan.is_none() {
            Some("the next round is not planned yet")
        } else {
            None
        }
    }

    /// What the channels install; nothing before the first version is durable.
    fn channels(&self, publisher: &Publisher) -> Option<Channels> {
        let installed = |channel| {
            let signed = publisher.manifest(self.settings.name(), channel).ok()?;
            Some(Installed { adapter: signed.claimed_adapter(), signed })
        };
        Some(Channels {
            training: installed(Channel::Training)?,
            canary: installed(Channel::Canary)?,
            stable: installed(Channel::Stable)?,
        })
    }
}
