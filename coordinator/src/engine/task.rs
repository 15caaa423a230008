//! One task in the engine: its plan, its waiting clients, its open round. Must never begin a round that is not on record, nor
//! tell anyone how one ended before that is.

use super::keeper::DiskKeeper;
use super::tables::{End, Journal, RoundRow, Rounds, Stage, StateRow, States, TaskRow, Tasks};
use super::{Refused, Target, Tools};
use crate::Millis;
use crate::cohort::{History, select};
use crate::plan::RoundStart;
use crate::roster::Rosters;
use crate::round::{Driver, Event, Outcome, Outgoing, RoundSetup, TaskState};
use crate::store::Records;
use crate::task::TaskSettings;
use crate::vectors::{Stored, VectorFolder};
use rand_core::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tacit_aggregation::Digest;
use tacit_aggregation::Step;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_aggregation::server::VectorSummary;
use tacit_privacy::{NoiseKey, RdpCurve};
use tacit_proto::fleet::{Received, RoundEnd, Sent};
use tacit_proto::{ClientMessage, SignedPlan, Wire as _};

mod bars;
mod end;
mod epochs;
mod view;

use bars::Bars;
use epochs::Awaited;
pub(super) use epochs::NO_ROSTER;

/// Between two looks at what waiting clients have spent, in milliseconds.
const BETWEEN_LOOKS: Millis = 500;
/// Journal records that are deleted or read at once.
const RECORDS_AT_ONCE: usize = 4096;

/// A task with everything that its next message may need.
pub(super) struct Task {
    pub(super) settings: Arc<TaskSettings>,
    pub(super) row: TaskRow,
    pub(super) state: TaskState,
    /// The next round's plan, or the open round's.
    pub(super) plan: Option<Planned>,
    pub(super) open: Option<Open>,
    /// Clients that wait with an update: what it was trained on, and when they said so last.
    ready: BTreeMap<ClientId, (Digest, Millis)>,
    /// Since when there are enough of them for the smallest cohort.
    enough_since: Option<Millis>,
    /// When it was last looked at who of them may take part.
    last_look: Millis,
    last: Option<String>,
    /// The largest epsilon over clients, as the last release stated it.
    pub(super) epsilon: Option<f64>,
    /// The plan of the last round that ended, shown while there is no other: clients install the version that it made.
    pub(super) last_plan: Option<Arc<SignedPlan>>,
    problem: Option<String>,
    /// What the next plan waits for; it goes on by itself.
    awaited: Option<Awaited>,
    /// The present epoch and the next one, as they were looked at last, where the task demands a roster.
    epochs: Option<[Option<u64>; 2]>,
    /// Why too few of the clients that wait may take part.
    shortage: Option<String>,
}

/// A signed plan, with the key that it commits to.
pub(super) struct Planned {
    pub(super) signed: Arc<SignedPlan>,
    pub(super) round: u64,
    pub(super) parents: Vec<Digest>,
    pub(super) noise: Option<NoiseKey>,
    pub(super) planned: Millis,
    /// The most that the largest cohort's round may cost; none if that cannot be stated.
    pub(super) cost: Option<RdpCurve>,
}

impl Planned {
    pub(super) fn new(
        signed: SignedPlan,
        round: u64,
        noise: Option<NoiseKey>,
        planned: Millis,
        coordinator: &PublicKey,
    ) -> Self {
        let cost = signed.verify(coordinator).ok().and_then(|plan| {
            let largest = plan.terms().params(plan.cohort.max).ok()?;
            plan.admitted_cost(&plan.mechanism(&largest).ok()?).ok()
        });
        Self { parents: signed.parents().to_vec(), signed: Arc::new(signed), round, noise, planned, cost }
    }

    /// Whether the roster that the plan demands, if it does, lets a client into the cohort.
    fn draws(&self, client: ClientId, rosters: &Rosters) -> bool {
        let Some(terms) = self.signed.roster() else { return true };
        rosters.of(terms).is_some_and(|listed| listed.admits(terms, client))
    }

    /// Whether the plan is for another roster, or for another period, than the present one.
    fn is_past(&self, rosters: &Rosters, now: Millis) -> bool {
        self.signed.roster().is_some_and(|terms| !rosters.are_present(terms, now))
    }
}

/// An open round.
pub(super) struct Open {
    pub(super) driver: Box<Driver>,
    pub(super) vectors: VectorFolder,
    pub(super) since: Millis,
    pub(super) invited: Arc<BTreeSet<ClientId>>,
}

/// Where a round's vectors lie.
pub(super) fn vectors_of(folder: &Path, task: &str, round: u64) -> PathBuf {
    folder.join(format!("task-{task}")).join(round.to_string())
}

