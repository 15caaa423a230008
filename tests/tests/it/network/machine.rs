//! A developer's machine: the client's folder and what it remembers, and one thing after the other that it does in a round.
//! Must never keep anything over its own death but the folder.

use super::line::{Line, Task, Trouble};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tacit_aggregation::messages::{CohortList, MaskedChunk, MaskedHeader};
use tacit_aggregation::{Digest, Step};
use tacit_client::accounts::Accounts;
use tacit_client::folder::Folder;
use tacit_client::ledger::{LedgerError, Verdict, Watch};
use tacit_client::round::{Answer, Round};
use tacit_client::update::Update;
use tacit_client::{Budget, Limits, Member};
use tacit_proto::fleet::{ReadyUpdate, Received, RoundName, Sent};
use tacit_proto::ledger::Prove;
use tacit_proto::{ClientMessage, RoundPlan, ServerMessage, SignedPlan, Wire as _};

/// Bytes of a vector that are sent at once, and more of a long one: a few chunks for a whole one.
const CHUNK: usize = 7;
const MOST_CHUNKS: u64 = 16;

/// What became of something that a machine did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// It did something.
    Something,
    /// There was nothing to do.
    Nothing,
}

/// The coordinator did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence;

/// What an observer of one machine saw of a round.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) delta: Vec<f32>,
    pub(super) plan: Option<SignedPlan>,
    pub(super) list: Option<CohortList>,
    /// What it said in each step.
    pub(super) said: BTreeMap<Step, Vec<u8>>,
    /// Whether it was told that all of its vector is stored.
    pub(super) acknowledged: bool,
}

/// What is lost when the process dies.
struct Process {
    folder: Folder,
    accounts: Accounts,
    watch: Watch,
    round: Option<Round>,
    /// The last step whose answer the coordinator has acknowledged.
    sent: Option<Step>,
    upload: Option<(MaskedHeader, u64)>,
}

pub(super) struct Machine {
    pub(super) member: Member,
    pub(super) seed: u64,
    pub(super) place: PathBuf,
    process: Option<Process>,
    pub(super) seen: BTreeMap<u64, Seen>,
    /// From this step on it is silent.
    pub(super) leaves: Option<Step>,
    /// Bytes of vectors that were written and not yet flushed, by file.
    pub(super) unflushed: BTreeMap<PathBuf, u64>,
}

pub(super) fn draw(seed: u64, round: u64, purpose: u8) -> ChaCha20Rng {
    let mut bytes = [purpose; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&round.to_be_bytes());
    ChaCha20Rng::from_seed(bytes)
}

impl Machine {
    pub(super) fn new(member: Member, seed: u64, limits: Limits, place: &Path) -> Self {
        let folder = Folder::open(place).expect("a new folder");
        let budget = Budget::new(member.certificate.client, limits).expect("limits");
        Accounts::new(budget).store(&folder).expect("stored");
        drop(folder);
        let mut machine = Self {
            member,
            seed,
            place: place.to_owned(),
            process: None,
            seen: BTreeMap::new(),
            leaves: None,
            unflushed: BTreeMap::new(),
        };
        machine.start();
        machine
    }

    /// A process on what the folder has.
    fn start(&mut self) {
        let folder = Folder::open(&self.place).expect("the folder");
        let mut accounts = Accounts::load(&folder).expect("good").expect("there");
        let round = Round::restore(&folder, &self.member, &mut accounts).expect("what is stored is good");
        let client = self.member.certificate.client;
        let keys = (self.member.root, self.member.coordinator);
        let watch = Watch::load(&folder, keys, client).expect("the coordinator's");
        self.process = Some(Process { folder, accounts, watch, round, sent: None, upload: None });
    }

    /// SIGKILL.
    pub(super) fn stop(&mut self) {
        self.process = None;
    }

    /// SIGKILL, and a new process.
    pub(super) fn kill(&mut self) {
        self.stop();
        self.start();
    }

    /// The connection is gone, and with it whatever was under way.
    pub(super) fn disconnected(&mut self) {
        self.process().upload = None;
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.process.as_ref().expect("it runs").accounts
    }

    pub(super) fn in_round(&self) -> Option<u64> {
        self.process.as_ref().and_then(|process| Some(process.round.as_ref()?.name().round))
    }

    /// Whether it has had a part in a round, and is in none now.
    pub(super) fn has_left(&self, round: u64) -> bool {
        self.seen.contains_key(&round) && self.in_round().is_none()
    }

    /// Whether the coordinator has acknowledged its answer to a step of the round that it is in.
    pub(super) fn has_answered(&self, step: Step) -> bool {
        self.process.as_ref().is_some_and(|process| process.sent >= Some(step))
    }

    /// The vector that is announced, and not acknowledged yet.
    pub(super) fn uploads(&self) -> Option<&MaskedHeader> {
        self.process.as_ref()?.upload.as_ref().map(|(header, _)| header)
    }

