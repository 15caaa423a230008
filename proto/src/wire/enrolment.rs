//! The wire form of enrolment. Must never print a token.

use super::check::{array, at_most, invalid, key, present, signature, text};
use super::{DecodeError, generated as wire};
use crate::enrolment::{Credentials, Enrol, Enrolled, Fetch, MAX_TOKEN, MAX_VERSION, MAX_X509};
use tacit_aggregation::identity::Signature;

impl From<&Enrol> for wire::EnrolRequest {
    fn from(enrol: &Enrol) -> Self {
        Self {
            token: enrol.token.clone(),
            identity_key: enrol.identity_key.0.to_vec(),
            transport_key: enrol.transport_key.0.to_vec(),
            version: enrol.version.clone(),
            signatures: enrol.signatures.map(|signature| signature.0).concat(),
        }
    }
}

impl TryFrom<wire::EnrolRequest> for Enrol {
    type Error = DecodeError;

    fn try_from(request: wire::EnrolRequest) -> Result<Self, DecodeError> {
        let signatures: [u8; 128] = array("EnrolRequest.signatures", &request.signatures)?;
        let part =
            |from: usize| array("EnrolRequest.signatures", &signatures[from..from + 64]).map(Signature);
        Ok(Self {
            token: text("EnrolRequest.token", request.token, MAX_TOKEN)?,
            identity_key: key("EnrolRequest.identity_key", &request.identity_key)?,
            transport_key: key("EnrolRequest.transport_key", &request.transport_key)?,
            version: text("EnrolRequest.version", request.version, MAX_VERSION)?,
            signatures: [part(0)?, part(64)?],
        })
    }
}

impl From<&Enrolled> for wire::EnrolResponse {
    fn from(enrolled: &Enrolled) -> Self {
        Self { ticket: enrolled.ticket.to_vec() }
    }
}

impl TryFrom<wire::EnrolResponse> for Enrolled {
    type Error = DecodeError;

    fn try_from(response: wire::EnrolResponse) -> Result<Self, DecodeError> {
        Ok(Self { ticket: array("EnrolResponse.ticket", &response.ticket)? })
    }
}

impl From<&Fetch> for wire::FetchRequest {
    fn from(fetch: &Fetch) -> Self {
        Self { ticket: fetch.ticket.to_vec() }
    }
}

impl TryFrom<wire::FetchRequest> for Fetch {
    type Error = DecodeError;

    fn try_from(request: wire::FetchRequest) -> Result<Self, DecodeError> {
        Ok(Self { ticket: array("FetchRequest.ticket", &request.ticket)? })
    }
}

impl From<&Credentials> for wire::Credentials {
    fn from(credentials: &Credentials) -> Self {
        Self {
            certificate: Some((&credentials.certificate).into()),
            transport_certificate: credentials.transport_certificate.clone(),
            root: credentials.root.0.to_vec(),
            coordinator: credentials.coordinator.0.to_vec(),
            coordinator_signature: credentials.coordinator_signature.0.to_vec(),
        }
    }
}

impl TryFrom<wire::Credentials> for Credentials {
    type Error = DecodeError;

    fn try_from(credentials: wire::Credentials) -> Result<Self, DecodeError> {
        let field = "Credentials.transport_certificate";
        at_most(field, credentials.transport_certificate.len(), MAX_X509)?;
        if credentials.transport_certificate.is_empty() {
            return Err(invalid(field, "it is empty"));
        }
        Ok(Self {
            certificate: present("Credentials.certificate", credentials.certificate)?.try_into()?,
            transport_certificate: credentials.transport_certificate,
            root: key("Credentials.root", &credentials.root)?,
            coordinator: key("Credentials.coordinator", &credentials.coordinator)?,
            coordinator_signature: signature(
                "Credentials.coordinator_signature",
                &credentials.coordinator_signature,
            )?,
        })
    }
}
