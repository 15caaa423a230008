//! The wire form of what a client and the coordinator say around a round. Must never let a list be longer than it can be.

use super::check::{array, at_most, invalid, present, signature, task, text};
use super::{DecodeError, generated as wire};
use crate::enrolment::MAX_VERSION;
use crate::fleet::{
    CheckIn, CheckedIn, Download, DownloadPart, MAX_ANNOUNCED, MAX_EVIDENCE, MAX_PART_BYTES, MAX_TEXT, Offer,
    ReadyUpdate, Receive, Received, Report, Reported, RoundEnd, Send, Sent, UploadPart, Uploaded,
};
use crate::manifest::SignedManifest;
use crate::messages::ClientMessage;
use tacit_aggregation::Step;
use tacit_aggregation::identity::{ClientId, RevocationList};

/// Most tasks that are offered at once.
const MAX_OFFERS: usize = 64;
/// Most clients on a revocation list.
const MAX_REVOKED: usize = 1 << 20;

impl From<&CheckIn> for wire::CheckInRequest {
    fn from(check_in: &CheckIn) -> Self {
        Self {
            version: check_in.version.clone(),
            base_models: check_in.base_models.iter().map(|digest| digest.to_vec()).collect(),
            ready: check_in.ready.iter().map(Into::into).collect(),
            ledger_size: check_in.ledger_size,
            revocations: check_in.revocations,
            restart: check_in.restart,
        }
    }
}

impl TryFrom<wire::CheckInRequest> for CheckIn {
    type Error = DecodeError;

    fn try_from(request: wire::CheckInRequest) -> Result<Self, DecodeError> {
        at_most("CheckInRequest.base_models", request.base_models.len(), MAX_ANNOUNCED)?;
        at_most("CheckInRequest.ready", request.ready.len(), MAX_ANNOUNCED)?;
        let base_models = request.base_models.iter();
        Ok(Self {
            version: text("CheckInRequest.version", request.version, MAX_VERSION)?,
            base_models: base_models
                .map(|digest| array("CheckInRequest.base_models", digest))
                .collect::<Result<_, _>>()?,
            ready: request.ready.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            ledger_size: request.ledger_size,
            revocations: request.revocations,
            restart: request.restart,
        })
    }
}

impl From<&ReadyUpdate> for wire::ReadyUpdate {
    fn from(ready: &ReadyUpdate) -> Self {
        Self { task: ready.task.as_str().to_owned(), parent: ready.parent.to_vec() }
    }
}

impl TryFrom<wire::ReadyUpdate> for ReadyUpdate {
    type Error = DecodeError;

    fn try_from(ready: wire::ReadyUpdate) -> Result<Self, DecodeError> {
        Ok(Self {
            task: task("ReadyUpdate.task", &ready.task)?,
            parent: array("ReadyUpdate.parent", &ready.parent)?,
        })
    }
}

