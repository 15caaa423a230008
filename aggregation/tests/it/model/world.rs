//! One round in a world where machines stop, messages are lost, repeated and altered, and time passes; and the oracle, which
//! knows every vector. Must never help a machine: it has its disk and the messages, nothing else.

mod harm;

use super::client::{self, Reaction};
use super::messages::{ToClient, ToServer};
use super::operations::{Dice, Fault, Operation, Scenario, Tamper};
use super::server;
use crate::fleet::{NOW, PARENT, plain_sum, terms};
use crate::model::{Coverage, Violation};
use rand_core::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::client::{ClientSetup, RoundSecrets};
use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot};
use tacit_aggregation::params::{Floors, RoundTerms, ThreatModel};
use tacit_aggregation::ring_vector::RingVector;
use tacit_aggregation::server::{AbortReason, Phase, Sum};

/// A message on its way to the server.
#[derive(Clone)]
struct Sent {
    message: ToServer,
    /// Its sender signed what it must not.
    malformed: bool,
}

pub(crate) struct World {
    scenario: Scenario,
    terms: Arc<RoundTerms>,
    server: server::Machine,
    clients: Vec<client::Machine>,
    now: u64,
    /// Drawn again when a client loses its secrets before it said anything.
    joins: u64,
    sent: Vec<Sent>,
    heard: Vec<(usize, ToClient)>,
    /// Who sealed a bad share, and for whom.
    bad_sharers: BTreeMap<ClientId, ClientId>,
    /// Who handed over wrong shares.
    bad_unmaskers: BTreeSet<ClientId>,
    coverage: Coverage,
}

/// Where a client's digit of base 4 is: coordinate and bits to its right.
fn place(bits: u8, index: usize) -> (usize, usize) {
    let digits = usize::from(bits) / 2;
    (index / digits, 2 * (index % digits))
}

/// A vector that is told from all others in any sum: one digit of base 4 counts each client, in as many coordinates as needed.
/// The rest is random.
fn marked(scenario: &Scenario, index: usize, dice: &mut Dice) -> RingVector {
    let (own, shift) = place(scenario.bits, index);
    let (last, _) = place(scenario.bits, scenario.clients - 1);
    let values: Vec<u32> = (0..scenario.dimension as usize)
        .map(|coordinate| {
            if coordinate > last {
                dice.0.next_u32() >> (32 - scenario.bits)
            } else {
                u32::from(coordinate == own) << shift
            }
        })
        .collect();
    RingVector::new(scenario.bits, &values).expect("reduced")
}

