//! The coordinator's own program, killed while clients speak to it over TLS. Must never reach into its folder while it lives.

use super::life::quick_folder;
use super::line::Line as _;
use super::machine::Did;
use super::premises::Premises;
use super::world::{CLIENTS, World, settings, task};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tacit_aggregation::identity::{ClientId, Rate};
use tacit_aggregation::params::TaskName;
use tacit_coordinator::RosterSettings;
use tacit_coordinator::enrolment::Presence;
use tacit_coordinator::files::write_json;
use tacit_coordinator::identity::{EpochRequest, Office, Roll};
use tacit_coordinator::serve::Coordinator;
use tacit_coordinator::serve::{secrets, system_clock};
use tacit_coordinator::store::{RocksStore, Store as _};
use tacit_coordinator::task::TaskSettings;
use tacit_proto::crash::VARIABLE;
use tacit_proto::fleet::{Download, Report};
use tacit_proto::ledger::Prove;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Response;
use tonic::metadata::MetadataMap;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Passes over all clients within which a round has to end.
const MOST_PASSES: usize = 3_000;

/// A program, which cargo builds beside this one.
pub(super) fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here.ancestors().nth(2).unwrap().join(name);
    assert!(
        program.is_file(),
        "{} is not there: build it, `cargo build --workspace --bins`",
        program.display()
    );
    program
}

/// The coordinator's program, to listen at an address, started by a shell that does something first.
pub(super) fn serve(premises: &Premises, address: &str, first: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}exec \"$0\" \"$@\"")]).arg(program("tacit-coordinator"));
    command.arg("serve").arg(premises.data.path()).args(["--json", "--listen", address]);
    // What it says goes through a pipe, for which there is always room.
    command.env("RUST_LOG", "off").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A coordinator's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) address: String,
}

impl Process {
    /// Starts one; it dies after its n-th commit, if that is given.
    pub(super) fn start(premises: &Premises, dies_at: Option<u64>) -> Option<Self> {
        Self::start_at(premises, "127.0.0.1:0", dies_at)
    }

    /// Starts one that listens at an address.
    pub(super) fn start_at(premises: &Premises, address: &str, dies_at: Option<u64>) -> Option<Self> {
        let mut command = serve(premises, address, "");
        if let Some(commit) = dies_at {
            command.env(VARIABLE, commit.to_string());
        }
        let process = Self::launch(command);
        assert!(process.is_ok() || dies_at.is_some(), "it does not start: {process:?}");
        process.ok()
    }

    /// Starts one; what it said when it ends before it listens.
    pub(super) fn launch(mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut process = Self { child, address: String::new() };
        let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
            return Err(process.last_words());
        };
        said["address"].as_str().unwrap().clone_into(&mut process.address);
        Ok(process)
    }

    /// Waits until it has ended; what it said.
    pub(super) fn last_words(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().expect("asked once").read_to_string(&mut said).unwrap();
        self.child.wait().unwrap();
        said
    }

    /// Tells it to stop, and waits until it has.
    pub(super) fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    pub(super) fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// SIGKILL, whatever it is doing.
impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a round over TLS with processes that die after a commit, or after something a client did, by turns. How often one
/// was killed.
pub(super) fn play(premises: &Premises, world: &mut World, round: u64, deaths: &mut Vec<u64>) -> u64 {
    let (mut kills, mut process, mut acts) = (0, None::<Process>, 0_u64);
    for _ in 0..MOST_PASSES {
        let mut over = 0;
        for place in 0..CLIENTS {
            if process.as_mut().is_some_and(Process::is_dead) {
                process = None;
                kills += 1;
                world.machines.iter_mut().for_each(|machine| machine.disconnected());
            }
            while process.is_none() {
                process = Process::start(premises, deaths.last().copied());
                kills += u64::from(process.is_none());
                deaths.pop();
            }
            let address = process.as_ref().expect("just started").address.clone();
            let machine = &mut world.machines[place];
            if machine.has_left(round) {
                over += 1;
                continue;
            }
            acts += 1;
            if acts % 29 == 0 {
                process = None;
                kills += 1;
                world.machines.iter_mut().for_each(|machine| machine.disconnected());
                continue;
            }
            // Silence is what a death looks like from here.
            let _: Result<Did, _> = machine.act(&premises.wire(place, &address, "0.2.0"), system_clock());
        }
        if over == CLIENTS {
            return kills + 1;
        }
    }
    panic!("round {round} does not end");
}

