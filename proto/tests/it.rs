//! Evidence that the committed generated code is what the .proto files say.

use prost::Message as _;
use std::path::Path;
use tonic_build::manual::{Method, Service};

/// All .proto files.
const FILES: [&str; 6] = ["admin", "enrolment", "fleet", "ledger", "plan", "secagg"];
/// Everything that is generated and committed.
const GENERATED: [&str; 5] =
    ["tacit.v1.rs", "tacit.v1.Admin.rs", "tacit.v1.Enrolment.rs", "tacit.v1.Fleet.rs", "tacit.v1.bin"];

/// Every method with the domain types that it takes and gives, and whether either is a stream.
const METHODS: [(&str, &str, &str, &str, bool, bool); 10] = [
    ("Admin", "Carry", "admin::Order", "admin::Answer", false, false),
    ("Enrolment", "Enrol", "enrolment::Enrol", "enrolment::Enrolled", false, false),
    ("Enrolment", "Fetch", "enrolment::Fetch", "enrolment::Credentials", false, false),
    ("Fleet", "CheckIn", "fleet::CheckIn", "fleet::CheckedIn", false, false),
    ("Fleet", "Receive", "fleet::Receive", "fleet::Received", false, false),
    ("Fleet", "Send", "fleet::Send", "fleet::Sent", false, false),
    ("Fleet", "Upload", "fleet::UploadPart", "fleet::Uploaded", true, false),
    ("Fleet", "Prove", "ledger::Prove", "ledger::LedgerProof", false, false),
    ("Fleet", "Download", "fleet::Download", "fleet::DownloadPart", false, true),
    ("Fleet", "Report", "fleet::Report", "fleet::Reported", false, false),
];

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn services() -> Vec<Service> {
    ["Admin", "Enrolment", "Fleet"]
        .into_iter()
        .map(|service| {
            let methods = METHODS.into_iter().filter(|method| method.0 == service);
            let builder = Service::builder().name(service).package("tacit.v1");
            methods
                .fold(builder, |builder, (_, name, input, output, streams_in, streams_out)| {
                    let method = Method::builder()
                        .name(snake(name))
                        .route_name(name)
                        .input_type(format!("crate::{input}"))
                        .output_type(format!("crate::{output}"))
                        .codec_path("crate::codec::WireCodec");
                    let method = if streams_in { method.client_streaming() } else { method };
                    let method = if streams_out { method.server_streaming() } else { method };
                    builder.method(method.build())
                })
                .build()
        })
        .collect()
}

fn descriptors() -> prost_types::FileDescriptorSet {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = FILES.map(|name| format!("tacit/v1/{name}.proto"));
    protox::compile(files, [root.join("proto")]).expect("the .proto files compile")
}

#[test]
fn the_committed_code_is_what_the_proto_files_generate() {
    let folder = tempfile::tempdir().expect("a folder for the generated code");
    let files = descriptors();
    let descriptors = folder.path().join("tacit.v1.bin");
    std::fs::write(&descriptors, files.encode_to_vec()).expect("the descriptors can be written");
    prost_build::Config::new()
        .out_dir(folder.path())
        .bytes([".tacit.v1.MaskedChunk.bytes"])
        .compile_fds(files)
        .expect("the descriptors generate code");
    tonic_build::manual::Builder::new().out_dir(folder.path()).compile(&services());
    for name in GENERATED {
        let generated = std::fs::read(folder.path().join(name)).expect("the generated code");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated").join(name);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, &generated).expect("the generated code can be written");
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "{} is out of date: run the test with UPDATE_GENERATED=1",
            path.display()
        );
    }
}

/// The services are described twice, for people and reflection in the .proto files and for the code above.
#[test]
fn the_services_are_those_of_the_proto_files() {
    let files = descriptors();
    let mut described = Vec::new();
    for service in files.file.iter().flat_map(|file| &file.service) {
        for method in &service.method {
            described.push((
                service.name().to_owned(),
                method.name().to_owned(),
                method.client_streaming(),
                method.server_streaming(),
            ));
        }
    }
    let generated: Vec<_> = METHODS
        .iter()
        .map(|&(service, name, _, _, streams_in, streams_out)| {
            (service.to_owned(), name.to_owned(), streams_in, streams_out)
        })
        .collect();
    assert_eq!(described, generated);
}
