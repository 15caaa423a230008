//! A client's own program in its folder, and how its lives end. Must never look into a process, only into its folder and at what
//! it prints.

use super::full::limit_files;
use super::processes::program;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tacit_aggregation::identity::ClientId;
use tacit_client::folder::{Folder, Kind, load, read};
use tacit_client::participant::JoinSecrets;
use tacit_proto::crash::VARIABLE;
use tacit_proto::{ServerMessage, SignedPlan, Wire as _};

/// Signals, as a status of exit has them.
const ABORTED: i32 = 6;
const KILLED: i32 = 9;
const TOO_LARGE: i32 = 25;
/// Forms of the files of a round, as `tacit_client::round` has them.
const JOINED: Kind = Kind { code: 3, version: 1 };
const MESSAGE: Kind = Kind { code: 4, version: 1 };

/// How a life is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// At a kill point, counted from the start of the process.
    At(u64),
    /// By SIGKILL after some time.
    After(Duration),
    /// In the middle of a write for which there is no room.
    Full,
    /// When it is told to stop.
    Told,
}

struct Life {
    child: Child,
    began: Instant,
    death: Death,
}

pub(super) struct Laptop {
    pub(super) client: ClientId,
    pub(super) home: PathBuf,
    life: Option<Life>,
    /// What was being written or wiped when lives ended: the file, and in what state it was left.
    pub(super) remains: BTreeSet<String>,
}

/// What a folder holds of a round.
pub(super) struct Part {
    pub(super) plan: SignedPlan,
    pub(super) secrets: [u8; JoinSecrets::BYTES],
}

impl Laptop {
    pub(super) fn new(client: ClientId, home: PathBuf) -> Self {
        Self { client, home, life: None, remains: BTreeSet::new() }
    }

    /// Starts a life.
    pub(super) fn start(&mut self, death: Death) {
        assert!(self.life.is_none(), "one at a time");
        // Where there is no room writes fail, unless the signal that comes with it is to kill.
        let first = if death == Death::Full { "" } else { "trap '' XFSZ; " };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{first}exec \"$0\" \"$@\"")]).arg(program("tacit-client"));
        command.args(["run", "--home"]).arg(&self.home).stdin(Stdio::null());
        command.env("RUST_LOG", "warn").stdout(Stdio::null()).stderr(Stdio::piped());
        if let Death::At(point) = death {
            command.env(VARIABLE, point.to_string());
        }
        let mut child = command.spawn().unwrap();
        let mut log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut said = child.stderr.take().unwrap();
        // Through a pipe, for which there is always room.
        std::thread::spawn(move || std::io::copy(&mut said, &mut log));
        self.life = Some(Life { child, began: Instant::now(), death });
    }

    /// Whether its life is to last until it is told to stop.
    pub(super) fn is_to_last(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.death == Death::Told)
    }

    fn log(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Whether its life ended as it was to; one that ended otherwise stops the test.
    pub(super) fn has_died(&mut self) -> bool {
        let Some(life) = &mut self.life else { return true };
        if let Death::After(time) = life.death
            && life.began.elapsed() >= time
        {
            life.child.kill().unwrap();
            life.child.wait().unwrap();
        }
        let Some(status) = life.child.try_wait().unwrap() else { return false };
        let expected = match life.death {
            Death::At(_) => Some(ABORTED),
            Death::After(_) => Some(KILLED),
            Death::Full => Some(TOO_LARGE),
            Death::Told => None,
        };
        let death = life.death;
        assert!(expected.is_some() && status.signal() == expected, "{death:?}: {status}: {}", self.said());
        self.life = None;
        for path in self.files() {
            let name = path.strip_prefix(&self.home).unwrap().to_string_lossy().into_owned();
            if [".tmp", ".shred", "partial"].iter().any(|half| name.ends_with(half)) {
                self.remains.insert(name);
            }
        }
        true
    }

    /// From now on none of its files grows beyond this, or any may again.
    pub(super) fn limit(&self, bytes: Option<u64>) {
        limit_files(&self.life.as_ref().expect("it runs").child, bytes);
    }

    /// Tells it to stop, and waits until it has.
    pub(super) fn stop(&mut self) {
        let Life { mut child, .. } = self.life.take().expect("it runs");
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// What its owner sees with `--json`.
    pub(super) fn shows(&self, command: &str) -> Value {
        let mut program = Command::new(program("tacit-client"));
        let output = program.args([command, "--json", "--home"]).arg(&self.home).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What is in its folder of the round that it takes part in, with the secrets; none while that is not there.
    pub(super) fn part(&self) -> Option<Part> {
        // The form of `round/joined`: task, plan, time, secrets.
        type Joined = (String, Vec<u8>, u64, Vec<u8>);
        // Whatever is being wiped has no contents any more.
        let (_, plan, _, secrets) = load::<Joined>(&self.home, "round/joined", JOINED).ok().flatten()?;
        let plan = SignedPlan::from_wire(&plan).unwrap();
        Some(Part { plan, secrets: secrets.try_into().unwrap() })
    }

    /// The first message of the coordinator in that round.
    pub(super) fn first_message(&self) -> Option<ServerMessage> {
        let (_, wire) = load::<(u64, Vec<u8>)>(&self.home, "round/message-1", MESSAGE).ok().flatten()?;
        Some(ServerMessage::from_wire(&wire).unwrap())
    }

    /// The update that waits in its folder, in the flat layout.
    pub(super) fn delta(&self, task: &str) -> Option<Vec<f32>> {
        const UPDATE: Kind = Kind { code: 2, version: 1 };
        let bytes = read(&self.home, &format!("updates/{task}.update"), UPDATE).ok().flatten()?;
        let (values, []) = bytes[64..].as_chunks::<4>() else { panic!("an update of half a value") };
        Some(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    /// Every file in its folder.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        files_below(&self.home, &mut files);
        files
    }

    /// Opens its folder as the next life would, so that what the last one left is caught up with.
    pub(super) fn sweep(&self) {
        drop(Folder::open_existing(&self.home).unwrap());
    }
}

/// SIGKILL, whatever it is doing.
impl Drop for Laptop {
    fn drop(&mut self) {
        if let Some(life) = &mut self.life {
            // It may be dead already.
            let _ = life.child.kill();
            let _ = life.child.wait();
        }
    }
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    // What is there now may be gone in a moment.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, files),
            path => files.push(path),
        }
    }
}
