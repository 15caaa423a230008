//! The ledger as a text that an auditor verifies offline, with nothing but the coordinator's public key.
//! Must never pass with one byte changed.
//!
//! The first line names the format. Then one line for each entry: its canonical encoding, a space, and the participants who
//! pay, eight bytes each, or `-` where nobody does. The last line is the signed head. Bytes are lower-case hexadecimal,
//! each line ends with a line feed. So a ledger and a head have one export.

use super::head::{HeadError, SignedHead};
use super::restart::RestartError;
use super::tree::ProofError;
use super::{Debit, Decoder, Entry, Ledger, LedgerError, Problem, members_root};
use crate::accountant::AccountantError;
use crate::book::{ClientNumber, ParticipationBook};
use crate::number::shortest;

/// The first line.
pub const FIRST_LINE: &str = "tacit ledger export v1\n";
/// Begins the last line.
const HEAD: &str = "head ";
/// Stands for no participants.
const NOBODY: &str = "-";

/// The line of an entry, with the participants who pay in increasing order; none but for a commit or a forfeit.
#[must_use]
pub fn entry_line(entry: &Entry, participants: &[ClientNumber]) -> String {
    let numbers: Vec<u8> = participants.iter().flat_map(|client| client.to_be_bytes()).collect();
    let numbers = if numbers.is_empty() { NOBODY.to_owned() } else { hex::encode(numbers) };
    format!("{} {numbers}\n", hex::encode(entry.encode()))
}

/// The last line.
#[must_use]
pub fn head_line(head: &SignedHead) -> String {
    format!("{HEAD}{}\n", hex::encode(head.to_bytes()))
}

/// An export that was read to its end, and is what the coordinator signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Audited {
    /// The ledger.
    pub ledger: Ledger,
    /// What each client has spent, recomputed.
    pub book: ParticipationBook,
    /// The head under the coordinator's signature.
    pub head: SignedHead,
}

/// Why an export is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line} of the export: {problem}")]
pub struct ExportError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: ExportProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExportProblem {
    /// Not what belongs there.
    #[error("it is not {expected}, written as this format writes it: the file was changed or cut")]
    Form {
        /// What belongs there.
        expected: &'static str,
    },
    /// The entry is refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A debit states less than its participants have spent.
    #[error(
        "it states epsilon {}, but the participants shown have spent {} by then",
        shortest(*stated),
        shortest(*spent)
    )]
    Understated {
        /// The epsilon stated.
        stated: f64,
        /// The epsilon recomputed.
        spent: f64,
    },
    /// What was spent cannot be stated.
    #[error(transparent)]
    Cost(#[from] AccountantError),
    /// The head is not the coordinator's, or of another ledger.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A restart is another coordinator's.
    #[error(transparent)]
    Restart(#[from] RestartError),
}

/// Reads an export line by line, and remembers what an audit needs.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    lines: usize,
    decoder: Decoder,
    ledger: Ledger,
    book: ParticipationBook,
    head: Option<SignedHead>,
}

impl Auditor {
    /// Before the first line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line, with the line feed at its end, and returns its entry if it has one.
    ///
    /// Checks the entry as [`Ledger::push`] does, the participants against the root that it states, and that the epsilon stated
    /// is not below what the participants so far have spent. (It may be above: open reservations count as spent.)
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn line(&mut self, line: &str) -> Result<Option<Entry>, ExportError> {
        self.lines += 1;
        let number = self.lines;
        self.take(line).map_err(|problem| ExportError { line: number, problem })
    }

    /// What each client has spent by the lines so far. Whether the coordinator signed them shows at the end.
    #[must_use]
    pub fn book(&self) -> &ParticipationBook {
        &self.book
    }

