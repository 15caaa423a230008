//! Moments at which a test may hold a client up or make it leave. Must never see what a client computes.

use std::pin::Pin;
use std::sync::Arc;

use tacit_aggregation::Step;
use tacit_aggregation::identity::ClientId;

/// A moment in a client's round, for whoever wants to hold it up there or make it leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// The answer to a step is worked out, and not sent. For [`Step::Advertise`] that is the advert, for [`Step::Collect`] the
    /// masked vector.
    Before(Step),
    /// The coordinator has acknowledged the whole answer to a step.
    After(Step),
}

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// It goes on.
    On,
    /// It leaves the round without a word.
    Leave,
}

/// Asked at every [`Moment`] of every client that was given it; a client waits for the answer.
pub type Hook =
    Arc<dyn Fn(ClientId, Moment) -> Pin<Box<dyn Future<Output = Go> + Send>> + Send + Sync + 'static>;
