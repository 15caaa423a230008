//! The records of enrolment. Must never hold a token, only its hash, nor a secret key.

use serde::{Deserialize, Serialize};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::ClientId;

use crate::identity::Admission;
use crate::store::table::Key;
use crate::store::{Records, StoreError, Table};

use super::PAGE;

/// One-time tokens, by their SHA-256.
pub(super) struct Tokens;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    /// Last second at which it holds.
    pub(super) expires: u64,
    /// Whom the operator gave it to, in their words.
    pub(super) note: String,
    /// The ticket of the request that used it.
    pub(super) used: Option<Digest>,
}

impl Table for Tokens {
    const NAME: &'static str = "tokens";
    type Key = Digest;
    type Value = Token;
}

/// Requests that wait for the identity root, by their tickets.
pub(super) struct Requests;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) identity_key: [u8; 32],
    pub(super) transport_key: [u8; 32],
    /// Of the client's software.
    pub(super) version: String,
    /// The token's.
    pub(super) note: String,
    pub(super) asked_at: u64,
}

impl Request {
    pub(super) fn admission(self, ticket: Digest) -> Admission {
        let Self { identity_key, transport_key, note, .. } = self;
        Admission { ticket, identity_key, transport_key, note }
    }
}

impl Table for Requests {
    const NAME: &'static str = "requests";
    type Key = Digest;
    type Value = Request;
}

/// Public keys that were asked in with, identity and transport keys alike, and the tickets of their requests.
pub(super) struct Keys;

impl Table for Keys {
    const NAME: &'static str = "keys";
    type Key = [u8; 32];
    type Value = Digest;
}

/// What became of requests, by their tickets.
pub(super) struct Decisions;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Decision {
    /// Admitted.
    Issued {
        client: ClientId,
        identity_key: [u8; 32],
        transport_key: [u8; 32],
        /// Last second of both certificates.
        not_after: u64,
        /// Wire form.
        certificate: Vec<u8>,
        /// DER.
        transport_certificate: Vec<u8>,
    },
    /// Refused by the operator.
    Refused,
}

impl Table for Decisions {
    const NAME: &'static str = "decisions";
    type Key = Digest;
    type Value = Decision;
}

/// Clients.
pub(super) struct Clients;

/// A client, as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The request that it came with.
    pub ticket: Digest,
    /// Version of its software when it enrolled; empty when it was imported without its request.
    pub version: String,
    /// Whom the operator invited, in their words.
    pub note: String,
    /// When its first credentials were imported, Unix time in seconds.
    pub enrolled_at: u64,
    /// Last second of its certificates, Unix time.
    pub not_after: u64,
}

impl Table for Clients {
    const NAME: &'static str = "clients";
    type Key = ClientId;
    type Value = Client;
}

/// Clients that this coordinator shuts out.
pub(super) struct Bans;

/// Why a client is shut out, in the operator's words, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Unix time in seconds.
    pub at: u64,
    /// The operator's words.
    pub reason: String,
}

impl Table for Bans {
    const NAME: &'static str = "bans";
    type Key = ClientId;
    type Value = Ban;
}

/// The newest list of revoked clients of each identity root that this coordinator was appointed by, under the root's public key.
pub(super) struct Revoked;

/// The list as it was kept before roots were told apart, under the empty key.
pub(super) struct RevokedBefore;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRevocations {
    pub(super) number: u64,
    pub(super) clients: Vec<ClientId>,
    /// 64 bytes.
    pub(super) signature: Vec<u8>,
}

impl Table for Revoked {
    const NAME: &'static str = "revocations";
    type Key = [u8; 32];
    type Value = StoredRevocations;
}

impl Table for RevokedBefore {
    const NAME: &'static str = Revoked::NAME;
    type Key = ();
    type Value = StoredRevocations;
}

/// Visits all records of a table, a page at a time.
pub(super) fn each<T: Table>(
    records: Records<'_>,
    mut visit: impl FnMut(T::Key, T::Value),
) -> Result<(), StoreError>
where
    T::Key: Copy + Next,
{
    let mut from = None;
    loop {
        let page = records.scan::<T>(&(), from.as_ref(), PAGE)?;
        let (full, last) = (page.len() == PAGE, page.last().map(|(key, _)| *key));
        page.into_iter().for_each(|(key, value)| visit(key, value));
        from = last.and_then(|key| key.next());
        if !full || from.is_none() {
            return Ok(());
        }
    }
}

/// A key that knows the one after it.
pub(super) trait Next: Key {
    /// The least key above this one; none above the last.
    fn next(self) -> Option<Self>;
}

impl Next for ClientId {
    fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl Next for Digest {
    fn next(mut self) -> Option<Self> {
        for byte in self.iter_mut().rev() {
            let (sum, carry) = byte.overflowing_add(1);
            *byte = sum;
            if !carry {
                return Some(self);
            }
        }
        None
    }
}
