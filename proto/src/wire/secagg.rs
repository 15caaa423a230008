//! The wire form of each message of secure aggregation. Must never check less than what makes the domain type's canonical
//! bytes unique.

use super::check::{array, arrays, at_most, increasing, invalid, key, narrow, present, signature, task};
use super::{DecodeError, generated as wire, plan};
use std::sync::Arc;
use tacit_aggregation::bitmap::Bitmap;
use tacit_aggregation::identity::{Certificate, ClientId, MAX_MEMBERSHIP_PATH, Membership};
use tacit_aggregation::messages::{
    Advert, CIPHERTEXT_BYTES, CohortEntry, CohortList, Confirm, Envelope, MAX_CHUNK_BYTES, MaskedChunk,
    MaskedHeader, ShareCommitments, ShareDelivery, ShareKind, ShareMessage, ShareValue, SurvivorMaps,
    UnmaskRequest, UnmaskShare, UnmaskShares,
};
use tacit_aggregation::params::{MAX_COHORT, RoundParams};
use tacit_aggregation::shamir::Commitments;
use zeroize::Zeroize as _;

/// Bytes of a client's number before a fixed-length entry.
const ID_BYTES: usize = 8;
/// Bytes of an entry of the cohort list.
const ENTRY_BYTES: usize = ID_BYTES + 32;
/// Bytes of an envelope with its receiver.
const ENVELOPE_BYTES: usize = ID_BYTES + CIPHERTEXT_BYTES;
/// Most commitments to one polynomial: each costs a square root to decode. The threshold of the largest cohort is far less.
const MAX_THRESHOLD: usize = 4096;
/// Longest path in a Merkle tree over the envelopes of one client.
const MAX_PATH: usize = MAX_COHORT.ilog2() as usize + 1;

