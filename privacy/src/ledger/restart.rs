//! Restarts: the identity root's word that a ledger goes on from an earlier head, after its coordinator was restored from a backup.
//! Must never let a coordinator go back on its own account, nor the same restart be used for two ledgers.
//!
//! A restart is an entry of the ledger that it lets go on, and the first one after the head that was restored. What came after
//! that head in the ledger that was lost is not known to the new one, and stays spent in the books of those who paid it.

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Serialize, Serializer};

use super::head::{Head, HeadError};
use super::tree::{ProofError, leaf_hash, verify_consistency, verify_inclusion};
use super::{Entry, Event, Hash, LedgerError, Task};

/// First bytes of what is signed; names format and version.
const TAG: &[u8] = b"tacit/ledger/restart/v1";
/// What the entry of a restart has for a task: it is about all of them. No task has this name.
const ALL_TASKS: &str = "*";
/// Rounds between the first of one restart and the first of the next: more than a task ever opens between two.
pub const ROUNDS_APART: u64 = 1_000_000_000;

/// Where a coordinator's ledger goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// The coordinator's public key.
    pub coordinator: [u8; 32],
    /// Number of the restart, from 1; each that the root signs has a higher one.
    pub number: u32,
    /// Entries of the ledger that was restored, and place of the restart in it.
    pub size: u64,
    /// Root of the Merkle tree over them: [`super::tree::Tree::root`].
    pub root: Hash,
}

impl Restart {
    /// What the identity root signs: the tag, then coordinator, number, size and root, integers big-endian.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let Self { coordinator, number, size, root } = self;
        [TAG, coordinator, &number.to_be_bytes(), &size.to_be_bytes(), root].concat()
    }

    /// The first round, of any task, that may be opened after it. No round of the ledger that was lost had such a number, for
    /// that ledger had seen no restart as late as this one.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        u64::from(self.number) * ROUNDS_APART
    }

    /// Puts the identity root's signature under it.
    #[must_use]
    pub fn signed(self, signature: [u8; 64]) -> SignedRestart {
        SignedRestart { restart: self, signature }
    }
}

/// A restart and a signature that may or may not be the identity root's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SignedRestart {
    /// Where the ledger goes on. Worth nothing before [`Self::verify`].
    #[serde(flatten)]
    restart: Restart,
    #[serde(serialize_with = "as_hex")]
    signature: [u8; 64],
}

impl SignedRestart {
    /// The restart, if the trusted identity root signed it.
    ///
    /// # Errors
    /// [`RestartError::Signature`].
    pub fn verify(&self, root: &[u8; 32]) -> Result<&Restart, RestartError> {
        let signature = Signature::from_bytes(&self.signature);
        VerifyingKey::from_bytes(root)
            .and_then(|key| key.verify_strict(&self.restart.payload(), &signature))
            .map(|()| &self.restart)
            .map_err(|_| RestartError::Signature { number: self.restart.number })
    }

    /// The restart as it was claimed to be, for whoever checked it before or believes the ledger that it is in.
    #[must_use]
    pub fn claimed(&self) -> &Restart {
        &self.restart
    }

    /// The signature's bytes.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Bytes of the stored form.
    pub const BYTES: usize = 32 + 4 + 8 + 32 + 64;

    /// The stored form: coordinator, number, size, root, signature.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..76].copy_from_slice(&self.restart.payload()[TAG.len()..]);
        bytes[76..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads the stored form. Every string of this length is one; only [`Self::verify`] tells what it is worth.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut coordinator, mut number, mut size) = ([0; 32], [0; 4], [0; 8]);
        let (mut root, mut signature) = ([0; 32], [0; 64]);
        coordinator.copy_from_slice(&bytes[..32]);
        number.copy_from_slice(&bytes[32..36]);
        size.copy_from_slice(&bytes[36..44]);
        root.copy_from_slice(&bytes[44..76]);
        signature.copy_from_slice(&bytes[76..]);
        let (number, size) = (u32::from_be_bytes(number), u64::from_be_bytes(size));
        Restart { coordinator, number, size, root }.signed(signature)
    }

    /// The entry's task.
    pub(super) fn task() -> Task {
        Task::new(ALL_TASKS).expect("one plain character")
    }
}