impl From<&CheckedIn> for wire::CheckInResponse {
    fn from(answer: &CheckedIn) -> Self {
        Self {
            now: answer.now,
            ledger: Some((&answer.ledger).into()),
            offers: answer.offers.iter().map(Into::into).collect(),
            retry_after: answer.retry_after,
            revocations: answer.revocations.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::CheckInResponse> for CheckedIn {
    type Error = DecodeError;

    fn try_from(response: wire::CheckInResponse) -> Result<Self, DecodeError> {
        at_most("CheckInResponse.offers", response.offers.len(), MAX_OFFERS)?;
        Ok(Self {
            now: response.now,
            ledger: present("CheckInResponse.ledger", response.ledger)?.try_into()?,
            offers: response.offers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            retry_after: response.retry_after,
            revocations: response.revocations.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Offer> for wire::Offer {
    fn from(offer: &Offer) -> Self {
        Self {
            plan: Some((&offer.plan).into()),
            manifest: offer.manifest.to_bytes(),
            parent: offer.parent.as_ref().map(SignedManifest::to_bytes).unwrap_or_default(),
            join: offer.join,
            excuse: offer.excuse.clone().unwrap_or_default(),
            membership: offer.membership.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Offer> for Offer {
    type Error = DecodeError;

    fn try_from(offer: wire::Offer) -> Result<Self, DecodeError> {
        let excuse = text("Offer.excuse", offer.excuse, MAX_TEXT)?;
        Ok(Self {
            plan: present("Offer.plan", offer.plan)?.try_into()?,
            manifest: manifest("Offer.manifest", &offer.manifest)?,
            parent: match offer.parent.as_slice() {
                [] => None,
                bytes => Some(manifest("Offer.parent", bytes)?),
            },
            join: offer.join,
            excuse: Some(excuse).filter(|excuse| !excuse.is_empty()),
            membership: offer.membership.map(TryInto::try_into).transpose()?,
        })
    }
}

fn manifest(field: &'static str, bytes: &[u8]) -> Result<SignedManifest, DecodeError> {
    SignedManifest::from_bytes(bytes).map_err(|reason| invalid(field, reason))
}

impl From<&RevocationList> for wire::RevocationList {
    fn from(list: &RevocationList) -> Self {
        Self {
            number: list.number,
            clients: list.clients.iter().map(|client| client.0).collect(),
            signature: list.signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::RevocationList> for RevocationList {
    type Error = DecodeError;

    fn try_from(list: wire::RevocationList) -> Result<Self, DecodeError> {
        at_most("RevocationList.clients", list.clients.len(), MAX_REVOKED)?;
        Ok(Self {
            number: list.number,
            clients: list.clients.into_iter().map(ClientId).collect(),
            signature: signature("RevocationList.signature", &list.signature)?,
        })
    }
}

fn step_number(step: Step) -> i32 {
    step as i32
}

fn step(field: &'static str, number: i32) -> Result<Step, DecodeError> {
    let known = Step::ALL.into_iter().find(|step| step_number(*step) == number);
    known.ok_or_else(|| invalid(field, format!("{number} is no step")))
}

impl From<&Receive> for wire::ReceiveRequest {
    fn from(receive: &Receive) -> Self {
        Self { round: Some((&receive.round).into()), after: step_number(receive.after) }
    }
}

impl TryFrom<wire::ReceiveRequest> for Receive {
    type Error = DecodeError;

    fn try_from(request: wire::ReceiveRequest) -> Result<Self, DecodeError> {
        Ok(Self {
            round: present("ReceiveRequest.round", request.round)?.try_into()?,
            after: step("ReceiveRequest.after", request.after)?,
        })
    }
}

impl From<&Received> for wire::ReceiveResponse {
    fn from(received: &Received) -> Self {
        use wire::receive_response::Body;
        let body = match received {
            Received::Message(message) => Some(Body::Message(message.into())),
            Received::End(end) => {
                Some(Body::End(wire::RoundEnd { committed: end.committed, reason: end.reason.clone() }))
            }
            Received::Nothing => None,
        };
        Self { body }
    }
}

impl TryFrom<wire::ReceiveResponse> for Received {
    type Error = DecodeError;

    fn try_from(response: wire::ReceiveResponse) -> Result<Self, DecodeError> {
        use wire::receive_response::Body;
        Ok(match response.body {
            None => Self::Nothing,
            Some(Body::Message(message)) => Self::Message(message.try_into()?),
            Some(Body::End(end)) => {
                let reason = text("RoundEnd.reason", end.reason, MAX_TEXT)?;
                Self::End(RoundEnd { committed: end.committed, reason })
            }
        })
    }
}

impl From<&Send> for wire::SendRequest {
    fn from(send: &Send) -> Self {
        Self { round: Some((&send.round).into()), message: Some((&send.message).into()) }
    }
}

impl TryFrom<wire::SendRequest> for Send {
    type Error = DecodeError;

    fn try_from(request: wire::SendRequest) -> Result<Self, DecodeError> {
        let message = present("SendRequest.message", request.message)?.try_into()?;
        if matches!(message, ClientMessage::MaskedChunk(_)) {
            return Err(invalid("SendRequest.message", "a chunk goes to Upload"));
        }
        Ok(Self { round: present("SendRequest.round", request.round)?.try_into()?, message })
    }
}

impl From<&Sent> for wire::SendResponse {
    fn from(sent: &Sent) -> Self {
        Self { resume_at: sent.resume_at }
    }
}

impl TryFrom<wire::SendResponse> for Sent {
    type Error = DecodeError;

    fn try_from(response: wire::SendResponse) -> Result<Self, DecodeError> {
        Ok(Self { resume_at: response.resume_at })
    }
}

impl From<&UploadPart> for wire::UploadPart {
    fn from(part: &UploadPart) -> Self {
        Self { round: Some((&part.round).into()), chunk: Some((&part.chunk).into()) }
    }
}

impl TryFrom<wire::UploadPart> for UploadPart {
    type Error = DecodeError;

    fn try_from(part: wire::UploadPart) -> Result<Self, DecodeError> {
        Ok(Self {
            round: present("UploadPart.round", part.round)?.try_into()?,
            chunk: present("UploadPart.chunk", part.chunk)?.try_into()?,
        })
    }
}

impl From<&Uploaded> for wire::UploadResponse {
    fn from(uploaded: &Uploaded) -> Self {
        Self { resume_at: uploaded.resume_at, complete: uploaded.complete }
    }
}

impl TryFrom<wire::UploadResponse> for Uploaded {
    type Error = DecodeError;

    fn try_from(response: wire::UploadResponse) -> Result<Self, DecodeError> {
        Ok(Self { resume_at: response.resume_at, complete: response.complete })
    }
}

impl From<&Download> for wire::DownloadRequest {
    fn from(download: &Download) -> Self {
        Self { digest: download.digest.to_vec(), offset: download.offset }
    }
}

impl TryFrom<wire::DownloadRequest> for Download {
    type Error = DecodeError;

    fn try_from(request: wire::DownloadRequest) -> Result<Self, DecodeError> {
        Ok(Self { digest: array("DownloadRequest.digest", &request.digest)?, offset: request.offset })
    }
}

impl From<&DownloadPart> for wire::DownloadPart {
    fn from(part: &DownloadPart) -> Self {
        Self { bytes: part.bytes.clone() }
    }
}

impl TryFrom<wire::DownloadPart> for DownloadPart {
    type Error = DecodeError;

    fn try_from(part: wire::DownloadPart) -> Result<Self, DecodeError> {
        at_most("DownloadPart.bytes", part.bytes.len(), MAX_PART_BYTES)?;
        Ok(Self { bytes: part.bytes })
    }
}

impl From<&Report> for wire::ReportRequest {
    fn from(report: &Report) -> Self {
        Self { problem: report.problem.clone(), evidence: report.evidence.clone() }
    }
}

impl TryFrom<wire::ReportRequest> for Report {
    type Error = DecodeError;

    fn try_from(request: wire::ReportRequest) -> Result<Self, DecodeError> {
        at_most("ReportRequest.evidence", request.evidence.len(), MAX_EVIDENCE)?;
        let problem = text("ReportRequest.problem", request.problem, MAX_TEXT)?;
        Ok(Self { problem, evidence: request.evidence })
    }
}

impl From<&Reported> for wire::ReportResponse {
    fn from(_: &Reported) -> Self {
        Self {}
    }
}

impl TryFrom<wire::ReportResponse> for Reported {
    type Error = DecodeError;

    fn try_from(_: wire::ReportResponse) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}
