//! What may happen to a round, as a list that can be cut down. Must never need another operation to have happened before: what
//! does not apply does nothing.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tacit_aggregation::Step;
use tacit_aggregation::params::ThreatModel;

/// When a machine stops while it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Before its record is written.
    BeforeWrite,
    /// After that, and before anybody hears of it.
    AfterWrite,
}

/// What a client does to its own message before it signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tamper {
    None,
    /// It leaves something out, or announces a wrong length: excluded at once.
    Malformed,
    /// Its shares are wrong: its neighbours find out, or the server does in the end.
    WrongShares,
}

/// One thing that happens. Clients are numbered, `pick` chooses among what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// In this step, a client takes what the server has for it, and its answer goes to the server.
    Answer { client: usize, step: Step, at_client: Fault, at_server: Fault, lost: bool, tamper: Tamper },
    /// The server ends the step.
    Close { step: Step, fault: Fault },
    /// The server adds a survivor's vector to the sum.
    Add { pick: u64 },
    /// The server stores the sum so far, and deletes the vectors in it.
    Checkpoint { fault: Fault },
    /// A client is cut off.
    Drop { client: usize },
    /// It is back.
    Return { client: usize },
    /// An old message reaches the server again.
    RepeatToServer { pick: u64 },
    /// An old message reaches its client again.
    RepeatToClient { pick: u64 },
    /// A message reaches the server with a field changed on the way.
    CorruptToServer { pick: u64 },
    /// A message, an old one or the one that is due, reaches a client with a field changed.
    CorruptToClient { client: usize, pick: u64 },
    /// A machine stops, and comes back from its records.
    CrashClient { client: usize },
    /// The server does.
    CrashServer,
    /// The same, and one record is damaged at first.
    DamageClient { client: usize, pick: u64 },
    /// The same at the server.
    DamageServer { pick: u64 },
    /// Time passes, in seconds.
    Advance { seconds: u64 },
}

/// A round before anything happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) threat: ThreatModel,
    pub(crate) bits: u8,
    pub(crate) dimension: u32,
    pub(crate) corrupt_bp: u16,
    pub(crate) dropout_bp: u16,
}

/// Small numbers out of a generator.
pub(crate) struct Dice(pub(crate) ChaCha20Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

impl Scenario {
    /// A small cohort, whose graph is complete, and what happens to it.
    pub(crate) fn small(seed: u64) -> (Self, Vec<Operation>) {
        let mut dice = Dice::new(seed);
        let scenario = Self {
            seed,
            clients: dice.of(&[3, 4, 5, 5, 6, 6, 7, 7, 8, 8]),
            threat: dice.of(&[ThreatModel::SemiMalicious, ThreatModel::HonestButCurious]),
            bits: dice.of(&[8, 12, 16, 17, 32]),
            dimension: 4 + dice.below(13) as u32,
            corrupt_bp: dice.of(&[0, 0, 0, 1_300]),
            dropout_bp: dice.of(&[0, 2_500, 3_000, 3_400]),
        };
        let (calm, losses) = (dice.of(&[2, 4, 8, 30]), dice.of(&[8, 30, 100]));
        let operations = scenario.operations(calm, losses, &mut dice);
        (scenario, operations)
    }

    /// A cohort just large enough for a sparse graph, to which little happens: there is more of everything.
    pub(crate) fn sparse(seed: u64) -> (Self, Vec<Operation>) {
        let mut dice = Dice::new(seed);
        let scenario = Self {
            seed,
            clients: 101 + dice.below(4),
            threat: if seed.is_multiple_of(2) {
                ThreatModel::SemiMalicious
            } else {
                ThreatModel::HonestButCurious
            },
            bits: 32,
            dimension: 8,
            corrupt_bp: 0,
            dropout_bp: 1_000,
        };
        let operations = scenario.operations(60, 60, &mut dice);
        (scenario, operations)
    }

    /// Step by step, so that many rounds get far, with everything else in between: about one incident for `calm` messages, and
    /// one of `losses` messages missing.
    fn operations(&self, calm: usize, losses: usize, dice: &mut Dice) -> Vec<Operation> {
        let mut list = Vec::new();
        for step in Step::ALL {
            let mut clients: Vec<usize> = (0..self.clients).collect();
            // Who answers twice hears the second time that it did.
            clients.extend((0..self.clients).filter(|_| dice.one_in(4)));
            while !clients.is_empty() {
                let client = clients.swap_remove(dice.below(clients.len()));
                if dice.one_in(calm) {
                    list.push(self.incident(dice));
                }
                if dice.one_in(losses) {
                    continue;
                }
                list.push(Operation::Answer {
                    client,
                    step,
                    at_client: fault(dice, calm),
                    at_server: fault(dice, calm),
                    lost: dice.one_in(4 * losses),
                    tamper: match dice.below(6 * losses) {
                        0 => Tamper::Malformed,
                        1 => Tamper::WrongShares,
                        _ => Tamper::None,
                    },
                });
            }
            if dice.one_in(calm) {
                list.push(self.incident(dice));
            }
            if !dice.one_in(60) {
                list.push(Operation::Close { step, fault: fault(dice, calm) });
            }
        }
        // What clients said is put to the test when they have said it all.
        for _ in 0..dice.below(8) {
            let (client, pick) = (dice.below(self.clients), dice.0.next_u64());
            let lie = Operation::CorruptToClient { client, pick };
            list.push(if dice.one_in(2) { lie } else { self.incident(dice) });
        }
        list
    }

    fn incident(&self, dice: &mut Dice) -> Operation {
        let client = dice.below(self.clients);
        let pick = dice.0.next_u64();
        match dice.below(32) {
            0 => Operation::Drop { client },
            1..=3 => Operation::Return { client },
            4 | 5 => Operation::RepeatToServer { pick },
            6..=8 => Operation::RepeatToClient { pick },
            9..=12 => Operation::CorruptToServer { pick },
            13 => Operation::CorruptToClient { client, pick },
            14..=17 => Operation::CrashClient { client },
            18..=20 => Operation::CrashServer,
            21 | 22 => Operation::DamageClient { client, pick },
            23 | 24 => Operation::DamageServer { pick },
            25 | 26 => Operation::Advance { seconds: dice.of(&[1, 10, 60, 3_600, 86_400]) },
            27 | 28 => Operation::Checkpoint { fault: fault(dice, 4) },
            // Out of its order.
            29 if dice.one_in(4) => Operation::Close { step: dice.of(&Step::ALL), fault: Fault::None },
            _ => Operation::Add { pick },
        }
    }
}

fn fault(dice: &mut Dice, calm: usize) -> Fault {
    match dice.below(6 * calm) {
        0 => Fault::BeforeWrite,
        1 => Fault::AfterWrite,
        _ => Fault::None,
    }
}