fn as_hex<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// What is shown for a restart: its entry, and that a later ledger has it where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Place of the entry, from 0.
    pub index: u64,
    /// Its canonical encoding.
    pub entry: &'a [u8],
    /// Siblings from the entry to the root of the later ledger.
    pub inclusion: &'a [Hash],
    /// That the later ledger extends the one that was restored.
    pub consistency: &'a [Hash],
}

impl Shown<'_> {
    /// The restart, if `root` signed it for `coordinator`, and the ledger under `head` has it in its place and goes on from what it
    /// names. Whether the head is the coordinator's is for the caller to know.
    ///
    /// # Errors
    /// [`RestartError`].
    pub fn verify(
        &self,
        root: &[u8; 32],
        coordinator: &[u8; 32],
        head: &Head,
    ) -> Result<SignedRestart, RestartError> {
        let entry = Entry::decode(self.entry)?;
        let Event::Restart(signed) = entry.event else { return Err(RestartError::Another) };
        let Restart { coordinator: named, number, size, root: restored } = *signed.verify(root)?;
        if named != *coordinator {
            return Err(RestartError::Coordinator { number });
        }
        if self.index != size {
            return Err(RestartError::Place { number, index: self.index, size });
        }
        verify_consistency(size, &restored, head.size, &head.root, self.consistency)?;
        verify_inclusion(&leaf_hash(self.entry), size, head.size, self.inclusion, &head.root)?;
        Ok(signed)
    }
}

