//! Collect: deliveries go out, announcements of masked vectors come in. Must never count a client as a survivor before its
//! whole vector has been checked against its signed digest.

use super::disputes;
use super::{Abort, AbortReason, Confirm, Receipt, Roster, ServerError, Summation, Upload, VectorSummary};
use crate::Step;
use crate::bitmap::Bitmap;
use crate::identity::ClientId;
use crate::merkle::Tree;
use crate::messages::{MaskedHeader, ShareCommitments, ShareDelivery, ShareMessage, SurvivorMaps};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Masked vectors are collected. The caller stores them; this keeps only their signed announcements.
#[derive(Clone, Debug)]
pub struct Collect {
    pub(super) roster: Roster,
    shared: Bitmap,
    messages: BTreeMap<u32, (Arc<ShareMessage>, Tree)>,
    headers: BTreeMap<u32, MaskedHeader>,
}

/// What is known about the round once the survivors are fixed.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) roster: Roster,
    pub(super) maps: SurvivorMaps,
    pub(super) commitments: BTreeMap<u32, Arc<ShareCommitments>>,
    /// Neighbours whose shares each survivor refused, by cohort index.
    refused: BTreeMap<u32, Vec<u32>>,
    /// What the members excluded in Collect did.
    pub(super) faults: Vec<ServerError>,
}

impl Standing {
    /// Whether a survivor masked with a neighbour that shared, and holds its shares.
    pub(super) fn holds(&self, holder: u32, of: u32) -> bool {
        self.refused.get(&holder).is_none_or(|refused| refused.binary_search(&of).is_err())
    }

    /// Neighbours of a client among `candidates` that hold its shares.
    pub(super) fn holders(&self, of: u32, candidates: &Bitmap) -> Vec<u32> {
        let mut neighbours = self.roster.cohort.neighbours(of);
        neighbours.retain(|&holder| candidates.contains(holder) && self.holds(holder, of));
        neighbours
    }

    /// Members whose secrets the sum hangs on: the survivors, and whoever dropped out after a survivor had masked with it.
    /// Nobody's vector carries a mask of the others, whatever their shares are worth.
    pub(super) fn owners(&self) -> impl Iterator<Item = u32> + '_ {
        let Self { maps, .. } = self;
        maps.shared
            .indices()
            .filter(|&owner| maps.survived.contains(owner) || !self.holders(owner, &maps.survived).is_empty())
    }

    /// Surviving neighbours that refused a client's shares.
    fn accusers(&self, of: u32) -> u32 {
        let neighbours = self.roster.cohort.neighbours(of);
        let accuses = |&by: &u32| self.maps.survived.contains(by) && !self.holds(by, of);
        neighbours.iter().filter(|by| accuses(by)).count() as u32
    }

    /// Leaves out survivors that masked with somebody who has dropped out, sent bad shares to others, and so left fewer than t
    /// from whom its mask key could be recovered: their masks with it would stay in the sum. Which ones go does not depend
    /// on the order of the owners, for who goes only makes holders fewer. Names who did it.
    ///
    /// # Errors
    /// [`Abort`] names the first such owner when fewer than `n_min` would survive.
    fn leave_out_stranded(&mut self) -> Result<(), Abort> {
        let params = self.roster.cohort.params;
        let mut first = None;
        loop {
            let dropped = |owner: &u32| !self.maps.survived.contains(*owner);
            let stranding = self.maps.shared.indices().filter(dropped).find_map(|owner| {
                let (holders, accusers) = (self.holders(owner, &self.maps.survived), self.accusers(owner));
                let few = !holders.is_empty() && holders.len() < params.threshold as usize;
                (few && accusers > 0).then_some((owner, holders, accusers))
            });
            let Some((owner, holders, accusers)) = stranding else { return Ok(()) };
            let client = self.roster.cohort.client(owner);
            first.get_or_insert(AbortReason::Neighbourhood {
                client,
                holders: holders.len() as u32,
                accusers,
                threshold: params.threshold,
            });
            self.name_sender_of_bad_shares(owner, accusers);
            for holder in holders {
                self.maps.survived.set(holder, false);
                let stranded =
                    ServerError::Stranded { client: self.roster.cohort.client(holder), with: client };
                self.faults.push(self.roster.exclude(holder, stranded));
            }
            if self.maps.survived.count() < params.n_min
                && let Some(reason) = first
            {
                return Err(Abort { step: Step::Collect, reason });
            }
        }
    }

    /// Names whoever dropped out after all survivors that could have masked with it refused its shares.
    fn name_unmasked_with(&mut self) {
        let dropped: Vec<u32> =
            self.maps.shared.indices().filter(|&owner| !self.maps.survived.contains(owner)).collect();
        for owner in dropped {
            let accusers = self.accusers(owner);
            if accusers > 0 && self.holders(owner, &self.maps.survived).is_empty() {
                self.name_sender_of_bad_shares(owner, accusers);
            }
        }
    }

    /// Only when more accuse it than can collude.
    fn name_sender_of_bad_shares(&mut self, owner: u32, accusers: u32) {
        if accusers <= self.roster.cohort.params.corrupt() {
            return;
        }
        let client = self.roster.cohort.client(owner);
        let named = |fault: &ServerError| matches!(fault, ServerError::SentBadShares { client: named, .. } if *named == client);
        if !self.faults.iter().any(named) {
            self.faults.push(self.roster.exclude(owner, ServerError::SentBadShares { client, accusers }));
        }
    }

    /// Checks that at least t candidates hold the shares of every client whose secret is needed.
    pub(super) fn check_holders(&self, step: Step, candidates: &Bitmap) -> Result<(), Abort> {
        let threshold = self.roster.cohort.params.threshold;
        for of in self.owners() {
            let holders = self.holders(of, candidates).len() as u32;
            if holders < threshold {
                let (client, accusers) = (self.roster.cohort.client(of), self.accusers(of));
                let reason = AbortReason::Neighbourhood { client, holders, accusers, threshold };
                return Err(Abort { step, reason });
            }
        }
        Ok(())
    }
}

