//! Becoming a client: keys are drawn here, asked in with a one-time token, and the identity root's answer is waited for. Must
//! never ask with keys that are not stored, nor keep credentials that are not for them.

use crate::accounts::Accounts;
use crate::adapters::AdapterFolder;
use crate::connection::{ConnectionError, Server};
use crate::credentials::{Credentials, CredentialsError};
use crate::folder::{Folder, FolderError, Kind};
use crate::keys::ClientKeys;
use crate::ledger::{Contradiction, LedgerError, Watch};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tacit_aggregation::Digest;
use tacit_aggregation::identity::{ClientId, PublicKey};
use tacit_proto::enrolment::{Enrol, Fetch};
use tacit_proto::services::enrolment::enrolment_client::EnrolmentClient;
use tonic::Status;
use tonic::transport::Channel;
use zeroize::{Zeroize, ZeroizeOnDrop};

const FILE: &str = "enrolment";
const KIND: Kind = Kind { code: 11, version: 1 };

/// A request that is under way. Everything of it is stored before it is sent, so that it goes on after a crash.
pub struct Enrolment {
    keys: ClientKeys,
    token: String,
    ticket: Option<Digest>,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment")
            .field("keys", &self.keys)
            .field("ticket", &self.ticket.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Form {
    keys: Vec<u8>,
    token: String,
    ticket: Option<Digest>,
}

/// Why a machine does not become a client.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The coordinator refuses.
    #[error("the coordinator refuses ({code}): {message}. Ask its operator for a new token, and enrol with that", code = .0.code(), message = .0.message())]
    Refused(Box<Status>),
    /// What was issued cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A renewal for somebody else.
    #[error(
        "the renewed certificate is of another client or coordinator: this machine keeps its old one; ask the operator"
    )]
    AnotherClient,
    /// The folder is a client's already.
    #[error(
        "{path} is enrolled already: --anew makes it another client, which has spent what this one has, and `tacit-client forget` \
         wipes that too"
    )]
    Enrolled {
        /// The folder.
        path: String,
    },
    /// Another request is under way in the folder.
    #[error(
        "another token is under way in {path}: leave --token out to go on with it, or `tacit-client forget` it"
    )]
    AnotherToken {
        /// The folder.
        path: String,
    },
    /// No request is under way, and there is no token for one.
    #[error("nothing is under way in {path}: give the --token from the coordinator's operator")]
    NoToken {
        /// The folder.
        path: String,
    },
}

/// What became of a request.
#[derive(Debug)]
pub enum Progress {
    /// The identity root has not decided. When to ask again, if the coordinator says so.
    Pending(Option<Duration>),
    /// This machine is a client; its credentials are stored.
    Done(Box<Credentials>),
}

impl Enrolment {
    /// Begins with a token, or goes on with what is under way in the folder. The keys are stored when this returns. A folder that is a
    /// client's already becomes another one's only `anew`, and what it has spent goes with it ([`move_in`]).
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub fn begin<R: CryptoRng>(
        folder: &Folder,
        token: Option<&str>,
        anew: bool,
        rng: &mut R,
    ) -> Result<Self, EnrolmentError> {
        let path = folder.path().display().to_string();
        match Credentials::load(folder) {
            Err(CredentialsError::Missing) => {}
            Ok(_) if anew => {}
            Ok(_) => return Err(EnrolmentError::Enrolled { path }),
            Err(error) => return Err(error.into()),
        }
        let under_way = folder.load::<Form>(FILE, KIND)?;
        // A token that led to nothing makes way for the next one. Not its keys: should it have led to something after all, the
        // identity root would find them in two requests.
        let given_up = |form: &Form| form.ticket.is_none() && token.is_some_and(|token| token != form.token);
        if let Some(form) = under_way.filter(|form| !given_up(form)) {
            if token.is_some_and(|token| token != form.token) {
                return Err(EnrolmentError::AnotherToken { path });
            }
            let keys = ClientKeys::from_bytes(&form.keys);
            let keys = keys.map_err(|error| folder.damaged(FILE, &error.to_string()))?;
            return Ok(Self { keys, token: form.token.clone(), ticket: form.ticket });
        }
        let token = token.ok_or(EnrolmentError::NoToken { path })?.to_owned();
        let begun = Self { keys: ClientKeys::generate(rng), token, ticket: None };
        begun.store(folder)?;
        Ok(begun)
    }

