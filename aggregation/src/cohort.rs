//! A closed cohort as both sides see it: its context and its graph, recomputed from the list. Must never take either from a
//! peer.

use crate::Digest;
use crate::context::Context;
use crate::graph::Graph;
use crate::identity::ClientId;
use crate::kdf;
use crate::messages::CohortList;
use crate::params::{RoundParams, RoundTerms};

/// What follows from a cohort list whose parameters and order have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Cohort {
    pub(crate) params: RoundParams,
    pub(crate) context: Context,
    pub(crate) root: Digest,
    clients: Vec<ClientId>,
    graph: Graph,
}

impl Cohort {
    pub(crate) fn new(terms: &RoundTerms, list: &CohortList) -> Self {
        let root = list.root();
        let context = Context::new(terms, &list.params, &root);
        let seed = kdf::derive(&context, &root, kdf::GRAPH);
        Self {
            params: list.params,
            context,
            root,
            clients: list.entries.iter().map(|entry| entry.client).collect(),
            graph: Graph::new(list.params.n, list.params.degree, &seed),
        }
    }

    /// Seed of the round's rotation, public.
    pub(crate) fn rotation_seed(&self) -> [u8; 32] {
        *kdf::derive(&self.context, &self.root, kdf::ROTATION)
    }

    /// The member with a cohort index below n.
    pub(crate) fn client(&self, index: u32) -> ClientId {
        self.clients[index as usize]
    }

    pub(crate) fn index_of(&self, client: ClientId) -> Option<u32> {
        self.clients.binary_search(&client).ok().map(|index| index as u32)
    }

    /// Cohort indices of a member's neighbours, increasing; so are their client ids.
    pub(crate) fn neighbours(&self, index: u32) -> Vec<u32> {
        self.graph.neighbours(index)
    }

    /// Cohort indices of the members whose adverts a member receives, increasing: its neighbours, or everybody else.
    pub(crate) fn shown_to(&self, index: u32) -> Vec<u32> {
        if self.params.needs_all_adverts() {
            (0..self.params.n).filter(|&other| other != index).collect()
        } else {
            self.neighbours(index)
        }
    }
}