/// Why a restart is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RestartError {
    /// The entry cannot be read.
    #[error(transparent)]
    Entry(#[from] LedgerError),
    /// The entry is of another kind.
    #[error("the entry that is shown for a restart is none")]
    Another,
    /// Not the identity root's signature.
    #[error("restart {number} is not signed by the identity root that this machine trusts")]
    Signature {
        /// Its number.
        number: u32,
    },
    /// Of another coordinator.
    #[error("restart {number} is another coordinator's")]
    Coordinator {
        /// Its number.
        number: u32,
    },
    /// An older one than was adopted before.
    #[error("restart {number} is older than restart {known}, which was adopted here")]
    Older {
        /// Its number.
        number: u32,
        /// The one that was adopted.
        known: u32,
    },
    /// Two restarts with one number.
    #[error(
        "the identity root has signed two restarts with the number {number}: it was used from two copies of its folder, and a \
         ledger may go on in two versions; tell the operator"
    )]
    Forked {
        /// Their number.
        number: u32,
    },
    /// Not where it belongs.
    #[error("restart {number} goes on from {size} entries, but is shown at place {index}")]
    Place {
        /// Its number.
        number: u32,
        /// Where it is shown.
        index: u64,
        /// Where it belongs.
        size: u64,
    },
    /// The ledger does not go on from it.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The head is not the coordinator's, or goes back on more than the restart allows.
    #[error(transparent)]
    Head(#[from] HeadError),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::super::head::{SignedHead, Witness};
    use super::super::tests::{COHORT, chain, commit, debit, problem, task};
    use super::super::{Ledger, Problem, Reason, Release, export, verify};
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> [u8; 32] {
        key(seed).verifying_key().to_bytes()
    }

    /// The root, and the coordinator.
    const ROOT: u8 = 1;
    const COORDINATOR: u8 = 7;

    fn from(ledger: &Ledger, number: u32) -> Restart {
        let (size, root) = (ledger.size(), ledger.tree().root());
        Restart { coordinator: public(COORDINATOR), number, size, root }
    }

    fn sign(restart: Restart, seed: u8) -> SignedRestart {
        restart.signed(key(seed).sign(&restart.payload()).to_bytes())
    }

    /// The [`chain`], which has an open round, with a restart at its end.
    pub(in super::super) fn restarted() -> (Ledger, Vec<Entry>) {
        let (mut ledger, mut entries) = chain();
        let signed = sign(from(&ledger, 3), ROOT);
        entries.push(ledger.append_restart(5, signed).unwrap());
        (ledger, entries)
    }

    /// Opens another round, numbered `round`.
    fn open(ledger: &mut Ledger, round: u64) -> Result<Entry, LedgerError> {
        let Event::Reserve(reserve) = chain().1[0].event.clone() else { unreachable!("it opens a round") };
        ledger.append(9, task("rust"), round, Event::Reserve(reserve))
    }

    #[test]
    fn a_ledger_goes_on_from_itself_alone_under_a_higher_number() {
        let (ledger, _) = chain();
        let good = from(&ledger, 3);
        for bad in [Restart { size: 6, ..good }, Restart { root: [0; 32], ..good }] {
            let refused = problem(ledger.clone().append_restart(5, sign(bad, ROOT)));
            assert_eq!(refused, Problem::OtherRestart { number: 3, size: bad.size });
        }
        let event = Event::Restart(sign(good, ROOT));
        for (task, round) in [(task("rust"), good.first_round()), (SignedRestart::task(), 3)] {
            let refused = problem(ledger.clone().append(5, task, round, event.clone()));
            assert_eq!(refused, Problem::OtherRestart { number: 3, size: 7 });
        }
        let refused = problem(ledger.clone().append_restart(5, sign(from(&ledger, 0), ROOT)));
        assert_eq!(refused, Problem::RestartNotAfter { before: 0 });
        let (mut ledger, entries) = restarted();
        assert_eq!(verify(&entries).unwrap(), ledger);
        assert_eq!(ledger.restarts(), [sign(good, ROOT)]);
        assert_eq!(SignedRestart::from_bytes(&sign(good, ROOT).to_bytes()), sign(good, ROOT));
        for number in [2, 3] {
            let refused = problem(ledger.append_restart(5, sign(from(&ledger, number), ROOT)));
            assert_eq!(refused, Problem::RestartNotAfter { before: 3 });
        }
        ledger.append_restart(5, sign(from(&ledger, 4), ROOT)).unwrap();
        assert_eq!(ledger.first_round(), 4 * ROUNDS_APART);
    }

    #[test]
    fn after_a_restart_no_old_number_is_opened_and_no_old_round_ended() {
        let (mut before, _) = chain();
        let (mut ledger, _) = restarted();
        let first = 3 * ROUNDS_APART;
        assert_eq!((before.first_round(), ledger.first_round()), (0, first));
        open(&mut before, 3).unwrap();
        for round in [3, first - 1] {
            assert_eq!(problem(open(&mut ledger, round)), Problem::RoundBeforeRestart { first });
        }
        let opened = ledger.open_round(&task("rust"), 2).unwrap().clone();
        let release = Release { reservation: 3, reason: Reason::new("lost").unwrap() };
        let paid = debit(&opened, &COHORT, 3);
        for end in [Event::Release(release), Event::Commit(commit(paid.clone())), Event::Forfeit(paid)] {
            let refused = problem(ledger.append(9, task("rust"), 2, end));
            assert_eq!(refused, Problem::BeforeRestart { number: 3 });
        }
        open(&mut ledger, first).unwrap();
        let opened = ledger.open_round(&task("rust"), first).unwrap().clone();
        ledger.append(9, task("rust"), first, Event::Forfeit(debit(&opened, &COHORT, 3))).unwrap();
        assert_eq!(ledger.open().count(), 1, "what was open stays so, and counts as spent");
    }

    /// A ledger of which a backup was made after `kept` entries of [`chain`], which was restored and went on.
    struct Restored {
        ledger: Ledger,
        entry: Vec<u8>,
        signed: SignedRestart,
    }

    fn restored(kept: usize, restart: impl FnOnce(Restart) -> Restart, signer: u8) -> Restored {
        let mut ledger = verify(&chain().1[..kept]).unwrap();
        let signed = sign(restart(from(&ledger, 3)), signer);
        let entry = ledger.append_restart(5, signed).unwrap().encode();
        open(&mut ledger, signed.claimed().first_round()).unwrap();
        Restored { ledger, entry, signed }
    }

    impl Restored {
        fn head(&self) -> SignedHead {
            let (size, root) = (self.ledger.size(), self.ledger.tree().root());
            Head { size, root, time: 6 }.sign(&key(COORDINATOR))
        }

        /// Shows head and restart to a witness, with the proof for what it saw where there is one.
        fn show(&self, witness: &mut Witness) -> Result<bool, RestartError> {
            let (tree, size) = (self.ledger.tree(), self.signed.claimed().size);
            let inclusion = tree.inclusion(size, tree.size()).unwrap();
            let consistency = tree.consistency(size, tree.size()).unwrap();
            let proof = tree.consistency(witness.size(), tree.size()).unwrap_or_default();
            let shown =
                Shown { index: size, entry: &self.entry, inclusion: &inclusion, consistency: &consistency };
            witness.accept_restart(self.head(), &proof, &shown, &public(ROOT))
        }
    }

    fn witness(size: usize) -> Witness {
        let ledger = verify(&chain().1[..size]).unwrap();
        let mut witness = Witness::new(public(COORDINATOR));
        let head = Head { size: ledger.size(), root: ledger.tree().root(), time: 1 };
        witness.accept(head.sign(&key(COORDINATOR)), &[]).unwrap();
        witness
    }

    #[test]
    fn a_witness_goes_back_once_for_each_restart_and_no_further() {
        // Behind the backup, at it, and ahead of it by less and by more than the restored ledger has by now.
        for size in [2, 4, 5, 7] {
            let (good, mut ahead) = (restored(4, |good| good, ROOT), witness(size));
            assert_eq!((ahead.restart_number(), ahead.first_round()), (0, 0));
            assert_eq!(good.show(&mut ahead), Ok(true), "{size}");
            assert_eq!((ahead.size(), ahead.seen()), (6, Some(&good.head())));
            assert_eq!((ahead.restart_number(), ahead.first_round()), (3, 3 * ROUNDS_APART));
            assert_eq!(good.show(&mut ahead), Ok(false), "the same again");
            let stored = Witness::restore(public(COORDINATOR), good.head(), Some(good.signed));
            assert_eq!(stored, Ok(ahead.clone()));
            // Adopted once, it lets nobody go back any more.
            let mut longer = restored(4, |good| good, ROOT);
            open(&mut longer.ledger, 3 * ROUNDS_APART + 1).unwrap();
            assert_eq!(longer.show(&mut ahead), Ok(false));
            let back = HeadError::RolledBack { size: 6, seen: 7 };
            assert_eq!(good.show(&mut ahead), Err(back.into()));
        }
        // Nor does it excuse a ledger that contradicts what came before the backup.
        let mut other = witness(0);
        let fork = Head { size: 3, root: [9; 32], time: 1 };
        other.accept(fork.sign(&key(COORDINATOR)), &[]).unwrap();
        let refused = restored(4, |good| good, ROOT).show(&mut other);
        assert!(matches!(refused, Err(RestartError::Head(HeadError::Proof(_)))), "{refused:?}");
    }

    #[test]
    fn a_restart_of_anybody_else_or_out_of_turn_is_refused_and_changes_nothing() {
        let later = |good| Restart { number: 5, ..good };
        let (fresh, mut known) = (witness(7), witness(7));
        restored(4, later, ROOT).show(&mut known).unwrap();
        let (signature, number) = (RestartError::Signature { number: 3 }, 3);
        let foreign = |good| Restart { coordinator: public(8), ..good };
        let cases = [
            (&fresh, restored(4, |good| good, 2), signature),
            (&fresh, restored(4, foreign, ROOT), RestartError::Coordinator { number }),
            (&known, restored(4, |good| good, ROOT), RestartError::Older { number, known: 5 }),
            (&known, restored(3, later, ROOT), RestartError::Forked { number: 5 }),
        ];
        for (witness, restored, expected) in cases {
            let mut after = witness.clone();
            assert_eq!(restored.show(&mut after), Err(expected));
            assert_eq!(after, *witness);
        }
    }

    #[test]
    fn a_restart_is_where_its_ledger_has_it() {
        let good = restored(4, |good| good, ROOT);
        let (tree, head) = (good.ledger.tree(), Head { size: 6, root: good.ledger.tree().root(), time: 6 });
        let (inclusion, consistency) = (tree.inclusion(4, 6).unwrap(), tree.consistency(4, 6).unwrap());
        let shown = Shown { index: 4, entry: &good.entry, inclusion: &inclusion, consistency: &consistency };
        let verify = |shown: Shown<'_>| shown.verify(&public(ROOT), &public(COORDINATOR), &head);
        assert_eq!(verify(shown), Ok(good.signed));
        let refused = verify(Shown { index: 3, ..shown });
        assert_eq!(refused, Err(RestartError::Place { number: 3, index: 3, size: 4 }));
        assert!(matches!(verify(Shown { inclusion: &[], ..shown }), Err(RestartError::Proof(_))));
        assert!(matches!(verify(Shown { consistency: &[], ..shown }), Err(RestartError::Proof(_))));
        let opening = chain().1[0].encode();
        assert_eq!(verify(Shown { entry: &opening, ..shown }), Err(RestartError::Another));
        assert!(matches!(verify(Shown { entry: &[], ..shown }), Err(RestartError::Entry(_))));
        // Signed for this ledger, but told of a longer one that does not go on from it.
        let mut other = Ledger::new();
        open(&mut other, 1).unwrap();
        let lied = Restart { root: other.tree().root(), ..*good.signed.claimed() };
        let entry = Entry { event: Event::Restart(sign(lied, ROOT)), ..Entry::decode(&good.entry).unwrap() };
        assert!(matches!(verify(Shown { entry: &entry.encode(), ..shown }), Err(RestartError::Proof(_))));
        for place in 0..good.entry.len() {
            let mut changed = good.entry.clone();
            changed[place] ^= 1;
            assert!(verify(Shown { entry: &changed, ..shown }).is_err(), "byte {place}");
        }
    }

    #[test]
    fn an_export_shows_the_restart_and_refuses_another_coordinators() {
        let text = |ledger: &Ledger, entries: &[Entry], seed: u8| {
            let head = Head { size: ledger.size(), root: ledger.tree().root(), time: 6 };
            let lines = entries.iter().map(|entry| match entry.event.debit().map(|debit| debit.survivors) {
                Some(6) => export::entry_line(entry, &COHORT[..6]),
                Some(_) => export::entry_line(entry, &COHORT[1..]),
                None => export::entry_line(entry, &[]),
            });
            let lines: Vec<String> = lines.collect();
            [export::FIRST_LINE, &lines.concat(), &export::head_line(&head.sign(&key(seed)))].concat()
        };
        let (ledger, entries) = restarted();
        let audited = export::verify(&text(&ledger, &entries, COORDINATOR), &public(COORDINATOR)).unwrap();
        let [signed] = audited.ledger.restarts() else { panic!("{:?}", audited.ledger.restarts()) };
        assert_eq!(signed.verify(&public(ROOT)), Ok(&from(&chain().0, 3)));
        assert_eq!(signed.verify(&public(2)), Err(RestartError::Signature { number: 3 }));
        let refused = export::verify(&text(&ledger, &entries, 8), &public(8)).unwrap_err();
        let problem = export::ExportProblem::Restart(RestartError::Coordinator { number: 3 });
        assert_eq!(refused.problem, problem);
    }

    #[test]
    fn a_restart_can_be_shown_as_json() {
        let (_, entries) = restarted();
        let shown = serde_json::to_value(&entries[7]).unwrap();
        assert_eq!((&shown["task"], &shown["round"]), (&"*".into(), &3_000_000_000_u64.into()));
        assert_eq!((&shown["event"]["event"], &shown["event"]["number"]), (&"restart".into(), &3.into()));
        assert_eq!(shown["event"]["signature"].as_str().unwrap().len(), 128);
    }
}
