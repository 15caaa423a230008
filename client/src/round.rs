//! One client's part in a round, on disk. Must never answer what it has not stored, answer one step in two ways, or keep a
//! secret of a round that is over.
//!
//! Stored before anything is said: at joining the signed plan and the [`JoinSecrets`], beside the update; then each message of
//! the coordinator before it is answered, with the time of its arrival; the books, with the debit, before the first byte of the
//! vector. After a crash the same answers follow from these, byte for byte ([`Participant::answer`]). With the answer to Unmask
//! a record of the request and the answer takes the place of everything else, and everything else is shredded; so it is when
//! the client refuses something, which ends its part for good.
//!
//! [`tacit_aggregation::client::Session`] would keep the masked vector instead of what it is made from, and so write as many
//! bytes again as are uploaded. Here the update lies on the disk anyway, because training and cohort are hours apart; what is
//! made of it is made again when it is needed.

use crate::Millis;
use crate::accounts::Accounts;
use crate::folder::{Folder, FolderError, Kind};
use crate::participant::{JoinSecrets, Joined, Member, Participant, ParticipantError};
use crate::update::Update;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use tacit_aggregation::identity::Membership;
use tacit_aggregation::messages::MaskedChunk;
use tacit_aggregation::params::TaskName;
use tacit_aggregation::{Digest, Step};
use tacit_proto::fleet::RoundName;
use tacit_proto::{ClientMessage, ServerMessage, SignedPlan, Wire};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The folder inside that holds the round.
const INSIDE: &str = "round";
const JOINED: Kind = Kind { code: 3, version: 1 };
/// This client's [`Membership`], where the plan demands a roster; stored before what it belongs to.
const PLACE: Kind = Kind { code: 20, version: 1 };
const MESSAGE: Kind = Kind { code: 4, version: 1 };
const ENDED: Kind = Kind { code: 5, version: 1 };
const JOINED_FILE: &str = "round/joined";
const PLACE_FILE: &str = "round/place";
const ENDED_FILE: &str = "round/ended";

/// Why a round does not go on.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// Nothing could be stored, or what is stored cannot be read. The round may go on when that is mended.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The client refuses. Its part in the round is over, and its secrets are gone.
    #[error("this client leaves round {round}: {reason}")]
    Refused {
        /// The round.
        round: RoundName,
        /// What it refuses.
        reason: Box<ParticipantError>,
    },
    /// The coordinator asks for other shares than those that were handed over.
    #[error(
        "the coordinator asks in round {round} for other shares than this client has handed over: it gives no others"
    )]
    OtherShares {
        /// The round.
        round: RoundName,
    },
    /// A message of a step whose answer is gone.
    #[error("the coordinator begins {asked} in round {round}, in which this client has no part any more")]
    Over {
        /// The round.
        round: RoundName,
        /// The step.
        asked: &'static str,
    },
}

/// A client's part in a round.
#[derive(Debug)]
pub struct Round {
    name: RoundName,
    plan: Digest,
    state: State,
}

enum State {
    /// It goes on: where it stands, the last step that was answered, the answer, and digests of the messages answered.
    Playing { participant: Box<Participant>, answered: Step, answer: Answer, heard: Vec<Digest> },
    /// It has handed over its shares.
    Finished { request: Digest, shares: ClientMessage },
    /// It has refused something.
    Left { reason: String },
}

/// What is sent in answer to a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One message.
    Message(ClientMessage),
    /// A vector: its header, to be sent like a message, and then the chunks, from where the coordinator says.
    Vector(ClientMessage),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Playing { participant, .. } => write!(f, "Playing({})", participant.state()),
            Self::Finished { .. } => f.write_str("Finished"),
            Self::Left { reason } => write!(f, "Left({reason})"),
        }
    }
}

/// What is stored before the advert is sent.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct JoinedForm {
    #[zeroize(skip)]
    task: TaskName,
    plan: Vec<u8>,
    now: Millis,
    secrets: Vec<u8>,
}

/// A message of the coordinator's, and when it came.
#[derive(Serialize, Deserialize)]
struct MessageForm {
    now: Millis,
    message: Vec<u8>,
}

/// What is left of a round when the client's part is over.
#[derive(Serialize, Deserialize)]
struct EndedForm {
    task: TaskName,
    round: u64,
    plan: Digest,
    end: End,
}