    /// All of the vector that it uploads, as one chunk.
    pub(super) fn vector(&self) -> MaskedChunk {
        let round = self.process.as_ref().and_then(|process| process.round.as_ref()).expect("it is in one");
        round.chunks(0).into_iter().next().expect("it uploads")
    }

    /// Does the next thing, if there is one.
    pub(super) fn act(&mut self, line: &dyn Line, now: u64) -> Result<Did, Silence> {
        if self.process().round.is_none() {
            return self.gather(line, now);
        }
        let round = self.process().round.as_ref().expect("just seen");
        let name = round.name().clone();
        let Some((step, answer)) = round.answered() else {
            self.close();
            return Ok(Did::Something);
        };
        let unsent = self.process().sent != Some(step);
        if unsent && self.leaves.is_none_or(|leaves| step < leaves) {
            return self.answer(line, &name, step, answer);
        }
        self.hear(line, &name, step, now)
    }

    /// Waits for a cohort, and joins it.
    fn gather(&mut self, line: &dyn Line, now: u64) -> Result<Did, Silence> {
        let client = self.member.certificate.client;
        let offered = judged(line.task(client))?.flatten();
        let Some(Task { plan: signed, training, join, membership }) = offered else {
            return Ok(Did::Nothing);
        };
        let plan = signed.verify(&self.member.coordinator).expect("signed").clone();
        let name = RoundName { task: plan.task.clone(), round: plan.round };
        let silent = self.leaves == Some(Step::Advertise);
        let Process { folder, accounts, round, .. } = self.process.as_mut().expect("it runs");
        let update = Update::load(folder, &name.task).expect("good");
        let update = match update.filter(|update| update.serves(&plan)) {
            Some(update) => update,
            None => {
                let update = trained(self.seed, &plan, training, now);
                update.store(folder).expect("stored");
                update
            }
        };
        if join && !silent && accounts.may_join(&name) {
            let mut rng = draw(self.seed, name.round, 1);
            let member = Member { membership, ..self.member.clone() };
            let joined = Round::join(folder, &signed, &member, &update, accounts, now, &mut rng);
            *round = Some(joined.expect("an honest plan"));
            let seen = self.seen.entry(name.round).or_default();
            seen.delta = update.delta.to_vec();
            seen.plan = Some(signed);
            return Ok(Did::Something);
        }
        let ready = ReadyUpdate { task: name.task.clone(), parent: update.parent };
        judged(line.ready(client, ready))?;
        // It may have been the one that the cohort waited for.
        let offered = judged(line.task(client))?.flatten();
        let may_join = !silent && self.accounts().may_join(&name);
        Ok(if may_join && offered.is_some_and(|task| task.join) { Did::Something } else { Did::Nothing })
    }

    /// Says what it has to say in a step, or the next part of it.
    fn answer(
        &mut self,
        line: &dyn Line,
        name: &RoundName,
        step: Step,
        answer: Answer,
    ) -> Result<Did, Silence> {
        let client = self.member.certificate.client;
        let (message, vector) = match answer {
            Answer::Message(message) => (message, false),
            Answer::Vector(header) => (header, true),
        };
        let seen = self.seen.entry(name.round).or_default();
        let wire = message.to_wire();
        let before = seen.said.entry(step).or_insert_with(|| wire.clone());
        assert_eq!(*before, wire, "client {client} answers {step} of round {name} in two ways");
        if let (true, Some((header, offset))) = (vector, self.process().upload.clone()) {
            return self.upload(line, name, &header, offset);
        }
        let sent = line.message(client, name, message.clone());
        match (judged(sent)?, message) {
            (Some(Sent { resume_at }), ClientMessage::MaskedHeader(header)) if resume_at < header.length => {
                self.process().upload = Some((header, resume_at));
            }
            (Some(_), ClientMessage::MaskedHeader(_)) => self.acknowledged(name, step),
            _ => self.process().sent = Some(step),
        }
        Ok(Did::Something)
    }

    fn acknowledged(&mut self, name: &RoundName, step: Step) {
        self.process().upload = None;
        self.process().sent = Some(step);
        self.seen.entry(name.round).or_default().acknowledged = true;
    }

    /// Writes the next part of the vector as the service of uploads does; at its end makes it durable, and says that it is whole.
    fn upload(
        &mut self,
        line: &dyn Line,
        name: &RoundName,
        header: &MaskedHeader,
        offset: u64,
    ) -> Result<Did, Silence> {
        let client = self.member.certificate.client;
        let round = self.process().round.as_ref().expect("it is in one");
        let next = round.chunks(offset).into_iter().next();
        let step = Step::Collect;
        let Some(mut chunk) = next else {
            let whole = line.whole(client, name, header);
            self.unflushed.clear();
            match judged(whole)? {
                Some(true) => self.acknowledged(name, step),
                // Cut short: the receipt for the header says where to go on.
                Some(false) => self.process().upload = None,
                None => self.refused(step),
            }
            return Ok(Did::Something);
        };
        chunk.bytes.truncate(CHUNK.max((header.length / MOST_CHUNKS) as usize));
        let end = offset + chunk.bytes.len() as u64;
        let part = line.part(client, name, header, chunk);
        match judged(part)? {
            Some((_, true)) => self.acknowledged(name, step),
            Some((file, false)) => {
                if let Some(file) = file {
                    self.unflushed.entry(file).or_insert(offset);
                }
                self.process().upload = Some((header.clone(), end));
            }
            None => self.refused(step),
        }
        Ok(Did::Something)
    }

