//! Who is shut out although their certificate holds. Must never forget a revocation.

use std::collections::BTreeSet;
use std::fmt;

use tacit_aggregation::identity::{ClientId, PublicKey, RevocationList, Signature};

use super::EnrolmentError;
use super::tables::{Bans, Revoked, RevokedBefore, StoredRevocations, each};
use crate::store::{Records, StoreError};

/// Why a client is shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// By the identity root, for good.
    Revoked,
    /// By this coordinator's operator.
    Banned,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "revoked by the identity root, for good: enrol again with new keys",
            Self::Banned => "banned by the operator: ask them why",
        })
    }
}

/// Everybody who is shut out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded {
    revoked: Option<RevocationList>,
    banned: BTreeSet<ClientId>,
}

impl Excluded {
    /// Whether and why a client is shut out.
    #[must_use]
    pub fn reason(&self, client: ClientId) -> Option<Exclusion> {
        if self.revoked.as_ref().is_some_and(|list| list.revokes(client)) {
            Some(Exclusion::Revoked)
        } else {
            self.banned.contains(&client).then_some(Exclusion::Banned)
        }
    }

    /// The newest list of revoked clients that was imported.
    #[must_use]
    pub fn revoked(&self) -> Option<&RevocationList> {
        self.revoked.as_ref()
    }

    /// Reads what is stored, and checks the signature of the root's list. Another root's, by which this coordinator was appointed
    /// before, says nothing about the clients of this one.
    pub(super) fn load(records: Records<'_>, root: &PublicKey) -> Result<Self, EnrolmentError> {
        let mut banned = BTreeSet::new();
        each::<Bans>(records, |client, _| {
            banned.insert(client);
        })?;
        let mut revoked = records.get::<Revoked>(&root.0)?.map(StoredRevocations::list).transpose()?;
        if let Some(list) = &revoked {
            list.verify(root, None)?;
        } else if let Some(before) = records.get::<RevokedBefore>(&())? {
            revoked = Some(before.list()?).filter(|list| list.verify(root, None).is_ok());
        }
        Ok(Self { revoked, banned })
    }

    pub(crate) fn ban(&mut self, client: ClientId) {
        self.banned.insert(client);
    }

    pub(super) fn unban(&mut self, client: ClientId) {
        self.banned.remove(&client);
    }

    pub(crate) fn revoke(&mut self, list: RevocationList) {
        self.revoked = Some(list);
    }
}

impl StoredRevocations {
    pub(super) fn new(list: &RevocationList) -> Self {
        let RevocationList { number, clients, signature } = list;
        Self { number: *number, clients: clients.clone(), signature: signature.0.to_vec() }
    }

    fn list(self) -> Result<RevocationList, StoreError> {
        let signature = self.signature.try_into().map_err(|_| StoreError::Corrupted {
            table: "revocations",
            key: String::new(),
            problem: "its signature is not 64 bytes long".into(),
        })?;
        Ok(RevocationList { number: self.number, clients: self.clients, signature: Signature(signature) })
    }
}
