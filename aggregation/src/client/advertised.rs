//! Advertised: the client has announced its keys and waits for the cohort. Must never share a secret before it has checked
//! who takes part, under which parameters, and that its neighbours are the graph's.

use super::{ClientError, ClientSetup, Member, RoundSecrets, Shared};
use crate::cohort::Cohort;
use crate::identity::{CertificateError, ClientId, PublicKey, Signature};
use crate::keys::{Channel, EnvelopeKey, mask_point, pair_mask_key};
use crate::mask::MaskKey;
use crate::messages::{Advert, CohortList, Envelope, KeyOwners, ShareCommitments, ShareMessage};
use crate::shamir::Polynomial;
use crate::signatures::{self, Claim};
use ed25519_dalek::VerifyingKey;
use rand_core::CryptoRng;
use std::sync::Arc;

/// The client has announced its keys.
#[derive(Debug)]
pub struct Advertised {
    setup: ClientSetup,
    secrets: RoundSecrets,
    advert: Arc<Advert>,
}

/// A neighbour whose advert holds, with the keys that this client has in common with it.
pub(super) struct Peer {
    pub(super) index: u32,
    pub(super) client: ClientId,
    pub(super) verifying: VerifyingKey,
    pub(super) advertised_mask_key: [u8; 32],
    pub(super) opening: EnvelopeKey,
    pub(super) pair_mask: MaskKey,
}

/// Adverts that hold.
struct Shown<'a> {
    /// Cohort index, signing key and advert of each neighbour.
    neighbours: Vec<(u32, VerifyingKey, &'a Advert)>,
    /// Signing keys of the other members.
    witnesses: Vec<(u32, PublicKey)>,
}

impl Advertised {
    /// Draws the secrets of a round and announces the keys, if plan and floors allow it.
    ///
    /// # Errors
    /// [`ClientError`] when the plan is out of range, weaker than a floor, or does not admit this client's model, or when
    /// the client's own certificate is not its own or has expired at `now` (Unix seconds), or where the plan demands a roster
    /// that is not the root's or of another time, or on which this client is not, or not drawn.
    pub fn new<R: CryptoRng>(setup: ClientSetup, now: u64, rng: &mut R) -> Result<Self, ClientError> {
        Self::resume(setup, RoundSecrets::generate(rng), now)
    }

