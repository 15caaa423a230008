//! Random lists of operations on a round, against an oracle that tells every client's vector in the sum. Must never pass
//! because nothing happened: it demands that each outcome occurs.
//!
//! `cargo test -p tacit-aggregation model` runs 10,000 lists; `TACIT_SEQUENCES=100000 cargo test -p tacit-aggregation model`
//! runs more of them, `TACIT_FIRST_SEED=N` others. A list that fails is cut down before it is printed. What occurred how often
//! is printed with `-- --nocapture`.

mod client;
mod messages;
mod operations;
mod server;
mod world;

use operations::{Operation, Scenario};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// What must not happen, and did.
pub(crate) type Violation = String;

/// Lists run by default.
const SEQUENCES: u64 = 10_000;

/// How often each thing occurred.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    pub(crate) fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn count_if(&mut self, condition: bool, what: &str) {
        if condition {
            self.count(what);
        }
    }

    fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    fn merge(mut self, other: Self) -> Self {
        other.0.into_iter().for_each(|(what, times)| *self.0.entry(what).or_default() += times);
        self
    }
}

fn run(scenario: Scenario, operations: &[Operation]) -> Result<Coverage, Violation> {
    let round = || {
        let mut world = World::new(scenario)?;
        operations.iter().try_for_each(|operation| world.apply(*operation))?;
        world.finish()
    };
    catch_unwind(AssertUnwindSafe(round)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.unwrap_or_else(|| "without a message".to_owned())))
    })
}

/// Cuts a failing list down: leaves out ever smaller pieces as long as it fails at all.
fn minimise(scenario: Scenario, mut operations: Vec<Operation>) -> (Vec<Operation>, Violation) {
    let mut violation = run(scenario, &operations).expect_err("it failed before");
    let mut piece = operations.len().div_ceil(2);
    loop {
        let mut start = 0;
        while start < operations.len() {
            let end = (start + piece).min(operations.len());
            let shorter = [&operations[..start], &operations[end..]].concat();
            match run(scenario, &shorter) {
                Err(still) => (operations, violation) = (shorter, still),
                Ok(_) => start = end,
            }
        }
        if piece == 1 {
            return (operations, violation);
        }
        piece = piece.div_ceil(2);
    }
}

fn report(scenario: Scenario, operations: Vec<Operation>) -> String {
    let (operations, violation) = minimise(scenario, operations);
    let mut text = format!("{violation}\n{scenario:#?}\n");
    for operation in operations {
        let _ = writeln!(text, "  {operation:?}");
    }
    text
}

fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

/// Runs the lists of some seeds, on all cores.
fn run_all(seeds: Range<u64>, generate: fn(u64) -> (Scenario, Vec<Operation>)) -> Coverage {
    let coverage = seeds
        .into_par_iter()
        .map(|seed| {
            let (scenario, operations) = generate(seed);
            run(scenario, &operations).map_err(|_| seed)
        })
        .try_reduce(Coverage::default, |left, right| Ok(left.merge(right)));
    match coverage {
        Ok(coverage) => coverage,
        Err(seed) => {
            let (scenario, operations) = generate(seed);
            panic!("seed {seed}: {}", report(scenario, operations))
        }
    }
}

#[test]
fn model_of_sparse_graphs() {
    let coverage = run_all(0..4, Scenario::sparse);
    assert!(coverage.of("released") >= 1 && coverage.of("server restored") >= 4, "{coverage:?}");
}

#[test]
fn model_every_list_of_operations_keeps_the_round_sound() {
    let (sequences, first) = (setting("TACIT_SEQUENCES", SEQUENCES), setting("TACIT_FIRST_SEED", 0));
    let coverage = run_all(first..first + sequences, Scenario::small);
    for (what, times) in &coverage.0 {
        println!("{times:>9}  {what}");
    }
    if sequences < SEQUENCES {
        return;
    }
    // In shares of the lists, per 10,000.
    for (what, least) in [
        ("released", 2_000),
        ("aborted: Parameters", 100),
        ("aborted: TooFewShared", 100),
        ("aborted: TooFewSurvivors", 100),
        ("aborted: Neighbourhood", 50),
        ("aborted: NoQuorum", 50),
        ("aborted: Unrecoverable", 50),
        ("left open", 100),
        ("server restored", 5_000),
        ("client restored", 5_000),
        ("damaged records refused", 1_000),
        ("altered, refused by the server", 1_000),
        ("altered, refused by a client", 500),
        ("altered, answered by a client", 50),
        ("repeated to the server", 1_000),
        ("repeated to a client", 1_000),
        ("bad signers excluded", 500),
        ("clients that refused", 500),
        ("checkpoints", 200),
    ] {
        let times = coverage.of(what) * SEQUENCES / sequences;
        assert!(times >= least, "{what}: {times} in {SEQUENCES} lists, fewer than {least}");
    }
}