/// How often each client's vector is in a sum, by its digits.
fn counts(sum: &RingVector, clients: usize) -> Vec<u32> {
    let values = sum.to_values();
    (0..clients)
        .map(|index| {
            let (coordinate, shift) = place(sum.bits(), index);
            values[coordinate] >> shift & 3
        })
        .collect()
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Result<Self, Violation> {
        let mut dice = Dice::new(scenario.seed ^ 0x5eed);
        let root = IdentityRoot::generate(&mut dice.0);
        let terms = Arc::new(RoundTerms {
            roster: None,
            corrupt_bp: scenario.corrupt_bp,
            dropout_bp: scenario.dropout_bp,
            ..terms(scenario.threat, scenario.clients as u32, scenario.bits, scenario.dimension)
        });
        let clients = (0..scenario.clients)
            .map(|index| {
                let identity = Arc::new(IdentityKey::generate(&mut dice.0));
                let not_after = NOW + if dice.one_in(6) { dice.of(&[30, 7_200, 200_000]) } else { 1_000_000 };
                let certificate =
                    root.certify(ClientId::random(&mut dice.0), identity.public_key(), not_after);
                let setup = ClientSetup {
                    membership: None,
                    terms: Arc::clone(&terms),
                    floors: Floors {
                        n_min: 2,
                        corrupt_bp: 0,
                        threat: ThreatModel::HonestButCurious,
                        roster: false,
                    },
                    root: root.public_key(),
                    certificate,
                    identity,
                    parent: PARENT,
                };
                client::Machine::new(setup, marked(&scenario, index, &mut dice))
            })
            .collect();
        Ok(Self {
            scenario,
            server: server::Machine::new(Arc::clone(&terms), root.public_key())?,
            terms,
            clients,
            now: NOW,
            joins: 0,
            sent: Vec::new(),
            heard: Vec::new(),
            bad_sharers: BTreeMap::new(),
            bad_unmaskers: BTreeSet::new(),
            coverage: Coverage::default(),
        })
    }

    /// What came of the round.
    pub(crate) fn finish(mut self) -> Result<Coverage, Violation> {
        self.wake()?;
        let outcome = match self.server.outcome() {
            Some(Ok(_)) => "released".to_owned(),
            Some(Err(abort)) => {
                let reason = format!("{:?}", abort.reason);
                let name = reason.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
                format!("aborted: {name}")
            }
            None => "left open".to_owned(),
        };
        self.coverage.count("sequences");
        self.coverage.count(&outcome);
        Ok(self.coverage)
    }

    fn ids(&self) -> Vec<ClientId> {
        self.clients.iter().map(client::Machine::id).collect()
    }

    /// Everybody who stopped comes back.
    fn wake(&mut self) -> Result<(), Violation> {
        let ids = self.ids();
        if self.server.wake(&ids)? {
            self.coverage.count("server restored");
            self.check_outcome()?;
        }
        for client in &mut self.clients {
            if client.wake()? {
                self.coverage.count("client restored");
            }
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, operation: Operation) -> Result<(), Violation> {
        self.wake()?;
        match operation {
            Operation::Answer { client, step, at_client, at_server, lost, tamper } => {
                if client < self.clients.len() && self.server.phase().step() == Some(step) {
                    self.answer(client, step, at_client, at_server, lost, tamper)?;
                }
            }
            Operation::Close { step, fault } => {
                if self.server.phase().step() == Some(step) {
                    self.close(step, fault)?;
                }
            }
            Operation::Add { pick } => {
                let missing = self.server.missing();
                if !missing.is_empty() {
                    self.server.add(missing[pick as usize % missing.len()])?;
                }
            }
            Operation::Checkpoint { fault } => {
                self.coverage.count_if(matches!(self.server.phase(), Phase::Confirm(..)), "checkpoints");
                self.server.checkpoint(fault);
            }
            Operation::Drop { client } => self.set_online(client, false),
            Operation::Return { client } => self.set_online(client, true),
            Operation::RepeatToServer { pick } => {
                if !self.sent.is_empty() {
                    let sent = self.sent[pick as usize % self.sent.len()].clone();
                    self.coverage.count("repeated to the server");
                    self.server.take(&sent.message, sent.malformed, self.now, Fault::None)?;
                }
            }
            Operation::RepeatToClient { pick } => {
                if !self.heard.is_empty() {
                    let (client, event) = self.heard[pick as usize % self.heard.len()].clone();
                    self.coverage.count("repeated to a client");
                    self.clients[client].take(&event, self.now, Fault::None)?;
                }
            }
            Operation::CorruptToServer { pick } => self.corrupt_to_server(pick)?,
            Operation::CorruptToClient { client, pick } => {
                if client < self.clients.len() {
                    self.corrupt_to_client(client, pick)?;
                }
            }
            Operation::CrashClient { client } => {
                if let Some(client) = self.clients.get_mut(client) {
                    client.session = None;
                }
            }
            Operation::CrashServer => self.server.session = None,
            Operation::DamageClient { client, pick } => {
                if client < self.clients.len() {
                    self.damage_client(client, pick)?;
                }
            }
            Operation::DamageServer { pick } => self.damage_server(pick)?,
            Operation::Advance { seconds } => self.now += seconds,
        }
        Ok(())
    }

    fn set_online(&mut self, client: usize, online: bool) {
        if let Some(client) = self.clients.get_mut(client) {
            client.online = online;
        }
    }

    fn answer(
        &mut self,
        index: usize,
        step: Step,
        at_client: Fault,
        at_server: Fault,
        lost: bool,
        tamper: Tamper,
    ) -> Result<(), Violation> {
        let id = self.clients[index].id();
        if !self.clients[index].online {
            return Ok(());
        }
        let reaction = if step == Step::Advertise {
            self.joins += 1;
            let mut drawn = Dice::new(self.scenario.seed.wrapping_mul(31) + self.joins);
            self.clients[index].advertise(RoundSecrets::generate(&mut drawn.0), self.now, at_client)?
        } else {
            let Some(event) = self.server.message_for(id)? else { return Ok(()) };
            self.heard.push((index, event.clone()));
            self.clients[index].take(&event, self.now, at_client)?
        };
        let mut message = match reaction {
            Reaction::Answered(message) => message,
            Reaction::Refused => {
                self.coverage.count("clients that refused");
                return Ok(());
            }
            Reaction::Stopped => return Ok(()),
        };
        let tampered = match self.context() {
            Some(context) => message.tamper(tamper, &self.clients[index].setup.identity, &context),
            None => false,
        };
        let malformed = tampered && tamper == Tamper::Malformed;
        self.sent.push(Sent { message: message.clone(), malformed });
        if lost {
            return Ok(());
        }
        let verdict = self.server.take(&message, malformed, self.now, at_server)?;
        let stored = self.server.taken(step).contains(&id);
        match verdict {
            Some(Err(_)) if malformed => self.coverage.count("bad signers excluded"),
            Some(Err(_)) => self.coverage.count("refused by the server"),
            // A machine that stopped after the write took the message.
            _ if stored && tampered && !malformed => {
                if let ToServer::Share(message) = &message {
                    self.bad_sharers.insert(id, message.envelopes[0].to);
                } else {
                    self.bad_unmaskers.insert(id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn context(&self) -> Option<tacit_aggregation::context::Context> {
        self.clients
            .iter()
            .find_map(|client| client.session.as_ref().and_then(|session| session.context()).copied())
    }

    /// Closes a step. The oracle knows from the messages that were stored whether the round must go on.
    fn close(&mut self, step: Step, fault: Fault) -> Result<(), Violation> {
        for client in self.server.missing() {
            self.server.add(client)?;
        }
        let must_go_on = self.must_go_on(step);
        if !self.server.close(fault)? {
            return Ok(());
        }
        self.coverage.count("steps closed");
        if let (true, Some(Err(abort))) = (must_go_on, self.server.outcome()) {
            return Err(format!("everything needed was there, and yet: {abort}"));
        }
        self.check_outcome()
    }

    /// Whether enough is stored for the step to end well. Where shares were bad or the graph is sparse the rules are finer, and
    /// it says no.
    fn must_go_on(&self, step: Step) -> bool {
        let taken = |step| self.server.taken(step);
        let cohort = taken(Step::Advertise).len() as u32;
        let Ok(params) = self.terms.params(cohort) else { return false };
        let (t, n_min) = (params.threshold as usize, params.n_min as usize);
        let shared = taken(Step::Share);
        if params.degree + 1 < params.n {
            return false;
        }
        // In the complete graph everybody holds a share of everybody else.
        let enough = |holders: &BTreeSet<ClientId>| {
            shared.iter().all(|owner| holders.iter().filter(|holder| *holder != owner).count() >= t)
        };
        let clean = self.bad_sharers.is_empty();
        match step {
            Step::Advertise => true,
            Step::Share => shared.len() >= n_min && shared.len() > t,
            Step::Collect => clean && taken(Step::Collect).len() >= n_min && enough(&taken(Step::Collect)),
            Step::Confirm => {
                let confirmed = taken(Step::Confirm);
                clean
                    && confirmed.len() >= params.quorum() as usize
                    && confirmed.len() > t
                    && enough(&confirmed)
            }
            Step::Unmask => {
                let mut answered = taken(Step::Unmask);
                answered.retain(|client| !self.bad_unmaskers.contains(client));
                clean && enough(&answered)
            }
        }
    }

    /// A sum that is out is the survivors' plain sum, each once.
    fn check_outcome(&self) -> Result<(), Violation> {
        let Some(Ok(sum)) = self.server.outcome() else {
            let costs = matches!(self.server.outcome(), Some(Err(abort))
                if matches!(abort.reason, AbortReason::VectorMissing { .. } | AbortReason::ForeignSum));
            return if costs { Err("the sum of an asked round is lost".to_owned()) } else { Ok(()) };
        };
        let Sum { vector, survivors, params, .. } = sum;
        let uploaded = self.server.taken(Step::Collect);
        if (survivors.len() as u32) < params.n_min || params.n_min < self.terms.n_min {
            return Err(format!("{} survivors are released", survivors.len()));
        }
        if let Some(stranger) = survivors.iter().find(|client| !uploaded.contains(client)) {
            return Err(format!("client {stranger} survives without a vector"));
        }
        // One of two goes when one refused the other's share, and nobody else does.
        let disputes: Vec<(&ClientId, &ClientId)> = self
            .bad_sharers
            .iter()
            .filter(|(by, of)| uploaded.contains(by) && uploaded.contains(of))
            .collect();
        if let Some((by, of)) =
            disputes.iter().find(|(by, of)| survivors.contains(by) && survivors.contains(of))
        {
            return Err(format!("client {by} sealed a bad share for client {of}, and both are in the sum"));
        }
        let gone: Vec<&ClientId> = uploaded.iter().filter(|client| !survivors.contains(client)).collect();
        let disputed = |client: &&ClientId| disputes.iter().any(|(by, of)| by == client || of == client);
        if gone.len() > disputes.len() || !gone.iter().all(disputed) {
            return Err(format!("{gone:?} are not in the sum, and there were {} disputes", disputes.len()));
        }
        let excluded =
            |client: &&ClientId| self.server.excluded.get(*client).is_some_and(|step| *step <= Step::Collect);
        if let Some(client) = survivors.iter().find(excluded) {
            return Err(format!("client {client} was excluded and is in the sum"));
        }
        let inputs: BTreeMap<ClientId, RingVector> =
            self.clients.iter().map(|client| (client.id(), client.input.clone())).collect();
        let expected: Vec<u32> =
            self.clients.iter().map(|client| survivors.contains(&client.id()).into()).collect();
        let counted = counts(vector, self.clients.len());
        if counted != expected {
            return Err(format!("the clients are in the sum {counted:?} times, and should be {expected:?}"));
        }
        if *vector != plain_sum(&inputs, survivors) {
            return Err("the sum is not the plain sum".to_owned());
        }
        Ok(())
    }
}
