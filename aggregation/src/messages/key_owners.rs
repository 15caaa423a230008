//! Whose the keys of a cohort are. Must never let two members have one key: each is one machine, and counts once.

use super::{Advert, AdvertFault};
use crate::identity::ClientId;
use std::collections::BTreeMap;
use std::fmt;

/// A key that an advert carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// The long-term signing key in the certificate.
    Identity,
    /// The X25519 key for share envelopes.
    Channel,
    /// The Ristretto255 key for pair masks, S_u.
    Mask,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity key",
            Self::Channel => "channel key",
            Self::Mask => "mask key",
        })
    }
}

/// The keys seen so far, with their owners. All of them are public.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyOwners(BTreeMap<(KeyKind, [u8; 32]), ClientId>);

impl KeyOwners {
    /// Notes the keys of an advert.
    ///
    /// # Errors
    /// [`AdvertFault::SharedKey`] when another client has one of them; nothing is noted then.
    pub(crate) fn claim(&mut self, advert: &Advert) -> Result<(), AdvertFault> {
        let client = advert.client();
        let keys = [
            (KeyKind::Identity, advert.certificate.public_key.0),
            (KeyKind::Channel, advert.channel_key),
            (KeyKind::Mask, advert.mask_key),
        ];
        for key in &keys {
            if let Some(&other) = self.0.get(key).filter(|&&other| other != client) {
                return Err(AdvertFault::SharedKey { client, other, key: key.0 });
            }
        }
        self.0.extend(keys.map(|key| (key, client)));
        Ok(())
    }
}
