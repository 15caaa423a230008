//! A real coordinator in a folder: identity root, data folder, process, clients and a task, all over its real API. Must never
//! leave a process behind.

use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tacit_aggregation::params::{TaskName, ThreatModel};
use tacit_client::credentials::{Credentials, CredentialsError};
use tacit_client::daemon::{is_passing, retry_after};
use tacit_client::keys::ClientKeys;
use tacit_coordinator::files::{FileError, write_json};
use tacit_coordinator::identity::{Admission, Issued, Office, OfficeError};
use tacit_coordinator::serve::{DataError, DataFolder, system_clock};
use tacit_coordinator::settings::ServerSettings;
use tacit_coordinator::task::{Eligibility, PublicationSettings, Schedule, TaskSettings};
use tacit_coordinator::{PlanSettings, ServerOptimizer};
use tacit_privacy::{Adjacency, NoiseLaw};
use tacit_proto::adapter::{AdapterLayout, TrainedTensor};
use tacit_proto::admin::Order;
use tacit_proto::connection::{ConnectionError, Fingerprint, FingerprintError, Server, Trust};
use tacit_proto::enrolment::Fetch;
use tacit_proto::services::admin::admin_client::AdminClient;
use tacit_proto::services::enrolment::enrolment_client::EnrolmentClient;
use tacit_proto::{AdapterShape, CohortTerms, Deadlines, LocalRule, LocalTraining};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::client::BASE_MODEL;
use super::line::wait;
use crate::random::{Purpose, generator};

/// The program that serves.
const PROGRAM: &str = "tacit-coordinator";
/// Longest answer to an order, in bytes.
const LONGEST_ANSWER: usize = 65 << 20;
/// Connections over which clients enrol.
const CONNECTIONS: usize = 8;
/// Certificates that are imported at once.
const IMPORTED: usize = 1_000;
/// Tries of a call whose connection breaks.
const TRIES: u32 = 20;
/// How long certificates hold, in seconds.
const YEAR: u64 = 365 * 86_400;
/// Ticks of the clock in which Linux counts a process's time, in a second.
const TICKS: f64 = 100.0;

/// Why there is no coordinator to speak to, or it does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The identity root.
    #[error(transparent)]
    Office(#[from] OfficeError),
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file or a process.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no program to start.
    #[error("there is no {PROGRAM} beside {beside}: build it with `cargo build --workspace --bins`")]
    NoProgram {
        /// This program.
        beside: PathBuf,
    },
    /// It ended before it listened.
    #[error("{PROGRAM} did not start:\n{log}")]
    NotStarted {
        /// The end of its log.
        log: String,
    },
    /// It is not running.
    #[error("the coordinator is not running: start it first")]
    NotRunning,
    /// What it prints.
    #[error("{PROGRAM} prints what this program does not understand: {line}")]
    Printed {
        /// The line.
        line: String,
    },
    /// No connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A fingerprint that is none.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// The coordinator refuses.
    #[error("the coordinator refuses {what}: {message}", message = .status.message())]
    Refused {
        /// What it was asked.
        what: &'static str,
        /// Its answer.
        status: Box<Status>,
    },
    /// Credentials that a client cannot use.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// JSON that is not what it should be.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A task that does not end.
    #[error("the work was interrupted")]
    Interrupted,
}

fn of_file(path: &Path) -> impl FnOnce(io::Error) -> SetupError + '_ {
    |source| SetupError::Io { path: path.to_owned(), source }
}

fn refused(what: &'static str) -> impl Fn(Status) -> SetupError {
    move |status| SetupError::Refused { what, status: Box::new(status) }
}

/// Everything of one coordinator, in one folder: `identity/`, `data/` and `coordinator.log`.
pub struct Site {
    folder: PathBuf,
    office: Office,
    process: Option<Process>,
    seed: u64,
    enrolled: u64,
}

/// A running coordinator.
struct Process {
    child: Child,
    address: SocketAddr,
    server: Server,
    said: Value,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// The most memory that it had at once, in bytes.
    pub peak_rss_bytes: u64,
    /// Time on a processor, its own and the system's for it.
    pub cpu_seconds: f64,
}

impl Site {
    /// Makes an identity root and a data folder, and appoints the coordinator. Clients' keys follow from the seed.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(folder: &Path, settings: &ServerSettings, seed: u64) -> Result<Self, SetupError> {
        let office = Office::init(&folder.join("identity"), &mut UnwrapErr(SysRng))?;
        let data = DataFolder::new(folder.join("data"));
        let key = data.init(settings, &mut UnwrapErr(SysRng))?;
        write_json(&data.path().join("appointment.json"), &office.appoint(key.0)?)?;
        Ok(Self { folder: folder.to_owned(), office, process: None, seed, enrolled: 0 })
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> DataFolder {
        DataFolder::new(self.folder.join("data"))
    }

    /// The identity root.
    #[must_use]
    pub fn office(&mut self) -> &mut Office {
        &mut self.office
    }

