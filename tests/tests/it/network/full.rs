//! Disks that are full in the middle of a write: files that may not grow, and a small file system. Must never leave a case out
//! without saying so.

use super::clients::Fleet;
use super::laptop::Death;
use super::life::quick_folder;
use super::machine::{Machine, vector_file};
use super::premises::Premises;
use super::processes::{Process, serve};
use super::world::{CLIENTS, World, name, settings};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::Ordering;
use tacit_aggregation::Step;
use tacit_aggregation::messages::MaskedChunk;
use tacit_coordinator::serve::system_clock;
use tacit_proto::fleet::UploadPart;
use tonic::Code;

/// Has writes beyond the limit fail, as they do on a full disk; without it the process is killed in the middle of one.
const WRITES_FAIL: &str = "trap '' XFSZ; ";
/// The signal that kills it.
const TOO_LARGE: i32 = 25;
/// Things that machines do within which something that is due happens.
const MOST_ACTS: usize = 3_000;

/// From now on no file of a process grows beyond this; without a number there is no limit any more.
pub(super) fn limit_files(child: &Child, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    prlimit(Some(Pid::from_child(child)), Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

/// A coordinator's program, and machines that speak to it.
struct Scene {
    // It ends before the folder that it is in.
    process: Option<Process>,
    premises: Premises,
    world: World,
    acts: usize,
    /// The round that is played, and no other.
    round: u64,
}

impl Scene {
    fn new((premises, mut world): (Premises, World)) -> Self {
        world.stop();
        Self { premises, world, process: None, acts: 0, round: 1 }
    }

    /// Starts it, in place of another; what it said if it does not.
    fn start(&mut self, first: &str) -> Result<(), String> {
        self.world.machines.iter_mut().for_each(Machine::disconnected);
        self.process = None;
        self.process = Some(Process::launch(serve(&self.premises, "127.0.0.1:0", first))?);
        Ok(())
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// The machines' next thing, one after the other. How the process ended, if it has.
    fn act(&mut self) -> Option<ExitStatus> {
        let address = self.process().address.clone();
        let place = self.acts % CLIENTS;
        self.acts += 1;
        if self.world.machines[place].has_left(self.round) {
            return self.process().child.try_wait().unwrap();
        }
        // Silence is what a death looks like from here.
        let _ = self.world.machines[place].act(&self.premises.wire(place, &address, "0.2.0"), system_clock());
        self.process().child.try_wait().unwrap()
    }

    /// Acts until the process ends. How, and what it said.
    fn until_it_ends(&mut self) -> (ExitStatus, String) {
        let ended = (0..MOST_ACTS).find_map(|_| self.act());
        let ended = ended.expect("it cannot go on");
        (ended, self.process().last_words())
    }

    /// Acts until something is so of all machines.
    fn until(&mut self, done: impl Fn(&Machine) -> bool) {
        for _ in 0..MOST_ACTS {
            if self.world.machines.iter().all(&done) {
                return;
            }
            assert_eq!(self.act(), None, "it ends");
        }
        panic!("it does not get on");
    }

    /// With room again, the round goes on to its end, everything of it holds, and so it is with the next.
    fn ends_well(mut self) {
        for round in [1, 2] {
            self.start("").unwrap();
            self.round = round;
            self.until(|machine| machine.has_left(round));
            self.process = None;
            self.world.site.clock.store(system_clock(), Ordering::SeqCst);
            self.world.start();
            let end = self.world.check(round);
            assert!(end.committed && end.participants.len() == CLIENTS, "{end:?}");
            self.world.stop();
        }
    }

    /// Size of the log that the store is writing.
    fn log(&self) -> u64 {
        let files = fs::read_dir(self.premises.data.store()).unwrap().map(|file| file.unwrap().path());
        let newest = files.filter(|file| file.extension().is_some_and(|name| name == "log")).max();
        fs::metadata(newest.expect("a log")).unwrap().len()
    }
}

/// Lets the store's log grow by a few bytes more, at several moments of a round: a record is torn. What becomes of each process is
/// judged by `judge`.
fn a_log_that_cannot_grow(seed: u64, first: &str, judge: impl Fn(ExitStatus, &str)) {
    let mut scene = Scene::new(Premises::new(seed, settings()));
    for acts in [2, 8, 6, 8, 6] {
        scene.start(first).unwrap();
        for _ in 0..acts {
            assert_eq!(scene.act(), None);
        }
        let limit = scene.log() + 9;
        limit_files(&scene.process().child, Some(limit));
        let (ended, said) = scene.until_it_ends();
        judge(ended, &said);
    }
    scene.ends_well();
}

#[test]
fn a_log_that_cannot_grow_stops_the_coordinator_which_says_why() {
    a_log_that_cannot_grow(100, WRITES_FAIL, |ended, said| {
        assert_eq!(ended.code(), Some(1), "{said}");
        for words in ["File too large", "what was acknowledged is safe", "start again"] {
            assert!(said.contains(words), "{said}");
        }
    });
}

#[test]
fn a_coordinator_that_is_killed_in_the_middle_of_a_record_loses_nothing() {
    a_log_that_cannot_grow(101, "", |ended, said| {
        assert_eq!(ended.signal(), Some(TOO_LARGE), "{ended} {said}")
    });
}

#[test]
fn a_vector_for_which_there_is_no_room_is_refused_and_goes_on_later() {
    const ROOM: u64 = 32 << 10;
    const PART: usize = 4 << 10;
    let mut task = settings();
    task.layout.tensors[0].shape = [4, 8 << 10];
    let mut scene = Scene::new(Premises::new(102, task));
    scene.world.machines.iter_mut().for_each(|machine| machine.leaves = Some(Step::Collect));
    scene.start("").unwrap();
    scene.until(|machine| machine.has_answered(Step::Share));
    scene.world.machines.iter_mut().for_each(|machine| machine.leaves = None);
    // The log of a new process is a short one.
    scene.start(WRITES_FAIL).unwrap();
    let header = loop {
        assert_eq!(scene.act(), None);
        if let Some(header) = scene.world.machines[0].uploads() {
            break header.clone();
        }
    };
    let limit = scene.log() + ROOM;
    assert!(limit < header.length, "the log has {limit}, the vector {} bytes", header.length);
    limit_files(&scene.process().child, Some(limit));
    let address = scene.process().address.clone();
    let (sender, stream) = scene.premises.stream(0, &address);
    let part = vector_file(&scene.world.site.vectors(), &name(1), &header, "part");
    let stored = fs::metadata(&part).map_or(0, |file| file.len()) as usize;
    let vector = scene.world.machines[0].vector();
    for (place, bytes) in vector.bytes[stored..].chunks(PART).enumerate() {
        let chunk = MaskedChunk { offset: (stored + place * PART) as u64, bytes: bytes.to_vec().into() };
        if sender.blocking_send(UploadPart { round: name(1), chunk }).is_err() {
            break;
        }
    }
    let refused = scene.premises.runtime.block_on(stream).unwrap().expect_err("there is no room");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("free space"), "{refused}");
    assert!(refused.metadata().contains_key("retry-after-ms"));
    // As much as there was room for is there, and the rest comes when there is more.
    assert_eq!(fs::metadata(&part).unwrap().len(), limit);
    assert_eq!(scene.act(), None, "it lives");
    limit_files(&scene.process().child, None);
    scene.until(|machine| machine.seen[&1].acknowledged);
    scene.ends_well();
}

/// A small file system in memory.
struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Mounts one; none where that is not allowed.
    fn mount(place: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then(|| Self { place: place.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }

    /// Fills it.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0xff; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test has left may still be there.
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

#[test]
fn a_disk_that_is_full_stops_the_coordinator_until_there_is_room() {
    let folder = quick_folder();
    let Some(disk) = Disk::mount(&folder.path().join("coordinator"), 16) else {
        println!(
            "NOT TESTED: this user may mount no file system, so none is filled; the limits on files are tested all the same"
        );
        return;
    };
    let mut scene = Scene::new(Premises::new_in(folder, 103, settings()));
    // It has to be gone before the folder that it is in.
    let disk = disk;
    scene.start("").unwrap();
    // Before anybody uploads: a vector for which there is no room would be refused, and nothing else be written.
    for _ in 0..3 {
        assert_eq!(scene.act(), None);
    }
    disk.fill();
    let (ended, said) = scene.until_it_ends();
    assert_eq!(ended.code(), Some(1), "{said}");
    for words in ["No space left on device", "what was acknowledged is safe", "free space"] {
        assert!(said.contains(words), "{said}");
    }
    disk.fill();
    let said = scene.start("").expect_err("there is no room to start in");
    assert!(said.contains("No space left on device") && said.contains("free space"), "{said}");
    disk.free();
    scene.ends_well();
}

#[test]
fn a_client_that_cannot_write_waits_and_one_that_is_killed_in_a_write_goes_on() {
    let mut fleet = Fleet::new(104, vec![Death::Full], Vec::new());
    // The first to be started is the one that is killed.
    let round = fleet.until_joined(0);
    fleet.laptops[0].limit(Some(0));
    fleet.soon(|fleet| fleet.laptops[0].is_to_last());
    fleet.until_committed(round);

    let round = fleet.until_joined(1);
    fleet.laptops[1].limit(Some(0));
    fleet.soon(|fleet| fleet.laptops[1].said().contains("File too large"));
    fleet.laptops[1].limit(None);
    fleet.until_committed(round + 1);
    fleet.finish();
}
