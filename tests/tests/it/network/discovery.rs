//! What a stranger may ask a coordinator: whether it serves, and what it speaks. Must never need a certificate.

use tacit_coordinator::settings::ServerSettings;
use tacit_simulations::site::Site;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

const SERVICES: [&str; 3] = ["tacit.v1.Admin", "tacit.v1.Enrolment", "tacit.v1.Fleet"];

/// The services that a version of reflection names.
macro_rules! services {
    ($version:ident, $channel:expr) => {{
        use $version::server_reflection_client::ServerReflectionClient;
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = $version::ServerReflectionRequest { host: String::new(), message_request };
        let mut client = ServerReflectionClient::new($channel);
        let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let answer = answers.into_inner().next().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("another answer: {answer:?}");
        };
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

async fn ask(channel: Channel) {
    let request = HealthCheckRequest { service: SERVICES[2].to_owned() };
    let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    for named in [services!(v1, channel.clone()), services!(v1alpha, channel)] {
        for service in SERVICES {
            assert!(named.iter().any(|name| name == service), "{service} is not among {named:?}");
        }
    }
}

#[test]
fn a_stranger_learns_that_it_serves_and_what_it_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), &ServerSettings::default()).unwrap();
    site.start(&[]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ask(site.server().unwrap().connect(None).await.unwrap()).await });
}
