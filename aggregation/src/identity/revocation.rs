//! The identity root's list of clients that are clients no more. Must never be replaced by an older one.

use super::{ClientId, IdentityRoot, PublicKey, Signature};
use crate::context::Fields;

/// A signed list of revoked clients. Each list holds all of them, and has a higher number than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Number of the list; list 0 is the empty one that a new root signs.
    pub number: u64,
    /// The clients, strictly increasing.
    pub clients: Vec<ClientId>,
    /// The root's signature over both.
    pub signature: Signature,
}

/// A list that cannot take the place of another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// The signature does not verify.
    #[error("the identity root's signature on revocation list {number} does not verify")]
    Signature {
        /// Its number.
        number: u64,
    },
    /// Not increasing.
    #[error("revocation list {number} is out of order at client {client}")]
    Order {
        /// Its number.
        number: u64,
        /// The client that is not above the one before.
        client: ClientId,
    },
    /// Older than the one that is known.
    #[error("revocation list {number} is older than list {known}, which is known here: fetch the newest")]
    Older {
        /// Its number.
        number: u64,
        /// The known one's number.
        known: u64,
    },
    /// Two lists with one number.
    #[error(
        "two different revocation lists have the number {number}: the identity root was used from two copies of its folder"
    )]
    Forked {
        /// The number.
        number: u64,
    },
}

impl IdentityRoot {
    /// Signs a list.
    #[must_use]
    pub fn revoke(&self, number: u64, mut clients: Vec<ClientId>) -> RevocationList {
        clients.sort_unstable();
        clients.dedup();
        let mut list = RevocationList { number, clients, signature: Signature([0; 64]) };
        list.signature = self.sign(&list.payload());
        list
    }
}

impl RevocationList {
    /// The bytes that the root signs.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let fields = Fields::new("revocations").integer(self.number);
        self.clients.iter().fold(fields, |fields, client| fields.integer(client.0)).into_bytes()
    }

    /// Whether a client is on the list.
    #[must_use]
    pub fn revokes(&self, client: ClientId) -> bool {
        self.clients.binary_search(&client).is_ok()
    }

    /// Checks the list against the root, and that it may take the place of `known`.
    ///
    /// # Errors
    /// [`RevocationError`] says what is wrong.
    pub fn verify(&self, root: &PublicKey, known: Option<&Self>) -> Result<(), RevocationError> {
        let number = self.number;
        if let Some(pair) = self.clients.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(RevocationError::Order { number, client: pair[1] });
        }
        if !root.verify(&self.payload(), &self.signature) {
            return Err(RevocationError::Signature { number });
        }
        match known {
            Some(known) if number < known.number => {
                Err(RevocationError::Older { number, known: known.number })
            }
            Some(known) if number == known.number && self.clients != known.clients => {
                Err(RevocationError::Forked { number })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RevocationError;
    use crate::identity::{ClientId, IdentityRoot};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn a_list_holds_for_its_root_and_never_gives_way_to_an_older() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let (root, other) = (IdentityRoot::generate(&mut rng), IdentityRoot::generate(&mut rng));
        let public = root.public_key();
        let first = root.revoke(1, vec![ClientId(9), ClientId(2), ClientId(9)]);
        let second = root.revoke(2, vec![ClientId(2), ClientId(5), ClientId(9)]);
        assert_eq!(first.clients, [ClientId(2), ClientId(9)]);
        assert!(first.revokes(ClientId(9)) && !first.revokes(ClientId(5)));
        assert_eq!(first.verify(&public, None), Ok(()));
        assert_eq!(first.verify(&public, Some(&first)), Ok(()));
        assert_eq!(second.verify(&public, Some(&first)), Ok(()));
        assert_eq!(first.verify(&public, Some(&second)), Err(RevocationError::Older { number: 1, known: 2 }));
        let forked = root.revoke(2, vec![ClientId(2)]);
        assert_eq!(forked.verify(&public, Some(&second)), Err(RevocationError::Forked { number: 2 }));
        let signature = RevocationError::Signature { number: 1 };
        assert_eq!(first.verify(&other.public_key(), None), Err(signature.clone()));
        let mut shorter = first.clone();
        shorter.clients.pop();
        assert_eq!(shorter.verify(&public, None), Err(signature));
        let mut unordered = first;
        unordered.clients.reverse();
        assert_eq!(
            unordered.verify(&public, None),
            Err(RevocationError::Order { number: 1, client: ClientId(2) })
        );
    }
}
