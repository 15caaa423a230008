//! The serving process: everything in its data folder, one engine thread, the services over TLS. Must never have the identity
//! root's key, nor serve before it has said what it recovered.

mod data;
mod doctor;
mod restart;
#[cfg(test)]
mod tests;

pub use data::{DataError, DataFolder};
pub use doctor::{Diagnosis, Finding, examine};
pub use restart::{RestartError, restart_ledger, restored_head, take_restart};

use crate::Millis;
use crate::admins::{AdminError, ensure_first};
use crate::engine::{Engine, EngineError, Handle, Recovery, Setup, Stopped};
use crate::enrolment::{EVERY, Enrolment, EnrolmentError, Presence};
use crate::metrics::{CallFigures, CountCalls, Metrics};
use crate::publication::{PublicationError, Publisher};
use crate::service::{AdminService, Clock, EnrolmentService, FleetService, InPieces};
use crate::settings::ServerSettings;
use crate::store::{RocksStore, Store, StoreError};
use crate::tls::{Gate, Limits, Listener, ServerCertificate, TlsError, server_config};
use rand::SeedableRng as _;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tacit_aggregation::Digest;
use tacit_proto::services::DESCRIPTORS;
use tacit_proto::services::admin::admin_server::AdminServer;
use tacit_proto::services::enrolment::enrolment_server::EnrolmentServer;
use tacit_proto::services::fleet::fleet_server::FleetServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tower::util::MapRequestLayer;

/// Longest message of somebody who need not be known: to enrol, or about the services, in bytes.
const LONGEST_QUESTION: usize = 4 << 10;
/// Longest message that a client may send, in bytes.
const LONGEST_REQUEST: usize = 4 << 20;
/// Longest order of an operator, in bytes.
const LONGEST_ORDER: usize = 17 << 20;
/// Calls that one connection may have open.
const CALLS_PER_CONNECTION: u32 = 16;
/// Bytes that a client may send ahead of being read, in one call.
pub const CALL_WINDOW: u32 = 64 << 10;
/// The same in all calls of a connection.
pub const CONNECTION_WINDOW: u32 = 256 << 10;
/// The call whose answer may be compressed.
const DOWNLOAD: &str = "/tacit.v1.Fleet/Download";
/// Metadata that says which compression a caller understands.
const ACCEPTED: &str = "grpc-accept-encoding";
/// How often a silent connection is asked whether it is alive.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long open calls may take to end when the process stops.
const GRACE: Duration = Duration::from_secs(5);

/// Why the process does not serve, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine stopped.
    #[error(
        "stopped because something could not be made durable: {0}; what was acknowledged is safe, start again"
    )]
    Stopped(#[from] Stopped),
    /// Published files.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// Enrolment.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// Operators' tokens.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No keys can be drawn.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The transport.
    #[error("the transport fails: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The engine's thread ended without a word.
    #[error("the engine's thread ended unexpectedly: this is a bug, start again")]
    Panicked,
    /// Reflection.
    #[error("the services cannot be described: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A thread could not be started.
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
}

/// A generator of secrets, from the operating system's randomness.
///
/// # Errors
/// [`NoRandomness`].
pub fn secrets() -> Result<ChaCha20Rng, NoRandomness> {
    ChaCha20Rng::try_from_rng(&mut SysRng).map_err(|error| NoRandomness(error.to_string()))
}

/// The operating system gives no randomness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness: {0}")]
pub struct NoRandomness(String);

/// The system's time, in milliseconds since 1970.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the process is where time comes in")]
pub fn system_clock() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// A process that is ready to serve.
pub struct Coordinator {
    listener: Listener,
    fingerprint: Digest,
    recovery: Recovery,
    engine: Handle,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<Result<(), Stopped>>,
    enrolment: Arc<Enrolment>,
    presence: Arc<Presence>,
    fleet: FleetService,
    admin: AdminService,
    clock: Clock,
    first_token: Option<PathBuf>,
    calls: CallFigures,
    metrics: Option<(Metrics, TcpListener)>,
}

