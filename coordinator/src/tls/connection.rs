//! A connection after its handshake. Must never outlive its place, nor, without a client's certificate, its time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tacit_aggregation::identity::ClientId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::listener::Network;
use super::places::Place;
use crate::identity::x509::Claims;

/// Who is at the other end. Every request over the connection has this among its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The client that it has proved to be; none without a certificate.
    pub member: Option<Arc<Member>>,
}

/// A client, by its certificate, whose signature and key were checked at the handshake.
#[derive(Debug)]
pub struct Member {
    /// What the certificate says.
    pub claims: Claims,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
}

/// An encrypted connection.
#[derive(Debug)]
pub struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    seat: Seat,
}

/// What a connection is counted among.
#[derive(Debug)]
pub(super) enum Seat {
    /// Without a certificate: until a time.
    Stranger(Place<Network>, Pin<Box<Sleep>>),
    /// A client's.
    Member(Place<ClientId>),
}

impl Seat {
    /// Ready with the reason once the connection must end.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<&'static str> {
        let evicted = match self {
            Self::Stranger(place, deadline) => {
                if deadline.as_mut().poll(context).is_ready() {
                    return Poll::Ready("connections without a client certificate end after a while");
                }
                place.poll_evicted(context)
            }
            Self::Member(place) => place.poll_evicted(context),
        };
        evicted.map(|()| "another connection has taken this one's place")
    }
}

impl Connection {
    pub(super) fn new(tls: TlsStream<TcpStream>, peer: Peer, seat: Seat) -> Self {
        Self { tls, peer, seat }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Whoever serves a connection reads from it all the time, so here is where it ends.
impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(reason) = self.seat.poll_end(context) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
