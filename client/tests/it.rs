//! The `tacit-client` command as its owner meets it: help, exit codes, and messages that say what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn client(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tacit-client"));
    command.args(arguments).env("COLUMNS", "100").output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn help_is_what_newcomers_read() {
    for (arguments, file) in [
        (vec!["--help"], "help.txt"),
        (vec!["enrol", "--help"], "help-enrol.txt"),
        (vec!["run", "--help"], "help-run.txt"),
        (vec!["budget", "--help"], "help-budget.txt"),
        (vec!["forget", "--help"], "help-forget.txt"),
    ] {
        let output = client(&arguments);
        assert!(output.status.success());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &output.stdout).expect("written");
        }
        let expected = fs::read_to_string(&path).expect("a snapshot; UPDATE_SNAPSHOTS=1 writes it");
        assert_eq!(text(&output.stdout), expected, "if this is meant, run the test with UPDATE_SNAPSHOTS=1");
    }
}

#[test]
fn wrong_usage_ends_with_code_2() {
    for arguments in
        [vec![], vec!["fly"], vec!["run"], vec!["status", "--home"], vec!["enrol", "--token", "x"]]
    {
        let output = client(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_folder_that_is_no_clients_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let home = root.path().to_str().expect("UTF-8");
    for command in ["run", "status", "pause", "resume", "forget"] {
        let output = client(&[command, "--home", home]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains("tacit-client enrol"), "{command}: {stderr}");
    }
    assert_eq!(fs::read_dir(root.path()).expect("there").count(), 0, "looking leaves nothing behind");
}

#[test]
fn what_is_under_way_is_forgotten_only_when_asked_twice() {
    let root = tempfile::tempdir().expect("a folder");
    let home = root.path().join("client");
    let home = home.to_str().expect("UTF-8");
    // Nobody listens there, so enrolment is under way: keys are drawn, and the token is stored.
    let fingerprint = "ab".repeat(32);
    let server = ["--coordinator", "127.0.0.1:9", "--fingerprint", &fingerprint, "--once"];
    let output = client(&[&["enrol", "--home", home, "--token", "secret-token"], &server[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("127.0.0.1:9") && !stderr.contains("secret-token"), "{stderr}");
    let stored = fs::read(Path::new(home).join("enrolment")).expect("stored before it was sent");
    // The first token led to nothing, so that another may take its place.
    let other = client(&[&["enrol", "--home", home, "--token", "another"], &server[..]].concat());
    assert!(text(&other.stderr).contains("127.0.0.1:9"), "{}", text(&other.stderr));
    assert_ne!(fs::read(Path::new(home).join("enrolment")).expect("there"), stored);
    assert!(text(&fs::read(Path::new(home).join("client.toml")).expect("written")).contains(&fingerprint));

    let status = client(&["status", "--home", home, "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!((&shown["running"], &shown["state"]), (&false.into(), &"stopped".into()));

    let refused = client(&["forget", "--home", home]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--yes"));
    assert!(client(&["forget", "--home", home, "--yes"]).status.success());
    assert!(!Path::new(home).exists());
}
