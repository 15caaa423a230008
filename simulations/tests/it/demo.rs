//! The demo over the network, as a user meets it: what it leaves behind, and that it leaves no process behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tacit_simulations::report::Report;

use super::{fixture, refusal, text};

/// Everything here is over in a fraction of this, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// The demo on the fixture's scenario: two clients in processes of their own, seven in two others. Its temporary files go where it
/// is told.
fn demo(temporary: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tacit-sim"));
    command.arg("demo").arg(fixture().join("cli.toml")).arg("--corpus").arg(fixture().join("corpus"));
    command.args(["--clients", "2", "--fleets", "2", "--threads", "2"]).args(more);
    command.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Command lines of the processes, other than the demo's own, that name a folder.
fn processes_in(folder: &Path, demo: Option<u32>) -> Vec<String> {
    let named = folder.to_str().expect("UTF-8");
    let own = demo.map(|id| PathBuf::from(format!("/proc/{id}")));
    let processes = fs::read_dir("/proc").expect("Linux").flatten().map(|entry| entry.path());
    let processes = processes.filter(|process| Some(process) != own.as_ref());
    let lines = processes.filter_map(|process| fs::read(process.join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(named)).collect()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_round_over_the_network_gives_the_same_report() {
    let place = tempfile::tempdir().expect("a folder");
    let (out, temporary) = (place.path().join("out"), place.path().join("temporary"));
    fs::create_dir(&temporary).expect("a folder");
    let output = demo(&temporary, &["--json", "--out", out.to_str().expect("UTF-8")]).output();
    let output: Output = output.expect("the program starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(names(&temporary), Vec::<PathBuf>::new());
    assert_eq!(processes_in(&temporary, None), Vec::<String>::new());

    let report = Report::load(&out.join("report.json")).expect("whole");
    let [round] = report.rounds.as_slice() else { panic!("one round: {:?}", report.rounds) };
    assert_eq!((round.round, round.cohort, round.survivors, &round.failure), (1, 8, 8, &None));
    // What eight of eight cost: a little less than the most that a round may, which the plan has room for.
    assert!(round.epsilon > 1.0 && round.epsilon < 4.0, "{}", round.epsilon);
    assert_eq!(report.summary.epsilon, round.epsilon);
    assert!(round.noise_norm.is_some_and(|norm| norm > 0.0));
    assert_ne!(report.summary.heldout_private, report.summary.heldout_start, "the version was measured");
    // What only clients know is not here.
    assert!(round.norms.is_none() && round.local_loss.is_none() && round.traffic.is_none());
    assert!(!report.simulated_noise_is_seeded && report.masked);
    let network = report.network.expect("over the network");
    let spread = |used: tacit_simulations::report::network::Used| (used.processes, used.clients);
    assert_eq!(spread(network.coordinator), (1, 0));
    assert_eq!(spread(network.client_processes), (2, 2));
    assert_eq!(spread(network.fleet_processes), (2, 7));
    for used in [network.coordinator, network.client_processes, network.fleet_processes] {
        assert!(used.peak_rss_bytes > 1 << 20 && used.cpu_seconds > 0.0, "{used:?}");
    }
    assert!(network.loopback_bytes.is_some_and(|bytes| bytes > 100_000));
    let page = fs::read_to_string(out.join("report.html")).expect("rendered");
    assert!(page.contains("one coordinator process, 2 processes of one client each and 7 clients in 2 more"));
    assert!(!page.contains("seen by the simulation alone"));
}

/// Waits until something is there.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

#[test]
fn whoever_interrupts_it_finds_nothing_left() {
    for name in ["INT", "TERM"] {
        let place = tempfile::tempdir().expect("a folder");
        let out = place.path().join("out");
        let temporary = place.path().join("temporary");
        fs::create_dir(&temporary).expect("a folder");
        let child = demo(&temporary, &["--out", out.to_str().expect("UTF-8")]).spawn().expect("started");
        // A guard, a coordinator, two fleets and two clients.
        until("starting", || (processes_in(&temporary, Some(child.id())).len() == 6).then_some(()));
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        assert!(refusal(&output).contains("interrupted"), "{}", text(&output.stderr));
        assert_eq!(processes_in(&temporary, None), Vec::<String>::new());
        assert_eq!(names(&temporary), Vec::<PathBuf>::new());
        assert!(!out.exists(), "nothing is written");
    }
}

#[test]
fn nobody_outlives_whoever_started_them() {
    let place = tempfile::tempdir().expect("a folder");
    let (work, temporary) = (place.path().join("work"), place.path().join("temporary"));
    fs::create_dir(&temporary).expect("a folder");
    let given = ["--work", work.to_str().expect("UTF-8")];
    for (more, folder, processes) in [(&given[..], &work, 5), (&[], &temporary, 6)] {
        let mut child = demo(&temporary, more).spawn().expect("started");
        // A coordinator, two fleets, two clients; the guard has a folder to remove unless it was given.
        until("starting", || (processes_in(folder, Some(child.id())).len() == processes).then_some(()));
        signal(&child, "KILL");
        child.wait().expect("it ends");
        until("ending", || (processes_in(folder, Some(child.id())).is_empty()).then_some(()));
    }
    until("removing", || names(&temporary).is_empty().then_some(()));
    assert!(!names(&work).is_empty(), "what was asked for is left");
    let again = demo(&temporary, &given).output().expect("started");
    assert!(refusal(&again).contains("is not empty"));
}