    fn store(&self, folder: &Folder) -> Result<(), FolderError> {
        let (keys, token) = (self.keys.to_bytes().to_vec(), self.token.clone());
        folder.store(FILE, KIND, &Form { keys, token, ticket: self.ticket })
    }

    /// SHA-256 digests of the public keys, identity first, to compare with what the operator sees.
    #[must_use]
    pub fn public_keys(&self) -> [PublicKey; 2] {
        [self.keys.identity.public_key(), self.keys.transport.public_key()]
    }

    /// Asks in, if that is not done, and fetches what became of it. `root` is the identity root that the owner expects; `now` is
    /// in Unix seconds.
    ///
    /// # Errors
    /// [`EnrolmentError`]; the request may be gone on with after [`EnrolmentError::Connection`].
    pub async fn advance(
        &mut self,
        folder: &Folder,
        server: &Server,
        root: Option<&PublicKey>,
        now: u64,
    ) -> Result<Progress, EnrolmentError> {
        let mut client = EnrolmentClient::new(server.connect(None).await?);
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => match self.ask(&mut client).await {
                Ok(ticket) => {
                    self.ticket = Some(ticket);
                    self.store(folder)?;
                    ticket
                }
                Err(status) => return pending(status),
            },
        };
        let issued = match client.fetch(Fetch { ticket }).await {
            Ok(issued) => issued.into_inner(),
            Err(status) => return pending(status),
        };
        let keys = ClientKeys::from_bytes(self.keys.to_bytes().as_slice());
        let keys = keys.map_err(|error| folder.damaged(FILE, &error.to_string()))?;
        let credentials = Credentials::new(keys, issued, ticket, root, now)?;
        credentials.store(folder)?;
        folder.shred(FILE)?;
        Ok(Progress::Done(Box::new(credentials)))
    }

    async fn ask(&self, client: &mut EnrolmentClient<Channel>) -> Result<Digest, Status> {
        let request: Enrol = self.keys.enrol(&self.token, env!("CARGO_PKG_VERSION"));
        Ok(client.enrol(request).await?.into_inner().ticket)
    }
}

/// Fetches what the identity root has made since, with the old ticket. The new credentials, which are stored; none where it has
/// made nothing newer. `now` is in Unix seconds.
///
/// # Errors
/// [`EnrolmentError`]; the old credentials are then what they were.
pub async fn renew(
    folder: &Folder,
    credentials: &Credentials,
    server: &Server,
    now: u64,
) -> Result<Option<Credentials>, EnrolmentError> {
    let ticket = credentials.ticket;
    let mut client = EnrolmentClient::new(server.connect(None).await?);
    let issued = match client.fetch(Fetch { ticket }).await {
        Ok(issued) => issued.into_inner(),
        Err(status) => return Err(EnrolmentError::Refused(Box::new(status))),
    };
    if issued.certificate.not_after <= credentials.issued.certificate.not_after {
        return Ok(None);
    }
    let keys = ClientKeys::from_bytes(credentials.keys.to_bytes().as_slice());
    let keys = keys.map_err(|error| folder.damaged(FILE, &error.to_string()))?;
    // The root and its coordinator stay: others would have to be asked for by the owner, as at enrolment.
    let renewed = Credentials::new(keys, issued, ticket, Some(&credentials.issued.root), now)?;
    if renewed.client() != credentials.client()
        || renewed.issued.coordinator != credentials.issued.coordinator
    {
        return Err(EnrolmentError::AnotherClient);
    }
    renewed.store(folder)?;
    Ok(Some(renewed))
}

/// The books of a folder under its client's number. Where they are of a number that it had before, everything that belongs to
/// that is put away first: its round, its updates, the memory of another coordinator. Every debit stays: it is about the data of
/// this machine.
///
/// # Errors
/// [`FolderError`]; it may be repeated, and whoever dies in the middle repeats it.
pub fn move_in(
    folder: &Folder,
    accounts: Accounts,
    client: ClientId,
    keys: (PublicKey, PublicKey),
) -> Result<Accounts, FolderError> {
    if accounts.budget.client() == client {
        return Ok(accounts);
    }
    tracing::warn!(
        before = accounts.budget.client().0,
        client = client.0,
        "enrolled anew; what was spent stays spent"
    );
    // An update may have begun to leave; it is in one sum at most.
    for inside in ["round", "updates", "plans", "places"] {
        folder.shred_all(inside)?;
    }
    if matches!(Watch::load(folder, keys, client), Err(LedgerError::Unsigned(_))) {
        if let Some(contradiction) = Contradiction::load(folder)? {
            contradiction.put_by(folder)?;
        }
        for task in AdapterFolder::tasks(folder.path()).unwrap_or_default() {
            let changed =
                AdapterFolder::open(folder.path(), &task).and_then(|task| task.change_coordinator());
            if let Err(error) = changed {
                tracing::warn!(%task, %error, "what the other coordinator published stays in the way");
            }
        }
        // Last: this is how it shows that the coordinator is another one.
        folder.shred("head")?;
    }
    folder.shred("revocations")?;
    let accounts = accounts.under(client);
    accounts.store(folder)?;
    Ok(accounts)
}

