//! What the rounds of a task cost, recomputed from the exported ledger as any auditor would. Must never take the coordinator's
//! word for what can be recomputed.

use std::collections::BTreeMap;

use tacit_aggregation::identity::PublicKey;
use tacit_privacy::AdaptiveClip;
use tacit_privacy::ledger::Debit;
use tacit_privacy::ledger::export::Auditor;

use super::NetworkError;
use crate::federation::noise;

/// What the ledger says of a round for which clients paid.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Paid {
    /// Clients whose updates are in the sum.
    pub(super) survivors: u32,
    /// The largest epsilon over clients after it.
    pub(super) epsilon: f64,
    /// Expected norm of the noise in the mean.
    pub(super) noise_norm: f64,
    /// The norm that updates were clipped to.
    pub(super) clip: f64,
    /// As the noised count of clip bits has it.
    pub(super) unclipped_share: Option<f64>,
}

/// Verifies an export, and recomputes what was spent after each round of a task that was paid for.
pub(super) fn audit(
    export: &str,
    coordinator: &PublicKey,
    task: &str,
    delta: f64,
) -> Result<BTreeMap<u64, Paid>, NetworkError> {
    let mut auditor = Auditor::new();
    let mut paid = BTreeMap::new();
    for line in export.split_inclusive('\n') {
        let Some(entry) = auditor.line(line)? else { continue };
        if entry.task.as_str() != task {
            continue;
        }
        let clip_bits = entry.event.commit().and_then(|commit| commit.clip_bits);
        if let Some(&Debit { ref mechanism, survivors, .. }) = entry.event.debit() {
            let cost = Paid {
                survivors,
                epsilon: auditor.book().max_epsilon(delta)?,
                noise_norm: noise(mechanism, survivors),
                clip: mechanism.clip(),
                unclipped_share: clip_bits.map(|bits| AdaptiveClip::unclipped_share(bits, survivors)),
            };
            paid.insert(entry.round, cost);
        }
    }
    auditor.finish(&coordinator.0)?;
    Ok(paid)
}

#[cfg(test)]
mod tests {
    use tacit_privacy::epsilon_spent;
    use tacit_privacy::ledger::export::{FIRST_LINE, entry_line, head_line};
    use tacit_privacy::ledger::head::Head;
    use tacit_privacy::ledger::{Commit, Event, Ledger, Reserve, Task, members_root};
    use tacit_privacy::{Adjacency, BasisPoints, Mechanism, MechanismRequest, NoiseLaw, RoundMechanism};
    use tacit_proto::CoordinatorKey;

    use super::*;

    const COHORT: [u64; 4] = [2, 3, 5, 8];
    const DELTA: f64 = 1e-5;

    fn mechanism() -> RoundMechanism {
        let request = MechanismRequest {
            clients: 4,
            n_min: 3,
            corrupt: BasisPoints::ZERO,
            dropout: BasisPoints::new(2_500).expect("a quarter"),
            dimension: 64,
            clip: 0.5,
            noise_multiplier: 2.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
        };
        Mechanism::build(&request).expect("feasible").into()
    }

    /// The epsilon of as many rounds with as many survivors.
    fn epsilon(survivors: u32, rounds: u64) -> f64 {
        let cost = mechanism().cost(survivors).expect("a cost").times(rounds);
        epsilon_spent(&cost, DELTA, rounds).expect("a figure")
    }

    /// A ledger whose rounds all have these survivors: rounds 1 and 2 of one task, and 1 of another between them.
    fn export(key: &CoordinatorKey, survivors: &[u64]) -> String {
        let (mut ledger, mut text) = (Ledger::new(), FIRST_LINE.to_owned());
        for (spent, (task, round)) in (1..).zip([("mine", 1), ("other", 1), ("mine", 2)]) {
            let task = Task::new(task).expect("a name");
            let reserve = Reserve {
                plan_digest: [1; 32],
                cohort_root: members_root(COHORT),
                mechanism: mechanism(),
                delta: DELTA,
            };
            let entry = ledger.append(0, task.clone(), round, Event::Reserve(reserve)).expect("taken");
            text += &entry_line(&entry, &[]);
            let debit = Debit {
                reservation: ledger.size() - 1,
                plan_digest: [1; 32],
                mechanism: mechanism(),
                survivors: survivors.len() as u32,
                participants_root: members_root(survivors.iter().copied()),
                epsilon: epsilon(survivors.len() as u32, spent),
                delta: DELTA,
            };
            let commit = Commit { debit, clip_bits: None, adapter_digest: [3; 32] };
            let entry = ledger.append(0, task, round, Event::Commit(commit)).expect("taken");
            text += &entry_line(&entry, survivors);
        }
        let head = Head { size: ledger.size(), root: ledger.tree().root(), time: 0 };
        text + &head_line(&key.sign_head(head))
    }

    #[test]
    fn each_round_of_the_task_costs_what_its_survivors_have_spent_by_then() {
        let key = CoordinatorKey::from_bytes(&[7; 32]);
        let export = export(&key, &COHORT[..3]);
        let paid = audit(&export, &key.public_key(), "mine", DELTA).expect("whole");
        assert_eq!(paid.keys().copied().collect::<Vec<_>>(), [1, 2]);
        for (round, spent) in [(1, 1), (2, 3)] {
            let Paid { survivors, clip, epsilon: found, .. } = paid[&round];
            assert_eq!((survivors, clip), (3, 0.5));
            assert!((found - epsilon(3, spent)).abs() < 1e-9, "what another task took counts: {found}");
        }
        assert!(paid[&1].noise_norm > 0.0 && paid[&1].unclipped_share.is_none());

        let other = CoordinatorKey::from_bytes(&[8; 32]);
        assert!(matches!(audit(&export, &other.public_key(), "mine", DELTA), Err(NetworkError::Ledger(_))));
        let cut: String = export.split_inclusive('\n').filter(|line| !line.starts_with("head")).collect();
        assert!(matches!(audit(&cut, &key.public_key(), "mine", DELTA), Err(NetworkError::Ledger(_))));
    }
}
