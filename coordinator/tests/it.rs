//! The `tacit-coordinator` command as a user meets it: help, exit codes, files and messages.
#![allow(clippy::unwrap_used)]
#![allow(clippy::panic, reason = "helpers of tests stop where an assertion would")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde_json::{Value, json};
use tacit_aggregation::identity::{IdentityKey, RevocationList};
use tacit_coordinator::identity::{Admission, Appointment, Issued, Revocations, Roll};

fn coordinator(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tacit-coordinator"));
    command.current_dir(folder).args(line.split_whitespace()).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs a command with `--json`; its one line of output, read.
fn answer(folder: &Path, line: &str) -> Value {
    let output = coordinator(folder, &format!("{line} --json"));
    assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "one object and nothing else: {printed}");
    serde_json::from_str(&printed).expect("JSON")
}

/// The message of a command that must fail with code 1 and say nothing on standard output.
fn refusal(folder: &Path, line: &str) -> String {
    let output = coordinator(folder, line);
    assert_eq!(output.status.code(), Some(1), "{line}: {}", text(&output.stderr));
    assert!(output.stdout.is_empty(), "{line}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn file<T: serde::de::DeserializeOwned>(folder: &Path, name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn key(number: u64) -> [u8; 32] {
    IdentityKey::generate(&mut ChaCha20Rng::seed_from_u64(number)).public_key().0
}

/// A file of requests, as the coordinator exports them.
fn requests(folder: &Path, count: u64) {
    let request = |number: u64| Admission {
        ticket: [number as u8; 32],
        identity_key: key(2 * number),
        transport_key: key(2 * number + 1),
        note: format!("laptop {number}"),
    };
    let requests: Vec<Admission> = (0..count).map(request).collect();
    fs::write(folder.join("requests.json"), serde_json::to_string(&requests).unwrap()).unwrap();
}

#[test]
fn an_identity_root_from_its_first_day_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let root = answer(here, "identity init")["root"].clone();
    let secret = fs::read_to_string(here.join("identity/root.key")).unwrap();

    let appointed = answer(here, &format!("identity appoint {}", hex::encode(key(99))));
    assert_eq!(appointed, json!({ "root": root, "file": "appointment.json" }));
    let appointment: Appointment = file(here, "appointment.json");
    assert_eq!(appointment.verify(), Ok(()));
    assert_eq!(
        (hex::encode(appointment.root), appointment.coordinator),
        (root.as_str().unwrap().into(), key(99))
    );

    requests(here, 3);
    assert_eq!(answer(here, "identity issue requests.json --days 30")["clients"], 3);
    let issued: Vec<Issued> = file(here, "issued.json");
    let printed = coordinator(here, "identity issue requests.json --days 90 --out again.json");
    assert_eq!(file::<Vec<Issued>>(here, "again.json"), issued, "a repeat gets the same answer");
    assert!(text(&printed.stdout).contains("laptop 2"), "{}", text(&printed.stdout));

    let (first, second) = (issued[0].client, issued[1].client);
    assert_eq!(answer(here, &format!("identity renew {first} --days 400"))["clients"], 1);
    let renewed: Vec<Issued> = file(here, "issued.json");
    assert!(renewed[0].not_after > issued[0].not_after + 300 * 86_400);
    let ending = answer(here, "identity renew --ending-within 60 --days 200 --out ending.json");
    assert_eq!(ending["clients"], 2, "the first one's end is far off now");

    answer(here, &format!("identity revoke {second}"));
    let list = RevocationList::from(file::<Revocations>(here, "revocations.json"));
    assert_eq!(list.verify(&appointment.root(), None), Ok(()));
    assert_eq!((list.number, list.clients.as_slice()), (1, &[second][..]));

    let listed = answer(here, "identity list");
    let states: Vec<(&str, &str)> = listed["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|client| (client["client"].as_str().unwrap(), client["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states.len(), 3);
    for (client, state) in states {
        assert_eq!(state, if client == second.to_string() { "revoked" } else { "valid" });
    }
    assert!(text(&coordinator(here, "identity list").stdout).lines().any(|line| {
        line.contains(&second.to_string()) && line.contains("revoked") && line.ends_with("laptop 1")
    }));

    assert_eq!(answer(here, "identity roster --epoch 1")["clients"], 2);
    let roll: Roll = file(here, "roster.json");
    assert!(!roll.clients.contains(&second) && roll.clients.contains(&first));
    assert_eq!(roll.signed().verify(&appointment.root(), roll.not_before), Ok(()));

    let printed = ["identity list", "identity list --json"].map(|line| text(&coordinator(here, line).stdout));
    assert!(printed.iter().all(|printed| !printed.contains(secret.trim_end())));
    for name in
        ["appointment.json", "issued.json", "revocations.json", "roster.json", "identity/issued.jsonl"]
    {
        assert!(!fs::read_to_string(here.join(name)).unwrap().contains(secret.trim_end()), "{name}");
    }
}

