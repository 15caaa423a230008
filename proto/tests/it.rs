//! The committed Rust of the wire messages is what the .proto files generate.

use std::path::Path;

/// Where `UPDATE_GENERATED=1 cargo test -p tacit-proto` writes; a missing file fails the test all the same.
const GENERATED: &str = "src/generated/tacit.v1.rs";

#[test]
fn the_committed_code_is_what_the_proto_files_generate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["tacit/v1/plan.proto", "tacit/v1/secagg.proto"], [root.join("proto")])
        .expect("the .proto files compile");
    let folder = tempfile::tempdir().expect("a folder for the generated code");
    prost_build::Config::new()
        .out_dir(folder.path())
        .compile_fds(files)
        .expect("the descriptors generate code");
    let fresh = std::fs::read_to_string(folder.path().join("tacit.v1.rs")).expect("one file per package");
    assert!(fresh.contains("pub struct RoundPlan") && fresh.contains("pub struct UnmaskShares"));
    let committed = root.join(GENERATED);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&committed, &fresh).expect("the committed code can be written");
    }
    let committed = std::fs::read_to_string(committed).expect("the generated code is committed");
    assert!(committed == fresh, "{GENERATED} is stale: run UPDATE_GENERATED=1 cargo test -p tacit-proto");
}
