//! Shared: the client has sealed its secrets to its neighbours and waits for theirs. Must never mask with a neighbour whose
//! share it has not verified, nor with fewer than t.

use super::advertised::Peer;
use super::masked::{Holding, MaskedPeer};
use super::secrets::UniformScalars;
use super::{ClientError, Masked, Member};
use crate::Step;
use crate::context::Context;
use crate::identity::{ClientId, Signature};
use crate::keys::{SecretScalar, self_mask_key};
use crate::mask::{self, Mask, Sign};
use crate::messages::{CohortList, MaskedHeader, MaskedUpload, ShareDelivery, ShareMessage};
use crate::params::RoundParams;
use crate::ring_vector::RingVector;
use crate::shamir::evaluation_point;
use crate::signatures::{self, Claim};
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The client has shared its secrets.
pub struct Shared {
    pub(super) member: Member,
    pub(super) peers: Vec<Peer>,
    pub(super) self_mask: SecretScalar,
    pub(super) share_check: Zeroizing<[u8; 32]>,
    pub(super) message: Arc<ShareMessage>,
}

/// What the deliveries leave.
struct Delivered {
    peers: Vec<MaskedPeer>,
    silent: Vec<u32>,
    refused: Vec<ClientId>,
    masks: Vec<Mask>,
}

/// A share pair that was opened, with the points that it must lead to.
struct Opened {
    self_mask: SecretScalar,
    mask_key: SecretScalar,
    expected: [RistrettoPoint; 2],
}

impl Shared {
    /// The parameters of the round.
    #[must_use]
    pub fn params(&self) -> &RoundParams {
        self.member.params()
    }