#[test]
fn what_cannot_be_done_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    assert!(refusal(here, "identity list").contains("identity init"));
    answer(here, "identity init");
    assert!(refusal(here, "identity init").contains("choose another folder"));
    assert!(refusal(here, "identity revoke 5").contains("identity list"));
    assert!(refusal(here, "identity issue nothing.json").contains("nothing.json cannot be read"));
    fs::write(here.join("requests.json"), "{}").unwrap();
    assert!(refusal(here, "identity issue requests.json").contains("export it again"));
    let zero = "0".repeat(64);
    assert!(refusal(here, &format!("identity appoint {zero}")).contains("no Ed25519 public key"));
    answer(here, "identity roster --epoch 3");
    assert!(refusal(here, "identity roster --epoch 3").contains("roster-3.json"));

    requests(here, 1);
    answer(here, "identity issue requests.json");
    let log = here.join("identity/issued.jsonl");
    let good = fs::read_to_string(&log).unwrap();
    fs::write(&log, format!("{good}{}", &good[..20])).unwrap();
    let torn = refusal(here, "identity list");
    let repair = torn.split('`').nth(1).unwrap_or_else(|| panic!("no command in {torn}"));
    let words: Vec<&str> = repair.split_whitespace().collect();
    assert!(Command::new(words[0]).args(&words[1..]).current_dir(here).status().unwrap().success());
    assert_eq!(fs::read_to_string(&log).unwrap(), good);
    assert_eq!(answer(here, "identity list")["clients"].as_array().unwrap().len(), 1);
}

#[test]
fn a_restored_ledger_goes_on_with_what_its_root_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let key = answer(here, "init data")["coordinator"].as_str().unwrap().to_owned();
    for root in ["identity", "other"] {
        answer(here, &format!("identity init --folder {root}"));
    }
    answer(here, &format!("identity appoint {key} --out data/appointment.json"));
    assert_eq!(answer(here, "ledger head data")["size"], 0);
    assert_eq!(answer(here, "identity restart --head head.json")["file"], "restart.json");
    answer(here, "identity restart --head head.json --folder other --out theirs.json");
    assert!(refusal(here, "ledger restart data theirs.json").contains("not signed by the identity root"));
    for _ in 0..2 {
        let taken = answer(here, "ledger restart data restart.json");
        assert_eq!(taken, json!({ "number": 1, "size": 0, "first_round": 1_000_000_000_u64 }));
    }
    // The head from before is another ledger's now.
    answer(here, "identity restart --head head.json --out again.json");
    assert!(refusal(here, "ledger restart data again.json").contains("export the head of this one"));
    assert!(refusal(here, "ledger restart data head.json").contains("identity restart` wrote"));
    let head = fs::read_to_string(here.join("head.json")).unwrap();
    fs::write(here.join("head.json"), head.replace("\"size\": 0", "\"size\": 1")).unwrap();
    assert!(refusal(here, "identity restart --head head.json").contains("ledger head"));
    assert_eq!(answer(here, "ledger head data")["size"], 1);
    let doctor = text(&coordinator(here, "doctor data").stdout);
    assert!(doctor.contains("1 entries") && doctor.contains("goes on from restart 1"), "{doctor}");
}

