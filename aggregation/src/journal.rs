//! What both sides store so that a crash changes nothing they say: self-contained records with a version, a binding to their
//! round and a checksum. Must never be applied in part, nor taken for one of another round.
//!
//! A session ([`crate::client::Session`], [`crate::server::Session`]) hands a [`Record`] to the caller's store before it hands
//! out the answer that follows from it, and comes back from the records to the same answers, byte for byte. Records of one
//! step may be read in any order; [`Key::to_bytes`] sorts the steps.
//!
//! The checksum is against accidents. Who can write to the store is trusted, as it is with the secrets that lie there.

mod codec;
mod messages;

pub(crate) use codec::{Bytes, Reader, Stored, Writer, stored, write_bytes, write_list};

use crate::context::{Context, Fields, Short};
use crate::identity::ClientId;
use crate::params::RoundTerms;
use crate::{Digest, Step};
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// Version of the stored form. Another one is refused: a round does not outlive an upgrade that changes it.
pub const VERSION: u8 = 2;

/// Version, kind, key, round, context.
const HEADER: usize = 2 + Key::BYTES + 32 + 32;
/// SHA-256 over all that goes before.
const TAG: usize = 32;

/// The place of a record among those of its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The step.
    pub step: Step,
    /// The place within the step.
    pub slot: Slot,
}

/// The place of a record among those of its step, in the order in which they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The running sum of the masked vectors.
    Checkpoint,
    /// What one client said, or that it was excluded; on a client, its own.
    Member(ClientId),
    /// The end of the step; on a client, of its part in the round.
    Closed,
}

impl Key {
    /// Length of the stored form, in bytes.
    pub const BYTES: usize = 10;

    /// A form that sorts as the records must be read. The round is not in it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (slot, client) = match self.slot {
            Slot::Checkpoint => (0, 0),
            Slot::Member(client) => (1, client.0),
            Slot::Closed => (2, 0),
        };
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.step as u8;
        bytes[1] = slot;
        bytes[2..].copy_from_slice(&client.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let step = Step::ALL.into_iter().find(|step| *step as u8 == bytes[0])?;
        let (_, client) = bytes.split_last_chunk::<8>()?;
        let slot = match (bytes[1], u64::from_be_bytes(*client)) {
            (0, 0) => Slot::Checkpoint,
            (1, client) => Slot::Member(ClientId(client)),
            (2, 0) => Slot::Closed,
            _ => return None,
        };
        Some(Self { step, slot })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Slot::Checkpoint => write!(f, "checkpoint in {}", self.step),
            Slot::Member(client) => write!(f, "record of client {client} in {}", self.step),
            Slot::Closed => write!(f, "end of {}", self.step),
        }
    }
}

/// What to store under a key. Its bytes hold secrets: they are zeroised on drop and not printed.
pub struct Record {
    key: Key,
    kind: Kind,
    bytes: Zeroizing<Vec<u8>>,
}

impl Record {
    /// Where to store it. There is one record per key and round; a checkpoint replaces the one before it.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// What to store.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether all other records of the round are to be deleted in the same write: the client's part is over, and with it
    /// the use of its secrets.
    #[must_use]
    pub fn replaces_all(&self) -> bool {
        matches!(self.kind, Kind::Finished | Kind::Left)
    }

    pub(crate) fn tag(&self) -> Digest {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&self.bytes[self.bytes.len() - TAG..]);
        tag
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}, {} bytes)", self.key, self.bytes.len())
    }
}

/// Stored bytes that do not bring a session back. Nothing was restored then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Cut off.
    #[error("a record of {bytes} bytes is cut off")]
    Truncated {
        /// Its bytes.
        bytes: usize,
    },
    /// Written by another version.
    #[error(
        "a record has format version {version} where {VERSION} is read: finish the round with the version that began it"
    )]
    Version {
        /// The version.
        version: u8,
    },
    /// A bit flipped, or bytes are missing.
    #[error("the checksum of the {key} does not match: restore the store from a copy, or leave the round")]
    Corrupted {
        /// What the damaged record says that it is.
        key: ClaimedKey,
    },
    /// Its checksum holds, but this side does not write such a record, or not in this form.
    #[error("the {key} is not one that this side of the round writes")]
    Malformed {
        /// Its key.
        key: Key,
    },
    /// Of another round, plan or owner.
    #[error("the {key} belongs to another round, plan or owner")]
    ForeignRound {
        /// Its key.
        key: Key,
    },
    /// Of another cohort.
    #[error("the {key} belongs to another cohort of this round")]
    ForeignContext {
        /// Its key.
        key: Key,
    },
    /// Before or after its time.
    #[error("the {key} comes where the records before it lead to {due}")]
    OutOfOrder {
        /// Its key.
        key: Key,
        /// The step that is open.
        due: Step,
    },
    /// Two records of one key.
    #[error("there are two of the {key}")]
    Repeated {
        /// The key.
        key: Key,
    },
    /// A step was closed over other records than those that are there.
    #[error("{step} was closed over {closed} records, and other ones ({found}) are stored: some are lost")]
    Incomplete {
        /// The step.
        step: Step,
        /// Records that were there when the step was closed.
        closed: u32,
        /// Records found.
        found: u32,
    },
    /// A record without which the others mean nothing.
    #[error("the {key} is missing")]
    Missing {
        /// Its key.
        key: Key,
    },
    /// What was accepted then is refused now: the setup is not that of the records.
    #[error("the {key} is refused with this setup: {reason}")]
    Refused {
        /// Its key.
        key: Key,
        /// Why.
        reason: String,
    },
}

