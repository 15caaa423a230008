//! What secure aggregation costs: one round of real clients and a real server, every message in its wire form, timed by
//! phase. Must never cut a step short, nor hold the clients' vectors in memory.
//!
//! Commitments that one client has decoded are not decoded again for the next one, or a large cohort would take hours; the
//! clients that are measured, drawn among those that stay, decode everything themselves.

mod exchange;
mod round;
mod spool;

use std::collections::BTreeMap;

use serde::Serialize;
use tacit_aggregation::client::ClientError;
use tacit_aggregation::identity::ClientId;
use tacit_aggregation::params::{
    COMPLETE_UP_TO, GraphRequest, Infeasible, ParamsError, RoundTerms, TaskName, ThreatModel, choose,
};
use tacit_aggregation::ring_vector::RingError;
use tacit_aggregation::server::{Abort, ServerError};
use tacit_privacy::BasisPoints;
use tacit_proto::DecodeError;

use crate::progress::Progress;

/// What is asked of the sum's correctness: it fails for lack of shares with probability at most 2^-40.
const CORRECTNESS_BITS: u8 = 40;

/// The one parent model of the round.
const PARENT: [u8; 32] = [1; 32];

/// When clients drop out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropAfter {
    /// After they shared their secrets and before they upload: the server has to cancel their pair masks.
    Share,
    /// After they uploaded: their vectors are in the sum, and others have to unmask it.
    Collect,
}

/// The round to run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Clients in the cohort, n.
    pub clients: u32,
    /// Coordinates of each vector, d.
    pub dimension: u32,
    /// Bits of the ring, b.
    pub bits: u8,
    /// Fraction of the clients that drops out; the parameters allow for as many.
    pub dropout: BasisPoints,
    /// When they do.
    pub drop_after: DropAfter,
    /// Fraction of the clients that is assumed to collude, gamma.
    pub corrupt: BasisPoints,
    /// What the server may do.
    pub threat: ThreatModel,
    /// Degree of the graph, in place of the smallest one: the rule is then given the smallest larger number of colluders
    /// that leads to it.
    pub degree: Option<u32>,
    /// Seed of everything random.
    pub seed: u64,
}