    /// Comes back to this state after a crash, with the secrets that were stored before the advert was sent.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn resume(setup: ClientSetup, secrets: RoundSecrets, now: u64) -> Result<Self, ClientError> {
        setup.terms.validate()?;
        setup.floors.admit_terms(&setup.terms)?;
        setup.certificate.verify(&setup.root, now)?;
        if setup.certificate.public_key != setup.identity.public_key() {
            return Err(ClientError::OwnCertificate { client: setup.certificate.client });
        }
        if setup.terms.parents.binary_search(&setup.parent).is_err() {
            return Err(ClientError::OwnParentNotAdmitted);
        }
        if let Some(roster) = &setup.terms.roster {
            roster.verify(&setup.root, now)?;
        }
        let terms = &setup.terms;
        let mut advert = Advert {
            certificate: setup.certificate.clone(),
            task: terms.task.clone(),
            round: terms.round,
            plan: terms.plan,
            ledger_head: terms.ledger_head,
            parent: setup.parent,
            channel_key: x25519_dalek::PublicKey::from(&secrets.channel).to_bytes(),
            mask_key: secrets.mask_key.public().compress().to_bytes(),
            nonce: secrets.nonce,
            membership: setup.membership.clone(),
            signature: Signature([0; 64]),
        };
        advert.check_membership(terms)?;
        advert.signature = setup.identity.sign(&advert.payload());
        Ok(Self { setup, secrets, advert: Arc::new(advert) })
    }

    /// The advert to send.
    #[must_use]
    pub fn advert(&self) -> &Arc<Advert> {
        &self.advert
    }

    /// The secrets to store before the advert is sent.
    #[must_use]
    pub fn secrets(&self) -> &RoundSecrets {
        &self.secrets
    }

    /// Checks the cohort and the adverts shown (in the order of ids: the neighbours', or, when the server may lie and the
    /// graph is sparse, those of all other members), and shares both secrets among the neighbours. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`ClientError`] names the lie. The client has then left the round.
    pub fn share(
        self,
        list: &CohortList,
        adverts: &[Arc<Advert>],
        now: u64,
    ) -> Result<(Shared, Arc<ShareMessage>), ClientError> {
        let index = self.check_list(list)?;
        let cohort = Cohort::new(&self.setup.terms, list);
        let Shown { neighbours, witnesses } = self.check_adverts(&cohort, index, list, adverts, now)?;
        let (peers, sealing) = self.agree(&cohort, &neighbours)?;

        let context = cohort.context;
        let mut scalars = self.secrets.polynomials(&context);
        let self_mask = scalars.draw();
        let threshold = cohort.params.threshold;
        let mask_key_shares = Polynomial::new(self.secrets.mask_key.clone(), threshold, || scalars.draw());
        let self_mask_shares = Polynomial::new(self_mask.clone(), threshold, || scalars.draw());
        let commitments =
            ShareCommitments { mask_key: mask_key_shares.commit(), self_mask: self_mask_shares.commit() };
        let envelopes = peers
            .iter()
            .zip(sealing)
            .map(|(peer, key)| Envelope {
                to: peer.client,
                ciphertext: key.seal(
                    &context,
                    &self_mask_shares.share_of(peer.index),
                    &mask_key_shares.share_of(peer.index),
                ),
            })
            .collect();
        let mut message = ShareMessage {
            client: self.advert.client(),
            commitments: Arc::new(commitments),
            envelopes,
            signature: Signature([0; 64]),
        };
        message.signature = self.setup.identity.sign(&message.payload(&context));
        let message = Arc::new(message);
        let shared = Shared {
            member: Member {
                identity: Arc::clone(&self.setup.identity),
                client: self.advert.client(),
                index,
                cohort,
                witnesses,
            },
            peers,
            self_mask,
            share_check: self.secrets.share_check(&context),
            message: Arc::clone(&message),
        };
        Ok((shared, message))
    }

    /// Checks parameters, order and this client's own place, and returns its cohort index.
    fn check_list(&self, list: &CohortList) -> Result<u32, ClientError> {
        // The floors come first: they are this client's own and the plainest reason to refuse.
        self.setup.floors.admit(&self.setup.terms, &list.params)?;
        self.setup.terms.admit(&list.params)?;
        if list.entries.len() != list.params.n as usize {
            return Err(ClientError::CohortSize { listed: list.entries.len(), n: list.params.n });
        }
        if let Some(pair) = list.entries.windows(2).find(|pair| pair[0].client >= pair[1].client) {
            return Err(ClientError::CohortOrder { client: pair[1].client });
        }
        // Of everybody, also of those whose adverts and proofs are not shown: the draw takes a number alone.
        if let Some(roster) = &self.setup.terms.roster {
            list.entries.iter().try_for_each(|entry| roster.check_drawn(entry.client))?;
        }
        let client = self.advert.client();
        let index = list.index_of(client).ok_or(ClientError::NotInCohort { client })?;
        if list.entries[index as usize].advert != self.advert.digest() {
            return Err(ClientError::OwnAdvertReplaced { client });
        }
        Ok(index)
    }

    /// Checks that the adverts are those due and hold. Of a member that is no neighbour only the certificate and the place on
    /// the roster matter.
    fn check_adverts<'a>(
        &self,
        cohort: &Cohort,
        index: u32,
        list: &CohortList,
        adverts: &'a [Arc<Advert>],
        now: u64,
    ) -> Result<Shown<'a>, ClientError> {
        let (due, places) = (cohort.shown_to(index), cohort.neighbours(index));
        if adverts.len() != due.len() {
            return Err(ClientError::AdvertCount { delivered: adverts.len(), due: due.len() });
        }
        let mut shown = Shown { neighbours: Vec::with_capacity(places.len()), witnesses: Vec::new() };
        let mut claims = Vec::with_capacity(adverts.len() + places.len());
        let mut blame = Vec::with_capacity(claims.capacity());
        let root = self.setup.root.verifying();
        for (&place, advert) in due.iter().zip(adverts) {
            let entry = &list.entries[place as usize];
            let client = advert.client();
            if client != entry.client || advert.digest() != entry.advert {
                return Err(ClientError::SwappedNeighbour { expected: entry.client, got: client });
            }
            advert.check_membership(&self.setup.terms)?;
            let certificate = &advert.certificate;
            let key = certificate.check_claims(&self.setup.root, now)?;
            let unsigned = CertificateError::Signature { client };
            let root = root.ok_or_else(|| unsigned.clone())?;
            claims.push(Claim::new(root, certificate.payload(), &certificate.signature));
            blame.push(ClientError::Certificate(unsigned));
            if places.binary_search(&place).is_ok() {
                advert.check_terms(&self.setup.terms)?;
                claims.push(Claim::new(key, advert.payload(), &advert.signature));
                blame.push(ClientError::AdvertSignature { client });
                shown.neighbours.push((place, key, advert.as_ref()));
            } else {
                shown.witnesses.push((place, certificate.public_key));
            }
        }
        signatures::verify_all(&claims).map_err(|claim| blame.swap_remove(claim))?;
        let mut owners = KeyOwners::default();
        owners.claim(&self.advert)?;
        adverts.iter().try_for_each(|advert| owners.claim(advert))?;
        Ok(shown)
    }

    /// Agrees with every neighbour on a channel and a pair mask.
    fn agree(
        &self,
        cohort: &Cohort,
        neighbours: &[(u32, VerifyingKey, &Advert)],
    ) -> Result<(Vec<Peer>, Vec<EnvelopeKey>), ClientError> {
        let own = self.advert.client();
        let mut peers = Vec::with_capacity(neighbours.len());
        let mut sealing = Vec::with_capacity(neighbours.len());
        for &(index, verifying, advert) in neighbours {
            let client = advert.client();
            let useless = ClientError::UselessKey { client };
            let context = &cohort.context;
            let channel = Channel::agree(context, &self.secrets.channel, own, client, &advert.channel_key);
            let Some(channel) = channel else { return Err(useless) };
            let Some(mask_key) = mask_point(&advert.mask_key) else { return Err(useless) };
            sealing.push(channel.sealing);
            peers.push(Peer {
                index,
                client,
                verifying,
                advertised_mask_key: advert.mask_key,
                opening: channel.opening,
                pair_mask: pair_mask_key(context, &self.secrets.mask_key, own, client, &mask_key),
            });
        }
        Ok((peers, sealing))
    }
}
