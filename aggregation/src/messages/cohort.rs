//! The cohort: who takes part, and under which parameters. Must never be signed for in part: everyone gets the whole list.

use crate::Digest;
use crate::context::Fields;
use crate::identity::ClientId;
use crate::merkle::{self, Tree};
use crate::params::RoundParams;

/// One member: 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CohortEntry {
    /// The client.
    pub client: ClientId,
    /// Digest of its advert.
    pub advert: Digest,
}

/// The closed cohort, the same for everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortList {
    /// Parameters of the round.
    pub params: RoundParams,
    /// The members, client ids strictly increasing; a member's place is its cohort index.
    pub entries: Vec<CohortEntry>,
}

impl CohortEntry {
    /// The entry's leaf in the cohort's Merkle tree.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        merkle::leaf(&Fields::new("cohort-entry").integer(self.client.0).bytes(&self.advert).into_bytes())
    }
}

impl CohortList {
    /// The Merkle tree over the entries; its paths prove membership to whoever knows the root.
    #[must_use]
    pub fn tree(&self) -> Tree {
        Tree::new(self.entries.iter().map(CohortEntry::leaf).collect())
    }

    /// Merkle root over the entries.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.tree().root()
    }

    /// Cohort index of a client. The entries must be in order.
    #[must_use]
    pub fn index_of(&self, client: ClientId) -> Option<u32> {
        self.entries.binary_search_by_key(&client, |entry| entry.client).ok().map(|index| index as u32)
    }
}