/// The key that a damaged record claims, if it can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedKey(pub Option<Key>);

impl fmt::Display for ClaimedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => key.fmt(f),
            None => f.write_str("record"),
        }
    }
}

/// Why an event was not answered: by the protocol, or because its record could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered<R, S> {
    /// The event is refused.
    #[error(transparent)]
    Refused(#[from] R),
    /// The caller's store failed. The session is spent, for nobody knows what was written: restore it from the records.
    #[error("the answer is held back because its record could not be stored: {0}")]
    NotStored(S),
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    // A client's.
    Started = 1,
    Cohort = 2,
    Masked = 3,
    Maps = 4,
    Finished = 5,
    Left = 6,
    // The server's.
    Message = 16,
    Excluded = 17,
    Closed = 18,
    Checkpoint = 19,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Started,
        Self::Cohort,
        Self::Masked,
        Self::Maps,
        Self::Finished,
        Self::Left,
        Self::Message,
        Self::Excluded,
        Self::Closed,
        Self::Checkpoint,
    ];
}

/// Whose records of which round: what binds each of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope(Digest);

impl Scope {
    /// Of a client, or of the server.
    pub(crate) fn new(terms: &RoundTerms, owner: Option<ClientId>) -> Self {
        let fields = Fields::new("journal")
            .bytes(owner.map_or(Vec::new(), |client| client.0.to_be_bytes().to_vec()).as_slice())
            .bytes(terms.task.as_str().as_bytes())
            .integer(terms.round)
            .bytes(&terms.plan)
            .bytes(terms.parents.as_flattened())
            .bytes(&terms.ledger_head)
            .integer(terms.dimension.into())
            .integer(terms.bits.into())
            .bytes(terms.threat.to_string().as_bytes())
            .integer(terms.corrupt_bp.into())
            .integer(terms.dropout_bp.into())
            .integer(terms.correctness_bits.into())
            .integer(terms.cohort_min.into())
            .integer(terms.cohort_max.into())
            .integer(terms.n_min.into());
        Self(fields.digest())
    }

    /// Writes a record; before the cohort is closed there is no context.
    pub(crate) fn record(
        &self,
        key: Key,
        kind: Kind,
        context: Option<&Context>,
        body: impl FnOnce(&mut Writer),
    ) -> Record {
        let mut writer = Writer::new(1024);
        writer.bytes(&[VERSION, kind as u8]);
        writer.bytes(&key.to_bytes());
        writer.bytes(&self.0);
        writer.bytes(context.map_or(&[0; 32], Context::as_bytes).as_slice());
        body(&mut writer);
        let tag = checksum(writer.written());
        writer.bytes(&tag);
        Record { key, kind, bytes: writer.into_bytes() }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", Short(&self.0))
    }
}

/// A record whose checksum holds and that belongs to the round.
pub(crate) struct Frame<'a> {
    pub(crate) key: Key,
    pub(crate) kind: Kind,
    pub(crate) context: Digest,
    pub(crate) tag: Digest,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks version, checksum and round.
    pub(crate) fn read(scope: &Scope, bytes: &'a [u8]) -> Result<Self, JournalError> {
        if bytes.len() < HEADER + TAG {
            return Err(JournalError::Truncated { bytes: bytes.len() });
        }
        if bytes[0] != VERSION {
            return Err(JournalError::Version { version: bytes[0] });
        }
        let (covered, tag) = bytes.split_at(bytes.len() - TAG);
        let mut header = Reader::new(&covered[1..HEADER]);
        let kind = u8::read(&mut header);
        let key = <[u8; Key::BYTES]>::read(&mut header).and_then(|key| Key::from_bytes(&key));
        if checksum(covered) != tag {
            return Err(JournalError::Corrupted { key: ClaimedKey(key) });
        }
        let known = kind.and_then(|kind| Kind::ALL.into_iter().find(|known| *known as u8 == kind));
        let (Some(key), Some(kind), Some(round), Some(context)) =
            (key, known, Digest::read(&mut header), Digest::read(&mut header))
        else {
            return Err(JournalError::Corrupted { key: ClaimedKey(key) });
        };
        if round != scope.0 {
            return Err(JournalError::ForeignRound { key });
        }
        let tag = checksum(covered);
        Ok(Self { key, kind, context, tag, body: &covered[HEADER..] })
    }

    /// Checks that the record belongs to a context; none before the cohort is closed.
    pub(crate) fn within(&self, context: Option<&Context>) -> Result<(), JournalError> {
        if self.context == *context.map_or(&[0; 32], Context::as_bytes) {
            return Ok(());
        }
        Err(JournalError::ForeignContext { key: self.key })
    }

    /// Reads the whole body as one value.
    pub(crate) fn body<T: Stored>(&self) -> Result<T, JournalError> {
        let mut reader = Reader::new(self.body);
        T::read(&mut reader).filter(|_| reader.is_empty()).ok_or(self.malformed())
    }

    pub(crate) fn malformed(&self) -> JournalError {
        JournalError::Malformed { key: self.key }
    }

    /// What was accepted once does not hold any more.
    pub(crate) fn refused(&self, reason: &impl fmt::Display) -> JournalError {
        JournalError::Refused { key: self.key, reason: reason.to_string() }
    }
}