#[test]
fn asking_a_coordinator_makes_nothing_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    answer(here, "init data");
    fs::write(here.join("data/admin.token"), "tacit-admin-00").unwrap();
    let names = || fs::read_dir(here.join("data")).unwrap().count();
    let before = names();
    assert!(refusal(here, "status --data data").contains("no coordinator that has been started"));
    assert_eq!(names(), before, "a certificate that nobody serves is worth nothing");
    // Its own certificate is the one that it is known by.
    let settings = fs::read_to_string(here.join("data/coordinator.toml")).unwrap();
    let own = "[tls]\ncertificate = \"own.pem\"\nkey = \"own.key\"\n";
    fs::write(here.join("data/coordinator.toml"), format!("{settings}\n{own}")).unwrap();
    assert!(refusal(here, "status --data data").contains("own.pem"));
    assert_eq!(names(), before);
}

#[test]
fn wrong_usage_ends_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "",
        "fly",
        "identity",
        "identity appoint 12",
        "identity renew",
        "identity renew 5 --ending-within 3",
        "identity issue requests.json --days 0",
        "identity revoke -5",
        "identity roster",
    ] {
        let output = coordinator(folder.path(), line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn help_is_what_newcomers_read() {
    for (line, name) in [
        ("--help", "help.txt"),
        ("init --help", "help-init.txt"),
        ("serve --help", "help-serve.txt"),
        ("task create --help", "help-task-create.txt"),
        ("status --help", "help-status.txt"),
        ("round --help", "help-round.txt"),
        ("client --help", "help-client.txt"),
        ("identity --help", "help-identity.txt"),
        ("identity issue --help", "help-identity-issue.txt"),
        ("identity renew --help", "help-identity-renew.txt"),
        ("ledger --help", "help-ledger.txt"),
    ] {
        let output = coordinator(Path::new("."), line);
        assert!(output.status.success());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            fs::write(&path, &output.stdout).expect("written");
        }
        let expected = fs::read_to_string(&path).expect("a snapshot; UPDATE_SNAPSHOTS=1 writes it");
        assert_eq!(text(&output.stdout), expected, "if this is meant, run the test with UPDATE_SNAPSHOTS=1");
    }
}

#[test]
fn the_samples_in_the_operators_page_are_settings() {
    use tacit_coordinator::RosterSettings;
    use tacit_coordinator::settings::ServerSettings;
    use tacit_coordinator::task::TaskSettings;
    use tacit_proto::adapter::{AdapterLayout, TrainedTensor};

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).expect("the operators' page");
    let samples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [server, task, drawn] = samples[..] else { panic!("{} samples", samples.len()) };
    let server: ServerSettings = toml::from_str(server).expect("settings of the server");
    assert_eq!(
        (server.pace, server.connections, server.uploads),
        Default::default(),
        "the page shows the defaults"
    );
    let mut task: toml::Table = toml::from_str(task).expect("TOML");
    let plan = task["plan"].clone();
    let adapter = plan["adapter"].clone().try_into().expect("a shape");
    let tensors = vec![TrainedTensor { name: "layers.0.b".to_owned(), shape: [4, 8] }];
    let layout = AdapterLayout { base: "base".to_owned(), base_model: [0; 32], adapter, tensors };
    task.insert("layout".to_owned(), toml::Value::try_from(layout).expect("plain data"));
    // The last sample goes below the task's own.
    let mut with_roster = task.clone();
    let drawn: toml::Table = toml::from_str(drawn).expect("TOML");
    with_roster["plan"]
        .as_table_mut()
        .expect("a table")
        .extend(drawn["plan"].as_table().cloned().into_iter().flatten());
    let with_roster: TaskSettings = with_roster.try_into().expect("settings of a task");
    assert_eq!(with_roster.validate(), Ok(()));
    assert_eq!(with_roster.plan.roster, Some(RosterSettings { colluders: 100 }));
    let mut settings: TaskSettings = task.try_into().expect("settings of a task");
    assert_eq!((settings.validate(), settings.schedule.staleness), (Ok(()), 1));
    for (staleness, good) in [(0, true), (7, true), (8, false)] {
        settings.schedule.staleness = staleness;
        assert_eq!(settings.validate().is_ok(), good, "{staleness}");
    }
}
