//! What a ledger of several tasks takes, and what no verifier accepts.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::accountant::epsilon_spent;
use crate::central::{AdaptiveClip, CentralMechanism, CentralRequest};
use crate::mechanism::{Adjacency, Mechanism, MechanismRequest, NoiseLaw};
use crate::units::BasisPoints;

const DELTA: f64 = 1e-5;
const RULE: AdaptiveClip = AdaptiveClip { target_quantile: 0.5, learning_rate: 0.2, count_noise: 5.0 };

pub(super) fn task(name: &str) -> Task {
    Task::new(name).unwrap()
}

pub(super) fn mechanism(noise_law: NoiseLaw) -> RoundMechanism {
    let request = MechanismRequest {
        clients: 8,
        n_min: 6,
        corrupt: BasisPoints::ZERO,
        dropout: BasisPoints::new(2_500).unwrap(),
        dimension: 64,
        clip: 0.5,
        noise_multiplier: 2.0,
        adjacency: Adjacency::ZeroOut,
        noise_law,
    };
    Mechanism::build(&request).unwrap().into()
}

fn central(clip: f64, adaptive_clip: Option<AdaptiveClip>) -> RoundMechanism {
    let request = CentralRequest {
        clients: 8,
        n_min: 6,
        dimension: 64,
        clip,
        noise_multiplier: 2.0,
        adjacency: Adjacency::ReplaceOne,
        adaptive_clip,
    };
    CentralMechanism::build(&request).unwrap().into()
}

pub(super) fn reserve(mechanism: &RoundMechanism, cohort: &[u64]) -> Reserve {
    let cohort_root = members_root(cohort.iter().copied());
    Reserve { plan_digest: [1; 32], cohort_root, mechanism: mechanism.clone(), delta: DELTA }
}

/// A debit that ends `open`, and states what `rounds` such rounds cost.
pub(super) fn debit(open: &Open, survivors: &[u64], rounds: u64) -> Debit {
    let Reserve { plan_digest, mechanism, delta, .. } = open.reserve.clone();
    let count = survivors.len() as u32;
    let cost = mechanism.cost(count).unwrap().times(rounds);
    Debit {
        reservation: open.index,
        plan_digest,
        mechanism,
        survivors: count,
        participants_root: members_root(survivors.iter().copied()),
        epsilon: epsilon_spent(&cost, delta, rounds).unwrap(),
        delta,
    }
}

pub(super) fn commit(debit: Debit) -> Commit {
    Commit { debit, clip_bits: None, adapter_digest: [3; 32] }
}

pub(super) const COHORT: [u64; 8] = [1, 2, 3, 5, 8, 13, 21, 34];

/// Two tasks at once: rounds that are committed, released, forfeited, and one that stays open.
pub(super) fn chain() -> (Ledger, Vec<Entry>) {
    let (rust, java) = (task("rust"), task("java"));
    let mechanism = mechanism(NoiseLaw::DiscreteGaussian);
    let mut ledger = Ledger::new();
    let mut entries = Vec::new();
    let mut append = |task: &Task, round, make: &dyn Fn(&Ledger) -> Event| {
        let event = make(&ledger);
        let before = ledger.head();
        entries.push(ledger.append(1_000 + round, task.clone(), round, event).unwrap());
        assert_eq!(entries.last().unwrap().previous, before);
        assert_ne!(ledger.head(), before);
    };
    let opening = |_: &Ledger| Event::Reserve(reserve(&mechanism, &COHORT));
    append(&rust, 1, &opening);
    append(&java, 1, &opening);
    append(&rust, 1, &|ledger| {
        Event::Commit(commit(debit(ledger.open_round(&rust, 1).unwrap(), &COHORT[..6], 2)))
    });
    append(&rust, 2, &opening);
    append(&java, 1, &|_| {
        Event::Release(Release { reservation: 1, reason: Reason::new("too few shared").unwrap() })
    });
    append(&java, 4, &opening);
    append(&java, 4, &|ledger| Event::Forfeit(debit(ledger.open_round(&java, 4).unwrap(), &COHORT[1..], 3)));
    (ledger, entries)
}