#[test]
fn the_program_may_be_killed_at_any_moment() {
    let (premises, mut world) = Premises::new(70, settings());
    world.stop();
    // Commits of lives one after the other: the first plans the round.
    let mut deaths = vec![3, 5, 2, 4, 1, 6, 1, 3];
    let kills = play(&premises, &mut world, 1, &mut deaths);
    assert!(kills >= 8, "{kills} kills");
    world.site.clock.store(system_clock(), std::sync::atomic::Ordering::SeqCst);
    world.start();
    assert!(world.check(1).committed);
    world.stop();
    play(&premises, &mut world, 2, &mut Vec::new());
    world.start();
    assert!(world.check(2).committed);
}

/// The settings of a task whose cohorts are drawn from a roster.
fn drawn(colluders: u32) -> TaskSettings {
    let mut task = settings();
    task.plan.roster = Some(RosterSettings { colluders });
    task
}

#[test]
fn a_drawn_cohort_goes_through_deaths_as_well() {
    let (premises, mut world) = Premises::with_rate(quick_folder(), 73, drawn(1), Some(Rate::ONE));
    world.stop();
    let kills = play(&premises, &mut world, 1, &mut vec![3, 5, 2, 4]);
    assert!(kills >= 4, "{kills} kills");
    world.site.clock.store(system_clock(), std::sync::atomic::Ordering::SeqCst);
    world.start();
    assert!(world.check(1).committed);
    for machine in &world.machines {
        let plan = machine.seen[&1].plan.as_ref().expect("it joined");
        let terms = plan.roster().expect("it is demanded");
        assert_eq!((terms.colluders, terms.corrupt, terms.roster.size), (1, 1, CLIENTS as u64));
    }
}

#[test]
fn who_is_not_drawn_is_told_and_not_counted() {
    let (premises, mut world) = Premises::with_rate(quick_folder(), 74, drawn(1), Rate::new(1, 2));
    let offered = |world: &World| -> Vec<bool> {
        let board = world.life().handle.board();
        let view = board.borrow().tasks[&super::world::task()].clone();
        let clients = world.machines.iter().map(|machine| machine.member.certificate.client);
        clients.map(|client| view.place(client).expect("a roster is demanded").is_ok()).collect()
    };
    let in_process = offered(&world);
    let some = in_process.iter().filter(|drawn| **drawn).count();
    assert!((1..CLIENTS).contains(&some), "{in_process:?}");
    for _ in 0..3 {
        for place in 0..CLIENTS {
            world.act(place);
        }
    }
    world.life().settled().expect("it runs");
    let status = world.life().handle.board().borrow().tasks[&super::world::task()].status.clone();
    assert_eq!((status.ready, status.invited), (some, 0), "{status:?}");
    world.stop();
    let process = Process::start(&premises, None).unwrap();
    for (place, drawn) in in_process.into_iter().enumerate() {
        let offer = premises.wire(place, &process.address, "0.2.0").check_in(Vec::new()).unwrap().remove(0);
        assert_eq!(offer.membership.is_some(), drawn, "{place}");
        match offer.excuse {
            None => assert!(drawn, "{place}"),
            Some(excuse) => assert!(!drawn && excuse.contains("is not drawn"), "{excuse}"),
        }
    }

    // The next epoch, which cuts the first one short, draws everybody, once its roster is here; the old one does not come back.
    let vault = premises.data.path().parent().unwrap().join("root");
    let office = Office::open(&vault).unwrap();
    let period_seconds = NonZeroU64::MAX;
    let seconds = NonZeroU64::new(2_000_000_000).unwrap();
    let epoch = EpochRequest { number: 2, seconds, period_seconds, rate: Rate::ONE, early: true };
    office.sign_roster(&epoch, 1_600_000_000, &mut secrets().unwrap()).unwrap();
    import(&premises, &process, &vault.join("roster-2.json")).unwrap();
    for place in 0..CLIENTS {
        let offer = premises.wire(place, &process.address, "0.2.0").check_in(Vec::new()).unwrap().remove(0);
        let epoch = offer.plan.roster().expect("it is demanded").roster.epoch.number;
        assert!(offer.membership.is_some() && offer.excuse.is_none() && epoch == 2, "{place}: {offer:?}");
    }
    let refused = import(&premises, &process, &vault.join("roster-1.json")).unwrap_err();
    assert!(refused.contains("an epoch has one roster"), "{refused}");
    let mut forged: Roll =
        serde_json::from_slice(&std::fs::read(vault.join("roster-2.json")).unwrap()).unwrap();
    (forged.epoch, forged.clients[0]) = (3, ClientId(1));
    write_json(&vault.join("forged.json"), &forged).unwrap();
    let refused = import(&premises, &process, &vault.join("forged.json")).unwrap_err();
    assert!(refused.contains("signature"), "{refused}");
}