impl Coordinator {
    /// Opens everything, comes back to open rounds, and listens; nobody is served yet. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn start(data: &DataFolder, settings: &ServerSettings) -> Result<Self, ServeError> {
        let appointment = data.appointment()?;
        let key = Arc::new(data.key()?);
        let rocks = Arc::new(RocksStore::open(&data.store())?);
        let store: Arc<dyn Store> = rocks.clone();
        let publisher = Publisher::open(data.path(), Arc::clone(&store), Arc::clone(&key))?;
        let clock: Clock = Arc::new(system_clock);
        let setup = Setup {
            store: Arc::clone(&store),
            vectors: data.vectors(),
            publisher: publisher.clone(),
            key,
            root: appointment.root(),
            clock: Arc::clone(&clock),
        };
        let (engine, commands, handle, recovery) = Engine::start(setup, secrets()?)?;
        let first = ensure_first(
            rocks.as_ref(),
            engine.epoch(),
            &data.first_token(),
            clock() / 1000,
            &mut secrets()?,
        )?;
        let epoch = engine.epoch();
        let presence = Arc::new(Presence::new(Arc::clone(&store), engine.epoch()));
        let enrolment = Arc::new(Enrolment::new(store, engine.epoch(), appointment.clone())?);
        let certificate = match &settings.tls {
            Some(files) => ServerCertificate::load(&files.certificate, &files.key)?,
            None => ServerCertificate::load_or_make(data.path(), &settings.hosts)?,
        };
        let fingerprint = certificate.fingerprint();
        let config = server_config(certificate, &appointment.root_certificate)?;
        let limits = Limits {
            members: settings.connections.members,
            strangers: settings.connections.strangers,
            ..Limits::default()
        };
        let address = settings.listen;
        let listener = Listener::bind(address, config, limits)
            .map_err(|source| ServeError::Listen { address, source })?;
        let gate = Gate::new(enrolment.excluded());
        let fleet = FleetService::new(
            handle.clone(),
            publisher.clone(),
            gate,
            enrolment.excluded(),
            Arc::clone(&presence),
            settings,
            Arc::clone(&clock),
        );
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                let result = engine.run(&commands);
                // Nobody may be waiting any more.
                let _ = end.send(());
                result
            })
            .map_err(ServeError::Thread)?;
        let admin = AdminService {
            engine: handle.clone(),
            store: rocks,
            publisher,
            enrolment: Arc::clone(&enrolment),
            presence: Arc::clone(&presence),
            data: data.clone(),
            coordinator: appointment.coordinator(),
            clock: Arc::clone(&clock),
            epoch,
            tokens: Arc::default(),
        };
        let first_token = first.then(|| data.first_token());
        let calls = CallFigures::default();
        let metrics = match settings.metrics {
            Some(address) => {
                let listener = std::net::TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    TcpListener::from_std(listener)
                });
                let listener = listener.map_err(|source| ServeError::Listen { address, source })?;
                Some((Metrics::new(handle.clone(), &calls), listener))
            }
            None => None,
        };
        Ok(Self {
            listener,
            fingerprint,
            recovery,
            engine: handle,
            ended,
            thread,
            enrolment,
            presence,
            fleet,
            admin,
            clock,
            first_token,
            calls,
            metrics,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_address()
    }

    /// SHA-256 of the server's certificate, DER.
    #[must_use]
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// What the start found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Where the first operator's token was written, when this start made it.
    #[must_use]
    pub fn first_token(&self) -> Option<&Path> {
        self.first_token.as_deref()
    }

    /// Speaks to the engine.
    #[must_use]
    pub fn engine(&self) -> &Handle {
        &self.engine
    }

    /// Serves until `stop` is ready or something fails; open calls then have a moment to end.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self {
            listener,
            engine,
            mut ended,
            thread,
            enrolment,
            presence,
            fleet,
            admin,
            clock,
            calls,
            metrics,
            ..
        } = self;
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<FleetServer<FleetService>>().await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // Older tools ask for the draft's name.
        let (reflection, draft) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let reflection = reflection.max_decoding_message_size(LONGEST_QUESTION);
        let draft = draft.max_decoding_message_size(LONGEST_QUESTION);
        let health_service = health_service.max_decoding_message_size(LONGEST_QUESTION);
        // Whoever may not call is told so before its message takes any memory.
        let (knows_operators, knows_clients) = (admin.clone(), fleet.clone());
        let admin = InterceptedService::new(
            AdminServer::new(admin).max_decoding_message_size(LONGEST_ORDER),
            move |request| knows_operators.admit(request),
        );
        let fleet = InterceptedService::new(
            FleetServer::new(fleet)
                .max_decoding_message_size(LONGEST_REQUEST)
                .send_compressed(CompressionEncoding::Zstd),
            move |request| knows_clients.admit(request),
        );
        let enrolment = EnrolmentServer::new(EnrolmentService::new(enrolment, clock))
            .max_decoding_message_size(LONGEST_QUESTION);
        let (stopping, stopped) = oneshot::channel::<()>();
        let server = Server::builder()
            .layer(InPieces)
            .layer(CountCalls(calls))
            .layer(MapRequestLayer::new(compress_files_alone::<tonic::body::Body>))
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .initial_stream_window_size(CALL_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .add_service(health_service)
            .add_service(reflection)
            .add_service(draft)
            .add_service(enrolment)
            .add_service(admin)
            .add_service(fleet)
            .serve_with_incoming_shutdown(listener.incoming(), async {
                // Dropped or sent, it is the same.
                let _ = stopped.await;
            });
        let mut server = std::pin::pin!(server);
        let noted = tokio::spawn(write_from_time_to_time(Arc::clone(&presence)));
        // Ends with the process.
        let metrics = metrics.map(|(metrics, listener)| tokio::spawn(metrics.serve(listener)));
        let result = tokio::select! {
            result = &mut server => result.map_err(ServeError::from),
            () = stop => Ok(()),
            _ = &mut ended => Ok(()),
        };
        health.set_not_serving::<FleetServer<FleetService>>().await;
        drop(stopping);
        if let Some(metrics) = metrics {
            metrics.abort();
        }
        noted.abort();
        // It is cancelled, and has let go of the store.
        let _ = noted.await;
        // What waits for the engine is answered before the engine stops; what waits for a step is told to come back.
        if tokio::time::timeout(GRACE, &mut server).await.is_err() {
            tracing::info!("some calls were still open");
        }
        while engine.stop() == Err(crate::engine::Refused::Busy) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ended = tokio::task::spawn_blocking(move || {
            write(&presence);
            thread.join()
        });
        let ended = ended.await;
        match ended {
            Ok(Ok(stopped)) => stopped?,
            _ => return Err(ServeError::Panicked),
        }
        result
    }
}

/// Writes when clients were last heard of, as long as the process serves.
async fn write_from_time_to_time(presence: Arc<Presence>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let presence = Arc::clone(&presence);
        // A panic is in the log, and the next time comes.
        let _ = tokio::task::spawn_blocking(move || write(&presence)).await;
    }
}

fn write(presence: &Presence) {
    match presence.write() {
        Ok(clients) => tracing::debug!(clients, "it is written when clients were last heard of"),
        Err(error) => tracing::warn!(%error, "when clients were last heard of is not written"),
    }
}

/// Published files are everybody's. Other answers may hold what one caller chose beside what is another's secret, and lengths would
/// show how alike they are: those are not compressed, whatever the caller understands.
fn compress_files_alone<B>(mut request: Request<B>) -> Request<B> {
    if request.uri().path() != DOWNLOAD {
        request.headers_mut().remove(ACCEPTED);
    }
    request
}