pub(super) fn problem(result: Result<impl std::fmt::Debug, LedgerError>) -> Problem {
    match result {
        Err(LedgerError::Refused { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chain_of_two_tasks_verifies_from_its_entries_alone() {
    let (ledger, entries) = chain();
    assert_eq!(verify(&entries), Ok(ledger.clone()));
    assert_eq!(verify(&[]).unwrap().head(), EMPTY_HEAD);
    assert_eq!(ledger.head(), entries[6].hash());
    assert_eq!(ledger.size(), 7);
    assert_eq!(verify_against(&entries, &ledger.head()), Ok(ledger.clone()));
    let shorter = verify_against(&entries[..6], &ledger.head());
    assert_eq!(shorter, Err(LedgerError::HeadMismatch { entries: 6 }));
    let open: Vec<_> = ledger.open().map(|(task, round, open)| (task.as_str(), round, open.index)).collect();
    assert_eq!(open, [("rust", 2, 3)]);
    assert_eq!(ledger.last_round(&task("java")), Some(4));
    assert_eq!(ledger.last_round(&task("go")), None);
}

#[test]
fn every_entry_is_in_the_tree_and_every_head_extends_the_last() {
    let (ledger, entries) = chain();
    let (tree, root) = (ledger.tree(), ledger.tree().root());
    for (index, entry) in (0..).zip(&entries) {
        let path = tree.inclusion(index, 7).unwrap();
        assert_eq!(tree::verify_inclusion(&entry.hash(), index, 7, &path, &root), Ok(()));
        let before = verify(&entries[..index as usize]).unwrap().tree().root();
        let proof = tree.consistency(index, 7).unwrap();
        assert_eq!(tree::verify_consistency(index, &before, 7, &root, &proof), Ok(()));
    }
}

#[test]
fn every_change_to_an_earlier_entry_breaks_the_link() {
    let (_, entries) = chain();
    for place in 0..6 {
        let changes: [fn(&mut Entry); 4] = [
            |entry| entry.time += 1,
            |entry| entry.previous[0] ^= 1,
            |entry| match &mut entry.event {
                Event::Reserve(reserve) => reserve.cohort_root[31] ^= 1,
                Event::Release(release) => release.reason = Reason::new("another reason").unwrap(),
                Event::Commit(commit) => commit.adapter_digest[7] ^= 16,
                Event::Forfeit(debit) => debit.participants_root[0] ^= 128,
                Event::Restart(_) => unreachable!("there is none in this chain"),
            },
            |entry| entry.event = Event::Reserve(reserve(&mechanism(NoiseLaw::Skellam), &COHORT)),
        ];
        for change in changes {
            let mut changed = entries.clone();
            change(&mut changed[place]);
            assert!(verify(&changed).is_err(), "{place}");
        }
        let mut dropped = entries.clone();
        dropped.remove(place);
        assert_eq!(problem(verify(&dropped)), Problem::BrokenLink, "{place}");
        let mut swapped = entries.clone();
        swapped.swap(place, place + 1);
        assert_eq!(problem(verify(&swapped)), Problem::BrokenLink, "{place}");
    }
}

#[test]
fn a_round_is_opened_once_and_ended_once() {
    let (mut ledger, _) = chain();
    let before = ledger.clone();
    let rust = task("rust");
    let open = ledger.open_round(&rust, 2).unwrap().clone();
    let opening = Event::Reserve(open.reserve.clone());
    let mut refuse = |task: &Task, round, event: &Event| {
        let refused = problem(ledger.append(9, task.clone(), round, event.clone()));
        assert_eq!(ledger, before);
        refused
    };
    assert_eq!(refuse(&rust, 2, &opening), Problem::RoundNotAfter { before: 2 });
    assert_eq!(refuse(&task("java"), 3, &opening), Problem::RoundNotAfter { before: 4 });
    let release = |reservation| Release { reservation, reason: Reason::new("late").unwrap() };
    for (end, of_other) in [
        (Event::Release(release(3)), Event::Release(release(0))),
        (
            Event::Commit(commit(debit(&open, &COHORT, 3))),
            Event::Commit(commit(Debit { reservation: 0, ..debit(&open, &COHORT, 3) })),
        ),
        (
            Event::Forfeit(debit(&open, &COHORT, 3)),
            Event::Forfeit(Debit { reservation: 4, ..debit(&open, &COHORT, 3) }),
        ),
    ] {
        // Ended before, another task's, never opened.
        for (task, round) in [(&rust, 1), (&task("java"), 2), (&task("java"), 4), (&task("go"), 2)] {
            assert_eq!(refuse(task, round, &end), Problem::NotOpen);
        }
        assert!(matches!(refuse(&rust, 2, &of_other), Problem::OtherReservation { due: 3, .. }));
        let mut good = before.clone();
        good.append(9, rust.clone(), 2, end.clone()).unwrap();
        assert_eq!(good.open().count(), 0);
        assert_eq!(problem(good.append(9, rust.clone(), 2, end)), Problem::NotOpen);
    }
}

#[test]
fn a_debit_is_what_was_reserved_and_states_what_it_costs() {
    let (mut ledger, _) = chain();
    let before = ledger.clone();
    let rust = task("rust");
    let open = ledger.open_round(&rust, 2).unwrap().clone();
    for wrap in [|debit| Event::Commit(commit(debit)), Event::Forfeit] {
        let mut refuse = |change: &dyn Fn(&mut Debit)| {
            let mut debit = debit(&open, &COHORT[..6], 1);
            change(&mut debit);
            let refused = problem(ledger.append(9, rust.clone(), 2, wrap(debit)));
            assert_eq!(ledger, before);
            refused
        };
        assert_eq!(refuse(&|debit| debit.plan_digest[0] ^= 1), Problem::OtherTerms { field: "plan" });
        assert_eq!(refuse(&|debit| debit.delta *= 2.0), Problem::OtherTerms { field: "delta" });
        let other = mechanism(NoiseLaw::Skellam);
        assert_eq!(
            refuse(&|debit| debit.mechanism = other.clone()),
            Problem::OtherTerms { field: "mechanism" }
        );
        assert!(matches!(refuse(&|debit| debit.survivors = 5), Problem::NotReleasable(_)));
        assert!(matches!(refuse(&|debit| debit.survivors = 9), Problem::NotReleasable(_)));
        for epsilon in [f64::NAN, f64::INFINITY, -1.0, -0.0] {
            assert!(matches!(refuse(&|debit| debit.epsilon = epsilon), Problem::InvalidEpsilon(_)));
        }
        assert!(matches!(refuse(&|debit| debit.epsilon *= 0.999), Problem::Understated { .. }));
        before.clone().append(9, rust.clone(), 2, wrap(debit(&open, &COHORT[..6], 1))).unwrap();
    }
    for delta in [0.0, 1.0, f64::NAN] {
        let opening = Event::Reserve(Reserve { delta, ..open.reserve.clone() });
        assert!(matches!(problem(ledger.append(9, rust.clone(), 3, opening)), Problem::InvalidDelta(_)));
    }
}

#[test]
fn adaptive_clip_norms_follow_from_the_last_commit_of_their_task() {
    let (rust, java) = (task("rust"), task("java"));
    let mut ledger = Ledger::new();
    let opened = |ledger: &mut Ledger, task: &Task, round, clip, rule| {
        ledger.append(0, task.clone(), round, Event::Reserve(reserve(&central(clip, rule), &COHORT)))
    };
    let ended = |ledger: &mut Ledger, task: &Task, round, clip_bits| {
        let debit = debit(ledger.open_round(task, round).unwrap(), &COHORT[..6], 1);
        ledger.append(0, task.clone(), round, Event::Commit(Commit { clip_bits, ..commit(debit) }))
    };
    assert_eq!(ledger.next_clip(&rust, &RULE), None);
    opened(&mut ledger, &rust, 1, 0.5, Some(RULE)).unwrap();
    for bits in [None, Some(1 << 23), Some(i32::MIN)] {
        assert_eq!(problem(ended(&mut ledger, &rust, 1, bits)), Problem::ClipBits { found: bits });
    }
    ended(&mut ledger, &rust, 1, Some(2)).unwrap();
    let due = 0.5 * (-0.2 * 0.5 * 2.0 / 6.0_f64).exp();
    let next = ledger.next_clip(&rust, &RULE).unwrap();
    assert!((next - due).abs() < 1e-12, "{next}, not {due}");
    let other = AdaptiveClip { learning_rate: 0.1, ..RULE };
    assert_eq!(ledger.next_clip(&rust, &other), None);
    assert_eq!(ledger.next_clip(&java, &RULE), None, "another task starts where it likes");
    opened(&mut ledger, &java, 1, 0.5, Some(RULE)).unwrap();
    let refused = opened(&mut ledger, &rust, 2, 0.5, Some(RULE));
    assert_eq!(problem(refused), Problem::Clip { found: 0.5, due: next });
    opened(&mut ledger, &rust, 2, next, Some(RULE)).unwrap();
    // What was never released moves no norm.
    let lost = debit(ledger.open_round(&rust, 2).unwrap(), &COHORT, 1);
    ledger.append(0, rust.clone(), 2, Event::Forfeit(lost)).unwrap();
    assert_eq!(ledger.next_clip(&rust, &RULE), Some(next));
    // Another rule starts where it likes, and so does a norm that stays, whose bits are not counted.
    opened(&mut ledger, &rust, 3, 7.0, Some(other)).unwrap();
    ended(&mut ledger, &rust, 3, Some(-3)).unwrap();
    opened(&mut ledger, &rust, 4, 1.0, None).unwrap();
    assert_eq!(problem(ended(&mut ledger, &rust, 4, Some(0))), Problem::ClipBits { found: Some(0) });
    ended(&mut ledger, &rust, 4, None).unwrap();
    assert_eq!(ledger.next_clip(&rust, &other), None);
}

#[test]
fn a_plan_is_good_until_its_own_task_moves() {
    let (ledger, entries) = chain();
    let (rust, java, go) = (task("rust"), task("java"), task("go"));
    let heads: Vec<Hash> = std::iter::once(EMPTY_HEAD).chain(entries.iter().map(Entry::hash)).collect();
    for (task, sizes) in [(&rust, 4..=7), (&java, 7..=7), (&go, 0..=7)] {
        for (size, head) in heads.iter().enumerate() {
            assert_eq!(ledger.admits(task, head), sizes.contains(&size), "{task} at {size}");
        }
    }
    assert!(!ledger.admits(&go, &[9; 32]));
    assert!(Ledger::new().admits(&go, &EMPTY_HEAD));
}

#[test]
fn the_encoding_is_canonical() {
    let (_, mut entries) = restart::tests::restarted();
    let with = |event| Entry { event, ..entries[0].clone() };
    let adapting = Open { index: 3, time: 0, reserve: reserve(&central(0.5, Some(RULE)), &COHORT) };
    let more = [
        with(Event::Reserve(reserve(&mechanism(NoiseLaw::Skellam), &COHORT))),
        with(Event::Reserve(reserve(&central(0.5, None), &COHORT))),
        with(Event::Commit(Commit { clip_bits: Some(-40), ..commit(debit(&adapting, &COHORT, 1)) })),
    ];
    entries.extend(more);
    let mut decoder = Decoder::new();
    for (number, entry) in entries.iter().enumerate() {
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(entry));
        assert_eq!(decoder.decode(&bytes).as_ref(), Ok(entry));
        assert!(bytes.starts_with(b"\0\0\0\x0ftacit/ledger/v1\0\0\0\x20"));
        assert!(bytes.len() < 1024, "{} bytes", bytes.len());
        for length in 0..bytes.len() {
            let error = Entry::decode(&bytes[..length]).unwrap_err();
            assert!(matches!(error, LedgerError::Malformed { .. }), "cut to {length}: {error}");
        }
        assert!(Entry::decode(&[&bytes[..], &[0]].concat()).is_err());
        // A changed byte either is refused or is another entry: no two encodings of the same one.
        let mut differing = 0;
        for place in 0..bytes.len() {
            for mask in [1, 128] {
                let mut changed = bytes.clone();
                changed[place] ^= mask;
                let other = Entry::decode(&changed);
                // What a decoder has read before makes no difference.
                assert_eq!(decoder.decode(&changed), other);
                if let Ok(other) = other {
                    assert_ne!(other, *entry, "byte {place} does not matter");
                    assert_eq!(other.encode(), changed, "byte {place}");
                    differing += 1;
                }
            }
        }
        assert!(
            differing > 32,
            "entry {number}: digests may hold any bytes, but only {differing} changes are read"
        );
        for other in &entries[..number] {
            assert_ne!(other.hash(), entry.hash());
        }
    }
}

#[test]
fn entries_can_be_shown_as_json() {
    let (_, entries) = chain();
    let shown = serde_json::to_value(&entries[2]).unwrap();
    assert_eq!(shown["task"], "rust");
    assert_eq!(shown["event"]["event"], "commit");
    assert_eq!(shown["event"]["debit"]["survivors"], 6);
    assert_eq!(serde_json::to_value(&entries[4]).unwrap()["event"]["reason"], "too few shared");
}

#[test]
fn members_have_one_root() {
    assert_eq!(members_root([]), tree::Tree::new().root());
    let (one, other) = (members_root(COHORT), members_root(COHORT.into_iter().rev()));
    assert_ne!(one, other);
    assert_ne!(one, members_root(COHORT.into_iter().skip(1)));
    assert_eq!(members_root([7]), tree::leaf_hash(&7_u64.to_be_bytes()));
}
