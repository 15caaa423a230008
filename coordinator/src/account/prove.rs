//! What clients are shown of the ledger. Must never sign a head over entries that a crash could undo.

use super::tables::{self, LedgerRounds, Members};
use super::{Account, Millis};
use crate::store::{Records, Store, StoreError};
use tacit_aggregation::Digest;
use tacit_aggregation::identity::PublicKey;
use tacit_privacy::ledger::head::{Head, SignedHead};
use tacit_privacy::ledger::restart::SignedRestart;
use tacit_proto::CoordinatorKey;
use tacit_proto::fleet::RoundName;
use tacit_proto::ledger::{LedgerProof, MAX_ROUNDS, Prove, ProvedEntry, ProvedRestart, RoundEntries};

impl Account {
    /// The head over all entries that were saved, signed. The batch that [`Account::save`] moved them into must have been
    /// committed before the head is given away.
    #[must_use]
    pub fn signed_head(&self, key: &CoordinatorKey, now: Millis) -> SignedHead {
        let root = self.ledger.tree().root_at(self.saved).expect("what was saved is in the tree");
        key.sign_head(Head { size: self.saved, root, time: now })
    }

    /// The signed head, the proof that it extends the ledger that the caller saw, and the entries of the rounds that it asks
    /// about; and the next restart for it that `root` has signed. Rounds that the ledger does not know are left out, and so are
    /// those beyond the first [`MAX_ROUNDS`]. A caller that saw more entries than there are gets no proof: it has caught a
    /// coordinator that was rolled back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prove(
        &self,
        prove: &Prove,
        store: &dyn Store,
        (root, key): (&PublicKey, &CoordinatorKey),
        now: Millis,
    ) -> Result<LedgerProof, StoreError> {
        let consistency = self.ledger.tree().consistency(prove.since, self.saved).unwrap_or_default();
        let asked = prove.rounds.iter().take(MAX_ROUNDS);
        let found: Result<Vec<_>, _> = asked.map(|round| self.round_entries(round, store)).collect();
        let rounds = found?.into_iter().flatten().collect();
        let restart = self.restart_after(prove.restart, root, store)?.map(Box::new);
        Ok(LedgerProof { head: self.signed_head(key, now), consistency, rounds, restart })
    }

    /// Number of the last restart that `root` has signed; 0 where it has signed none.
    #[must_use]
    pub fn last_restart(&self, root: &PublicKey) -> u32 {
        let signed = |restart: &SignedRestart| restart.verify(&root.0).ok().map(|restart| restart.number);
        self.ledger.restarts().iter().rev().find_map(signed).unwrap_or(0)
    }

    /// The first restart with a higher number. One that an earlier root has signed is for the clients of that root: the others
    /// would take it for a forgery, and have seen nothing of what it left behind.
    fn restart_after(
        &self,
        number: u32,
        root: &PublicKey,
        store: &dyn Store,
    ) -> Result<Option<ProvedRestart>, StoreError> {
        let later = self.ledger.restarts().iter().filter(|restart| restart.claimed().number > number);
        let Some(restart) = later.map(|restart| restart.verify(&root.0)).find_map(Result::ok) else {
            return Ok(None);
        };
        let consistency = self.ledger.tree().consistency(restart.size, self.saved);
        let Some((inclusion, consistency)) = self.inclusion(restart.size).zip(consistency) else {
            return Ok(None);
        };
        let entry =
            ProvedEntry { index: restart.size, entry: tables::entry(store, restart.size)?, inclusion };
        Ok(Some(ProvedRestart { entry, consistency }))
    }

    fn round_entries(
        &self,
        round: &RoundName,
        store: &dyn Store,
    ) -> Result<Option<RoundEntries>, StoreError> {
        let key = (round.task.as_str().to_owned(), round.round);
        let Some(row) = Records(store).get::<LedgerRounds>(&key)? else { return Ok(None) };
        let mut entries = Vec::new();
        for index in row.places() {
            if let Some(inclusion) = self.inclusion(index) {
                entries.push(ProvedEntry { index, entry: tables::entry(store, index)?, inclusion });
            }
        }
        // Whoever is a member of the entry that ended the round pays; nobody does after a release.
        let paid = row.end.map(|end| Records(store).get::<Members>(&end)).transpose()?.flatten();
        Ok(Some(RoundEntries { round: round.clone(), entries, participants: paid.unwrap_or_default() }))
    }

    /// The proof that an entry is under [`Self::signed_head`]; none for one that is not.
    fn inclusion(&self, index: u64) -> Option<Vec<Digest>> {
        self.ledger.tree().inclusion(index, self.saved)
    }
}
