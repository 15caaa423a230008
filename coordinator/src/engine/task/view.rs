//! A task as people and clients see it. Must never show more than figures and public messages.

use super::{Arc, Task};
use crate::engine::board::{Channels, Installed, TaskStatus, TaskView};
use crate::publication::Publisher;
use tacit_proto::Channel;

impl Task {
    pub(in crate::engine) fn view(&self, publisher: &Publisher) -> TaskView {
        let round = self.open.as_ref().map(|open| open.driver.round());
        let gathers = round.is_some_and(|round| round.step() == "advertise");
        let step = match round {
            Some(round) => round.step(),
            None if self.is_finished() => "finished",
            None => "waiting",
        };
        TaskView {
            settings: Arc::clone(&self.settings),
            plan: self.plan.as_ref().map(|plan| Arc::clone(&plan.signed)),
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
                last: self.last.clone(),
                problem: self.problem.clone(),
            },
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
