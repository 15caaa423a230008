//! A real coordinator in a folder: identity root, data folder, process, clients and a task, all over its real API. Must never
//! leave a process behind.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::rngs::SysRng;
use rand_core::UnwrapErr;
use serde_json::Value;
use tacit_client::credentials::{Credentials, CredentialsError};
use tacit_client::daemon::{is_passing, retry_after};
use tacit_client::keys::ClientKeys;
use tacit_coordinator::files::{FileError, write_json};
use tacit_coordinator::identity::{Admission, Issued, Office, OfficeError};
use tacit_coordinator::serve::{DataError, DataFolder, system_clock};
use tacit_coordinator::settings::ServerSettings;
use tacit_coordinator::task::TaskSettings;
use tacit_proto::admin::Order;
use tacit_proto::connection::{ConnectionError, Fingerprint, FingerprintError, Server, Trust};
use tacit_proto::enrolment::Fetch;
use tacit_proto::services::admin::admin_client::AdminClient;
use tacit_proto::services::enrolment::enrolment_client::EnrolmentClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::load::line::wait;
use crate::process::{Process, ProcessError, Usage, program};

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
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
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
    serving: Option<Serving>,
}

/// A running coordinator.
struct Serving {
    process: Process,
    address: SocketAddr,
    server: Server,
    fingerprint: Fingerprint,
    said: Value,
}

impl Site {
    /// Makes an identity root and a data folder, and appoints the coordinator.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(folder: &Path, settings: &ServerSettings) -> Result<Self, SetupError> {
        let office = Office::init(&folder.join("identity"), &mut UnwrapErr(SysRng))?;
        let data = DataFolder::new(folder.join("data"));
        let key = data.init(settings, &mut UnwrapErr(SysRng))?;
        write_json(&data.path().join("appointment.json"), &office.appoint(key.0)?)?;
        Ok(Self { folder: folder.to_owned(), office, serving: None })
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
    /// [`SetupError::Process`], [`SetupError::NotStarted`].
    pub fn start(&mut self, environment: &[(&str, &str)]) -> Result<(), SetupError> {
        let before = self.serving.take().map(|serving| serving.address);
        let listen = before.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let program = program(PROGRAM)?;
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg(self.data().path())
            .args(["--listen", &listen.to_string(), "--json"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command, &self.log())?;
        let mut line = String::new();
        if let Some(printed) = process.output() {
            BufReader::new(printed).read_line(&mut line).map_err(of_file(&program))?;
        }
        let said: Option<Value> = serde_json::from_str(&line).ok();
        let Some(said) = said else {
            process.kill()?;
            return Err(SetupError::NotStarted { log: process.last_words() });
        };
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let printed = text("address").parse().ok().zip(text("fingerprint").parse().ok());
        let Some((address, fingerprint)): Option<(SocketAddr, Fingerprint)> = printed else {
            return Err(SetupError::Printed { line });
        };
        let server = Server::new(&address.to_string(), Trust::Fingerprint(fingerprint))?;
        self.serving = Some(Serving { process, address, server, fingerprint, said });
        Ok(())
    }

    fn serving(&self) -> Result<&Serving, SetupError> {
        self.serving.as_ref().ok_or(SetupError::NotRunning)
    }

    /// The running coordinator, for clients to connect to.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`].
    pub fn server(&self) -> Result<Server, SetupError> {
        Ok(self.serving()?.server.clone())
    }

    /// Where it listens, and by which certificate it is known, as the settings of a client want it.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`].
    pub fn address(&self) -> Result<(SocketAddr, Fingerprint), SetupError> {
        let serving = self.serving()?;
        Ok((serving.address, serving.fingerprint))
    }

    /// What it said when it began to listen.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`].
    pub fn said(&self) -> Result<&Value, SetupError> {
        Ok(&self.serving()?.said)
    }

    /// The running process. One that was killed keeps its port for the next start.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`].
    pub fn process(&mut self) -> Result<&mut Process, SetupError> {
        Ok(&mut self.serving.as_mut().ok_or(SetupError::NotRunning)?.process)
    }

    /// What the process has used so far. Linux only.
    ///
    /// # Errors
    /// [`SetupError::NotRunning`], [`SetupError::Process`].
    pub fn usage(&self) -> Result<Usage, SetupError> {
        Ok(self.serving()?.process.usage()?)
    }

    /// Has an order of the first operator carried out.
    ///
    /// # Errors
    /// [`SetupError::Refused`] with the coordinator's words.
    pub async fn order(&self, order: Order) -> Result<Value, SetupError> {
        let path = self.data().first_token();
        let token = fs::read_to_string(&path).map_err(of_file(&path))?;
        let channel = self.serving()?.server.connect(None).await?;
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

    /// Invites, enrols, issues, admits and fetches: a new client for each of these keys.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn enrol(&mut self, keys: Vec<ClientKeys>) -> Result<Vec<Credentials>, SetupError> {
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let order = Order::Invite { count, valid_for: 3600, note: String::new() };
        let tokens: Vec<String> = serde_json::from_value(self.order(order).await?["tokens"].take())?;
        let asked = tokens.into_iter().zip(keys).collect();
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
            let (server, work) = (self.serving()?.server.clone(), work.clone());
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
