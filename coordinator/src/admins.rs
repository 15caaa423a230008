//! Who may give orders: tokens with a role, of which only the hashes are stored. Must never compare a token but by its hash.

use crate::files::{FileError, write_whole};
use crate::store::{Batch, Epoch, Records, Store, StoreError, Table};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::Path;
pub use tacit_proto::admin::Role;
use zeroize::Zeroizing;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Tokens that there may be.
const MOST_TOKENS: usize = 1_000;
/// Before a token's random bytes, so that people and scanners of leaked secrets know what it is.
const TOKEN_PREFIX: &str = "tacit-admin-";

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

/// A token as other operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The first eight bytes of its SHA-256, in hexadecimal digits.
    pub token: String,
    /// What it entitles to.
    pub role: Role,
    /// Whose it is.
    pub note: String,
    /// When it was made, in Unix seconds.
    pub created: u64,
}

/// Why a token cannot be made, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No such token.
    #[error("there is no token {number}: `token list` shows them")]
    Unknown {
        /// What was asked for.
        number: String,
    },
    /// Nobody could give orders any more.
    #[error("{number} is the only operator's token: make another first")]
    Last {
        /// What was asked for.
        number: String,
    },
    /// There are enough.
    #[error("there are {MOST_TOKENS} tokens: end one first")]
    TooMany,
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
/// [`AdminError::TooMany`], [`AdminError::Store`].
pub fn make_token<R: CryptoRng>(
    store: &dyn Store,
    epoch: Epoch,
    role: Role,
    note: &str,
    now: u64,
    rng: &mut R,
) -> Result<Zeroizing<String>, AdminError> {
    if Records(store).keys::<Admins>(&(), None, MOST_TOKENS)?.len() == MOST_TOKENS {
        return Err(AdminError::TooMany);
    }
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

/// All tokens, oldest first.
///
/// # Errors
/// [`StoreError`].
pub fn tokens(store: &dyn Store) -> Result<Vec<Listed>, StoreError> {
    let rows = Records(store).scan::<Admins>(&(), None, MOST_TOKENS)?;
    let listed = rows.into_iter().map(|(hash, AdminRow { role, note, created })| Listed {
        token: number(&hash),
        role,
        note,
        created,
    });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by(|one, other| (one.created, &one.token).cmp(&(other.created, &other.token)));
    Ok(listed)
}

/// Ends a token. To be called by one at a time.
///
/// # Errors
/// [`AdminError::Unknown`]; [`AdminError::Last`] for the only operator's; [`AdminError::Store`].
pub fn revoke_token(store: &dyn Store, epoch: Epoch, wanted: &str) -> Result<(), AdminError> {
    let rows = Records(store).scan::<Admins>(&(), None, MOST_TOKENS)?;
    let found = rows.iter().find(|(hash, _)| number(hash) == wanted);
    let (hash, row) = found.ok_or_else(|| AdminError::Unknown { number: wanted.to_owned() })?;
    let operators = rows.iter().filter(|(_, row)| row.role == Role::Operator).count();
    if row.role == Role::Operator && operators == 1 {
        return Err(AdminError::Last { number: wanted.to_owned() });
    }
    let mut batch = Batch::new();
    batch.delete::<Admins>(hash);
    Ok(batch.commit(store, epoch)?)
}

fn number(hash: &[u8; 32]) -> String {
    hex::encode(&hash[..8])
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
        // They are known by number, and end at once; one operator's stays.
        let listed = tokens(&store).unwrap();
        assert_eq!(
            listed.iter().map(|one| one.note.as_str()).collect::<Vec<_>>(),
            ["made on first start", "dashboard"]
        );
        let last = revoke_token(&store, epoch, &listed[0].token);
        assert!(matches!(last, Err(AdminError::Last { .. })), "{last:?}");
        let unknown = revoke_token(&store, epoch, "0011223344556677");
        assert!(matches!(unknown, Err(AdminError::Unknown { .. })), "{unknown:?}");
        let second = make_token(&store, epoch, Role::Operator, "second", 10, &mut rng).unwrap();
        revoke_token(&store, epoch, &listed[0].token).unwrap();
        assert_eq!((role_of(&store, &first), role_of(&store, &second)), (Ok(None), Ok(Some(Role::Operator))));
        // The store does not know the tokens themselves.
        let rows = store.scan("admins", b"", b"", 9).unwrap();
        let stored: Vec<u8> = rows.into_iter().flat_map(|(key, value)| [key, value].concat()).collect();
        let random = &viewer.as_bytes()[TOKEN_PREFIX.len()..];
        assert!(!stored.windows(random.len()).any(|window| window == random));
    }
}