    /// Where the process writes its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("coordinator.log")
    }

    /// Starts the process, with more variables in its environment, and waits until it listens; on the port that it had, if it
    /// ran before. One that runs is killed.
    ///
    /// # Errors
    /// [`SetupError::NoProgram`], [`SetupError::NotStarted`].
    pub fn start(&mut self, environment: &[(&str, &str)]) -> Result<(), SetupError> {
        let before = self.process.take().map(|process| process.address);
        let listen = before.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let (program, log) = (program()?, self.log());
        let file = File::options().create(true).append(true).open(&log).map_err(of_file(&log))?;
        let mut child = Command::new(&program)
            .arg("serve")
            .arg(self.data().path())
            .args(["--listen", &listen.to_string(), "--json"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(of_file(&program))?;
        let mut line = String::new();
        if let Some(printed) = child.stdout.take() {
            BufReader::new(printed).read_line(&mut line).map_err(of_file(&program))?;
        }
        let said: Option<Value> = serde_json::from_str(&line).ok();
        let Some(said) = said else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(SetupError::NotStarted { log: tail(&log) });
        };
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let process = text("address").parse().ok().zip(text("fingerprint").parse().ok());
        let Some((address, fingerprint)) = process else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(SetupError::Printed { line });
        };
        let address: SocketAddr = address;
        let fingerprint: Fingerprint = fingerprint;
        let server = Server::new(&address.to_string(), Trust::Fingerprint(fingerprint))?;
        self.process = Some(Process { child, address, server, said });
        Ok(())
    }

    fn process(&self) -> Result<&Process, SetupError> {
        self.process.as_ref().ok_or(SetupError::NotRunning)
    }

    /// The running coordinator, for clients to connect to.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`].
    pub fn server(&self) -> Result<Server, SetupError> {
        Ok(self.process()?.server.clone())
    }

    /// What it said when it began to listen.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`].
    pub fn said(&self) -> Result<&Value, SetupError> {
        Ok(&self.process()?.said)
    }

    /// Kills the process as a power cut would (SIGKILL), and waits until it is gone. Its port is kept for the next start.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`], [`SetupError::Io`].
    pub fn kill(&mut self) -> Result<(), SetupError> {
        let log = self.log();
        let process = self.process.as_mut().ok_or(SetupError::NotRunning)?;
        process.child.kill().and_then(|()| process.child.wait()).map(|_| ()).map_err(of_file(&log))
    }

    /// Whether the process has ended, of its own accord or not.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`], [`SetupError::Io`].
    pub fn has_ended(&mut self) -> Result<bool, SetupError> {
        let log = self.log();
        let process = self.process.as_mut().ok_or(SetupError::NotRunning)?;
        process.child.try_wait().map(|status| status.is_some()).map_err(of_file(&log))
    }

    /// What the process has used so far. Linux only.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`], [`SetupError::Io`].
    pub fn usage(&self) -> Result<Usage, SetupError> {
        let id = self.process()?.child.id();
        let read = |name: &str| {
            let path = PathBuf::from(format!("/proc/{id}/{name}"));
            fs::read_to_string(&path).map_err(of_file(&path))
        };
        let status = read("status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        // After the program's name in parentheses comes the third field; times are the 14th and the 15th.
        let stat = read("stat")?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(Usage { peak_rss_bytes: kibibytes.unwrap_or_default() << 10, cpu_seconds: ticks / TICKS })
    }

    /// Has an order of the first operator carried out.
    ///
    /// # Errors
    /// [`SetupError::Refused`] with the coordinator's words.
    pub async fn order(&self, order: Order) -> Result<Value, SetupError> {
        let path = self.data().first_token();
        let token = fs::read_to_string(&path).map_err(of_file(&path))?;
        let channel = self.process()?.server.connect(None).await?;
        let mut client = AdminClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        let mut request = Request::new(order);
        let token = format!("Bearer {}", token.trim()).parse();
        let token = token.map_err(|_| SetupError::Printed { line: "no token".to_owned() })?;
        request.metadata_mut().insert("authorization", token);
        let answer = client.carry(request).await.map_err(refused("an order"))?;
        Ok(serde_json::from_str(&answer.into_inner().json)?)
    }

    /// Takes a task on.
    ///
    /// # Errors
    /// [`SetupError::Refused`].
    pub async fn create_task(&self, settings: &TaskSettings) -> Result<(), SetupError> {
        let settings = serde_json::to_string(settings)?;
        self.order(Order::CreateTask { settings, paused: false }).await.map(|_| ())
    }

    /// Invites, enrols, issues, admits and fetches: so many new clients.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn enrol(&mut self, count: u32) -> Result<Vec<Credentials>, SetupError> {
        let order = Order::Invite { count, valid_for: 3600, note: String::new() };
        let tokens: Vec<String> = serde_json::from_value(self.order(order).await?["tokens"].take())?;
        let first = self.enrolled;
        self.enrolled += u64::from(count);
        let seed = self.seed;
        let draw =
            |number: u64| ClientKeys::generate(&mut generator(seed, Purpose::Identities, first + number, 0));
        let asked = tokens.into_iter().zip(0..).map(|(token, number)| (token, draw(number))).collect();
        let asked = self
            .each(asked, |client, (token, keys): (String, ClientKeys)| async move {
                let enrol = keys.enrol(&token, env!("CARGO_PKG_VERSION"));
                let ask = || {
                    let (mut client, enrol) = (client.clone(), enrol.clone());
                    async move { client.enrol(enrol).await }
                };
                Ok((again(ask, "enrolment").await?.ticket, keys))
            })
            .await?;
        let requests: Vec<Admission> = serde_json::from_value(self.order(Order::ListRequests).await?)?;
        let now = system_clock() / 1000;
        for requests in requests.chunks(IMPORTED) {
            let issued: Vec<Issued> = self.office.issue(requests, now + YEAR, now, &mut UnwrapErr(SysRng))?;
            self.order(Order::Admit(serde_json::to_string(&issued)?)).await?;
        }
        self.each(asked, |client, (ticket, keys)| async move {
            let ask = || {
                let mut client = client.clone();
                async move { client.fetch(Fetch { ticket }).await }
            };
            let issued = again(ask, "a ticket").await?;
            Ok(Credentials::new(keys, issued, ticket, None, system_clock() / 1000)?)
        })
        .await
    }

    /// Does something for each item over a few connections at once, and gives the results in the order of the items.
    async fn each<T: Send + 'static, R: Send + 'static, F>(
        &self,
        items: Vec<T>,
        work: impl Fn(EnrolmentClient<Channel>, T) -> F + Clone + Send + 'static,
    ) -> Result<Vec<R>, SetupError>
    where
        F: Future<Output = Result<R, SetupError>> + Send + 'static,
    {
        let share = items.len().div_ceil(CONNECTIONS).max(1);
        let mut items = items.into_iter();
        let mut workers = JoinSet::new();
        for place in 0..CONNECTIONS {
            let items: Vec<T> = items.by_ref().take(share).collect();
            if items.is_empty() {
                break;
            }
            let (server, work) = (self.process()?.server.clone(), work.clone());
            workers.spawn(async move {
                let client = EnrolmentClient::new(server.connect(None).await?);
                let mut results = Vec::with_capacity(items.len());
                for item in items {
                    results.push(work(client.clone(), item).await?);
                }
                Ok::<_, SetupError>((place, results))
            });
        }
        let mut all = Vec::new();
        while let Some(done) = workers.join_next().await {
            all.push(done.map_err(|_| SetupError::Interrupted)??);
        }
        all.sort_by_key(|(place, _)| *place);
        Ok(all.into_iter().flat_map(|(_, results)| results).collect())
    }
}