fn checksum(covered: &[u8]) -> Digest {
    let mut hash = Sha256::new_with_prefix(b"tacit/secagg/v1/record");
    hash.update(covered);
    hash.finalize().into()
}

/// Digest of what is written, to know a repeat by.
pub(crate) fn digest_of(write: impl FnOnce(&mut Writer)) -> Digest {
    let mut writer = Writer::new(1024);
    write(&mut writer);
    Sha256::digest(writer.written()).into()
}

#[cfg(test)]
mod tests {
    use super::{Frame, JournalError, Key, Kind, Scope, Slot, Stored as _};
    use crate::Step;
    use crate::identity::ClientId;
    use crate::params::RoundTerms;
    use crate::params::tests_support::terms;

    #[test]
    fn keys_sort_as_the_records_are_read() {
        let mut keys = Vec::new();
        for step in Step::ALL {
            keys.push(Key { step, slot: Slot::Checkpoint });
            keys.extend(
                [0, 1, 256, u64::MAX].map(|client| Key { step, slot: Slot::Member(ClientId(client)) }),
            );
            keys.push(Key { step, slot: Slot::Closed });
        }
        assert!(keys.is_sorted());
        let bytes: Vec<_> = keys.iter().map(|key| key.to_bytes()).collect();
        assert!(bytes.is_sorted());
        assert!(keys.iter().zip(&bytes).all(|(key, bytes)| Key::from_bytes(bytes) == Some(*key)));
        for bad in
            [[0, 1, 0, 0, 0, 0, 0, 0, 0, 1], [6, 1, 0, 0, 0, 0, 0, 0, 0, 1], [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]]
        {
            assert_eq!(Key::from_bytes(&bad), None);
        }
    }

    #[test]
    fn a_body_is_read_whole_or_not_at_all() {
        let scope = Scope::new(&terms(), None);
        let key = Key { step: Step::Share, slot: Slot::Closed };
        let record = scope.record(key, Kind::Closed, None, |writer| [1u32, 2, 3].to_vec().write(writer));
        let frame = Frame::read(&scope, record.bytes()).expect("its own record");
        assert_eq!(frame.body::<Vec<u32>>(), Ok(vec![1, 2, 3]));
        assert_eq!((frame.key, frame.kind, frame.tag), (key, Kind::Closed, record.tag()));
        let malformed = JournalError::Malformed { key };
        assert_eq!(frame.body::<u32>(), Err(malformed.clone()), "bytes are left");
        assert_eq!(frame.body::<Vec<u64>>(), Err(malformed), "bytes are missing");
        assert!(frame.within(None).is_ok());
    }

    #[test]
    fn a_record_is_bound_to_all_of_the_terms_and_to_its_owner() {
        let owner = Some(ClientId(3));
        let mut scopes = vec![Scope::new(&terms(), None), Scope::new(&terms(), owner)];
        let changes: [fn(&mut RoundTerms); 14] = [
            |t| t.task = crate::params::TaskName::new("other").expect("a name"),
            |t| t.round += 1,
            |t| t.plan[0] ^= 1,
            |t| t.parents.truncate(1),
            |t| t.ledger_head[0] ^= 1,
            |t| t.dimension += 1,
            |t| t.bits += 1,
            |t| t.threat = crate::params::ThreatModel::HonestButCurious,
            |t| t.corrupt_bp += 1,
            |t| t.dropout_bp += 1,
            |t| t.correctness_bits += 1,
            |t| t.cohort_min += 1,
            |t| t.cohort_max += 1,
            |t| t.n_min += 1,
        ];
        for change in changes {
            let mut terms = terms();
            change(&mut terms);
            scopes.push(Scope::new(&terms, owner));
        }
        let key = Key { step: Step::Advertise, slot: Slot::Member(ClientId(3)) };
        for (index, scope) in scopes.iter().enumerate() {
            let record = scope.record(key, Kind::Started, None, |writer| 7u8.write(writer));
            for (other, reader) in scopes.iter().enumerate() {
                let read = Frame::read(reader, record.bytes()).map(|frame| frame.key);
                let expected = if index == other { Ok(key) } else { Err(JournalError::ForeignRound { key }) };
                assert_eq!(read, expected, "{index} read as {other}");
            }
        }
    }
}