/// What passes is waited for.
fn pending(status: Status) -> Result<Progress, EnrolmentError> {
    if crate::daemon::is_passing(&status) {
        return Ok(Progress::Pending(crate::daemon::retry_after(&status)));
    }
    Err(EnrolmentError::Refused(Box::new(status)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn a_token_that_led_to_nothing_makes_way_for_another_with_other_keys() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let mistyped = Enrolment::begin(&folder, Some("tacit-0"), false, rng).unwrap();
        let again = Enrolment::begin(&folder, None, false, rng).unwrap();
        assert_eq!(again.public_keys(), mistyped.public_keys());
        let mut right = Enrolment::begin(&folder, Some("tacit-1"), false, rng).unwrap();
        let [before, after] = [mistyped.public_keys(), right.public_keys()];
        assert!(before.iter().all(|key| !after.contains(key)));
        // Once the coordinator has taken it, another token would make a second client.
        right.ticket = Some([7; 32]);
        right.store(&folder).unwrap();
        let refused = Enrolment::begin(&folder, Some("tacit-2"), false, rng);
        assert!(matches!(refused, Err(EnrolmentError::AnotherToken { .. })), "{refused:?}");
        let kept = Enrolment::begin(&folder, Some("tacit-1"), false, rng).unwrap();
        assert_eq!(kept.public_keys(), after);
    }

    #[test]
    fn a_folder_that_becomes_another_clients_keeps_what_was_spent() {
        use crate::budget::{Budget, Participation};
        use crate::testing::{Book, NOW, World, limits, task};
        use tacit_privacy::RdpCurve;
        use tacit_proto::fleet::RoundName;
        for foreign in [false, true] {
            let (home, world) = (tempfile::tempdir().unwrap(), World::new());
            let folder = Folder::open(home.path()).unwrap();
            let mut accounts = Accounts::new(Budget::new(ClientId(7), limits(50.0)).unwrap());
            let participation = Participation { task: task(), round: 1, context: [1; 32] };
            accounts.budget.debit(&participation, &RdpCurve::gaussian(2.0)).unwrap();
            accounts.await_outcome(&RoundName { task: task(), round: 1 }, [8; 32], NOW);
            accounts.store(&folder).unwrap();
            let spent = accounts.budget.spent().unwrap();
            let mut watch = Watch::load(&folder, world.keys(), ClientId(7)).unwrap();
            let mut book = Book::new(&world.key);
            book.reserve(1, [8; 32]);
            watch.accept(&folder, &book.prove(0, &[]), None, NOW).unwrap();
            for file in ["round/joined", "updates/rust-completion.update", "revocations"] {
                folder.write(file, KIND, b"old").unwrap();
            }
            let keys = (PublicKey([3; 32]), if foreign { PublicKey([4; 32]) } else { world.keys().1 });
            assert_eq!(
                move_in(&folder, accounts.clone(), ClientId(7), keys).unwrap(),
                accounts,
                "the same client"
            );
            let moved = move_in(&folder, accounts, ClientId(8), keys).unwrap();
            assert_eq!(Accounts::load(&folder).unwrap(), Some(moved.clone()));
            assert_eq!((moved.budget.client(), moved.budget.spent().unwrap()), (ClientId(8), spent));
            assert!(moved.awaiting.is_empty());
            for file in ["round/joined", "updates/rust-completion.update", "revocations"] {
                assert!(!folder.holds(file), "{file}");
            }
            // The memory of the coordinator is that of the same one, or none.
            let size = Watch::load(&folder, keys, ClientId(8)).unwrap().size();
            assert_eq!(size, if foreign { 0 } else { 1 });
        }
    }
}