impl Task {
    pub(super) fn new(settings: TaskSettings, row: TaskRow, state: TaskState) -> Self {
        Self {
            settings: Arc::new(settings),
            row,
            state,
            plan: None,
            open: None,
            ready: BTreeMap::new(),
            enough_since: None,
            last_look: 0,
            last: None,
            epsilon: None,
            last_plan: None,
            problem: None,
            awaited: None,
            epochs: None,
            shortage: None,
        }
    }

    fn name(&self) -> &str {
        self.settings.name().as_str()
    }

    /// Number of the open round.
    pub(super) fn open_round(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.driver.plan().round)
    }

    /// Notes that a client waits with an update; says whether that changes what is shown.
    pub(super) fn note_ready(
        &mut self,
        client: ClientId,
        parent: Digest,
        rosters: &Rosters,
        now: Millis,
    ) -> bool {
        let fits = self
            .plan
            .as_ref()
            .is_some_and(|plan| plan.parents.contains(&parent) && plan.draws(client, rosters));
        // Whoever is in the open round waits for nothing.
        let takes_part = self.open.as_ref().is_some_and(|open| open.invited.contains(&client));
        fits && !takes_part && self.ready.insert(client, (parent, now)).is_none()
    }

    /// Who is invited to the open round.
    pub(super) fn invited(&self) -> Option<Arc<BTreeSet<ClientId>>> {
        self.open.as_ref().map(|open| Arc::clone(&open.invited))
    }

    fn with_driver<T>(
        &mut self,
        tools: &mut Tools<'_>,
        function: impl FnOnce(&mut Driver, &mut crate::Account, &mut DiskKeeper<'_>) -> T,
    ) -> Option<T> {
        let open = self.open.as_mut()?;
        let (task, round) = (self.settings.name().as_str(), open.driver.plan().round);
        let mut keeper =
            DiskKeeper { batch: tools.batch, named: tools.named, task, round, vectors: &open.vectors };
        Some(function(&mut open.driver, tools.account, &mut keeper))
    }

    /// Hands an event to the open round. The refusal is the sender's own, for there is one message in an event.
    fn event(&mut self, event: Event, now: Millis, tools: &mut Tools<'_>) -> Result<(), Refused> {
        let outgoing =
            self.with_driver(tools, |driver, account, keeper| driver.handle(event, now, account, keeper));
        let mut refused = Ok(());
        for item in outgoing.into_iter().flatten() {
            match item {
                Outgoing::Open(step) => {
                    *tools.changed = true;
                    tracing::info!(task = self.name(), round = self.open_round(), %step, "a step is open");
                }
                Outgoing::Refuse(refusal) => refused = Err(Refused::Round(refusal)),
                Outgoing::End => self.conclude(now, tools),
            }
        }
        refused
    }

    /// A client's message of a step.
    pub(super) fn message(
        &mut self,
        client: ClientId,
        message: ClientMessage,
        now: Millis,
        tools: &mut Tools<'_>,
    ) -> Result<Sent, Refused> {
        let header =
            if let ClientMessage::MaskedHeader(header) = &message { Some(header.clone()) } else { None };
        self.event(Event::Message { from: client, message }, now, tools)?;
        let resume_at = match (header, &self.open) {
            (Some(header), Some(open)) => {
                match open.vectors.stored(&header).map_err(|error| Refused::Disk(error.to_string()))? {
                    // All of it may be there and not be whole yet: that it becomes with its last byte.
                    Stored::Part(bytes) => bytes.min(header.length.saturating_sub(1)),
                    Stored::Whole => header.length,
                }
            }
            _ => 0,
        };
        Ok(Sent { resume_at })
    }

    /// Where a client's announced vector goes.
    pub(super) fn target(&self, client: ClientId) -> Result<Target, Refused> {
        let announced = self.open.as_ref().and_then(|open| Some((open, open.driver.announced(client)?)));
        let Some((open, header)) = announced else {
            let (task, round) = (self.settings.name().clone(), self.open_round().unwrap_or_default());
            return Err(Refused::NotAnnounced { round: tacit_proto::fleet::RoundName { task, round } });
        };
        Ok(Target { folder: open.vectors.clone(), header: header.clone() })
    }

    /// All of a client's vector is on disk.
    pub(super) fn whole(
        &mut self,
        client: ClientId,
        vector: VectorSummary,
        now: Millis,
        tools: &mut Tools<'_>,
    ) -> Result<(), Refused> {
        if let Some(open) = &self.open {
            tools.named.insert(open.vectors.folder().to_owned());
        }
        self.event(Event::Whole { from: client, vector }, now, tools)
    }

    /// What there is for a client in the open round.
    pub(super) fn receive(&self, client: ClientId, after: Step) -> Received {
        let Some(open) = &self.open else { return Received::Nothing };
        let round = open.driver.round();
        let step = round.session().and_then(|session| session.phase().step());
        if step.is_none_or(|step| step <= after) {
            return Received::Nothing;
        }
        match round.message_for(client) {
            Some(message) => Received::Message(message),
            None => {
                let reason =
                    format!("the round is in {}, and this client has no further part in it", round.step());
                Received::End(RoundEnd { committed: false, reason })
            }
        }
    }

    /// Lets deadlines pass, plans, and opens the next round when enough clients wait that are not `engaged` in another's.
    pub(super) fn tick(&mut self, now: Millis, engaged: &[Arc<BTreeSet<ClientId>>], tools: &mut Tools<'_>) {
        if let Some(open) = &mut self.open {
            *tools.changed |= open.driver.keep_deadline(now);
            if open.driver.deadline().is_none_or(|deadline| now >= deadline) {
                // A tick carries no message that could be refused.
                let _ = self.event(Event::Tick, now, tools);
                if self.open.as_ref().is_some_and(|open| open.driver.has_ended()) {
                    self.conclude(now, tools);
                }
            }
            return;
        }
        self.follow_epochs(now, tools);
        if self.row.paused || self.is_finished() {
            return;
        }
        if self.plan.as_ref().is_some_and(|plan| plan.is_past(tools.rosters, now)) {
            self.plan = None;
            *tools.changed = true;
        }
        if self.plan.is_none() && self.problem.is_none() && self.awaited.is_none() {
            self.plan_next(now, tools);
        }
        self.gather(now, engaged, tools);
    }

    /// Adds masked vectors to the running sum; says whether there are more.
    pub(super) fn work(&mut self, bytes: usize, now: Millis, tools: &mut Tools<'_>) -> bool {
        self.with_driver(tools, |driver, account, keeper| driver.work(bytes, now, account, keeper))
            .unwrap_or(false)
    }

    /// Whether all rounds that the operator wants have been.
    pub(super) fn is_finished(&self) -> bool {
        self.settings.schedule.rounds.is_some_and(|rounds| self.row.committed >= rounds)
    }

    /// Lets a paused task go on, or one that could not be planned.
    pub(super) fn set_paused(&mut self, paused: bool, tools: &mut Tools<'_>) {
        self.row.paused = paused;
        self.problem = None;
        self.store_row(tools);
    }

    pub(super) fn store_row(&self, tools: &mut Tools<'_>) {
        tools.batch.put::<Tasks>(&self.name().to_owned(), &self.row);
        *tools.changed = true;
    }

    pub(super) fn store_state(&self, tools: &mut Tools<'_>) {
        tools.batch.put::<States>(&self.name().to_owned(), &StateRow::of(&self.state));
    }

    fn plan_next(&mut self, now: Millis, tools: &mut Tools<'_>) {
        let round = self.row.next_round;
        // A version for each round that released one.
        let (version, stale) = (self.row.committed, self.settings.schedule.staleness);
        let older = match tools.setup.publisher.before(self.settings.name(), version, stale) {
            Ok(older) => older,
            Err(error) => {
                *tools.failure = Some(error);
                return;
            }
        };
        let noise = self.settings.plan.central.map(|_| NoiseKey::generate(tools.rng));
        let key = &tools.setup.key;
        let signed = self.roster_terms(now, tools).and_then(|roster| {
            let noise = noise.as_ref();
            let (adapter, account) = (&self.state.adapter, &*tools.account);
            let start = RoundStart { round, adapter, older: &older, account, noise, roster };
            self.settings.plan.plan(start, key).map_err(|error| error.to_string())
        });
        *tools.changed = true;
        match signed {
            Ok(signed) => {
                let planned = Planned::new(signed, round, noise, now, &key.public_key());
                // Another period draws others.
                self.ready.retain(|client, _| planned.draws(*client, tools.rosters));
                self.store_round(&planned, Stage::Planned, tools);
                self.plan = Some(planned);
                tracing::info!(task = self.name(), round, "a round is planned");
            }
            Err(error) => {
                let problem = format!("round {round} cannot be planned: {error}");
                tracing::error!(task = self.name(), round, %error, "a round cannot be planned");
                self.problem = Some(problem);
            }
        }
    }

    pub(super) fn store_round(&self, planned: &Planned, stage: Stage, tools: &mut Tools<'_>) {
        let over = matches!(stage, Stage::Ended(_));
        let noise = planned.noise.as_ref().filter(|_| !over).map(|noise| *noise.to_bytes());
        let row = RoundRow { plan: planned.signed.to_wire(), noise, planned: planned.planned, stage };
        tools.batch.put::<Rounds>(&(self.name().to_owned(), planned.round), &row);
    }

    /// Opens the planned round when enough clients wait with an update.
    fn gather(&mut self, now: Millis, engaged: &[Arc<BTreeSet<ClientId>>], tools: &mut Tools<'_>) {
        let Some(plan) = &self.plan else { return };
        let (schedule, terms) = (&self.settings.schedule, &self.settings.plan.cohort);
        let before = self.ready.len();
        self.ready.retain(|_, (parent, seen)| {
            // A clock that was set back makes nobody wait longer.
            *seen = now.min(*seen);
            seen.saturating_add(schedule.ready_for) > now && plan.parents.contains(parent)
        });
        *tools.changed |= before != self.ready.len();
        let round = plan.round;
        if self.ready.len() < terms.min as usize {
            self.enough_since = None;
            *tools.changed |= self.shortage.take().is_some();
            return;
        }
        let since = now.min(*self.enough_since.get_or_insert(now));
        self.enough_since = Some(since);
        let wanted = self.settings.cohort() as usize;
        let waited = now >= since.saturating_add(schedule.patience);
        // Where the clock was set back nobody can say how long ago the last end was, and nobody waits for it.
        let rested = now.checked_sub(self.row.last_end).is_none_or(|since| since >= schedule.pause);
        // What each of them has spent takes a while to state: not at every tick.
        let looks = now.abs_diff(self.last_look) >= BETWEEN_LOOKS;
        if !(rested && (waited || self.ready.len() >= wanted) && looks) {
            return;
        }
        self.last_look = now;
        let mut bars = Bars::new(self.settings.eligibility.separation);
        let free = |client: &ClientId| !engaged.iter().any(|invited| invited.contains(client));
        let waiting = self.ready.keys().copied().filter(free);
        let able: Vec<ClientId> =
            waiting.filter(|&client| bars.count(self.bar(client, round, tools))).collect();
        let shortage = (able.len() < terms.min as usize).then(|| bars.to_string());
        if self.shortage != shortage {
            tracing::info!(task = self.name(), round, shortage, "who may take part has changed");
            self.shortage = shortage;
            *tools.changed = true;
        }
        if self.shortage.is_some() || !(waited || able.len() >= wanted) {
            return;
        }
        let extra = wanted * schedule.overbooking as usize / 100;
        let size = able.len().min(wanted + extra);
        let seed = tools.rng.next_u64();
        let unknown = History::new();
        let history = tools.account.history(self.settings.name()).unwrap_or(&unknown);
        match select(able, history, round, size, self.settings.eligibility.separation, seed) {
            Ok(invited) => self.open(invited.into_iter().collect(), now, tools),
            Err(error) => tracing::warn!(task = self.name(), round, %error, "no cohort"),
        }
    }

    fn open(&mut self, invited: BTreeSet<ClientId>, now: Millis, tools: &mut Tools<'_>) {
        let Some(plan) = &self.plan else { return };
        let folder = vectors_of(&tools.setup.vectors, self.name(), plan.round);
        let opened = VectorFolder::open(folder).map_err(|error| error.to_string()).and_then(|vectors| {
            let setup = self.setup(plan, invited.clone(), tools);
            let driver = Driver::open(setup, self.state.clone(), tools.account, now);
            driver.map(|driver| (vectors, driver)).map_err(|error| error.to_string())
        });
        match opened {
            Ok((vectors, driver)) => {
                tracing::info!(
                    task = self.name(),
                    round = plan.round,
                    invited = invited.len(),
                    "a round is open"
                );
                let stage = Stage::Open { since: now, invited: invited.iter().copied().collect() };
                self.store_round(plan, stage, tools);
                self.row.next_round = plan.round + 1;
                self.open =
                    Some(Open { driver: Box::new(driver), vectors, since: now, invited: Arc::new(invited) });
                self.ready.clear();
                self.enough_since = None;
                self.shortage = None;
                self.store_row(tools);
            }
            Err(problem) => {
                // The ledger or the adapter has moved on since the plan was made: plan anew, under the same number.
                tracing::warn!(task = self.name(), round = plan.round, problem, "the plan is out of date");
                self.plan = None;
                *tools.changed = true;
            }
        }
    }

    pub(super) fn setup(&self, plan: &Planned, invited: BTreeSet<ClientId>, tools: &Tools<'_>) -> RoundSetup {
        RoundSetup {
            plan: plan.signed.as_ref().clone(),
            coordinator: tools.setup.key.public_key(),
            root: tools.setup.root,
            invited,
            noise: plan.noise.clone(),
        }
    }
}