impl From<&Certificate> for wire::Certificate {
    fn from(certificate: &Certificate) -> Self {
        Self {
            client: certificate.client.0,
            public_key: certificate.public_key.0.to_vec(),
            not_after: certificate.not_after,
            issuer: certificate.issuer.0.to_vec(),
            signature: certificate.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::Certificate> for Certificate {
    type Error = DecodeError;

    fn try_from(certificate: wire::Certificate) -> Result<Self, DecodeError> {
        Ok(Self {
            client: ClientId(certificate.client),
            public_key: key("Certificate.public_key", &certificate.public_key)?,
            not_after: certificate.not_after,
            issuer: key("Certificate.issuer", &certificate.issuer)?,
            signature: signature("Certificate.signature", &certificate.signature)?,
        })
    }
}

impl From<&Membership> for wire::Membership {
    fn from(membership: &Membership) -> Self {
        Self { index: membership.index, path: membership.path.as_flattened().to_vec() }
    }
}

impl TryFrom<wire::Membership> for Membership {
    type Error = DecodeError;

    fn try_from(membership: wire::Membership) -> Result<Self, DecodeError> {
        let path = arrays("Membership.path", &membership.path, MAX_MEMBERSHIP_PATH)?;
        Ok(Self { index: membership.index, path })
    }
}

impl From<&Advert> for wire::Advert {
    fn from(advert: &Advert) -> Self {
        Self {
            certificate: Some((&advert.certificate).into()),
            task: advert.task.as_str().to_owned(),
            round: advert.round,
            plan: advert.plan.to_vec(),
            ledger_head: advert.ledger_head.to_vec(),
            parent: advert.parent.to_vec(),
            channel_key: advert.channel_key.to_vec(),
            mask_key: advert.mask_key.to_vec(),
            nonce: advert.nonce.to_vec(),
            signature: advert.signature.0.to_vec(),
            membership: advert.membership.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Advert> for Advert {
    type Error = DecodeError;

    fn try_from(advert: wire::Advert) -> Result<Self, DecodeError> {
        Ok(Self {
            certificate: present("Advert.certificate", advert.certificate)?.try_into()?,
            task: task("Advert.task", &advert.task)?,
            round: advert.round,
            plan: array("Advert.plan", &advert.plan)?,
            ledger_head: array("Advert.ledger_head", &advert.ledger_head)?,
            parent: array("Advert.parent", &advert.parent)?,
            channel_key: array("Advert.channel_key", &advert.channel_key)?,
            mask_key: array("Advert.mask_key", &advert.mask_key)?,
            nonce: array("Advert.nonce", &advert.nonce)?,
            signature: signature("Advert.signature", &advert.signature)?,
            membership: advert.membership.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&RoundParams> for wire::RoundParams {
    fn from(params: &RoundParams) -> Self {
        Self {
            n: params.n,
            n_min: params.n_min,
            degree: params.degree,
            threshold: params.threshold,
            bits: params.bits.into(),
            dimension: params.dimension,
            threat: wire::ThreatModel::from(params.threat).into(),
            corrupt_bp: params.corrupt_bp.into(),
            dropout_bp: params.dropout_bp.into(),
            correctness_bits: params.correctness_bits.into(),
        }
    }
}

impl TryFrom<wire::RoundParams> for RoundParams {
    type Error = DecodeError;

    fn try_from(params: wire::RoundParams) -> Result<Self, DecodeError> {
        Ok(Self {
            n: params.n,
            n_min: params.n_min,
            degree: params.degree,
            threshold: params.threshold,
            bits: narrow("RoundParams.bits", params.bits)?,
            dimension: params.dimension,
            threat: plan::threat("RoundParams.threat", params.threat)?,
            corrupt_bp: narrow("RoundParams.corrupt_bp", params.corrupt_bp)?,
            dropout_bp: narrow("RoundParams.dropout_bp", params.dropout_bp)?,
            correctness_bits: narrow("RoundParams.correctness_bits", params.correctness_bits)?,
        })
    }
}

impl From<&CohortList> for wire::CohortList {
    fn from(list: &CohortList) -> Self {
        let mut entries = Vec::with_capacity(list.entries.len() * ENTRY_BYTES);
        for entry in &list.entries {
            entries.extend_from_slice(&entry.client.0.to_be_bytes());
            entries.extend_from_slice(&entry.advert);
        }
        Self { params: Some((&list.params).into()), entries }
    }
}

impl TryFrom<wire::CohortList> for CohortList {
    type Error = DecodeError;

    /// The order of the entries is for the receiver, who has its own error for it.
    fn try_from(list: wire::CohortList) -> Result<Self, DecodeError> {
        let params = present("CohortList.params", list.params)?.try_into()?;
        let entries = arrays::<ENTRY_BYTES>("CohortList.entries", &list.entries, MAX_COHORT as usize)?;
        let entries = entries.iter().map(|entry| {
            let (client, advert) = numbered::<ENTRY_BYTES, 32>(entry);
            CohortEntry { client, advert }
        });
        Ok(Self { params, entries: entries.collect() })
    }
}

/// Splits a fixed-length entry into the client's number and the rest; the lengths are constants that add up.
fn numbered<const N: usize, const REST: usize>(entry: &[u8; N]) -> (ClientId, [u8; REST]) {
    const { assert!(N == ID_BYTES + REST) };
    let mut number = [0; ID_BYTES];
    let mut rest = [0; REST];
    number.copy_from_slice(&entry[..ID_BYTES]);
    rest.copy_from_slice(&entry[ID_BYTES..]);
    (ClientId(u64::from_be_bytes(number)), rest)
}

impl From<&ShareCommitments> for wire::ShareCommitments {
    fn from(commitments: &ShareCommitments) -> Self {
        Self {
            mask_key: commitments.mask_key.as_bytes().as_flattened().to_vec(),
            self_mask: commitments.self_mask.as_bytes().as_flattened().to_vec(),
        }
    }
}

impl TryFrom<wire::ShareCommitments> for ShareCommitments {
    type Error = DecodeError;

    fn try_from(commitments: wire::ShareCommitments) -> Result<Self, DecodeError> {
        let points = |field, bytes: &[u8]| {
            let points = arrays::<32>(field, bytes, MAX_THRESHOLD)?;
            Commitments::from_bytes(points).map_err(|reason| invalid(field, reason))
        };
        Ok(Self {
            mask_key: points("ShareCommitments.mask_key", &commitments.mask_key)?,
            self_mask: points("ShareCommitments.self_mask", &commitments.self_mask)?,
        })
    }
}

impl From<&ShareMessage> for wire::ShareMessage {
    fn from(message: &ShareMessage) -> Self {
        let mut envelopes = Vec::with_capacity(message.envelopes.len() * ENVELOPE_BYTES);
        for envelope in &message.envelopes {
            envelopes.extend_from_slice(&envelope.to.0.to_be_bytes());
            envelopes.extend_from_slice(&envelope.ciphertext);
        }
        Self {
            client: message.client.0,
            commitments: Some(message.commitments.as_ref().into()),
            envelopes,
            signature: message.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::ShareMessage> for ShareMessage {
    type Error = DecodeError;

    fn try_from(message: wire::ShareMessage) -> Result<Self, DecodeError> {
        let field = "ShareMessage.envelopes";
        let envelopes: Vec<Envelope> =
            arrays::<ENVELOPE_BYTES>(field, &message.envelopes, MAX_COHORT as usize)?
                .iter()
                .map(|envelope| {
                    let (to, ciphertext) = numbered::<ENVELOPE_BYTES, CIPHERTEXT_BYTES>(envelope);
                    Envelope { to, ciphertext }
                })
                .collect();
        increasing(field, envelopes.iter().map(|envelope| envelope.to))?;
        let commitments: ShareCommitments =
            present("ShareMessage.commitments", message.commitments)?.try_into()?;
        Ok(Self {
            client: ClientId(message.client),
            // The server passes them on; only who receives a delivery checks shares against them.
            commitments: Arc::new(commitments.without_points()),
            envelopes,
            signature: signature("ShareMessage.signature", &message.signature)?,
        })
    }
}

impl From<&ShareDelivery> for wire::ShareDelivery {
    fn from(delivery: &ShareDelivery) -> Self {
        Self {
            from: delivery.from.0,
            commitments: Some(delivery.commitments.as_ref().into()),
            ciphertext: delivery.ciphertext.to_vec(),
            path: delivery.path.as_flattened().to_vec(),
            signature: delivery.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::ShareDelivery> for ShareDelivery {
    type Error = DecodeError;

    fn try_from(delivery: wire::ShareDelivery) -> Result<Self, DecodeError> {
        read_delivery(delivery, |commitments| commitments.try_into().map(Arc::new))
    }
}

/// Reads a delivery with a way of its own to read the commitments, which is the costly part.
pub(super) fn read_delivery(
    delivery: wire::ShareDelivery,
    commitments: impl FnOnce(wire::ShareCommitments) -> Result<Arc<ShareCommitments>, DecodeError>,
) -> Result<ShareDelivery, DecodeError> {
    Ok(ShareDelivery {
        from: ClientId(delivery.from),
        commitments: commitments(present("ShareDelivery.commitments", delivery.commitments)?)?,
        ciphertext: array("ShareDelivery.ciphertext", &delivery.ciphertext)?,
        path: arrays("ShareDelivery.path", &delivery.path, MAX_PATH)?,
        signature: signature("ShareDelivery.signature", &delivery.signature)?,
    })
}

impl From<&MaskedHeader> for wire::MaskedHeader {
    fn from(header: &MaskedHeader) -> Self {
        Self {
            client: header.client.0,
            length: header.length,
            digest: header.digest.to_vec(),
            refused: header.refused.iter().map(|client| client.0).collect(),
            signature: header.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::MaskedHeader> for MaskedHeader {
    type Error = DecodeError;

    fn try_from(header: wire::MaskedHeader) -> Result<Self, DecodeError> {
        let refused: Vec<ClientId> = header.refused.into_iter().map(ClientId).collect();
        increasing("MaskedHeader.refused", refused.iter().copied())?;
        Ok(Self {
            client: ClientId(header.client),
            length: header.length,
            digest: array("MaskedHeader.digest", &header.digest)?,
            refused,
            signature: signature("MaskedHeader.signature", &header.signature)?,
        })
    }
}

impl From<&MaskedChunk> for wire::MaskedChunk {
    fn from(chunk: &MaskedChunk) -> Self {
        Self { offset: chunk.offset, bytes: chunk.bytes.clone() }
    }
}

impl TryFrom<wire::MaskedChunk> for MaskedChunk {
    type Error = DecodeError;

    fn try_from(chunk: wire::MaskedChunk) -> Result<Self, DecodeError> {
        at_most("MaskedChunk.bytes", chunk.bytes.len(), MAX_CHUNK_BYTES)?;
        Ok(Self { offset: chunk.offset, bytes: chunk.bytes })
    }
}

impl From<&SurvivorMaps> for wire::SurvivorMaps {
    fn from(maps: &SurvivorMaps) -> Self {
        Self {
            members: maps.shared.members(),
            shared: maps.shared.as_bytes().to_vec(),
            survived: maps.survived.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<wire::SurvivorMaps> for SurvivorMaps {
    type Error = DecodeError;

    fn try_from(maps: wire::SurvivorMaps) -> Result<Self, DecodeError> {
        at_most("SurvivorMaps.members", maps.members as usize, MAX_COHORT as usize)?;
        let set = |field, bytes: &[u8]| {
            Bitmap::from_bytes(maps.members, bytes).map_err(|reason| invalid(field, reason))
        };
        Ok(Self {
            shared: set("SurvivorMaps.shared", &maps.shared)?,
            survived: set("SurvivorMaps.survived", &maps.survived)?,
        })
    }
}

impl From<&Confirm> for wire::Confirm {
    fn from(confirm: &Confirm) -> Self {
        Self { client: confirm.client.0, signature: confirm.signature.0.to_vec() }
    }
}

impl TryFrom<wire::Confirm> for Confirm {
    type Error = DecodeError;

    fn try_from(confirm: wire::Confirm) -> Result<Self, DecodeError> {
        Ok(Self {
            client: ClientId(confirm.client),
            signature: signature("Confirm.signature", &confirm.signature)?,
        })
    }
}

impl From<&UnmaskRequest> for wire::UnmaskRequest {
    fn from(request: &UnmaskRequest) -> Self {
        Self {
            maps: Some((&request.maps).into()),
            confirmations: request.confirmations.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::UnmaskRequest> for UnmaskRequest {
    type Error = DecodeError;

    fn try_from(request: wire::UnmaskRequest) -> Result<Self, DecodeError> {
        let field = "UnmaskRequest.confirmations";
        at_most(field, request.confirmations.len(), MAX_COHORT as usize)?;
        let confirmations: Vec<Confirm> =
            request.confirmations.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        increasing(field, confirmations.iter().map(|confirm| confirm.client))?;
        Ok(Self { maps: present("UnmaskRequest.maps", request.maps)?.try_into()?, confirmations })
    }
}

impl From<&UnmaskShares> for wire::UnmaskShares {
    fn from(shares: &UnmaskShares) -> Self {
        let one = |share: &UnmaskShare| wire::UnmaskShare {
            of: share.of.0,
            kind: match share.kind {
                ShareKind::SelfMask => wire::ShareKind::SelfMask,
                ShareKind::MaskKey => wire::ShareKind::MaskKey,
            }
            .into(),
            share: share.share.0.to_vec(),
        };
        Self {
            client: shares.client.0,
            shares: shares.shares.iter().map(one).collect(),
            signature: shares.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::UnmaskShares> for UnmaskShares {
    type Error = DecodeError;

    fn try_from(mut shares: wire::UnmaskShares) -> Result<Self, DecodeError> {
        let field = "UnmaskShares.shares";
        at_most(field, shares.shares.len(), MAX_COHORT as usize)?;
        let one = |share: &mut wire::UnmaskShare| {
            let kind = match wire::ShareKind::try_from(share.kind) {
                Ok(wire::ShareKind::SelfMask) => ShareKind::SelfMask,
                Ok(wire::ShareKind::MaskKey) => ShareKind::MaskKey,
                Ok(wire::ShareKind::Unspecified) | Err(_) => {
                    return Err(invalid("UnmaskShare.kind", format!("{} is no kind of share", share.kind)));
                }
            };
            let value = array("UnmaskShare.share", &share.share).map(ShareValue);
            share.share.zeroize();
            Ok(UnmaskShare { of: ClientId(share.of), kind, share: value? })
        };
        let list: Vec<UnmaskShare> = shares.shares.iter_mut().map(one).collect::<Result<_, _>>()?;
        increasing(field, list.iter().map(|share| share.of))?;
        Ok(Self {
            client: ClientId(shares.client),
            shares: list,
            signature: signature("UnmaskShares.signature", &shares.signature)?,
        })
    }
}
