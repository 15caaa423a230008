//! How many calls there were, how they ended and how long they took. Must never look into one.

use crate::engine::seconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::Code;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// Methods that are counted under their own names; a caller can ask for any other, and as many as it likes.
const METHODS: [&str; 13] = [
    "tacit.v1.Admin/Carry",
    "tacit.v1.Enrolment/Enrol",
    "tacit.v1.Enrolment/Fetch",
    "tacit.v1.Fleet/CheckIn",
    "tacit.v1.Fleet/Receive",
    "tacit.v1.Fleet/Send",
    "tacit.v1.Fleet/Upload",
    "tacit.v1.Fleet/Prove",
    "tacit.v1.Fleet/Download",
    "tacit.v1.Fleet/Report",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// A method and how its calls ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    method: String,
    code: String,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    method: String,
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct CallFigures {
    calls: Family<Ended, Counter>,
    seconds: Family<Of, Histogram, fn() -> Histogram>,
}

impl Default for CallFigures {
    fn default() -> Self {
        Self { calls: Family::default(), seconds: Family::new_with_constructor(seconds) }
    }
}

impl CallFigures {
    /// Shows them in a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "calls",
            "Calls that began to be answered, by method and status",
            self.calls.clone(),
        );
        let help = "Time until a call began to be answered";
        registry.register_with_unit("call", help, Unit::Seconds, self.seconds.clone());
    }

    fn note(&self, method: String, code: Code, began: Instant) {
        self.seconds.get_or_create(&Of { method: method.clone() }).observe(began.elapsed().as_secs_f64());
        self.calls.get_or_create(&Ended { method, code: format!("{code:?}") }).inc();
    }
}

/// Counts the calls to a service.
#[derive(Clone, Debug)]
pub struct CountCalls(pub CallFigures);

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { figures: self.0.clone(), inner }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    figures: CallFigures,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        let method = METHODS.into_iter().find(|method| *method == path).unwrap_or("unknown").to_owned();
        let (figures, began) = (self.figures.clone(), Instant::now());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Ok(response) = &answer {
                // A status in the headers is the whole answer; without one the answer has begun, and so far is good.
                let status = response.headers().get("grpc-status");
                let code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
                figures.note(method, code, began);
            }
            answer
        })
    }
}