    /// The coordinator does not take its answer: it says next how the round ended.
    fn refused(&mut self, step: Step) {
        self.process().upload = None;
        self.process().sent = Some(step);
    }

    /// Listens for what begins the next step.
    fn hear(&mut self, line: &dyn Line, name: &RoundName, step: Step, now: u64) -> Result<Did, Silence> {
        let client = self.member.certificate.client;
        let received = line.receive(client, name, step);
        match judged(received)? {
            Some(Received::Nothing) => Ok(Did::Nothing),
            Some(Received::Message(message)) => {
                if let ServerMessage::Cohort { list, .. } = &message {
                    let seen = self.seen.entry(name.round).or_default();
                    let before = seen.list.get_or_insert_with(|| CohortList::clone(list));
                    assert_eq!(before, list.as_ref(), "round {name} has two cohorts");
                }
                let process = self.process();
                let round = process.round.as_mut().expect("it is in one");
                round
                    .handle(&process.folder, &message, &mut process.accounts, now)
                    .expect("an honest coordinator");
                Ok(Did::Something)
            }
            Some(Received::End(_)) | None => {
                self.close();
                Ok(Did::Something)
            }
        }
    }

    fn close(&mut self) {
        let process = self.process();
        if let Some(round) = process.round.take() {
            round.close(&process.folder, &mut process.accounts).expect("wiped");
        }
        (process.sent, process.upload) = (None, None);
    }

    /// Asks the ledger about every round whose outcome it awaits, and believes nothing that is not proved. How they ended.
    pub(super) fn settle(
        &mut self,
        line: &dyn Line,
        now: u64,
    ) -> Result<BTreeMap<u64, Verdict>, LedgerError> {
        let Process { folder, accounts, watch, .. } = self.process.as_mut().expect("it runs");
        let rounds = accounts.awaiting.iter().map(|awaiting| awaiting.name()).collect();
        let prove = Prove { since: watch.size(), rounds, restart: watch.restart_number() };
        let proof = line.prove(prove).expect("it answers");
        watch.accept(folder, &proof, accounts.last_paid(), now)?;
        if watch.restart().is_some_and(|restart| accounts.restarted(restart)) {
            accounts.store(folder).expect("stored");
        }
        let mut verdicts = BTreeMap::new();
        for awaiting in accounts.awaiting.clone() {
            let verdict = watch.judge(folder, &awaiting, &proof, now)?;
            verdicts.insert(awaiting.round, verdict);
            accounts.settle(&awaiting, verdict, watch.restart_number());
            accounts.store(folder).expect("stored");
        }
        Ok(verdicts)
    }

    /// Number of the last restart of the ledger that it adopted.
    pub(super) fn restart(&self) -> u32 {
        self.process.as_ref().expect("it runs").watch.restart_number()
    }

    /// Rounds that its own book was debited for.
    pub(super) fn paid(&self) -> BTreeSet<u64> {
        let debits = self.accounts().budget.debits();
        let rounds: BTreeSet<u64> = debits.iter().map(|debit| debit.participation.round).collect();
        assert_eq!(rounds.len(), debits.len(), "a round is paid for once");
        rounds
    }
}

/// None in place of an answer that was refused: how the round ended for this client it hears next.
fn judged<T>(result: Result<T, Trouble>) -> Result<Option<T>, Silence> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Trouble::Silence) => Err(Silence),
        Err(Trouble::Refused(_)) => Ok(None),
    }
}

/// Where the vector that a header announces lies.
pub(super) fn vector_file(vectors: &Path, round: &RoundName, header: &MaskedHeader, suffix: &str) -> PathBuf {
    round_folder(vectors, round).join(format!("{:016x}.{suffix}", header.client.0))
}

/// Where the vectors of a round lie.
pub(super) fn round_folder(vectors: &Path, round: &RoundName) -> PathBuf {
    vectors.join(format!("task-{}", round.task)).join(round.round.to_string())
}

/// What training makes of a parent: some updates above the clip norm, some below.
fn trained(seed: u64, plan: &RoundPlan, parent: Digest, now: u64) -> Update {
    let mut draw = draw(seed, plan.round, 3);
    let mut coordinate = || (f64::from(draw.next_u32()) / 2_147_483_648.0 - 1.0) as f32 * 0.2;
    let delta: Vec<f32> = (0..plan.privacy.dimension).map(|_| coordinate()).collect();
    Update {
        task: plan.task.clone(),
        parent,
        recipe: plan.recipe(),
        trained_at: now,
        tokens: 1,
        losses: [2.0, 1.0],
        delta: delta.into(),
    }
}