    /// After the last line: the ledger, if it is the one that the coordinator signed. What was spent in a ledger that a restart
    /// has left behind ([`Ledger::restarts`]) is in none of its figures; whoever knows the identity root's key checks with
    /// [`super::restart::SignedRestart::verify`] that it allowed each.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn finish(self, coordinator: &[u8; 32]) -> Result<Audited, ExportError> {
        let Self { lines, ledger, book, head, .. } = self;
        let wrong = |problem| ExportError { line: lines, problem };
        let head = head.ok_or_else(|| wrong(ExportProblem::Form { expected: "the signed head" }))?;
        let signed = head.verify(coordinator).map_err(|error| wrong(error.into()))?;
        if (signed.size, signed.root) != (ledger.size(), ledger.tree().root()) {
            let differs = ProofError::NotExtended { before: ledger.size(), size: signed.size };
            return Err(wrong(HeadError::from(differs).into()));
        }
        if let Some(other) =
            ledger.restarts().iter().find(|signed| signed.claimed().coordinator != *coordinator)
        {
            return Err(wrong(RestartError::Coordinator { number: other.claimed().number }.into()));
        }
        Ok(Audited { ledger, book, head })
    }

    fn take(&mut self, line: &str) -> Result<Option<Entry>, ExportProblem> {
        if self.lines == 1 {
            return as_written(line == FIRST_LINE, "the name of the format").map(|()| None);
        }
        as_written(self.head.is_none(), "the end of the file")?;
        if let Some(text) = line.strip_prefix(HEAD) {
            let mut bytes = [0; SignedHead::BYTES];
            let head = hex::decode_to_slice(text.trim_end(), &mut bytes)
                .map(|()| SignedHead::from_bytes(&bytes))
                .map_err(|_| ExportProblem::Form { expected: "a head" })?;
            self.head = Some(head);
            return as_written(head_line(&head) == line, "a head").map(|()| None);
        }
        let expected = "an entry and its participants";
        let form = || ExportProblem::Form { expected };
        let (entry, participants) = line.trim_end().split_once(' ').ok_or_else(form)?;
        let entry = self.decoder.decode(&hex::decode(entry).map_err(|_| form())?)?;
        let participants = read_numbers(participants).ok_or_else(form)?;
        as_written(entry_line(&entry, &participants) == line, expected)?;
        self.ledger.push(&entry)?;
        match entry.event.debit() {
            Some(debit) => self.debit(&entry, debit, participants)?,
            None => as_written(participants.is_empty(), "an entry for which nobody pays")?,
        }
        Ok(Some(entry))
    }

    /// Debits the participants shown with an entry that has just been appended.
    fn debit(
        &mut self,
        entry: &Entry,
        debit: &Debit,
        participants: Vec<ClientNumber>,
    ) -> Result<(), ExportProblem> {
        let increasing = participants.is_sorted_by(|one, next| one < next);
        let complete = participants.len() == debit.survivors as usize;
        let stated = debit.participants_root;
        if !increasing || !complete || members_root(participants.iter().copied()) != stated {
            return Err(ExportProblem::Ledger(LedgerError::Refused {
                index: self.ledger.size() - 1,
                task: entry.task.clone(),
                round: entry.round,
                problem: Problem::Participants { stated },
            }));
        }
        self.book.debit_all(participants, &debit.cost()?);
        let (stated, spent) = (debit.epsilon, self.book.max_epsilon(debit.delta)?);
        // Another machine's logarithm may differ in its last bits.
        if stated < spent * (1.0 - 1e-9) {
            return Err(ExportProblem::Understated { stated, spent });
        }
        Ok(())
    }
}

/// Verifies a whole export.
///
/// # Errors
/// [`ExportError`] names the first line that is wrong.
pub fn verify(text: &str, coordinator: &[u8; 32]) -> Result<Audited, ExportError> {
    let mut auditor = Auditor::new();
    text.split_inclusive('\n').try_for_each(|line| auditor.line(line).map(drop))?;
    auditor.finish(coordinator)
}

fn as_written(is: bool, expected: &'static str) -> Result<(), ExportProblem> {
    if is { Ok(()) } else { Err(ExportProblem::Form { expected }) }
}

