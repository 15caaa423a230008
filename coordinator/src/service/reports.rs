//! Reports of contradictions, one a minute from each client. Must never let one client's reports hide another's.

use super::status::come_back;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tacit_aggregation::identity::ClientId;
use tonic::{Code, Status};

use crate::Millis;

/// Between two reports of a client.
const PAUSE: Millis = 60_000;

/// Who has reported in the last minute: never more than there are clients.
#[derive(Default)]
pub(super) struct Reports(Mutex<HashMap<ClientId, Millis>>);

impl Reports {
    /// Lets a report in, unless the client's last one is too young.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` says when the next is let in.
    pub(super) fn admit(&self, client: ClientId, now: Millis) -> Result<(), Status> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not keep anybody out for longer.
        last.retain(|_, at| now.abs_diff(*at) < PAUSE);
        if let Some(at) = last.get(&client) {
            let wait = PAUSE - now.abs_diff(*at);
            let message = "one report a minute is taken, and the one before was";
            return Err(come_back(Code::ResourceExhausted, message, wait));
        }
        last.insert(client, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientId, Code, PAUSE, Reports};

    #[test]
    fn a_client_reports_once_a_minute_and_hides_nobody() {
        let reports = Reports::default();
        let code = |client, now| reports.admit(ClientId(client), now).map_err(|status| status.code());
        assert_eq!(code(1, 1_000_000), Ok(()));
        assert_eq!(code(1, 1_000_000 + PAUSE - 1), Err(Code::ResourceExhausted));
        assert_eq!(code(2, 1_000_001), Ok(()), "another's");
        assert_eq!(code(1, 1_000_000 + PAUSE), Ok(()), "a minute later");
        assert_eq!(code(1, 900_000), Ok(()), "when the clock was set back by more than that");
        assert_eq!(reports.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
