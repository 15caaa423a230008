//! Accepts connections and leads them through the handshake, many at a time and never more than there are places.
//! Must never wait for one peer before it turns to the next, nor keep anything for a peer that has no place.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tacit_aggregation::identity::ClientId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::{Connection, Member, Peer, Seat};
use super::places::{Place, Places};
use crate::identity::x509::Claims;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1_024;
/// Connections after their handshake that wait to be served.
const QUEUE: usize = 64;
/// How long to rest when the system cannot give another connection, for want of file descriptors, say.
const REST: Duration = Duration::from_millis(100);

/// How long a peer whose handshake failed has to read why.
const FAREWELL: Duration = Duration::from_millis(500);
/// What such a peer may send meanwhile, in bytes.
const FAREWELL_BYTES: u64 = 64 << 10;

/// How many connections there may be, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections whose owner is not known: in the handshake, or without a client certificate. When there are as many, those
    /// from the network address with the most of them make room, oldest first.
    pub strangers: usize,
    /// How long a stranger is left alone, however many wait.
    pub grace: Duration,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a connection without a client certificate may last.
    pub anonymous: Duration,
    /// Connections of clients.
    pub members: usize,
    /// Connections of one client: one more takes the place of its oldest.
    pub per_member: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: 512,
            grace: Duration::from_secs(1),
            handshake: Duration::from_secs(10),
            anonymous: Duration::from_secs(600),
            members: 16_384,
            per_member: 4,
        }
    }
}

/// Where a stranger comes from: an IPv4 address, or the half of an IPv6 address that one subscriber has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(u64, bool);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u32::from(address).into(), false),
            IpAddr::V6(address) => Self((u128::from(address) >> 64) as u64, true),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    welcome: Welcome,
    limits: Limits,
}

/// Everything that a handshake needs.
#[derive(Clone)]
struct Welcome {
    acceptor: TlsAcceptor,
    strangers: Arc<Places<Network>>,
    members: Arc<Places<ClientId>>,
}

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Welcome").finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The system's, when the address is taken or not this machine's.
    pub fn bind(address: SocketAddr, config: Arc<ServerConfig>, limits: Limits) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let welcome = Welcome {
            acceptor: config.into(),
            strangers: Places::new(limits.strangers, limits.strangers),
            members: Places::new(limits.members, limits.per_member),
        };
        Ok(Self { socket: socket.listen(BACKLOG)?, welcome, limits })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The connections whose handshake succeeds, until this stream is dropped.
    #[must_use]
    pub fn incoming(self) -> ReceiverStream<io::Result<Connection>> {
        let (queue, connections) = mpsc::channel(QUEUE);
        tokio::spawn(self.accept(queue));
        ReceiverStream::new(connections)
    }

    async fn accept(self, queue: mpsc::Sender<io::Result<Connection>>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = queue.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let place = tokio::select! {
                place = self.welcome.strangers.take(Network::of(address.ip()), self.limits.grace) => place,
                () = queue.closed() => return,
            };
            // As many tasks as there are places.
            tokio::spawn(self.welcome.clone().lead(stream, address, place, self.limits, queue.clone()));
        }
    }

    #[cfg(test)]
    pub(super) fn strangers(&self) -> Arc<Places<Network>> {
        self.welcome.strangers.clone()
    }
}

impl Welcome {
    /// Leads one connection through its handshake to those who serve.
    async fn lead(
        self,
        stream: TcpStream,
        address: SocketAddr,
        mut place: Place<Network>,
        limits: Limits,
        queue: mpsc::Sender<io::Result<Connection>>,
    ) {
        // Small answers must not wait for acknowledgements of earlier ones. It fails on a connection that is gone already.
        let _ = stream.set_nodelay(true);
        let handshake = self.acceptor.accept(stream).into_fallible();
        let tls = tokio::select! {
            tls = tokio::time::timeout(limits.handshake, handshake) => tls,
            () = place.evicted() => return tracing::debug!(%address, "no room for a slow handshake"),
            () = queue.closed() => return,
        };
        let tls = match tls {
            Ok(Ok(tls)) => tls,
            Ok(Err((error, stream))) => {
                tracing::debug!(%address, %error, "the handshake failed");
                tokio::select! {
                    _ = tokio::time::timeout(FAREWELL, part(stream)) => {}
                    () = place.evicted() => {}
                }
                return;
            }
            Err(_) => return tracing::debug!(%address, "the handshake took too long"),
        };
        let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
        let (seat, member) = match certificate {
            None => (Seat::Stranger(place, Box::pin(tokio::time::sleep(limits.anonymous))), None),
            Some(certificate) => {
                let Some(claims) = Claims::read(&certificate) else {
                    return tracing::warn!(%address, "the root signed a certificate that is no client's");
                };
                let Some(seat) = self.members.try_take(claims.client) else {
                    return tracing::warn!(%address, client = %claims.client, "too many clients are connected");
                };
                drop(place);
                (Seat::Member(seat), Some(Arc::new(Member { claims, certificate: certificate.to_vec() })))
            }
        };
        let connection = Connection::new(tls, Peer { address, member }, seat);
        // Nobody serves any more when this fails.
        let _ = queue.send(Ok(connection)).await;
    }
}

/// Ends a connection so that the other side reads the last that was said to it: closing one while bytes wait to be read would
/// take the alert back.
async fn part(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(FAREWELL_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
