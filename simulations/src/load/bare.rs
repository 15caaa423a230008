//! A gRPC service that takes streams of bytes and counts them, behind the coordinator's own TLS: what uploads are compared
//! with. Must never do more than that.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes};
use tacit_aggregation::messages::chunks;
use tacit_client::credentials::Credentials;
use tacit_coordinator::serve::{CALL_WINDOW, CONNECTION_WINDOW};
use tacit_coordinator::tls::{Limits, Listener, ServerCertificate, TlsError, server_config};
use tacit_proto::connection::{ConnectionError, Fingerprint, Server, Trust};
use tokio::task::JoinSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{ClientStreamingService, Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No socket.
    #[error("no port can be opened for the bare stream: {0}")]
    Listen(#[from] std::io::Error),
    /// No connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The stream broke.
    #[error("the bare stream broke: {0}")]
    Stream(Box<Status>),
    /// The other end counts otherwise.
    #[error("{sent} bytes were sent through the bare stream, and {counted} arrived")]
    Count {
        /// By this end.
        sent: u64,
        /// By the other end.
        counted: u64,
    },
    /// A task that does not end.
    #[error("the work was interrupted")]
    Interrupted,
}

/// Buffers that the streams send from: together they are larger than a processor's cache, as the uploads' vectors are.
const BUFFERS: usize = 64;

/// Sends a stream of so many bytes over a connection of each client, all of them at once. Gives bytes per second.
///
/// # Errors
/// [`BareError`].
pub async fn measure(
    root_certificate: &[u8],
    clients: &[&Credentials],
    length: usize,
) -> Result<f64, BareError> {
    let folder = tempfile::tempdir()?;
    let certificate = ServerCertificate::load_or_make(folder.path(), &[])?;
    let fingerprint = Fingerprint(certificate.fingerprint());
    let listener = Listener::bind(
        ([127, 0, 0, 1], 0).into(),
        server_config(certificate, root_certificate)?,
        Limits::default(),
    )?;
    let address = listener.local_address()?.to_string();
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(Sink);
    let serving = tokio::spawn(server.serve_with_incoming(listener.incoming()));
    let server = Server::new(&address, Trust::Fingerprint(fingerprint))?;
    let buffers = (0..BUFFERS.min(clients.len())).map(|_| Bytes::from(vec![0x5a; length]));
    let buffers: Vec<Bytes> = buffers.collect();
    let mut lines = Vec::with_capacity(clients.len());
    for (client, bytes) in clients.iter().zip(buffers.iter().cycle()) {
        let certificate = (client.issued.transport_certificate.as_slice(), &client.keys.transport);
        let channel = server.connect(Some(certificate)).await?;
        let mut grpc = tonic::client::Grpc::new(channel);
        // The uploads' connections have been used before, too.
        send(&mut grpc, bytes.slice(..1)).await?;
        lines.push((grpc, bytes.clone()));
    }
    let mut workers = JoinSet::new();
    let began = Instant::now();
    for (mut grpc, bytes) in lines {
        workers.spawn(async move { send(&mut grpc, bytes).await });
    }
    while let Some(done) = workers.join_next().await {
        done.map_err(|_| BareError::Interrupted)??;
    }
    let seconds = began.elapsed().as_secs_f64();
    serving.abort();
    Ok((clients.len() * length) as f64 / seconds)
}

/// One stream of bytes, in chunks as long as an upload's.
async fn send(
    grpc: &mut tonic::client::Grpc<tonic::transport::Channel>,
    bytes: Bytes,
) -> Result<(), BareError> {
    let ready = grpc.ready().await;
    ready.map_err(|error| BareError::Stream(Box::new(Status::from_error(error.into()))))?;
    let sent = bytes.len() as u64;
    let parts = tokio_stream::iter(chunks(&bytes, 0).map(|chunk| chunk.bytes).collect::<Vec<_>>());
    let path = PathAndQuery::from_static("/tacit.load.Sink/Count");
    let answer = grpc.client_streaming(Request::new(parts), path, RawCodec).await;
    let counted = answer.map_err(|status| BareError::Stream(Box::new(status)))?.into_inner();
    let counted = counted.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    if counted == sent { Ok(()) } else { Err(BareError::Count { sent, counted }) }
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Counts the bytes of a stream.
#[derive(Clone, Copy, Debug)]
struct Sink;

impl NamedService for Sink {
    const NAME: &'static str = "tacit.load.Sink";
}

impl ClientStreamingService<Bytes> for Sink {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let (mut parts, mut count) = (request.into_inner(), 0_u64);
            while let Some(part) = parts.message().await? {
                count += part.len() as u64;
            }
            Ok(Response::new(Bytes::copy_from_slice(&count.to_be_bytes())))
        })
    }
}

impl<B> Service<http::Request<B>> for Sink
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(RawCodec).client_streaming(Sink, request).await) })
    }
}