impl Collect {
    pub(super) fn new(roster: Roster, shared: Bitmap, messages: BTreeMap<u32, Arc<ShareMessage>>) -> Self {
        let messages = messages
            .into_iter()
            .map(|(index, message)| {
                let tree = message.envelope_tree();
                (index, (message, tree))
            })
            .collect();
        Self { roster, shared, messages, headers: BTreeMap::new() }
    }

    /// What goes to a member that shared: its envelope from, and the commitments of, each neighbour that shared.
    ///
    /// # Errors
    /// [`ServerError`] for a client that did not share or was excluded.
    pub fn deliveries(&self, client: ClientId) -> Result<Vec<ShareDelivery>, ServerError> {
        let index = self.participant(client)?;
        let cohort = &self.roster.cohort;
        let delivery = |sender: u32| {
            let (message, tree) = self.messages.get(&sender)?;
            let place = cohort.neighbours(sender).binary_search(&index).ok()?;
            message.delivery(tree, place)
        };
        Ok(cohort.neighbours(index).into_iter().filter_map(delivery).collect())
    }

    /// Members that shared, were not excluded since, and so may send a vector.
    #[must_use]
    pub fn expected(&self) -> u32 {
        self.shared.indices().filter(|index| !self.roster.excluded.contains(index)).count() as u32
    }