#[derive(Serialize, Deserialize)]
enum End {
    Finished { request: Digest, shares: Vec<u8> },
    Left { reason: String },
}

impl Round {
    /// Joins the round of a plan with an update that is stored. What the round needs is stored before this returns.
    ///
    /// # Errors
    /// [`RoundError::Refused`] when the plan, the books or the update forbid it: nothing is stored then.
    pub fn join<R: CryptoRng>(
        folder: &Folder,
        signed: &SignedPlan,
        member: &Member,
        update: &Update,
        accounts: &Accounts,
        now: Millis,
        rng: &mut R,
    ) -> Result<Self, RoundError> {
        let refused = |reason| refusal(&update.task, 0, reason);
        let plan = signed.verify(&member.coordinator).map_err(|error| refused(error.into()))?;
        let name = RoundName { task: plan.task.clone(), round: plan.round };
        let delta = update.delta.to_vec();
        let joined = Joined::new(signed, member, update.parent, delta, &accounts.budget, now, rng);
        let joined = joined.map_err(|reason| refusal(&name.task, name.round, reason))?;
        let form = JoinedForm {
            task: update.task.clone(),
            plan: signed.to_wire(),
            now,
            secrets: joined.secrets().to_vec(),
        };
        if let Some(membership) = &member.membership {
            folder.store(PLACE_FILE, PLACE, membership)?;
        }
        folder.store(JOINED_FILE, JOINED, &form)?;
        Ok(Self::joined(name, signed.claimed_digest(), joined))
    }

    fn joined(name: RoundName, plan: Digest, joined: Joined) -> Self {
        let answer = Answer::Message(joined.advert());
        let participant = Box::new(Participant::Joined(joined));
        let state = State::Playing { participant, answered: Step::Advertise, answer, heard: Vec::new() };
        Self { name, plan, state }
    }

    /// The round that the folder holds, as far as it went; none where it holds none. What a crash kept from being shredded or
    /// stored is made up for.
    ///
    /// # Errors
    /// [`RoundError::Folder`] for files that cannot be read, [`RoundError::Refused`] when what is stored is refused now: the
    /// client has then left the round.
    pub fn restore(
        folder: &Folder,
        member: &Member,
        accounts: &mut Accounts,
    ) -> Result<Option<Self>, RoundError> {
        if let Some(EndedForm { task, round, plan, end }) = folder.load(ENDED_FILE, ENDED)? {
            let name = RoundName { task, round };
            let state = match end {
                End::Left { reason } => State::Left { reason },
                End::Finished { request, shares } => {
                    let shares = ClientMessage::from_wire(&shares)
                        .map_err(|error| folder.damaged(ENDED_FILE, &error.to_string()))?;
                    State::Finished { request, shares }
                }
            };
            let mut ended = Self { name, plan, state };
            ended.settle(folder, accounts)?;
            return Ok(Some(ended));
        }
        let Some(form) = folder.load::<JoinedForm>(JOINED_FILE, JOINED)? else {
            // Nothing was said about a round of which this is missing.
            folder.shred_all(INSIDE)?;
            return Ok(None);
        };
        let damaged = |problem: &str| folder.damaged(JOINED_FILE, problem);
        let signed = SignedPlan::from_wire(&form.plan).map_err(|error| damaged(&error.to_string()))?;
        let secrets =
            Zeroizing::new(<[u8; JoinSecrets::BYTES]>::try_from(form.secrets.as_slice()).unwrap_or([0; _]));
        let secrets =
            JoinSecrets::from_bytes(&secrets).ok_or_else(|| damaged("it holds no secrets of a round"))?;
        let plan =
            signed.verify(&member.coordinator).map_err(|error| refusal(&form.task, 0, error.into()))?;
        let name = RoundName { task: plan.task.clone(), round: plan.round };
        let Some(update) = Update::load(folder, &form.task)? else {
            return Err(damaged("the update that it was made for is gone").into());
        };
        let delta = update.delta.to_vec();
        // The round goes on with the proof that its advert was signed with.
        let membership: Option<Membership> =
            if signed.roster().is_some() { folder.load(PLACE_FILE, PLACE)? } else { None };
        let member = &Member { membership, ..member.clone() };
        let joined =
            Joined::resume(&signed, member, update.parent, delta, &accounts.budget, form.now, secrets);
        let plan = signed.claimed_digest();
        let mut round = match joined {
            Ok(joined) => Self::joined(name, plan, joined),
            Err(reason) => {
                let mut left = Self { name, plan, state: State::Left { reason: String::new() } };
                return Err(left.leave(folder, accounts, reason));
            }
        };
        for place in 1.. {
            let file = message_file(place);
            let Some(MessageForm { now, message }) = folder.load(&file, MESSAGE)? else { break };
            let digest = Sha256::digest(&message).into();
            let message = ServerMessage::from_wire(&message)
                .map_err(|error| folder.damaged(&file, &error.to_string()))?;
            round.answer(folder, &message, digest, accounts, now)?;
        }
        Ok(Some(round))
    }