/// Has an operator's command take a roster in; what it says when it does not.
fn import(premises: &Premises, process: &Process, file: &Path) -> Result<(), String> {
    let mut command = Command::new(program("tacit-coordinator"));
    command.args(["client", "roster"]).arg(file).arg("--data").arg(premises.data.path());
    let output = command.args(["--coordinator", &process.address]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn a_task_that_demands_a_roster_waits_for_one() {
    let world = World::new(75);
    let mut task = drawn(1);
    task.plan.task = TaskName::new("drawn").unwrap();
    let created = world
        .life()
        .ask(async |handle| handle.call(move |engine, now| engine.create_task(task, false, now)).await);
    let refused = created.unwrap_err().to_string();
    assert!(refused.contains("client roster"), "{refused}");
}

#[test]
fn an_old_version_is_told_and_takes_no_part() {
    let mut task = settings();
    task.eligibility.min_version = Some("0.2.0".into());
    let (premises, mut world) = Premises::new(71, task);
    world.stop();
    let process = Process::start(&premises, None).unwrap();
    for version in ["0.2.0", "0.3.1"] {
        let offers = premises.wire(0, &process.address, version).check_in(Vec::new()).unwrap();
        assert_eq!(offers[0].excuse, None, "{version}");
    }
    let old = premises.wire(0, &process.address, "0.1.9");
    let excuse = old.check_in(Vec::new()).unwrap()[0].excuse.clone().expect("too old");
    assert!(excuse.contains("0.2.0"), "{excuse}");
    // Four that may and one that may not are no cohort of five.
    for _ in 0..4 {
        for place in 0..CLIENTS {
            let version = if place == 0 { "0.1.9" } else { "0.2.0" };
            let line = premises.wire(place, &process.address, version);
            world.machines[place].act(&line, system_clock()).unwrap();
        }
    }
    assert!(world.machines.iter().all(|machine| machine.in_round().is_none()));
    // It updates itself, and the cohort is complete.
    let mut joined = false;
    for place in (0..CLIENTS).cycle().take(10 * CLIENTS) {
        let line = premises.wire(place, &process.address, "0.2.0");
        world.machines[place].act(&line, system_clock()).unwrap();
        joined |= world.machines[0].in_round().is_some();
    }
    assert!(joined, "it is let in now");
}

#[test]
fn published_files_come_compressed_and_nothing_else_does() {
    let (premises, mut world) = Premises::new(73, settings());
    let board = world.life().handle.board();
    let manifest = board.borrow().tasks[&task()].channels.clone().unwrap().training.signed;
    let manifest = manifest.verify(&world.site.key.public_key()).unwrap().clone();
    world.stop();
    let process = Process::start(&premises, None).unwrap();
    let line = premises.wire(0, &process.address, "0.2.0");
    let encoding = |metadata: &MetadataMap| metadata.get("grpc-encoding").is_some();
    for file in &manifest.files {
        for offset in [0, file.size / 2] {
            let got = line.call(PATIENCE, async |mut client| {
                let mut answer = client.download(Download { digest: file.digest, offset }).await?;
                let (compressed, mut bytes) = (encoding(answer.metadata()), Vec::new());
                while let Some(part) = answer.get_mut().message().await? {
                    bytes.extend(part.bytes);
                }
                Ok(Response::new((compressed, bytes)))
            });
            // Offsets are of the file, not of what is on the wire.
            let (compressed, bytes) = got.unwrap();
            assert!(compressed);
            let whole =
                std::fs::read(premises.data.path().join("blobs").join(hex::encode(file.digest))).unwrap();
            assert_eq!(bytes, whole[offset as usize..]);
        }
    }
    let ask = Prove { since: 0, rounds: Vec::new(), restart: 0 };
    let compressed = line.call(PATIENCE, async |mut client| {
        let proved = encoding(client.prove(ask).await?.metadata());
        let (problem, evidence) = ("a".repeat(4_000), Vec::new());
        let reported = encoding(client.report(Report { problem, evidence }).await?.metadata());
        Ok(Response::new([proved, reported]))
    });
    assert_eq!(compressed.unwrap(), [false, false]);
}

#[test]
fn ten_thousand_garbage_connections_shut_nobody_out() {
    const CONNECTIONS: usize = 10_000;
    const AT_ONCE: usize = 100;
    let (premises, mut world) = Premises::new(72, settings());
    world.stop();
    let coordinator =
        premises.runtime.block_on(async { Coordinator::start(&premises.data, &premises.settings) });
    let coordinator = coordinator.unwrap();
    let address = coordinator.address().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = premises.runtime.spawn(coordinator.serve(async {
        let _ = stopped.await;
    }));
    let mut rubbish = Vec::new();
    for worker in 0..AT_ONCE {
        rubbish.push(premises.runtime.spawn(async move {
            for number in 0..CONNECTIONS / AT_ONCE {
                garbage(address, worker * CONNECTIONS / AT_ONCE + number).await;
            }
        }));
    }
    // Meanwhile those who belong here are served.
    let mut served = 0;
    while rubbish.iter().any(|worker| !worker.is_finished()) || served < 3 {
        let place = served % CLIENTS;
        let offers = premises.wire(place, &address.to_string(), "0.2.0").check_in(Vec::new());
        assert_eq!(offers.expect("it is served").len(), 1);
        served += 1;
    }
    for worker in rubbish {
        premises.runtime.block_on(worker).unwrap();
    }
    let client = world.machines[0].member.certificate.client;
    let task = premises.wire(0, &address.to_string(), "0.2.0").task(client);
    assert!(task.expect("it is served").is_some());
    stop.send(()).unwrap();
    premises.runtime.block_on(serving).unwrap().unwrap();
}

#[test]
fn who_was_heard_of_is_known_after_an_orderly_end() {
    let (premises, mut world) = Premises::new(74, settings());
    world.stop();
    let coordinator =
        premises.runtime.block_on(async { Coordinator::start(&premises.data, &premises.settings) });
    let coordinator = coordinator.unwrap();
    let address = coordinator.address().unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = premises.runtime.spawn(coordinator.serve(async {
        let _ = stopped.await;
    }));
    let before = system_clock() / 60_000 * 60;
    premises.wire(0, &address, "0.2.0").check_in(Vec::new()).unwrap();
    stop.send(()).unwrap();
    premises.runtime.block_on(serving).unwrap().unwrap();
    // Connections that are just being closed may hold it for a moment.
    let opened = || {
        std::thread::sleep(Duration::from_millis(20));
        RocksStore::open(&premises.data.store()).ok()
    };
    let store = Arc::new((0..500).find_map(|_| opened()).expect("nobody serves it"));
    let epoch = store.lease().unwrap();
    let clients = [0, 1].map(|place| world.machines[place].member.certificate.client);
    let [heard, never] = clients.map(|client| Presence::new(store.clone(), epoch).last(client).unwrap());
    assert!(
        (before..=system_clock() / 1_000).contains(&heard.unwrap()) && never.is_none(),
        "{heard:?}, {never:?}"
    );
}

/// A connection that is none: closed at once, plain text, noise, half a greeting.
async fn garbage(address: SocketAddr, number: usize) {
    // Where there is no place it is turned away, which is as good.
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return };
    let noise: Vec<u8> = (0..200).map(|place| (number * 31 + place * 7) as u8).collect();
    let bytes: &[u8] = match number % 4 {
        0 => &[],
        1 => b"GET / HTTP/1.1\r\nHost: tacit\r\n\r\n",
        2 => &noise,
        // The head of a TLS record that never ends.
        _ => &[0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0x00, 0x3f, 0xfc, 0x03, 0x03],
    };
    let _ = stream.write_all(bytes).await;
    if number % 4 == 1 {
        let _ = stream.read(&mut [0; 64]).await;
    }
}