    /// Members whose vectors have arrived.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.headers.len() as u32
    }

    /// Checks an announcement, and opens the upload that it announces.
    ///
    /// # Errors
    /// [`ServerError`] says why it is refused; its sender is excluded when it signed it.
    pub fn begin(&mut self, header: &MaskedHeader) -> Result<Upload, ServerError> {
        self.check_header(header)?;
        Ok(Upload::new(header.clone()))
    }

    /// Takes a member's announcement together with what was seen of its whole packed vector.
    ///
    /// # Errors
    /// [`ServerError`] says why the vector is refused; its sender is excluded when it signed what is wrong.
    pub fn accept(&mut self, header: &MaskedHeader, vector: &VectorSummary) -> Result<Receipt, ServerError> {
        let index = self.check_header(header)?;
        if self.headers.contains_key(&index) {
            return Ok(Receipt::Repeated);
        }
        match vector.check(header, &self.roster.cohort.params) {
            Ok(()) => {}
            Err(error @ ServerError::Vector { .. }) => return Err(self.roster.exclude(index, error)),
            Err(another) => return Err(another),
        }
        self.headers.insert(index, header.clone());
        Ok(Receipt::Accepted)
    }

    /// Takes an announcement again whose vector was checked before the crash.
    pub(super) fn restore(&mut self, header: MaskedHeader) -> Result<(), ServerError> {
        let index = self.check_header(&header)?;
        self.headers.insert(index, header);
        Ok(())
    }

    fn participant(&self, client: ClientId) -> Result<u32, ServerError> {
        let index = self.roster.sender(client, Step::Collect)?;
        if self.shared.contains(index) {
            return Ok(index);
        }
        Err(ServerError::NotTakingPart { client, step: Step::Collect })
    }

    /// Checks everything about an announcement but the bytes that it announces.
    fn check_header(&mut self, header: &MaskedHeader) -> Result<u32, ServerError> {
        let client = header.client;
        let index = self.participant(client)?;
        if self.headers.get(&index).is_some_and(|first| first == header) {
            return Ok(index);
        }
        let payload = header.payload(&self.roster.cohort.context);
        self.roster.check_signature(index, Step::Collect, &payload, &header.signature)?;
        if self.headers.contains_key(&index) {
            return Err(ServerError::TwoMessages { client, step: Step::Collect });
        }
        let expected = self.roster.cohort.params.packed_bytes() as u64;
        if header.length != expected {
            let error = ServerError::VectorLength { client, length: header.length, expected };
            return Err(self.roster.exclude(index, error));
        }
        let Some(refused) = self.refused_indices(index, &header.refused) else {
            return Err(self.roster.exclude(index, ServerError::RefusedStrangers { client }));
        };
        let neighbours = self.roster.cohort.neighbours(index);
        let delivered = neighbours.iter().filter(|&&neighbour| self.shared.contains(neighbour)).count();
        let verified = (delivered - refused.len()) as u32;
        let threshold = self.roster.cohort.params.threshold;
        if verified < threshold {
            let error = ServerError::TooFewShares { client, verified, threshold };
            return Err(self.roster.exclude(index, error));
        }
        Ok(index)
    }

    /// Cohort indices of the refused neighbours; none when they are out of order or did not send the client a share.
    fn refused_indices(&self, index: u32, refused: &[ClientId]) -> Option<Vec<u32>> {
        let neighbours = self.roster.cohort.neighbours(index);
        let indices: Option<Vec<u32>> = refused
            .iter()
            .map(|&client| {
                let other = self.roster.cohort.index_of(client)?;
                (self.shared.contains(other) && neighbours.binary_search(&other).is_ok()).then_some(other)
            })
            .collect();
        indices.filter(|indices| indices.windows(2).all(|pair| pair[0] < pair[1]))
    }

    /// Closes the step: fixes the survivors, and opens the summation of their vectors. Where one survivor refused another's
    /// shares, their vectors do not fit together, so as few as possible of those are excluded; where somebody who is gone
    /// left shares with too few to recover its mask key, those who masked with it are left out.
    ///
    /// # Errors
    /// [`Abort`] when fewer than `n_min` survive, or fewer than t neighbours could unmask a client.
    pub fn close(mut self) -> Result<(Confirm, Summation), Abort> {
        let params = self.roster.cohort.params;
        let refused: BTreeMap<u32, Vec<u32>> = self
            .headers
            .iter()
            .filter_map(|(&index, header)| Some((index, self.refused_indices(index, &header.refused)?)))
            .collect();
        let disputes: Vec<(u32, u32)> = refused
            .iter()
            .flat_map(|(&by, of)| of.iter().map(move |&of| (by, of)))
            .filter(|(_, of)| self.headers.contains_key(of))
            .collect();
        let mut faults = Vec::new();
        for verdict in disputes::settle(&disputes) {
            let client = self.roster.cohort.client(verdict.member);
            self.headers.remove(&verdict.member);
            faults.push(self.roster.exclude(verdict.member, verdict.error(client)));
        }

        let survived = Bitmap::from_indices(params.n, self.headers.keys().copied());
        if survived.count() < params.n_min {
            let reason = AbortReason::TooFewSurvivors { survivors: survived.count(), n_min: params.n_min };
            return Err(Abort { step: Step::Collect, reason });
        }
        let commitments = self
            .messages
            .into_iter()
            .map(|(index, (message, _))| (index, Arc::clone(&message.commitments)))
            .collect();
        let maps = SurvivorMaps { shared: self.shared, survived };
        let mut standing = Standing { roster: self.roster, maps, commitments, refused, faults };
        standing.leave_out_stranded()?;
        standing.name_unmasked_with();
        let survived = &standing.maps.survived;
        standing.check_holders(Step::Collect, survived)?;
        let headers = self.headers.iter().filter(|(index, _)| survived.contains(**index));
        let summation = Summation::new(&standing, headers.map(|(_, header)| header));
        Ok((Confirm::new(standing), summation))
    }
}
