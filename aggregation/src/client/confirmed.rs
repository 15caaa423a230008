//! Confirmed: the client has signed who survived, and hands over one share per neighbour, once. Must never hand over both
//! shares of one client, nor any before t neighbours and a quorum have
//! confirmed the same maps.

use super::masked::MaskedPeer;
use super::{ClientError, Member};
use crate::identity::{PublicKey, Signature};
use crate::messages::{
    Confirm, ShareKind, ShareValue, SurvivorMaps, UnmaskRequest, UnmaskShare, UnmaskShares,
};
use crate::signatures::{self, Claim};
use std::fmt;

/// The client has confirmed who survived.
pub struct Confirmed {
    pub(super) member: Member,
    pub(super) peers: Vec<MaskedPeer>,
    pub(super) maps: SurvivorMaps,
    pub(super) confirm: Confirm,
}

/// The client has answered Unmask. It holds no key and no share any more, only the answer that it gave.
#[derive(Debug)]
pub struct Finished {
    pub(super) maps: SurvivorMaps,
    pub(super) answer: UnmaskShares,
    /// Cohort index of the owner of each share in the answer.
    pub(super) owners: Vec<u32>,
}

impl Confirmed {
    /// Answers a repeated Confirm request: the recorded signature for the same maps.
    ///
    /// # Errors
    /// [`ClientError::TwoSurvivorMaps`] for other maps.
    pub fn repeat(&self, maps: &SurvivorMaps) -> Result<Confirm, ClientError> {
        if *maps == self.maps { Ok(self.confirm.clone()) } else { Err(ClientError::TwoSurvivorMaps) }
    }

    /// Checks that at least t neighbours, and a quorum of all members, confirmed the same maps, and hands over exactly one share of each neighbour that
    /// shared: of its self-mask seed if it survived, of its mask key if it dropped out. Neighbours whose shares were bad are
    /// left out. To be called after the request was stored.
    ///
    /// # Errors
    /// [`ClientError`] names the lie. The client has then left the round, and the shares are gone.
    pub fn unmask(self, request: &UnmaskRequest) -> Result<(Finished, UnmaskShares), ClientError> {
        self.check_request(request)?;
        let (owners, shares) = self
            .peers
            .iter()
            .filter_map(|peer| {
                let holding = peer.holding.as_ref()?;
                let (kind, share) = if self.maps.survived.contains(peer.index) {
                    (ShareKind::SelfMask, &holding.self_mask)
                } else {
                    (ShareKind::MaskKey, &holding.mask_key)
                };
                let share = UnmaskShare { of: peer.client, kind, share: ShareValue(*share.to_bytes()) };
                Some((peer.index, share))
            })
            .unzip();
        let mut answer = UnmaskShares { client: self.member.client, shares, signature: Signature([0; 64]) };
        answer.signature = self.member.identity.sign(&answer.payload(self.member.context()));
        let finished = Finished { maps: self.maps, answer: answer.clone(), owners };
        Ok((finished, answer))
    }

    fn check_request(&self, request: &UnmaskRequest) -> Result<(), ClientError> {
        if request.maps != self.maps {
            return Err(ClientError::TwoSurvivorMaps);
        }
        let Member { index: own, ref cohort, .. } = self.member;
        let (threshold, quorum) = (cohort.params.threshold, cohort.params.quorum());
        let payload = self.maps.payload(&cohort.context);
        let mut claims = Vec::with_capacity(request.confirmations.len());
        let (mut neighbours, mut last) = (0, None);
        for confirm in &request.confirmations {
            let from = confirm.client;
            let foreign = || ClientError::ForeignConfirmation { from };
            let index = cohort.index_of(from).ok_or_else(foreign)?;
            if index == own || last >= Some(index) || !self.maps.survived.contains(index) {
                return Err(foreign());
            }
            last = Some(index);
            let peer = self.peers.binary_search_by_key(&index, |peer| peer.index);
            let key = match peer {
                Ok(place) => {
                    neighbours += 1;
                    self.peers[place].verifying
                }
                Err(_) => self.member.witness(index).and_then(PublicKey::verifying).ok_or_else(foreign)?,
            };
            claims.push(Claim::new(key, payload.clone(), &confirm.signature));
        }
        if neighbours < threshold {
            return Err(ClientError::TooFewConfirmations { confirmed: neighbours, threshold });
        }
        let confirmed = claims.len() as u32 + 1;
        if confirmed < quorum {
            return Err(ClientError::NoQuorum { confirmed, quorum });
        }
        signatures::verify_all(&claims)
            .map_err(|claim| ClientError::ConfirmationMismatch { from: request.confirmations[claim].client })
    }
}

impl Finished {
    /// Answers a repeated Unmask request: the recorded shares for the same maps.
    ///
    /// # Errors
    /// [`ClientError::BothSharesRequested`] when the maps would have the other share of a neighbour, and
    /// [`ClientError::TwoSurvivorMaps`] when they differ otherwise.
    pub fn repeat(&self, request: &UnmaskRequest) -> Result<UnmaskShares, ClientError> {
        if request.maps == self.maps {
            return Ok(self.answer.clone());
        }
        let other = |(share, owner): &(&UnmaskShare, &u32)| {
            let survived = request.maps.survived.contains(**owner);
            let kind = if survived { ShareKind::SelfMask } else { ShareKind::MaskKey };
            request.maps.shared.contains(**owner) && kind != share.kind
        };
        match self.answer.shares.iter().zip(&self.owners).find(other) {
            Some((share, _)) => Err(ClientError::BothSharesRequested { client: share.of }),
            None => Err(ClientError::TwoSurvivorMaps),
        }
    }
}

impl fmt::Debug for Confirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Confirmed {{ client: {}, maps: {:?}, .. }}", self.member.client, self.maps)
    }
}