/// What the round cost, in wall-clock time: of one thread with nothing beside it for a client; for the server, the sum over
/// its messages, each on one thread, and the closing of the steps, which uses all cores where it can.
#[derive(Clone, Debug, Serialize)]
pub struct SecaggReport {
    /// n.
    pub clients: u32,
    /// d.
    pub dimension: u32,
    /// b.
    pub bits: u8,
    /// What the server may do.
    pub threat: ThreatModel,
    /// Fraction of the clients that the parameters assume to collude.
    pub corrupt: BasisPoints,
    /// k.
    pub degree: u32,
    /// t.
    pub threshold: u32,
    /// Clients that dropped out.
    pub dropped: u32,
    /// When they did.
    pub drop_after: DropAfter,
    /// Clients whose vectors are in the sum.
    pub survivors: u32,
    /// Whether the unmasked sum is the plain sum of the survivors' vectors.
    pub exact: bool,
    /// Clients whose time was taken.
    pub clients_measured: u32,
    /// Mean seconds per client by phase, encoding and decoding included; `mask` is the part of `collect` that expands and
    /// adds the masks.
    pub client_seconds: BTreeMap<&'static str, f64>,
    /// Seconds of the server by phase, encoding and decoding included.
    pub server_seconds: BTreeMap<&'static str, f64>,
    /// Mean bytes that a client which stays sends.
    pub client_bytes_up: u64,
    /// Mean bytes that a client which stays receives.
    pub client_bytes_down: u64,
    /// The former by phase.
    pub client_bytes_up_by_phase: BTreeMap<&'static str, u64>,
    /// The latter by phase.
    pub client_bytes_down_by_phase: BTreeMap<&'static str, u64>,
    /// The most memory that the whole process held, all clients included.
    pub peak_rss_bytes: Option<u64>,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No round can have these parameters.
    #[error(transparent)]
    Infeasible(#[from] Infeasible),
    /// A parameter is out of range.
    #[error(transparent)]
    Parameters(#[from] ParamsError),
    /// The rule does not give the degree asked for.
    #[error(
        "--degree {wanted} is not admissible, for clients recompute the degree and refuse another: {reason}"
    )]
    Degree {
        /// The degree asked for.
        wanted: u32,
        /// What would be admissible.
        reason: String,
    },
    /// A client left the round.
    #[error("client {client} left the round although the server is honest: {source}")]
    Client {
        /// Which one.
        client: ClientId,
        /// Why.
        source: ClientError,
    },
    /// The server refused a message.
    #[error("the server refused an honest message: {0}")]
    Server(#[from] ServerError),
    /// The round ended without a sum.
    #[error("{0}; lower --dropout, or try another --seed")]
    Abort(#[from] Abort),
    /// A message could not be read back from its bytes.
    #[error("a message does not survive the wire: {0}")]
    Wire(#[from] DecodeError),
    /// The server expected another message.
    #[error("a client sent a message of step {step} in another one")]
    Step {
        /// The step of the message.
        step: &'static str,
    },
    /// A client expected another message.
    #[error("the server's message to a client does not open {step}")]
    Opening {
        /// The step.
        step: &'static str,
    },
    /// The vectors cannot be kept on disk.
    #[error(
        "the masked vectors need {bytes} bytes of temporary files, which failed: {source}; set TMPDIR to a larger disk"
    )]
    Spool {
        /// Bytes of all vectors.
        bytes: u64,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A vector out of range.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The thread for the measured clients could not be started.
    #[error("a thread could not be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Runs one round.
///
/// # Errors
/// [`BenchError`] says which parameter cannot work, or what went wrong.
pub fn bench_secagg(settings: &Settings, progress: &dyn Progress) -> Result<SecaggReport, BenchError> {
    let terms = terms(settings)?;
    // Before any work: a cohort of this size must have parameters.
    terms.params(settings.clients)?;
    let report = round::run(settings, terms, progress);
    progress.end();
    report
}

/// The terms of the plan under which the round runs.
fn terms(settings: &Settings) -> Result<RoundTerms, BenchError> {
    let mut request = GraphRequest {
        threat: settings.threat,
        clients: settings.clients,
        corrupt_bp: settings.corrupt.get(),
        dropout_bp: settings.dropout.get(),
        correctness_bits: CORRECTNESS_BITS,
    };
    let smallest = choose(&request)?.degree;
    if let Some(wanted) = settings.degree {
        request.corrupt_bp = corrupt_for(&request, wanted, smallest)?;
    }
    Ok(RoundTerms {
        roster: None,
        task: TaskName::new("bench-secagg")?,
        round: 1,
        plan: [2; 32],
        parents: vec![PARENT],
        ledger_head: [3; 32],
        dimension: settings.dimension,
        bits: settings.bits,
        threat: settings.threat,
        corrupt_bp: request.corrupt_bp,
        dropout_bp: request.dropout_bp,
        correctness_bits: CORRECTNESS_BITS,
        cohort_min: settings.clients,
        cohort_max: settings.clients,
        n_min: 2,
    })
}

/// The smallest fraction of colluders, at least the one given, for which the rule gives a degree.
fn corrupt_for(request: &GraphRequest, wanted: u32, smallest: u32) -> Result<u16, BenchError> {
    let refused = |reason: String| Err(BenchError::Degree { wanted, reason });
    if wanted == smallest {
        return Ok(request.corrupt_bp);
    }
    if request.clients <= COMPLETE_UP_TO {
        return refused(format!("up to {COMPLETE_UP_TO} clients the graph is complete, so give {smallest}"));
    }
    if wanted < smallest {
        return refused(format!("give {smallest} or more, or assume fewer colluders or drop-outs"));
    }
    // The degree grows with the number of colluders, until none is large enough.
    let degree =
        |corrupt_bp| choose(&GraphRequest { corrupt_bp, ..*request }).ok().map(|choice| choice.degree);
    let (mut below, mut above) = (request.corrupt_bp, 10_000);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        match degree(middle) {
            Some(degree) if degree < wanted => below = middle,
            _ => above = middle,
        }
    }
    match (degree(below), degree(above)) {
        (_, Some(found)) if found == wanted => Ok(above),
        (Some(lower), Some(higher)) => refused(format!("the nearest ones are {lower} and {higher}")),
        (Some(lower), None) => refused(format!("the largest one for {} clients is {lower}", request.clients)),
        (None, _) => refused(format!("give {smallest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{BenchError, DropAfter, Settings, terms};
    use tacit_aggregation::params::ThreatModel;
    use tacit_privacy::BasisPoints;

    fn settings(clients: u32, degree: Option<u32>) -> Settings {
        Settings {
            clients,
            dimension: 1,
            bits: 16,
            dropout: BasisPoints::new(1_000).expect("a fraction"),
            drop_after: DropAfter::Share,
            corrupt: BasisPoints::new(500).expect("a fraction"),
            threat: ThreatModel::SemiMalicious,
            degree,
            seed: 1,
        }
    }

    fn reason(clients: u32, degree: u32) -> String {
        match terms(&settings(clients, Some(degree))) {
            Err(BenchError::Degree { wanted, reason }) if wanted == degree => reason,
            Err(other) => unreachable!("{other}"),
            Ok(terms) => unreachable!("{terms:?}"),
        }
    }

    #[test]
    fn a_degree_asked_for_is_the_one_that_clients_recompute() {
        let plain = terms(&settings(1_000, None)).expect("feasible").params(1_000).expect("feasible");
        assert_eq!(plain.corrupt_bp, 500);
        let same = terms(&settings(1_000, Some(plain.degree))).expect("admissible");
        assert_eq!(same.corrupt_bp, 500);
        for more in [10, 20, 40] {
            let wanted = plain.degree + more;
            let Ok(terms) = terms(&settings(1_000, Some(wanted))) else { continue };
            let params = terms.params(1_000).expect("feasible");
            assert_eq!(params.degree, wanted);
            assert!(params.corrupt_bp > 500);
            params.validate().expect("as a client checks it");
        }
        let wanted = plain.degree + 20;
        assert_eq!(
            terms(&settings(1_000, Some(wanted))).expect("admissible").params(1_000).map(|p| p.degree),
            Ok(wanted)
        );
    }

    #[test]
    fn other_degrees_are_refused_with_the_reason() {
        assert!(reason(1_000, 20).contains("or more"));
        assert!(reason(1_000, 998).contains("largest"), "{}", reason(1_000, 998));
        assert!(reason(1_000, 181).contains("nearest"), "an odd degree: {}", reason(1_000, 181));
        assert!(reason(50, 20).contains("complete"));
        assert!(terms(&settings(50, Some(49))).is_ok());
    }
}
