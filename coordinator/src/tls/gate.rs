//! Who may call: asked at every request, so that a client that is shut out is out on its open connections too.
//! Must never answer from anything that the caller says in its request.

use std::sync::Arc;

use tacit_aggregation::identity::ClientId;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::Peer;
use crate::enrolment::Excluded;

/// Tells services who calls.
#[derive(Clone, Debug)]
pub struct Gate {
    excluded: watch::Receiver<Arc<Excluded>>,
}

impl Gate {
    /// With those whom enrolment shuts out.
    #[must_use]
    pub fn new(excluded: watch::Receiver<Arc<Excluded>>) -> Self {
        Self { excluded }
    }

    /// The client that sent a request, at a Unix second.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a certificate or with one that has expired since the connection was opened,
    /// `PERMISSION_DENIED` for who is shut out.
    pub fn authenticated<T>(&self, request: &Request<T>, now: u64) -> Result<ClientId, Status> {
        let peer = request.extensions().get::<Peer>();
        let member = peer.and_then(|peer| peer.member.as_ref()).ok_or_else(|| {
            Status::unauthenticated("this call needs a client certificate: enrol this machine first")
        })?;
        let client = member.claims.client;
        let not_after = member.claims.not_after;
        if now > not_after {
            return Err(Status::unauthenticated(format!(
                "the certificate of client {client} expired at {not_after}: fetch the renewed one, or ask the operator for it"
            )));
        }
        match self.excluded.borrow().reason(client) {
            Some(reason) => Err(Status::permission_denied(format!("client {client} is {reason}"))),
            None => Ok(client),
        }
    }
}
