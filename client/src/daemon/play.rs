//! A round that has begun, to its end. Must never go on when something could not be stored.

use super::call::CallError;
use super::throttle::Throttle;
use super::{Daemon, Fault, State, now};
use crate::participant::ParticipantError;
use crate::round::{Answer, Round, RoundError};
use std::time::Duration;
use tacit_aggregation::Step;
use tacit_aggregation::messages::MaskedChunk;
use tacit_proto::fleet::{Receive, Received, RoundName, Send, UploadPart, Uploaded};
use tacit_proto::{ClientMessage, ServerMessage};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// How long a client stays in a round of whose coordinator it hears nothing more. Deadlines are the coordinator's to keep; this
/// only frees a client whose coordinator is gone for good.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// Wait before a message that changes nothing is asked for again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest part of an upload, in bytes: a coordinator waits half a minute for one, and lines of 5 kB/s are to be good enough.
const LONGEST_PART: usize = 128 << 10;
/// Times that a vector is sent again in a round because the coordinator has lost it: its disk may fail for good.
const MOST_LOST: u32 = 3;
/// Parts of an upload that wait for the network.
const PARTS: usize = 2;

/// Whether a coordinator has lost what had arrived of a vector, or some of it.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::DataLoss | Code::OutOfRange)
}

impl Daemon {
    /// Goes through the round until the coordinator says that it is over, this client leaves it, or it is told to stop: the round
    /// then goes on where it was left when the program starts again.
    pub(super) async fn play(&mut self) -> Result<(), Fault> {
        let until = Instant::now() + PATIENCE;
        let mut sent = None;
        loop {
            self.status.state = State::InRound;
            self.publish();
            let Some(round) = &self.round else { return Ok(()) };
            let name = round.name().clone();
            let Some((step, answer)) = round.answered() else { return self.close() };
            if Instant::now() >= until {
                self.problem(&format!("round {name} does not end: this client leaves it"));
                return self.close();
            }
            if sent != Some(step) {
                match self.send(&name, answer, until).await {
                    Ok(()) => {}
                    // Too late, or not what the coordinator remembers: it says next how the round ended.
                    Err(Fault::Refused(problem)) => self.problem(&format!("round {name}, {step}: {problem}")),
                    Err(fault) => return Err(fault),
                }
                sent = Some(step);
            }
            let asked = Instant::now();
            let receive = Receive { round: name.clone(), after: step };
            let received =
                self.line.until_answered(until, async |client| client.receive(receive.clone()).await).await;
            match received {
                Ok(Received::Message(message)) => self.hear(&message).await?,
                Ok(Received::End(end)) => {
                    tracing::info!(round = %name, committed = end.committed, reason = end.reason, "the round is over");
                    return self.close();
                }
                // It was to wait before it says so.
                Ok(Received::Nothing) if asked.elapsed() < PAUSE => self.line.sleep(PAUSE).await?,
                Ok(Received::Nothing) => {}
                Err(CallError::Stopped) => return Err(Fault::Stopped),
                Err(CallError::Refused(status)) => {
                    self.problem(&format!("round {name} is over for this client: {}", status.message()));
                    return self.close();
                }
            }
        }
    }

    /// Takes a message: stores it, works out the answer and stores what that needs.
    async fn hear(&mut self, message: &ServerMessage) -> Result<(), Fault> {
        let Some(round) = &mut self.round else { return Ok(()) };
        let before = round.answered().map(|(step, _)| step);
        let revoked = self.revocations.as_ref().and_then(|revocations| match message {
            ServerMessage::Cohort { list, .. } => {
                list.entries.iter().map(|entry| entry.client).find(|client| revocations.revokes(*client))
            }
            _ => None,
        });
        let heard = match revoked.filter(|_| before == Some(Step::Advertise)) {
            Some(client) => {
                let reason = ParticipantError::RevokedMember { round: round.name().round, client };
                Err(round.refuse(&self.folder, &mut self.accounts, reason))
            }
            None => round.handle(&self.folder, message, &mut self.accounts, now()),
        };
        let after = round.answered().map(|(step, _)| step);
        match heard {
            Ok(()) if before != after => Ok(()),
            // A repeat: the coordinator has nothing new.
            Ok(()) => Ok(self.line.sleep(PAUSE).await?),
            Err(RoundError::Folder(error)) => Err(error.into()),
            Err(error) => {
                self.problem(&error.to_string());
                Ok(self.line.sleep(PAUSE).await?)
            }
        }
    }

    /// Hands in the answer to a step.
    async fn send(&mut self, name: &RoundName, answer: Answer, until: Instant) -> Result<(), Fault> {
        let (message, is_vector) = match answer {
            Answer::Message(message) => (message, false),
            Answer::Vector(header) => (header, true),
        };
        let request = Send { round: name.clone(), message };
        let mut lost = 0;
        loop {
            let sent =
                self.line.until_answered(until, async |client| client.send(request.clone()).await).await?;
            if !is_vector {
                return Ok(());
            }
            let ClientMessage::MaskedHeader(header) = &request.message else { return Ok(()) };
            if sent.resume_at >= header.length {
                return Ok(());
            }
            let Some(chunks) = self.round.as_ref().map(|round: &Round| round.chunks(sent.resume_at)) else {
                return Ok(());
            };
            match self.upload(name, chunks).await {
                Ok(Uploaded { complete: true, .. }) => return Ok(()),
                // Cut short: the header's receipt says where to go on.
                Ok(Uploaded { .. }) if Instant::now() < until => {}
                Ok(Uploaded { .. }) => return Err(Fault::Refused("the upload does not end".to_owned())),
                // What had arrived is damaged or gone: the receipt says from where it is sent again, if the step is still open.
                Err(CallError::Refused(status)) if is_lost(&status) && lost < MOST_LOST => {
                    lost += 1;
                    self.problem(&format!("round {name}: {}; sending it again", status.message()));
                }
                Err(error) => match error.into() {
                    Fault::Offline { .. } if Instant::now() < until => {}
                    fault => return Err(fault),
                },
            }
            self.line.sleep(PAUSE).await?;
        }
    }

    /// Uploads chunks, as fast as the owner allows.
    async fn upload(&mut self, name: &RoundName, chunks: Vec<MaskedChunk>) -> Result<Uploaded, CallError> {
        let (sender, receiver) = mpsc::channel(PARTS);
        let mut throttle = Throttle::new(self.settings.bandwidth.up);
        let round = name.clone();
        let feed = tokio::spawn(async move {
            for MaskedChunk { mut offset, bytes: mut rest } in chunks {
                while !rest.is_empty() {
                    let bytes = rest.split_to(throttle.part(LONGEST_PART).min(rest.len()));
                    throttle.pass(bytes.len()).await;
                    let next = offset + bytes.len() as u64;
                    let chunk = MaskedChunk { offset, bytes };
                    offset = next;
                    if sender.send(UploadPart { round: round.clone(), chunk }).await.is_err() {
                        // The call is over.
                        return;
                    }
                }
            }
        });
        let uploaded = self.line.upload(ReceiverStream::new(receiver)).await;
        feed.abort();
        uploaded
    }

    /// The round is over for this client: what is left of it is wiped.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        if let Some(round) = self.round.take() {
            round.close(&self.folder, &mut self.accounts)?;
        }
        Ok(())
    }
}