    /// The round.
    #[must_use]
    pub fn name(&self) -> &RoundName {
        &self.name
    }

    /// Where the client stands, for people.
    #[must_use]
    pub fn stage(&self) -> &str {
        match &self.state {
            State::Playing { participant, .. } => participant.state(),
            State::Finished { .. } => "finished",
            State::Left { .. } => "left",
        }
    }

    /// The last step that the client has an answer to, and the answer, to be sent again as often as need be; none when it has
    /// left the round.
    #[must_use]
    pub fn answered(&self) -> Option<(Step, Answer)> {
        match &self.state {
            State::Playing { answered, answer, .. } => Some((*answered, answer.clone())),
            State::Finished { shares, .. } => Some((Step::Unmask, Answer::Message(shares.clone()))),
            State::Left { .. } => None,
        }
    }

    /// Why the client has left the round, if it has.
    #[must_use]
    pub fn left(&self) -> Option<&str> {
        if let State::Left { reason } = &self.state { Some(reason) } else { None }
    }

    /// The chunks of the masked vector from an offset on; none in other steps.
    #[must_use]
    pub fn chunks(&self, from: u64) -> Vec<MaskedChunk> {
        let State::Playing { participant, .. } = &self.state else { return Vec::new() };
        let Participant::Uploaded(uploaded) = participant.as_ref() else { return Vec::new() };
        let chunk = |message| match message {
            ClientMessage::MaskedChunk(chunk) => Some(chunk),
            _ => None,
        };
        uploaded.upload_from(from).into_iter().filter_map(chunk).collect()
    }

    /// Answers a message of the coordinator's: [`Self::answered`] has the answer when this returns. A message that was answered
    /// before changes nothing.
    ///
    /// # Errors
    /// [`RoundError::Refused`]: the client has left the round. [`RoundError::Folder`]: the round is to be restored, when what is
    /// wrong with the folder is mended. The others refuse a message and change nothing.
    pub fn handle(
        &mut self,
        folder: &Folder,
        message: &ServerMessage,
        accounts: &mut Accounts,
        now: Millis,
    ) -> Result<(), RoundError> {
        let wire = message.to_wire();
        let digest: Digest = Sha256::digest(&wire).into();
        let (round, asked) = (self.name.clone(), message.step());
        match &self.state {
            State::Left { .. } => return Err(RoundError::Over { round, asked }),
            State::Finished { request, .. } if *request == digest => return Ok(()),
            State::Finished { .. } if matches!(message, ServerMessage::Unmask(_)) => {
                return Err(RoundError::OtherShares { round });
            }
            State::Finished { .. } => return Err(RoundError::Over { round, asked }),
            State::Playing { heard, .. } if heard.contains(&digest) => return Ok(()),
            State::Playing { heard, .. } => {
                // The request for shares is stored with its answer, by its digest.
                if !matches!(message, ServerMessage::Unmask(_)) {
                    let form = MessageForm { now, message: wire };
                    folder.store(&message_file(heard.len() + 1), MESSAGE, &form)?;
                }
            }
        }
        self.answer(folder, message, digest, accounts, now)
    }

