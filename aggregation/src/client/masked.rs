//! Masked: the client has masked its vector and waits to hear who survived. Must never confirm maps that contradict what it
//! saw, nor two pairs of them.

use super::shared::bad_shares;
use super::{ClientError, Confirmed, Member};
use crate::context::Context;
use crate::identity::ClientId;
use crate::keys::SecretScalar;
use crate::messages::{Confirm, MaskedHeader, SurvivorMaps};
use ed25519_dalek::VerifyingKey;
use std::fmt;

/// The client has masked its vector.
pub struct Masked {
    pub(super) member: Member,
    /// Neighbours that shared, in the order of their ids.
    pub(super) peers: Vec<MaskedPeer>,
    /// Cohort indices of those that did not.
    pub(super) silent: Vec<u32>,
    pub(super) header: MaskedHeader,
}

/// A neighbour that shared.
pub(super) struct MaskedPeer {
    pub(super) index: u32,
    pub(super) client: ClientId,
    pub(super) verifying: VerifyingKey,
    /// Its shares; none when they were bad.
    pub(super) holding: Option<Holding>,
}

/// One neighbour's shares, as this client holds them.
pub(super) struct Holding {
    pub(super) self_mask: SecretScalar,
    pub(super) mask_key: SecretScalar,
}

impl Masked {
    /// The context that this client computed for the round.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.member.context()
    }

    /// The signed announcement of the masked vector.
    #[must_use]
    pub fn header(&self) -> &MaskedHeader {
        &self.header
    }

    /// A [`ClientError::BadShare`] for each neighbour whose share did not match its commitments.
    pub fn bad_shares(&self) -> impl Iterator<Item = ClientError> + '_ {
        bad_shares(&self.header.refused)
    }

    /// Checks who is said to have shared and survived, and signs it. To be called once a round, after the maps were stored.
    ///
    /// # Errors
    /// [`ClientError`] names the lie. The client has then left the round.
    pub fn confirm(self, maps: &SurvivorMaps) -> Result<(Confirmed, Confirm), ClientError> {
        self.check_maps(maps)?;
        let signature = self.member.identity.sign(&maps.payload(self.member.context()));
        let confirm = Confirm { client: self.member.client, signature };
        let confirmed = Confirmed {
            member: self.member,
            peers: self.peers,
            maps: maps.clone(),
            confirm: confirm.clone(),
        };
        Ok((confirmed, confirm))
    }

    fn check_maps(&self, maps: &SurvivorMaps) -> Result<(), ClientError> {
        let Member { client, index, ref cohort, .. } = self.member;
        let params = &cohort.params;
        for map in [&maps.shared, &maps.survived] {
            if map.members() != params.n {
                return Err(ClientError::MapSize { members: map.members(), n: params.n });
            }
        }
        if !maps.shared.contains(index) {
            return Err(ClientError::MarkedNotShared { client });
        }
        if !maps.survived.contains(index) {
            return Err(ClientError::MarkedDropped { client });
        }
        if let Some(outside) = maps.survived.first_outside(&maps.shared) {
            return Err(ClientError::SurvivedNotShared { client: cohort.client(outside) });
        }
        let survivors = maps.survived.count();
        if survivors < params.n_min {
            return Err(ClientError::TooFewSurvivors { survivors, n_min: params.n_min });
        }
        let withheld = self.peers.iter().map(|peer| peer.index).find(|&peer| !maps.shared.contains(peer));
        let invented = self.silent.iter().copied().find(|&peer| maps.shared.contains(peer));
        if let Some(peer) = withheld.or(invented) {
            return Err(ClientError::SharedMapDiffers { client: cohort.client(peer) });
        }
        let surviving = || self.peers.iter().filter(|peer| maps.survived.contains(peer.index));
        if let Some(peer) = surviving().find(|peer| peer.holding.is_none()) {
            return Err(ClientError::RefusedNeighbourSurvived { client: peer.client });
        }
        let survivors = surviving().count() as u32;
        if survivors < params.threshold {
            return Err(ClientError::TooFewSurvivingNeighbours { survivors, threshold: params.threshold });
        }
        Ok(())
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Masked {{ client: {}, neighbours that shared: {}, .. }}",
            self.member.client,
            self.peers.len()
        )
    }
}