/// The participants of a line; none when they are not numbers.
fn read_numbers(text: &str) -> Option<Vec<ClientNumber>> {
    if text == NOBODY {
        return Some(Vec::new());
    }
    let bytes = hex::decode(text).ok()?;
    let (numbers, rest) = bytes.as_chunks();
    rest.is_empty().then(|| numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Event;
    use super::super::head::Head;
    use super::super::tests::{COHORT, chain, commit, debit, mechanism, reserve, task};
    use super::*;
    use crate::mechanism::NoiseLaw;
    use ed25519_dalek::SigningKey;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn head(ledger: &Ledger) -> SignedHead {
        Head { size: ledger.size(), root: ledger.tree().root(), time: 5 }.sign(&key())
    }

    /// The participants of each entry of [`chain`].
    fn participants(index: usize) -> &'static [u64] {
        match index {
            2 => &COHORT[..6],
            6 => &COHORT[1..],
            _ => &[],
        }
    }

    fn lines() -> Vec<String> {
        let (ledger, entries) = chain();
        let shown = entries.iter().enumerate().map(|(index, entry)| entry_line(entry, participants(index)));
        std::iter::once(FIRST_LINE.to_owned()).chain(shown).chain([head_line(&head(&ledger))]).collect()
    }

    #[test]
    fn an_export_is_the_ledger_and_everyones_spending() {
        let public = key().verifying_key().to_bytes();
        let audited = verify(&lines().concat(), &public).unwrap();
        let (ledger, entries) = chain();
        assert_eq!(audited.ledger, ledger);
        let rounds: Vec<_> = audited.book.clients().collect();
        assert_eq!(rounds, [(1, 1), (2, 2), (3, 2), (5, 2), (8, 2), (13, 2), (21, 1), (34, 1)]);
        let stated = entries[6].event.debit().unwrap();
        assert!(audited.book.max_epsilon(stated.delta).unwrap() <= stated.epsilon);
        assert!(verify(&lines().concat(), &[7; 32]).is_err(), "another coordinator's");
    }

    #[test]
    fn no_byte_can_be_changed_or_removed_or_added() {
        let (public, text) = (key().verifying_key().to_bytes(), lines().concat());
        let begins: Vec<usize> = text.match_indices('\n').map(|(place, _)| place + 1).collect();
        // The two entries that hold everything, and the head, closely; the others here and there.
        let thorough = [0..begins[0], begins[2]..begins[3], begins[6]..text.len()];
        let sparse = (0..text.len()).step_by(211);
        for place in thorough.into_iter().flatten().step_by(23).chain(sparse) {
            let mut bytes = text.clone().into_bytes();
            for other in [bytes[place] ^ 1, bytes[place].to_ascii_uppercase(), b' ', b'\n', b'0'] {
                let before = std::mem::replace(&mut bytes[place], other);
                if other != before {
                    let changed = String::from_utf8(bytes.clone()).unwrap();
                    assert!(verify(&changed, &public).is_err(), "byte {place} as {other}");
                }
                bytes[place] = before;
            }
            let mut shorter = text.clone();
            shorter.remove(place);
            assert!(verify(&shorter, &public).is_err(), "without byte {place}");
            let longer = [&text[..place], " ", &text[place..]].concat();
            assert!(verify(&longer, &public).is_err(), "a space at {place}");
        }
        for end in [text.len() - 1, begins[6], begins[0], 0] {
            assert!(verify(&text[..end], &public).is_err(), "cut to {end}");
        }
        assert!(verify(&format!("{text}\n"), &public).is_err());
    }

    #[test]
    fn hidden_or_wrong_participants_are_noticed() {
        let public = key().verifying_key().to_bytes();
        let (_, entries) = chain();
        let with = |index: usize, shown: &[u64]| {
            let mut lines = lines();
            lines[index + 1] = entry_line(&entries[index], shown);
            verify(&lines.concat(), &public)
        };
        let swapped: Vec<u64> = COHORT[..6].iter().rev().copied().collect();
        for (index, shown) in
            [(2, &[][..]), (2, &COHORT[..5]), (2, &COHORT[1..7]), (2, &swapped), (3, &COHORT), (4, &COHORT)]
        {
            assert_eq!(with(index, shown).unwrap_err().line, index + 2, "{shown:?}");
        }
        assert!(with(6, &COHORT[1..]).is_ok());
    }

    #[test]
    fn a_debit_below_what_its_participants_spent_is_noticed() {
        let (rust, mechanism) = (task("rust"), mechanism(NoiseLaw::DiscreteGaussian));
        let (mut ledger, mut lines) = (Ledger::new(), vec![FIRST_LINE.to_owned()]);
        for round in 1..=2 {
            let opening = Event::Reserve(reserve(&mechanism, &COHORT));
            lines.push(entry_line(&ledger.append(0, rust.clone(), round, opening).unwrap(), &[]));
            // The second debit states the cost of one round only, to clients that joined two.
            let open = ledger.open_round(&rust, round).unwrap();
            let event = Event::Commit(commit(debit(open, &COHORT, 1)));
            lines.push(entry_line(&ledger.append(0, rust.clone(), round, event).unwrap(), &COHORT));
        }
        lines.push(head_line(&head(&ledger)));
        let refused = verify(&lines.concat(), &key().verifying_key().to_bytes()).unwrap_err();
        assert_eq!(refused.line, 5);
        assert!(matches!(refused.problem, ExportProblem::Understated { .. }), "{refused}");
    }
}
