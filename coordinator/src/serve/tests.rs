//! A process that serves, and strangers who ask too much of it. Must never need another machine.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::files::write_json;
use crate::identity::Office;
use tacit_proto::admin::{Answer, Order};
use tacit_proto::codec::WireCodec;
use tacit_proto::connection::{Fingerprint, Server as Remote, Trust};
use tacit_proto::fleet::{CheckIn, CheckedIn};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const SOON: Duration = Duration::from_secs(10);

/// A call whose message never comes to its end.
async fn endless<
    E: tacit_proto::Wire + Send + Sync + 'static,
    D: tacit_proto::Wire + Send + Sync + 'static,
>(
    channel: &Channel,
    path: &'static str,
) -> Option<Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let call = client.client_streaming(
        Request::new(tokio_stream::pending::<E>()),
        PathAndQuery::from_static(path),
        WireCodec::<E, D>::default(),
    );
    tokio::time::timeout(SOON, call).await.ok().map(|answer| answer.map(|_| ()).unwrap_err())
}

#[tokio::test]
async fn who_may_not_call_is_told_so_before_its_message_takes_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = secrets().unwrap();
    let office = Office::init(&folder.path().join("root"), &mut rng).unwrap();
    let data = DataFolder::new(folder.path().join("data"));
    let settings = ServerSettings { listen: "127.0.0.1:0".parse().unwrap(), ..ServerSettings::default() };
    let key = data.init(&settings, &mut rng).unwrap();
    write_json(&data.path().join("appointment.json"), &office.appoint(key.0).unwrap()).unwrap();
    let coordinator = Coordinator::start(&data, &settings).unwrap();
    let address = coordinator.address().unwrap().to_string();
    let trust = Trust::Fingerprint(Fingerprint(*coordinator.fingerprint()));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(coordinator.serve(async {
        let _ = stopped.await;
    }));

    let channel = Remote::new(&address, trust).unwrap().connect(None).await.unwrap();
    let refused = endless::<Order, Answer>(&channel, "/tacit.v1.Admin/Carry").await;
    assert_eq!(refused.expect("without waiting for the order").code(), Code::Unauthenticated);
    let refused = endless::<CheckIn, CheckedIn>(&channel, "/tacit.v1.Fleet/CheckIn").await;
    assert_eq!(refused.expect("without waiting for the message").code(), Code::Unauthenticated);
    // Who asks in is nobody yet, and may say little: a mebibyte is not read to its end.
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let long = Order::Admit("x".repeat(1 << 20));
    let path = PathAndQuery::from_static("/tacit.v1.Enrolment/Enrol");
    let refused = client.unary(Request::new(long), path, WireCodec::<Order, Answer>::default()).await;
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), Code::OutOfRange);

    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
