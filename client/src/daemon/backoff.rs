//! How long to wait before asking again. Must never wait less than the coordinator asks for, nor let a fleet ask in step.

use rand::RngExt as _;
use std::time::Duration;
use tonic::{Code, Status};

/// Metadata in which a coordinator says when to come again, in milliseconds.
pub const RETRY_AFTER: &str = "retry-after-ms";
/// Longest wait that a coordinator can ask for.
const MOST_ASKED: Duration = Duration::from_secs(3600);

/// Exponential back-off with full jitter: the n-th wait is uniform between nothing and `shortest 2^n`, up to `longest`.
#[derive(Debug)]
pub(super) struct Backoff {
    shortest: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, failures: 0 }
    }

    /// Something worked: the next failure is the first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let ceiling = self.shortest.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_default() + jitter(ceiling.min(self.longest))
    }
}

/// Uniform between nothing and `most`.
#[allow(clippy::disallowed_methods, reason = "no secret, and nothing that is to be reproducible")]
pub(super) fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random::<f64>())
}

/// When the coordinator wants to be asked again, if it said so.
#[must_use]
pub fn asked(status: &Status) -> Option<Duration> {
    let wish = status.metadata().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(wish).min(MOST_ASKED))
}

/// Whether the same call may succeed later: the connection or the server is in trouble, not the request.
#[must_use]
pub fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unknown
            | Code::Cancelled
            | Code::Aborted
            | Code::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::{Backoff, RETRY_AFTER, asked, is_passing};
    use std::time::Duration;
    use tonic::Status;

    #[test]
    fn waits_grow_to_a_limit_differ_and_keep_what_is_asked() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut waits = Vec::new();
        for _ in 0..200 {
            let mut backoff = Backoff::new(shortest, longest);
            for failure in 0..40 {
                let wait = backoff.next(None);
                assert!(wait <= longest.min(shortest * (1 << failure.min(10))), "{failure}: {wait:?}");
                waits.push(wait);
            }
            backoff.reset();
            let wait = backoff.next(Some(Duration::from_secs(3)));
            assert!((Duration::from_secs(3)..=Duration::from_millis(3100)).contains(&wait), "{wait:?}");
        }
        let late: Vec<_> = waits.iter().filter(|wait| **wait > Duration::from_secs(5)).collect();
        assert!(late.len() > 1000, "half of the late waits are in the upper half: {}", late.len());
    }

    #[test]
    fn the_coordinators_wish_is_read_and_bounded() {
        let mut status = Status::resource_exhausted("later");
        assert_eq!(asked(&status), None);
        for (text, wish) in
            [("250", Some(250)), ("99999999999", Some(3_600_000)), ("-1", None), ("soon", None)]
        {
            status.metadata_mut().insert(RETRY_AFTER, text.parse().expect("plain"));
            assert_eq!(asked(&status), wish.map(Duration::from_millis), "{text}");
        }
        assert!(is_passing(&status) && !is_passing(&Status::already_exists("another message")));
    }
}
