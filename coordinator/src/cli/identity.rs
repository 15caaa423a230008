//! `tacit-coordinator identity`: the identity root's work on its folder. Must never print the root's secret key.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tacit_aggregation::identity::{ClientId, Rate};
use tacit_coordinator::files::write_json;
use tacit_coordinator::identity::{
    Admission, EpochRequest, Issued, Office, RestartForm, RestoredHead, Revocations,
};

use super::text::moment;
use super::{answer, now, secrets};

/// Seconds of a day.
const DAY: u64 = 86_400;

#[derive(Debug, Args)]
pub(crate) struct Identity {
    /// The identity root's folder
    #[arg(long, global = true, default_value = "identity")]
    folder: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: IdentityCommand,
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Draw the organisation's identity root; done once
    Init,
    /// Sign that a key is the coordinator's, and write what the server is configured with
    Appoint {
        /// The coordinator's public key, 64 hexadecimal digits, as the server prints it
        #[arg(value_parser = key)]
        coordinator: [u8; 32],
        /// File to write, for the server
        #[arg(long, default_value = "appointment.json")]
        out: PathBuf,
    },
    /// Admit the machines whose requests the coordinator exported
    ///
    /// Requests that were answered before get their newest answer again, so nothing is lost when the file does not arrive.
    Issue {
        /// The file of requests from the coordinator
        requests: PathBuf,
        /// How long the certificates hold, from now
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: u64,
        /// File to write, for the coordinator
        #[arg(long, default_value = "issued.json")]
        out: PathBuf,
    },
    /// Give clients certificates with a later end, under the same numbers and keys
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Renew {
        /// Numbers of the clients
        #[arg(value_parser = client, group = "which")]
        clients: Vec<ClientId>,
        /// All clients whose certificates end within so many days, and have not ended
        #[arg(long, group = "which")]
        ending_within: Option<u64>,
        /// How long the new certificates hold, from now
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: u64,
        /// File to write, for the coordinator
        #[arg(long, default_value = "issued.json")]
        out: PathBuf,
    },
    /// Shut clients out, for good
    Revoke {
        /// Numbers of the clients; none writes the present list again
        #[arg(value_parser = client)]
        clients: Vec<ClientId>,
        /// File to write, for the coordinator
        #[arg(long, default_value = "revocations.json")]
        out: PathBuf,
    },
    /// Let a coordinator's ledger go on after it was restored from a backup
    ///
    /// Every client goes back to that ledger once. What it has spent meanwhile stays spent in its own book, but nowhere else: sign no
    /// more restarts than there were restored backups.
    Restart {
        /// The file from the coordinator's machine, as `ledger head` wrote it
        #[arg(long)]
        head: PathBuf,
        /// Number of the last restart, where another root has signed that
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..4_000_000_000))]
        after: u32,
        /// File to write, for the coordinator
        #[arg(long, default_value = "restart.json")]
        out: PathBuf,
    },
    /// Show who was admitted, until when, and who is revoked
    List,
    /// Sign the list of everybody who may be in a cohort during an epoch
    ///
    /// It holds the clients whose certificates are valid now. An epoch has one roster. In each period of the epoch a lottery that
    /// nobody can steer draws a share of the clients, and cohorts are made of those.
    Roster {
        /// Number of the epoch, above the last one's
        #[arg(long)]
        epoch: u64,
        /// How long the epoch lasts. It begins now, or when the last one has ended
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: u64,
        /// How long a period lasts, in minutes
        #[arg(long, default_value_t = 1_440, value_parser = clap::value_parser!(u64).range(1..=525_600))]
        period_minutes: u64,
        /// The share of the clients that a period draws, such as 1/20; 1 draws everybody
        #[arg(long, default_value = "1", value_parser = rate)]
        rate: Rate,
        /// Begin at once, although the last epoch has not ended: for a roster that was signed in error
        #[arg(long)]
        early: bool,
        /// File to write, for the coordinator
        #[arg(long, default_value = "roster.json")]
        out: PathBuf,
    },
}

/// What a command did, for programs.
#[derive(Debug, Serialize)]
struct Done<'a> {
    /// The root's public key.
    root: String,
    /// How many clients it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<usize>,
    /// The file to carry to the other machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
}

/// One client of `list`, for programs.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    client: String,
    note: &'a str,
    issued_at: u64,
    not_after: u64,
    state: &'static str,
}

