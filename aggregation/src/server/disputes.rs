//! Who goes when a survivor refused another's shares. Must never keep both.
//!
//! The one masked with the pair's mask and the other did not, so at most one of them can be summed. Either may lie: a bad
//! share, or a false claim of one. Whoever is in most disputes goes first, so that a single liar does not take honest
//! members with it; in a tie the accused goes.

use super::ServerError;
use crate::identity::ClientId;
use std::collections::{BTreeMap, BTreeSet};

/// A member that goes, and what it was charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) member: u32,
    accusers: u32,
    accused: u32,
}

impl Verdict {
    pub(super) fn error(&self, client: ClientId) -> ServerError {
        if self.accusers >= self.accused {
            ServerError::SentBadShares { client, accusers: self.accusers }
        } else {
            ServerError::RefusesManyShares { client, accused: self.accused }
        }
    }
}

/// Excludes members until no dispute (accuser, accused) is left between two that stay.
pub(super) fn settle(disputes: &[(u32, u32)]) -> Vec<Verdict> {
    let mut open: BTreeSet<(u32, u32)> = disputes.iter().copied().collect();
    let mut verdicts = Vec::new();
    loop {
        let mut charges: BTreeMap<u32, Verdict> = BTreeMap::new();
        for &(by, of) in &open {
            let blank = |member| Verdict { member, accusers: 0, accused: 0 };
            charges.entry(by).or_insert_with(|| blank(by)).accused += 1;
            charges.entry(of).or_insert_with(|| blank(of)).accusers += 1;
        }
        // Ties go to the accused, then to the lower index, so that the outcome does not depend on the order of arrival.
        let worst = charges.into_values().max_by_key(|verdict| {
            (verdict.accusers + verdict.accused, verdict.accusers, u32::MAX - verdict.member)
        });
        let Some(verdict) = worst else {
            return verdicts;
        };
        open.retain(|&(by, of)| by != verdict.member && of != verdict.member);
        verdicts.push(verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::settle;
    use proptest::prelude::{prop_assert, proptest};

    fn gone(disputes: &[(u32, u32)]) -> Vec<u32> {
        settle(disputes).iter().map(|verdict| verdict.member).collect()
    }

    #[test]
    fn the_single_liar_goes() {
        assert!(gone(&[]).is_empty());
        assert_eq!(gone(&[(1, 9), (2, 9), (3, 9)]), [9], "it sent bad shares to three");
        assert_eq!(gone(&[(9, 1), (9, 2), (9, 3)]), [9], "it claims bad shares from three");
        assert_eq!(gone(&[(1, 2)]), [2], "one word against another");
        assert_eq!(gone(&[(1, 2), (2, 1)]), [1], "each accuses the other");
        assert_eq!(gone(&[(1, 9), (2, 9), (8, 3), (8, 4), (8, 5)]), [8, 9]);
    }

    proptest! {
        #[test]
        fn no_dispute_survives(disputes in proptest::collection::vec((0u32..12, 0u32..12), 0..40)) {
            let disputes: Vec<_> = disputes.into_iter().filter(|(by, of)| by != of).collect();
            let gone = gone(&disputes);
            for (by, of) in disputes {
                prop_assert!(gone.contains(&by) || gone.contains(&of));
            }
        }
    }
}
