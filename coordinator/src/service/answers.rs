//! Large answers, a few at a time: what opens a step is a megabyte for each of a thousand clients, and all of them ask at once.
//! Must never hold more of them than have a place, nor keep a place for a client that does not read.

use super::status::refused;
use crate::engine::Refused;
use hyper::body::{Body, Bytes, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// Answers that are made and sent at once.
const MOST_ANSWERS: usize = 16;
/// How long an answer keeps its place; then the connection alone decides how long it takes.
const KEPT: Duration = Duration::from_secs(2);
/// Bytes that are handed to the transport at once, which takes no more than the receiver has room for.
const PIECE: usize = 16 << 10;

/// The places of answers.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_ANSWERS)))
    }
}

impl Places {
    /// Waits for a place. Put into an answer's extensions it is kept until the answer is sent.
    pub(super) async fn next(&self) -> Result<Place, Status> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(|_| refused(&Refused::Stopping))?;
        Ok(Place(Arc::new(permit)))
    }
}

/// A place, free again when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Place(#[allow(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// Sends bodies in pieces, and keeps places until they are sent.
#[derive(Clone, Copy, Debug)]
pub struct InPieces;

impl<S> Layer<S> for InPieces {
    type Service = Sending<S>;

    fn layer(&self, inner: S) -> Sending<S> {
        Sending { inner }
    }
}

/// A service whose answers are sent in pieces.
#[derive(Clone, Debug)]
pub struct Sending<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Sending<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<Pieces<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move {
            let (mut parts, body) = answer.await?.into_parts();
            let sent = parts.extensions.remove::<Place>().map(|place| {
                let (sent, is_sent) = tokio::sync::oneshot::channel::<()>();
                tokio::spawn(async move {
                    // Sent, or given up: the sender is dropped either way.
                    let _ = tokio::time::timeout(KEPT, is_sent).await;
                    drop(place);
                });
                sent
            });
            Ok(Response::from_parts(parts, Pieces { body, rest: Bytes::new(), _sent: sent }))
        })
    }
}

/// A body that comes in pieces.
#[derive(Debug)]
pub struct Pieces<R> {
    body: R,
    rest: Bytes,
    _sent: Option<tokio::sync::oneshot::Sender<()>>,
}

impl<R: Body<Data = Bytes> + Unpin> Body for Pieces<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        let piece = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}
