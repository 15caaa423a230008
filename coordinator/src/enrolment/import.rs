//! What comes from the identity root: certificates and lists of revoked clients. Must never take in what the root did not sign.

use std::sync::Arc;

use tacit_aggregation::identity::{Certificate, RevocationList};
use tacit_proto::Wire as _;
use tacit_proto::enrolment::MAX_X509;

use super::tables::{Clients, Decision, Decisions, Keys, Requests, Revoked, StoredRevocations};
use super::{Client, Enrolment, EnrolmentError};
use crate::identity::{Issued, Revocations, x509};
use crate::store::Batch;

impl Enrolment {
    /// Takes in what the identity root issued: new clients and renewals, all of them or none. Certificates that end no later than
    /// the known ones change nothing, so a file can be imported twice. An answer without its request is taken as well: the
    /// root's record restores the clients of a coordinator that lost its own.
    ///
    /// Gives how many were new or later than what was known.
    ///
    /// # Errors
    /// [`EnrolmentError::Certificate`], [`EnrolmentError::Decode`], [`EnrolmentError::Answer`], [`EnrolmentError::Store`].
    pub fn admit(&self, answers: &[Issued], now: u64) -> Result<usize, EnrolmentError> {
        let mut pending = self.lock();
        let mut batch = Batch::new();
        let mut changed = 0;
        // The root's record may hold a client's first certificates and its renewals: the latest must be written last.
        let mut answers: Vec<&Issued> = answers.iter().collect();
        answers.sort_by_key(|issued| issued.not_after);
        for issued in answers {
            self.check(issued)?;
            let wrong =
                |reason| EnrolmentError::Answer { ticket: hex::encode(issued.admission.ticket), reason };
            let ticket = &issued.admission.ticket;
            let request = self.records().get::<Requests>(ticket)?;
            if let Some(request) = &request
                && !request.clone().admission(*ticket).same(&issued.admission)
            {
                return Err(wrong("its keys are not the request's"));
            }
            match self.records().get::<Decisions>(ticket)? {
                Some(Decision::Refused) => return Err(wrong("the operator has refused the request")),
                Some(Decision::Issued { client, identity_key, transport_key, not_after, .. }) => {
                    let known = (client, identity_key, transport_key);
                    if known != (issued.client, issued.admission.identity_key, issued.admission.transport_key)
                    {
                        return Err(wrong(
                            "the request was answered with another client or other keys before",
                        ));
                    }
                    if issued.not_after <= not_after {
                        continue;
                    }
                }
                None => {}
            }
            let known = self.client(issued.client)?;
            if known.as_ref().is_some_and(|known| known.ticket != *ticket) {
                return Err(wrong("its client came with another request"));
            }
            let client = match known {
                Some(known) => Client { not_after: issued.not_after, ..known },
                None => Client {
                    ticket: *ticket,
                    version: request.map(|request| request.version).unwrap_or_default(),
                    note: issued.admission.note.clone(),
                    enrolled_at: now,
                    not_after: issued.not_after,
                },
            };
            let decision = Decision::Issued {
                client: issued.client,
                identity_key: issued.admission.identity_key,
                transport_key: issued.admission.transport_key,
                not_after: issued.not_after,
                certificate: issued.certificate.clone(),
                transport_certificate: issued.transport_certificate.clone(),
            };
            batch.put::<Keys>(&issued.admission.identity_key, ticket);
            batch.put::<Keys>(&issued.admission.transport_key, ticket);
            batch.delete::<Requests>(ticket).put::<Decisions>(ticket, &decision);
            batch.put::<Clients>(&issued.client, &client);
            changed += 1;
        }
        *pending = None;
        batch.commit(&*self.store, self.epoch)?;
        Ok(changed)
    }

    /// Both certificates must be the root's, and say what the answer says.
    fn check(&self, issued: &Issued) -> Result<(), EnrolmentError> {
        let root = self.appointment.root();
        let certificate = Certificate::from_wire(&issued.certificate)?;
        // Expired ones are taken too: they are history, and expiry is checked wherever a certificate is used.
        certificate.verify(&root, 0)?;
        let claims = x509::Claims::verified(&issued.transport_certificate, &root);
        let fits = certificate.client == issued.client
            && certificate.public_key.0 == issued.admission.identity_key
            && certificate.not_after == issued.not_after
            && issued.transport_certificate.len() <= MAX_X509
            && claims.is_some_and(|claims| {
                claims.client == issued.client
                    && claims.transport_key == issued.admission.transport_key
                    && claims.not_after == issued.not_after
            })
            && issued.admission.identity_key != issued.admission.transport_key;
        let ticket = || hex::encode(issued.admission.ticket);
        let reason = "its certificates do not say what it says, or the X.509 one is not this root's";
        if fits { Ok(()) } else { Err(EnrolmentError::Answer { ticket: ticket(), reason }) }
    }

    /// Takes in a list of revoked clients, which from then on are refused, on open connections too.
    ///
    /// # Errors
    /// [`EnrolmentError::Revocations`] for a list that is not the root's, is older than the known one, or contradicts it;
    /// [`EnrolmentError::Store`].
    pub fn set_revocations(&self, list: Revocations) -> Result<(), EnrolmentError> {
        let list = RevocationList::from(list);
        let _pending = self.lock();
        list.verify(&self.appointment.root(), self.excluded.borrow().revoked())?;
        let mut batch = Batch::new();
        batch.put::<Revoked>(&self.appointment.root().0, &StoredRevocations::new(&list));
        batch.commit(&*self.store, self.epoch)?;
        self.excluded.send_modify(|excluded| Arc::make_mut(excluded).revoke(list));
        Ok(())
    }
}