    /// Answers a message that is stored, or whose digest is stored with the answer.
    fn answer(
        &mut self,
        folder: &Folder,
        message: &ServerMessage,
        digest: Digest,
        accounts: &mut Accounts,
        now: Millis,
    ) -> Result<(), RoundError> {
        let interrupted = State::Left { reason: "the answer to a message was interrupted".to_owned() };
        let (participant, mut heard) = match std::mem::replace(&mut self.state, interrupted) {
            State::Playing { participant, heard, .. } => (participant, heard),
            over => {
                self.state = over;
                return Err(RoundError::Over { round: self.name.clone(), asked: message.step() });
            }
        };
        let before = accounts.clone();
        let (participant, mut answers) = match participant.answer(message, &mut accounts.budget, now) {
            Ok(next) => next,
            Err(reason) => return Err(self.leave(folder, accounts, reason)),
        };
        heard.push(digest);
        let answered = match &participant {
            Participant::Joined(_) => Step::Advertise,
            Participant::Shared(_) => Step::Share,
            Participant::Uploaded(_) => Step::Collect,
            Participant::Confirmed(_) => Step::Confirm,
            Participant::Finished(_) => Step::Unmask,
        };
        let first = answers.swap_remove(0);
        match answered {
            Step::Collect => {
                accounts.await_outcome(&self.name, self.plan, now);
                if *accounts != before {
                    accounts.store(folder)?;
                }
            }
            Step::Unmask => {
                self.state = State::Finished { request: digest, shares: first.clone() };
                self.end(folder, End::Finished { request: digest, shares: first.to_wire() })?;
                return self.settle(folder, accounts);
            }
            _ => {}
        }
        let answer = if answered == Step::Collect { Answer::Vector(first) } else { Answer::Message(first) };
        self.state = State::Playing { participant: Box::new(participant), answered, answer, heard };
        Ok(())
    }

    /// Leaves the round for good, for a reason that the messages alone do not show.
    pub fn refuse(
        &mut self,
        folder: &Folder,
        accounts: &mut Accounts,
        reason: ParticipantError,
    ) -> RoundError {
        self.leave(folder, accounts, reason)
    }

    /// Leaves the round for good.
    fn leave(&mut self, folder: &Folder, accounts: &mut Accounts, reason: ParticipantError) -> RoundError {
        let text = reason.to_string();
        self.state = State::Left { reason: text.clone() };
        accounts.refused.insert(self.name.task.clone(), self.name.round);
        // With them goes what was debited before the refusal: it stays so.
        let stored = accounts.store(folder).map_err(RoundError::from);
        let stored = stored.and_then(|()| self.end(folder, End::Left { reason: text }));
        let stored = stored.and_then(|()| self.settle(folder, accounts));
        let (round, reason) = (self.name.clone(), Box::new(reason));
        stored.err().unwrap_or(RoundError::Refused { round, reason })
    }

    fn end(&self, folder: &Folder, end: End) -> Result<(), RoundError> {
        let RoundName { task, round } = self.name.clone();
        Ok(folder.store(ENDED_FILE, ENDED, &EndedForm { task, round, plan: self.plan, end })?)
    }

    /// Makes everything else follow from the end that is stored: the books know of the shares that may be handed over now, and
    /// the secrets are gone.
    fn settle(&mut self, folder: &Folder, accounts: &mut Accounts) -> Result<(), RoundError> {
        if matches!(self.state, State::Finished { .. }) && accounts.note_unmasked(&self.name) {
            accounts.store(folder)?;
        }
        folder.shred(JOINED_FILE)?;
        for file in folder.list(INSIDE)?.into_iter().map(|name| format!("{INSIDE}/{name}")) {
            if file != ENDED_FILE {
                folder.shred(&file)?;
            }
        }
        if accounts.has_uploaded(&self.name) {
            Update::shred(folder, &self.name.task)?;
        }
        Ok(())
    }

    /// Wipes what is left, when the coordinator has said that the round is over. An update that was uploaded is wiped too;
    /// another waits for the next cohort.
    ///
    /// # Errors
    /// [`RoundError::Folder`].
    pub fn close(mut self, folder: &Folder, accounts: &mut Accounts) -> Result<(), RoundError> {
        if let State::Playing { .. } = &self.state {
            let reason = "the round is over".to_owned();
            self.end(folder, End::Left { reason: reason.clone() })?;
            self.state = State::Left { reason };
            self.settle(folder, accounts)?;
        }
        Ok(folder.shred_all(INSIDE)?)
    }
}

fn message_file(place: usize) -> String {
    format!("{INSIDE}/message-{place}")
}

fn refusal(task: &TaskName, round: u64, reason: ParticipantError) -> RoundError {
    let round = RoundName { task: task.clone(), round };
    RoundError::Refused { round, reason: Box::new(reason) }
}

#[cfg(test)]
mod tests;