/// Calls until there is an answer or a refusal.
async fn again<T, F>(mut call: impl FnMut() -> F, what: &'static str) -> Result<T, SetupError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut failures = 0;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_passing(&status) && failures < TRIES => {
                tokio::time::sleep(wait(failures, retry_after(&status))).await;
                failures += 1;
            }
            Err(status) => return Err(refused(what)(status)),
        }
    }
}

/// The coordinator's program: beside this one, or beside the folder of a test.
fn program() -> Result<PathBuf, SetupError> {
    let beside = std::env::current_exe().map_err(of_file(Path::new(PROGRAM)))?;
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let places = beside.ancestors().skip(1).take(2).map(|folder| folder.join(&name));
    places.into_iter().find(|path| path.is_file()).ok_or(SetupError::NoProgram { beside })
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A task whose cohorts are so many clients with made-up updates of so many coordinates: one in ten may drop out, one in twenty
/// may collude where there are enough for that, and each step stays open for long.
#[must_use]
pub fn task(name: TaskName, clients: u32, dimension: u32) -> TaskSettings {
    let adapter = AdapterShape { rank: 1, alpha: 1.0, targets: vec!["q_proj".to_owned()], seed: 1 };
    let long = 1_200_000;
    TaskSettings {
        layout: AdapterLayout {
            base: "synthetic".to_owned(),
            base_model: BASE_MODEL,
            adapter: adapter.clone(),
            tensors: vec![TrainedTensor { name: "synthetic".to_owned(), shape: [1, dimension] }],
        },
        plan: PlanSettings {
            task: name,
            base_model: BASE_MODEL,
            adapter,
            training: LocalTraining {
                rule: LocalRule::Sgd { momentum: 0.0 },
                learning_rate: 0.1,
                steps: 1,
                batch: 1,
                sequence: 8,
            },
            cohort: CohortTerms {
                min: clients - clients / 10,
                max: clients,
                n_min: (clients - clients / 5).max(2),
                threat: ThreatModel::SemiMalicious,
                corrupt_bp: if clients > 20 { 500 } else { 0 },
                dropout_bp: 1_000,
                correctness_bits: 40,
            },
            clip: 0.5,
            noise_multiplier: 1.0,
            adjacency: Adjacency::ZeroOut,
            noise_law: NoiseLaw::DiscreteGaussian,
            delta: 1e-5,
            deadlines: Deadlines { advertise: long, share: long, collect: long, confirm: long, unmask: long },
            roster: None,
            central: None,
        },
        optimizer: ServerOptimizer::FedAvg { learning_rate: 1.0 },
        eligibility: Eligibility::default(),
        schedule: Schedule::default(),
        publication: PublicationSettings::default(),
    }
}
