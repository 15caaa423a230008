//! Who may give orders: tokens with a role, of which only the hashes are stored. Must never compare a token but by its hash.

use crate::files::{FileError, write_whole};
use crate::store::{Batch, Epoch, Records, Store, StoreError, Table};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Before a token's random bytes, so that people and scanners of leaked secrets know what it is.
const TOKEN_PREFIX: &str = "tacit-admin-";

/// What a token entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// To look.
    Viewer,
    /// To everything.
    Operator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            other => Err(format!("there is no role {other}: choose viewer or operator")),
        }
    }
}

/// Tokens by their SHA-256.
enum Admins {}

impl Table for Admins {
    const NAME: &'static str = "admins";
    type Key = [u8; 32];
    type Value = AdminRow;
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AdminRow {
    role: Role,
    note: String,
    created: u64,
}

/// Why a token cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file for it.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Makes a token, which is shown here and nowhere else.
///
/// # Errors
/// [`StoreError`].
pub fn make_token<R: CryptoRng>(
    store: &dyn Store,
    epoch: Epoch,
    role: Role,
    note: &str,
    now: u64,
    rng: &mut R,
) -> Result<Zeroizing<String>, StoreError> {
    let token = draw(rng);
    record(store, epoch, &token, role, note, now)?;
    Ok(token)
}

fn draw<R: CryptoRng>(rng: &mut R) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    rng.fill_bytes(bytes.as_mut_slice());
    let digits = Zeroizing::new(hex::encode(bytes.as_slice()));
    Zeroizing::new(format!("{TOKEN_PREFIX}{}", *digits))
}

fn record(
    store: &dyn Store,
    epoch: Epoch,
    token: &str,
    role: Role,
    note: &str,
    now: u64,
) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put::<Admins>(&hash(token), &AdminRow { role, note: note.to_owned(), created: now });
    batch.commit(store, epoch)
}

/// Makes the first operator's token and writes it into a file, if there is no token at all; says whether it did.
///
/// # Errors
/// [`AdminError`].
pub fn ensure_first<R: CryptoRng>(
    store: &dyn Store,
    epoch: Epoch,
    file: &Path,
    now: u64,
    rng: &mut R,
) -> Result<bool, AdminError> {
    if !Records(store).keys::<Admins>(&(), None, 1)?.is_empty() {
        return Ok(false);
    }
    // The file first: a record without it would be a token that nobody has, and no other is made then.
    let token = draw(rng);
    write_whole(file, token.as_bytes())?;
    record(store, epoch, &token, Role::Operator, "made on first start", now)?;
    Ok(true)
}

/// What a token entitles to; none for one that is not known.
///
/// # Errors
/// [`StoreError`].
pub fn role_of(store: &dyn Store, token: &str) -> Result<Option<Role>, StoreError> {
    Ok(Records(store).get::<Admins>(&hash(token))?.map(|row| row.role))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim().as_bytes()).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn a_first_start_that_cannot_write_the_token_is_repeated() {
        let store = MemoryStore::new();
        let epoch = store.lease().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not-there/admin.token");
        assert!(matches!(ensure_first(&store, epoch, &file, 7, &mut rng), Err(AdminError::File(_))));
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        assert!(ensure_first(&store, epoch, &file, 8, &mut rng).unwrap(), "nobody has a token yet");
        let first = std::fs::read_to_string(&file).unwrap();
        assert_eq!(role_of(&store, &first), Ok(Some(Role::Operator)));
    }

    #[test]
    fn a_token_has_the_role_that_it_was_made_with() {
        let store = MemoryStore::new();
        let epoch = store.lease().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        assert!(ensure_first(&store, epoch, &file, 7, &mut rng).unwrap());
        assert!(!ensure_first(&store, epoch, &file, 8, &mut rng).unwrap(), "there is one");
        let first = std::fs::read_to_string(&file).unwrap();
        let viewer = make_token(&store, epoch, Role::Viewer, "dashboard", 9, &mut rng).unwrap();
        assert_eq!(role_of(&store, &first), Ok(Some(Role::Operator)));
        assert_eq!(role_of(&store, &format!("{first}\n")), Ok(Some(Role::Operator)));
        assert_eq!(role_of(&store, &viewer), Ok(Some(Role::Viewer)));
        assert_eq!(role_of(&store, &viewer[..viewer.len() - 1]), Ok(None));
        assert_eq!(role_of(&store, ""), Ok(None));
        // The store does not know the tokens themselves.
        let rows = store.scan("admins", b"", b"", 9).unwrap();
        let stored: Vec<u8> = rows.into_iter().flat_map(|(key, value)| [key, value].concat()).collect();
        let random = &viewer.as_bytes()[TOKEN_PREFIX.len()..];
        assert!(!stored.windows(random.len()).any(|window| window == random));
    }
}