    /// The context that this client computed for the round.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.member.context()
    }

    /// Public seed of the rotation that all members of this cohort apply before they add noise.
    #[must_use]
    pub fn rotation_seed(&self) -> [u8; 32] {
        self.member.cohort.rotation_seed()
    }

    /// Answers a repeated Share request: the recorded message for the same list.
    ///
    /// # Errors
    /// [`ClientError::TwoCohortLists`] for another list.
    pub fn repeat(&self, list: &CohortList) -> Result<Arc<ShareMessage>, ClientError> {
        let cohort = &self.member.cohort;
        if list.params != cohort.params || list.root() != cohort.root {
            return Err(ClientError::TwoCohortLists);
        }
        Ok(Arc::clone(&self.message))
    }

    /// Checks the neighbours' shares (deliveries in the order of the senders' ids) and masks a vector: with the self-mask,
    /// and with the pair masks of exactly those neighbours whose shares hold. Neighbours with bad shares are named in the
    /// header.
    ///
    /// # Errors
    /// [`ClientError`] names the lie, or says that fewer than t good shares came. The client has then left the round.
    pub fn mask(
        self,
        deliveries: &[ShareDelivery],
        mut input: RingVector,
    ) -> Result<(Masked, MaskedUpload), ClientError> {
        let params = *self.member.params();
        if input.bits() != params.bits || input.dimension() != params.dimension as usize {
            return Err(ClientError::InputShape {
                bits: input.bits(),
                dimension: input.dimension(),
                round_bits: params.bits,
                round_dimension: params.dimension,
            });
        }
        let Delivered { peers, silent, refused, masks } = self.check_deliveries(deliveries)?;
        mask::apply(&mut input, &masks);

        let packed = input.to_packed();
        let mut header = MaskedHeader {
            client: self.member.client,
            length: packed.len() as u64,
            digest: Sha256::digest(&packed).into(),
            refused,
            signature: Signature([0; 64]),
        };
        header.signature = self.member.identity.sign(&header.payload(self.context()));
        let masked = Masked { member: self.member, peers, silent, header: header.clone() };
        Ok((masked, MaskedUpload { header, packed: packed.into() }))
    }

    /// Comes back to the state after [`Self::mask`] with the deliveries and the announcement that were stored then; none when
    /// the announcement is not this client's own over these deliveries.
    pub(super) fn resume_masked(
        self,
        deliveries: &[ShareDelivery],
        header: MaskedHeader,
    ) -> Result<Option<Masked>, ClientError> {
        let Delivered { peers, silent, refused, .. } = self.check_deliveries(deliveries)?;
        let own = self.member.identity.public_key();
        let signed = own.verify(&header.payload(self.context()), &header.signature);
        let same = header.client == self.member.client && header.refused == refused && signed;
        Ok(same.then_some(Masked { member: self.member, peers, silent, header }))
    }

    /// Checks the neighbours' shares, and finds the masks that they leave.
    fn check_deliveries(&self, deliveries: &[ShareDelivery]) -> Result<Delivered, ClientError> {
        let senders = self.check_senders(deliveries)?;
        let opened = self.open(&senders);
        let threshold = self.params().threshold;
        let verified = opened.iter().flatten().count() as u32;
        if verified < threshold {
            let refused = opened.len() as u32 - verified;
            return Err(ClientError::TooFewShares { verified, refused, threshold });
        }
        let own = self.member.client;
        let mut masks = vec![Mask { key: self_mask_key(self.context(), &self.self_mask), sign: Sign::Add }];
        let mut refused = Vec::new();
        let mut peers = Vec::with_capacity(senders.len());
        for ((peer, _), opened) in senders.iter().zip(opened) {
            match &opened {
                Some(_) => {
                    masks.push(Mask { key: peer.pair_mask.clone(), sign: Sign::between(&own, &peer.client) })
                }
                None => refused.push(peer.client),
            }
            peers.push(MaskedPeer {
                index: peer.index,
                client: peer.client,
                verifying: peer.verifying,
                holding: opened
                    .map(|opened| Holding { self_mask: opened.self_mask, mask_key: opened.mask_key }),
            });
        }
        Ok(Delivered { peers, silent: self.silent(&senders), refused, masks })
    }

    /// Matches deliveries with neighbours and checks everything that the server could have checked as well.
    fn check_senders<'a>(
        &'a self,
        deliveries: &'a [ShareDelivery],
    ) -> Result<Vec<(&'a Peer, &'a ShareDelivery)>, ClientError> {
        let params = self.member.params();
        let mut senders: Vec<(&Peer, &ShareDelivery)> = Vec::with_capacity(deliveries.len());
        let mut claims = Vec::with_capacity(deliveries.len());
        let mut candidates = self.peers.iter();
        for delivery in deliveries {
            let from = delivery.from;
            // Both sides are in the order of ids: whoever is skipped has not shared.
            let peer = candidates
                .by_ref()
                .find(|peer| peer.client >= from)
                .filter(|peer| peer.client == from)
                .ok_or(ClientError::NotANeighbour { from })?;
            delivery.commitments.check(from, params.threshold, &peer.advertised_mask_key)?;
            let neighbours = self.member.cohort.neighbours(peer.index);
            let payload = neighbours
                .binary_search(&self.member.index)
                .ok()
                .and_then(|place| {
                    delivery.payload(self.context(), self.member.client, place, neighbours.len())
                })
                .ok_or(ClientError::WrongContext { from, step: Step::Share })?;
            claims.push(Claim::new(peer.verifying, payload, &delivery.signature));
            senders.push((peer, delivery));
        }
        signatures::verify_all(&claims)
            .map_err(|claim| ClientError::WrongContext { from: deliveries[claim].from, step: Step::Share })?;
        Ok(senders)
    }

    /// Opens every envelope and checks its shares against the commitments; none for a bad one. All are checked in one
    /// equation with weights that no sender can foresee, and one by one only when that fails.
    fn open(&self, senders: &[(&Peer, &ShareDelivery)]) -> Vec<Option<Opened>> {
        let point = evaluation_point(self.member.index);
        let mut opened: Vec<Option<Opened>> = senders
            .iter()
            .map(|(peer, delivery)| {
                let (self_mask, mask_key) = peer.opening.open(self.context(), &delivery.ciphertext)?;
                let commitments = &delivery.commitments;
                let expected = [commitments.self_mask.at(point), commitments.mask_key.at(point)];
                Some(Opened { self_mask, mask_key, expected })
            })
            .collect();

        let mut weights = UniformScalars::new(&self.share_check);
        let mut sum = SecretScalar::default();
        let (mut scalars, mut points) = (Vec::new(), Vec::new());
        for opened in opened.iter().flatten() {
            for (share, expected) in [&opened.self_mask, &opened.mask_key].into_iter().zip(opened.expected) {
                let weight = Scalar::from(weights.weight());
                sum = SecretScalar::new(sum.get() + weight * share.get());
                scalars.push(weight);
                points.push(expected);
            }
        }
        if sum.public() != RistrettoPoint::vartime_multiscalar_mul(&scalars, &points) {
            for slot in &mut opened {
                let good = slot.as_ref().is_some_and(|opened| {
                    [opened.self_mask.public(), opened.mask_key.public()] == opened.expected
                });
                if !good {
                    *slot = None;
                }
            }
        }
        opened
    }

    /// Cohort indices of the neighbours from whom nothing was delivered.
    fn silent(&self, senders: &[(&Peer, &ShareDelivery)]) -> Vec<u32> {
        self.peers
            .iter()
            .filter(|peer| !senders.iter().any(|(sender, _)| sender.index == peer.index))
            .map(|peer| peer.index)
            .collect()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared {{ client: {}, neighbours: {}, .. }}", self.member.client, self.peers.len())
    }
}

/// The neighbours whose shares a masked vector's owner refused, as errors that name them.
pub(super) fn bad_shares(refused: &[ClientId]) -> impl Iterator<Item = ClientError> + '_ {
    refused.iter().map(|&from| ClientError::BadShare { from })
}
