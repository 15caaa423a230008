//! Processes that this one has started: their programs, what they use, and their end. Must never leave one behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Ticks of the clock in which Linux counts a process's time, in a second.
const TICKS: f64 = 100.0;
/// How often it is looked whether a process has ended.
const GLANCE: Duration = Duration::from_millis(20);
/// Lines of a log that are shown.
const LAST_LINES: usize = 20;

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no program to start.
    #[error(
        "there is no {program} beside {beside}: build it with `cargo build --workspace --bins --examples`"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
        /// This program.
        beside: PathBuf,
    },
    /// A file or a process.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

fn of_file(path: &Path) -> impl FnOnce(io::Error) -> ProcessError + '_ {
    |source| ProcessError::Io { path: path.to_owned(), source }
}

/// A program of this workspace: beside this one, or beside the folder of a test.
///
/// # Errors
/// [`ProcessError::NoProgram`].
pub fn program(name: &'static str) -> Result<PathBuf, ProcessError> {
    let beside = std::env::current_exe().map_err(of_file(Path::new(name)))?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let places = beside.ancestors().skip(1).take(2).map(|folder| folder.join(&file));
    let found = places.into_iter().find(|path| path.is_file());
    found.ok_or(ProcessError::NoProgram { program: name, beside })
}

/// As many open files as this process may have; its children inherit them.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it cannot be raised, a connection that cannot be opened says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// The most memory that it had at once, in bytes.
    pub peak_rss_bytes: u64,
    /// Time on a processor, its own and the system's for it.
    pub cpu_seconds: f64,
}

/// A running process, killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts a program whose standard error is added to a file. Ctrl-C at a terminal, which goes to a whole group of processes, is
    /// for this one alone to hear: it stops the others.
    ///
    /// # Errors
    /// [`ProcessError::Io`].
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        let file = File::options().create(true).append(true).open(log).map_err(of_file(log))?;
        let program = PathBuf::from(command.get_program());
        let child = command.stderr(file).process_group(0).spawn().map_err(of_file(&program))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn wait(mut self) {
        // One that cannot be waited for is killed by dropping it.
        let _ = self.child.wait();
    }

    /// Its standard output, once, where that is a pipe.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard input, once, where that is a pipe; dropped, it is closed.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether it has ended, of its own accord or not.
    ///
    /// # Errors
    /// [`ProcessError::Io`].
    pub fn has_ended(&mut self) -> Result<bool, ProcessError> {
        self.child.try_wait().map(|status| status.is_some()).map_err(of_file(&self.log))
    }

    /// Kills it as a power cut would (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// [`ProcessError::Io`].
    pub fn kill(&mut self) -> Result<(), ProcessError> {
        self.child.kill().and_then(|()| self.child.wait()).map(|_| ()).map_err(of_file(&self.log))
    }

    /// Tells it to stop (SIGTERM).
    pub fn tell_to_stop(&self) {
        // One that is gone has stopped; one that does not listen is killed.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Waits for its end until some time, then kills it. Whether it ended well, and of its own accord.
    #[must_use]
    pub fn end(mut self, until: Instant) -> bool {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < until => std::thread::sleep(GLANCE),
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// What it has used so far. Linux only.
    ///
    /// # Errors
    /// [`ProcessError::Io`], also for one that has ended.
    pub fn usage(&self) -> Result<Usage, ProcessError> {
        let id = self.child.id();
        let read = |name: &str| {
            let path = PathBuf::from(format!("/proc/{id}/{name}"));
            fs::read_to_string(&path).map_err(of_file(&path))
        };
        let peak_rss_bytes = crate::meter::peak_of(&read("status")?).unwrap_or_default();
        // After the program's name in parentheses comes the third field; times are the 14th and the 15th.
        let stat = read("stat")?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(Usage { peak_rss_bytes, cpu_seconds: ticks / TICKS })
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(LAST_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(log: &Path) -> Process {
        Process::start(Command::new("sleep").arg("60"), log).expect("started")
    }

    #[test]
    fn a_process_ends_when_it_is_told_to_or_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut process = sleeper(&log);
        assert!(!process.has_ended().expect("asked"));
        assert!(process.usage().expect("it runs").peak_rss_bytes > 1 << 16);
        process.tell_to_stop();
        let began = Instant::now();
        assert!(!process.end(began + Duration::from_secs(30)), "a signal is no success");
        assert!(began.elapsed() < Duration::from_secs(20));

        let dropped = sleeper(&log);
        let id = dropped.child.id();
        drop(dropped);
        assert!(!Path::new(&format!("/proc/{id}")).exists());

        let quick = Process::start(Command::new("sh").args(["-c", "echo one >&2; echo two >&2"]), &log);
        let quick = quick.expect("started");
        while quick.last_words() != "one\ntwo" {
            std::thread::sleep(GLANCE);
        }
        assert!(quick.end(Instant::now() + Duration::from_secs(30)));
    }
}
