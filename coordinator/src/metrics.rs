//! Figures of the running process for Prometheus, over plain HTTP on an address of their own. Must never name a client, nor
//! serve anything else.

mod calls;

pub use calls::{CallFigures, CountCalls};

use crate::engine::Handle;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections at once.
const MOST_CONNECTIONS: usize = 16;
/// How long a request may take to come.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTask {
    task: String,
}

/// A task and a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    task: String,
    step: String,
}

/// Everything that is shown.
pub struct Metrics {
    registry: Registry,
    engine: Handle,
    waiting: Gauge,
    entries: Gauge,
    resident: Gauge,
    ready: Family<OfTask, Gauge>,
    committed: Family<OfTask, Gauge>,
    epsilon: Family<OfTask, Gauge<f64, AtomicU64>>,
    steps: Family<OfStep, Gauge>,
}

impl Metrics {
    /// Of an engine and of calls.
    #[must_use]
    pub fn new(engine: Handle, calls: &CallFigures) -> Self {
        let mut registry = Registry::with_prefix("tacit");
        engine.figures().register(&mut registry);
        calls.register(&mut registry);
        let metrics = Self {
            waiting: Gauge::default(),
            entries: Gauge::default(),
            resident: Gauge::default(),
            ready: Family::default(),
            committed: Family::default(),
            epsilon: Family::default(),
            steps: Family::default(),
            engine,
            registry: Registry::default(),
        };
        registry.register("commands_waiting", "Commands that wait for the engine", metrics.waiting.clone());
        registry.register("ledger_entries", "Entries of the ledger", metrics.entries.clone());
        registry.register("resident_bytes", "Memory that the process has", metrics.resident.clone());
        registry.register("ready_clients", "Clients that wait with an update", metrics.ready.clone());
        registry.register(
            "committed_rounds",
            "Rounds that released a version, ever",
            metrics.committed.clone(),
        );
        registry.register(
            "epsilon",
            "The largest epsilon over clients, as last stated",
            metrics.epsilon.clone(),
        );
        registry.register("step", "1 for the step that a task is in", metrics.steps.clone());
        Self { registry, ..metrics }
    }

    /// The text that Prometheus reads.
    fn text(&self) -> Result<String, std::fmt::Error> {
        let board = Arc::clone(&self.engine.board().borrow());
        self.waiting.set(self.engine.waiting() as i64);
        self.entries.set(board.ledger.map_or(0, |(_, size)| size as i64));
        self.resident.set(resident_bytes().unwrap_or(0));
        self.steps.clear();
        for view in board.tasks.values() {
            let status = &view.status;
            let of = OfTask { task: status.task.clone() };
            self.ready.get_or_create(&of).set(status.ready as i64);
            self.committed.get_or_create(&of).set(status.committed as i64);
            if let Some(epsilon) = status.epsilon {
                self.epsilon.get_or_create(&of).set(epsilon);
            }
            self.steps.get_or_create(&OfStep { task: of.task, step: status.step.to_owned() }).set(1);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let status = |code: StatusCode| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = code;
            response
        };
        if request.uri().path() != "/metrics" {
            return status(StatusCode::NOT_FOUND);
        }
        if request.method() != Method::GET {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        match self.text() {
            Ok(text) => {
                let mut response = Response::new(Full::from(text));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
                response
            }
            Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let (metrics, places) = (Arc::new(self), Arc::new(Semaphore::new(MOST_CONNECTIONS)));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no connection for metrics can be accepted");
                    tokio::time::sleep(HEADER_TIMEOUT).await;
                    continue;
                }
            };
            let metrics = Arc::clone(&metrics);
            tokio::spawn(async move {
                let _place = place;
                let answer = service_fn(|request| {
                    let response = metrics.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), answer);
                if let Err(error) = served.await {
                    tracing::debug!(%error, "a connection for metrics ended");
                }
            });
        }
    }
}

/// Memory that the process has, where the system says so.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
