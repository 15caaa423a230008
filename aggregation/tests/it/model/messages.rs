//! The messages of a round as one type per direction, and what may happen to them on the way. Must never change a message so
//! that an honest receiver could not tell, unless it says so.

use super::operations::{Dice, Tamper};
use std::sync::Arc;
use tacit_aggregation::Step;
use tacit_aggregation::context::Context;
use tacit_aggregation::identity::{ClientId, IdentityKey, Signature};
use tacit_aggregation::messages::{
    Advert, CohortList, Confirm, MaskedUpload, ShareDelivery, ShareMessage, SurvivorMaps, UnmaskRequest,
    UnmaskShares,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToServer {
    Advert(Arc<Advert>),
    Share(Arc<ShareMessage>),
    Vector(Arc<MaskedUpload>),
    Confirm(Confirm),
    Unmask(UnmaskShares),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToClient {
    Cohort(Arc<CohortList>, Vec<Arc<Advert>>),
    Deliveries(Vec<ShareDelivery>),
    Maps(SurvivorMaps),
    Request(UnmaskRequest),
}

impl ToServer {
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::Advert(_) => Step::Advertise,
            Self::Share(_) => Step::Share,
            Self::Vector(_) => Step::Collect,
            Self::Confirm(_) => Step::Confirm,
            Self::Unmask(_) => Step::Unmask,
        }
    }

    pub(crate) fn client(&self) -> ClientId {
        match self {
            Self::Advert(advert) => advert.client(),
            Self::Share(message) => message.client,
            Self::Vector(upload) => upload.header.client,
            Self::Confirm(confirm) => confirm.client,
            Self::Unmask(shares) => shares.client,
        }
    }

    /// Changes one field on the way, and no signature fits any more.
    pub(crate) fn corrupt(&mut self, dice: &mut Dice, others: &[ClientId]) {
        let other = others[dice.below(others.len())];
        let own = self.client();
        let stranger = if other == own { ClientId(own.0 ^ 1) } else { other };
        match self {
            Self::Advert(advert) => {
                let advert = Arc::make_mut(advert);
                match dice.below(8) {
                    0 => flip(&mut advert.signature.0, dice),
                    1 => flip(&mut advert.nonce, dice),
                    2 => flip(&mut advert.channel_key, dice),
                    3 => flip(&mut advert.mask_key, dice),
                    4 => advert.round ^= 1,
                    5 => advert.certificate.client = stranger,
                    6 => advert.certificate.not_after += 1_000_000,
                    _ => flip(&mut advert.certificate.signature.0, dice),
                }
            }
            Self::Share(message) => {
                let message = Arc::make_mut(message);
                match dice.below(4) {
                    0 => flip(&mut message.signature.0, dice),
                    1 => message.client = stranger,
                    2 if message.envelopes.len() > 1 => message.envelopes.swap(0, 1),
                    _ => match message.envelopes.first_mut() {
                        Some(envelope) => flip(&mut envelope.ciphertext, dice),
                        None => flip(&mut message.signature.0, dice),
                    },
                }
            }
            Self::Vector(upload) => {
                let upload = Arc::make_mut(upload);
                let mut packed = upload.packed.to_vec();
                match dice.below(6) {
                    0 => flip(&mut packed, dice),
                    1 => packed.push(0),
                    2 => upload.header.length += 1,
                    3 => flip(&mut upload.header.digest, dice),
                    4 => upload.header.client = stranger,
                    _ => flip(&mut upload.header.signature.0, dice),
                }
                upload.packed = packed.into();
            }
            Self::Confirm(confirm) => match dice.below(2) {
                0 => confirm.client = stranger,
                _ => flip(&mut confirm.signature.0, dice),
            },
            Self::Unmask(shares) => match dice.below(4) {
                0 => shares.client = stranger,
                1 if shares.shares.len() > 1 => shares.shares.swap(0, 1),
                2 if !shares.shares.is_empty() => {
                    let place = dice.below(shares.shares.len());
                    flip(&mut shares.shares[place].share.0, dice);
                }
                _ => flip(&mut shares.signature.0, dice),
            },
        }
    }

    /// What a client that cheats signs instead; none where it has nothing to gain.
    pub(crate) fn tamper(&mut self, how: Tamper, key: &IdentityKey, context: &Context) -> bool {
        match (self, how) {
            (Self::Share(message), Tamper::Malformed) => {
                let message = Arc::make_mut(message);
                message.envelopes.pop();
                message.signature = key.sign(&message.payload(context));
            }
            (Self::Share(message), Tamper::WrongShares) => {
                let message = Arc::make_mut(message);
                message.envelopes[0].ciphertext[5] ^= 1;
                message.signature = key.sign(&message.payload(context));
            }
            (Self::Vector(upload), Tamper::Malformed) => {
                let upload = Arc::make_mut(upload);
                upload.header.length += 1;
                upload.header.signature = key.sign(&upload.header.payload(context));
            }
            (Self::Unmask(shares), Tamper::Malformed) => {
                shares.shares.pop();
                shares.signature = key.sign(&shares.payload(context));
            }
            (Self::Unmask(shares), Tamper::WrongShares) => {
                // Small numbers are canonical scalars.
                shares.shares.iter_mut().for_each(|share| {
                    share.share.0 = [0; 32];
                    share.share.0[0] = 9;
                });
                shares.signature = key.sign(&shares.payload(context));
            }
            _ => return false,
        }
        true
    }
}

impl ToClient {
    /// Changes one field on the way. Whether the client must refuse it: other maps that fit what it saw it cannot tell.
    pub(crate) fn corrupt(&mut self, dice: &mut Dice) -> bool {
        match self {
            Self::Cohort(list, adverts) => {
                let list = Arc::make_mut(list);
                match dice.below(5) {
                    0 => list.params.threshold -= 1,
                    1 => list.params.n_min = 1,
                    2 => flip(&mut list.entries[0].advert, dice),
                    3 => list.entries.swap(0, 1),
                    _ => match adverts.first_mut() {
                        Some(advert) => flip(&mut Arc::make_mut(advert).nonce, dice),
                        None => list.entries.swap(0, 1),
                    },
                }
                true
            }
            Self::Deliveries(deliveries) => {
                let Some(delivery) = deliveries.first_mut() else { return false };
                match dice.below(4) {
                    0 => flip(&mut delivery.signature.0, dice),
                    1 => flip(&mut delivery.ciphertext, dice),
                    2 => delivery.from = ClientId(delivery.from.0 ^ 1),
                    _ => {
                        // An envelope is withheld: the maps will tell.
                        deliveries.remove(0);
                        return false;
                    }
                }
                true
            }
            Self::Maps(maps) => {
                let index = dice.below(maps.shared.members() as usize) as u32;
                match dice.below(3) {
                    0 => maps.shared.set(index, !maps.shared.contains(index)),
                    _ => maps.survived.set(index, !maps.survived.contains(index)),
                }
                false
            }
            Self::Request(request) => {
                match dice.below(4) {
                    0 | 1 => {
                        let index = dice.below(request.maps.shared.members() as usize) as u32;
                        request.maps.survived.set(index, !request.maps.survived.contains(index));
                    }
                    2 if !request.confirmations.is_empty() => {
                        request.confirmations[0].signature = Signature([7; 64]);
                    }
                    _ => request.confirmations.truncate(1),
                }
                true
            }
        }
    }
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    let place = dice.below(bytes.len());
    bytes[place] ^= 1 << dice.below(8);
}