impl Identity {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (folder, json) = (self.folder, self.json);
        let now = now()?;
        let until = |days: u64| now + days * DAY;
        if matches!(self.command, IdentityCommand::Init) {
            let office = Office::init(&folder, &mut secrets()?)?;
            let root = hex::encode(office.public_key().0);
            let place = folder.display();
            let text = format!(
                "identity root  {root}\nIts key is in {place}. Keep a copy of this folder where nobody else can read it, \
                 and keep both off the server."
            );
            return answer(json, &Done { root, clients: None, file: None }, &text);
        }
        let mut office = Office::open(&folder)?;
        let root = hex::encode(office.public_key().0);
        let done = |clients: Option<usize>, file: &Path, text: String| {
            let text = format!("{text}\nWritten for the coordinator: {}", file.display());
            answer(json, &Done { root, clients, file: Some(file) }, &text)
        };
        match self.command {
            IdentityCommand::Init => Ok(()),
            IdentityCommand::Appoint { coordinator, out } => {
                write_json(&out, &office.appoint(coordinator)?)?;
                done(None, &out, format!("appointed coordinator {}", hex::encode(coordinator)))
            }
            IdentityCommand::Issue { requests, days, out } => {
                let requests: Vec<Admission> = read(&requests)?;
                let issued = office.issue(&requests, until(days), now, &mut secrets()?)?;
                write_json(&out, &issued)?;
                done(Some(issued.len()), &out, admitted("issued", &issued))
            }
            IdentityCommand::Renew { mut clients, ending_within, days, out } => {
                if let Some(within) = ending_within {
                    let soon = now..=now.saturating_add(within.saturating_mul(DAY));
                    let ending = office.issued().filter(|issued| {
                        soon.contains(&issued.not_after) && !office.revoked().revokes(issued.client)
                    });
                    clients = ending.map(|issued| issued.client).collect();
                }
                let renewed = office.renew(&clients, until(days), now)?;
                write_json(&out, &renewed)?;
                done(Some(renewed.len()), &out, admitted("renewed", &renewed))
            }
            IdentityCommand::Revoke { clients, out } => {
                let list = office.revoke(&clients)?.clone();
                let count = list.clients.len();
                write_json(&out, &Revocations::from(list))?;
                done(Some(count), &out, format!("revoked in all  {count} clients"))
            }
            IdentityCommand::Restart { head, after, out } => {
                let head: RestoredHead = read(&head)?;
                let restart = office.restart(&head, after)?;
                write_json(&out, &restart)?;
                let (coordinator, time) = (hex::encode(head.coordinator), day(head.time / 1000));
                let RestartForm { number, size, .. } = restart;
                let text = format!(
                    "signed restart {number}  coordinator {coordinator}\nIts ledger goes on from {size} entries, as signed on {time}."
                );
                done(None, &out, text)
            }
            IdentityCommand::List => list(&office, now, json),
            IdentityCommand::Roster { epoch: number, days, period_minutes, rate, early, out } => {
                let seconds = NonZeroU64::new(days * DAY).context("an epoch has at least one day")?;
                let period_seconds =
                    NonZeroU64::new(period_minutes * 60).context("a period has at least one minute")?;
                let epoch = EpochRequest { number, seconds, period_seconds, rate, early };
                let roll = office.sign_roster(&epoch, now, &mut secrets()?)?;
                write_json(&out, &roll)?;
                let (count, [from, to]) = (roll.clients.len(), [roll.not_before, roll.not_after].map(at));
                let text =
                    format!("signed the roster of epoch {number}, from {from} to {to}  {count} clients");
                done(Some(count), &out, text)
            }
        }
    }
}

fn admitted(verb: &str, issued: &[Issued]) -> String {
    let line = |issued: &Issued| {
        let Issued { admission, client, not_after, .. } = issued;
        // Enough of the key to compare it with what the machine itself shows.
        let key = hex::encode(&admission.identity_key[..8]);
        format!("{verb}  client {client}  key {key}  until {}  {}", day(*not_after), admission.note)
    };
    if issued.is_empty() {
        return format!("{verb}  nobody");
    }
    issued.iter().map(|issued| line(issued).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn list(office: &Office, now: u64, json: bool) -> anyhow::Result<()> {
    let listed: Vec<Listed<'_>> = office
        .issued()
        .map(|issued| Listed {
            client: issued.client.to_string(),
            note: &issued.admission.note,
            issued_at: issued.issued_at,
            not_after: issued.not_after,
            state: match (office.revoked().revokes(issued.client), now > issued.not_after) {
                (true, _) => "revoked",
                (false, true) => "expired",
                (false, false) => "valid",
            },
        })
        .collect();
    let row = |client: &str, state: &str, until: &str, note: &str| {
        format!("{client:20}  {state:7}  {until:10}  {note}").trim_end().to_owned()
    };
    let rows = listed.iter().map(|one| row(&one.client, one.state, &day(one.not_after), one.note));
    let text = std::iter::once(row("CLIENT", "STATE", "UNTIL", "NOTE")).chain(rows).collect::<Vec<_>>();
    #[derive(Serialize)]
    struct All<'a> {
        root: String,
        revocations: u64,
        clients: &'a [Listed<'a>],
    }
    let root = hex::encode(office.public_key().0);
    answer(json, &All { root, revocations: office.revoked().number, clients: &listed }, &text.join("\n"))
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what the coordinator exported; export it again", path.display()))
}

/// A Unix second in UTC.
fn at(second: u64) -> String {
    i64::try_from(second).map_or_else(|_| second.to_string(), moment)
}

/// The UTC day of a Unix second.
fn day(second: u64) -> String {
    let time =
        i64::try_from(second).ok().and_then(|second| time::OffsetDateTime::from_unix_timestamp(second).ok());
    time.map_or_else(
        || second.to_string(),
        |time| format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day()),
    )
}

fn key(text: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key).map_err(|_| "a key is 64 hexadecimal digits".to_owned())?;
    Ok(key)
}

fn rate(text: &str) -> Result<Rate, String> {
    let (part, whole) = text.split_once('/').unwrap_or((text, "1"));
    let number = |digits: &str| digits.trim().parse::<u64>().ok();
    let rate = number(part).zip(number(whole)).and_then(|(part, whole)| Rate::new(part, whole));
    rate.ok_or_else(|| "a rate is a fraction above 0 and up to 1, such as 1/20".to_owned())
}

fn client(text: &str) -> Result<ClientId, String> {
    text.parse()
        .map(ClientId)
        .map_err(|_| "a client's number is a decimal number of at most 20 digits".to_owned())
}
