//! The stored form of the messages of a round. Must never lose a field: what is read back is equal to what was written.

use super::codec::{Reader, Stored, Writer, stored};
use crate::bitmap::Bitmap;
use crate::client::RoundSecrets;
use crate::identity::{Certificate, ClientId, Membership, PublicKey, Signature};
use crate::messages::{
    Advert, CohortEntry, CohortList, Confirm, Envelope, MaskedHeader, ShareCommitments, ShareDelivery,
    ShareKind, ShareMessage, ShareValue, SurvivorMaps, UnmaskRequest, UnmaskShare, UnmaskShares,
};
use crate::params::{MAX_COHORT, RoundParams, TaskName, ThreatModel};
use crate::shamir::Commitments;
use zeroize::Zeroizing;

stored! {
    Certificate { client, public_key, not_after, issuer, signature }
    Membership { index, path }
    Advert {
        certificate, task, round, plan, ledger_head, parent, channel_key, mask_key, nonce, membership,
        signature
    }
    RoundParams {
        n, n_min, degree, threshold, bits, dimension, threat, corrupt_bp, dropout_bp, correctness_bits
    }
    CohortEntry { client, advert }
    CohortList { params, entries }
    ShareCommitments { mask_key, self_mask }
    Envelope { to, ciphertext }
    ShareMessage { client, commitments, envelopes, signature }
    ShareDelivery { from, commitments, ciphertext, path, signature }
    MaskedHeader { client, length, digest, refused, signature }
    SurvivorMaps { shared, survived }
    Confirm { client, signature }
    UnmaskRequest { maps, confirmations }
    UnmaskShare { of, kind, share }
    UnmaskShares { client, shares, signature }
}

macro_rules! transparent {
    ($($type:ident),*) => {$(
        impl Stored for $type {
            fn write(&self, writer: &mut Writer) {
                self.0.write(writer);
            }

            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                Stored::read(reader).map(Self)
            }
        }
    )*};
}

transparent!(ClientId, PublicKey, Signature, ShareValue);

impl Stored for TaskName {
    fn write(&self, writer: &mut Writer) {
        (self.as_str().len() as u8).write(writer);
        writer.bytes(self.as_str().as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let length = u8::read(reader)?;
        let name = reader.take(length.into())?;
        Self::new(std::str::from_utf8(name).ok()?).ok()
    }
}

impl Stored for ThreatModel {
    fn write(&self, writer: &mut Writer) {
        (*self as u8).write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let known = [Self::HonestButCurious, Self::SemiMalicious];
        let read = u8::read(reader)?;
        known.into_iter().find(|threat| *threat as u8 == read)
    }
}

impl Stored for ShareKind {
    fn write(&self, writer: &mut Writer) {
        (*self as u8).write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let read = u8::read(reader)?;
        [Self::SelfMask, Self::MaskKey].into_iter().find(|kind| *kind as u8 == read)
    }
}

impl Stored for Commitments {
    fn write(&self, writer: &mut Writer) {
        (self.threshold() as u32).write(writer);
        writer.bytes(self.as_bytes().as_flattened());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Self::from_bytes(Stored::read(reader)?).ok()
    }
}

impl Stored for Bitmap {
    fn write(&self, writer: &mut Writer) {
        self.members().write(writer);
        writer.bytes(self.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let members = u32::read(reader).filter(|&members| members <= MAX_COHORT)?;
        let bytes = reader.take((members as usize).div_ceil(8))?;
        Self::from_bytes(members, bytes).ok()
    }
}

impl Stored for RoundSecrets {
    fn write(&self, writer: &mut Writer) {
        writer.bytes(self.to_bytes().as_slice());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        bytes.copy_from_slice(reader.take(Self::BYTES)?);
        Self::from_bytes(&bytes)
    }
}
