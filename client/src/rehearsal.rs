//! A round that is not joined: what would leave this machine in each step, and what would not. Must never send anything, nor
//! keep anything that a round could be played with.

use crate::accounts::Accounts;
use crate::adapters::{self, AdapterFolder, InstallError};
use crate::budget::{Budget, BudgetError};
use crate::contribution::contribute;
use crate::credentials::Credentials;
use crate::daemon::{Base, now, stored_plans};
use crate::folder::{Folder, FolderError};
use crate::participant::{Joined, Member, ParticipantError, admit};
use crate::settings::Settings;
use crate::training::{Job, TrainingError};
use crate::update::Update;
use rand::Rng;
use rand_core::CryptoRng;
use serde::Serialize;
use std::sync::atomic::AtomicBool;
use tacit_aggregation::client::ClientError;
use tacit_aggregation::messages::CIPHERTEXT_BYTES;
use tacit_aggregation::ring_vector::packed_bytes;
use tacit_privacy::{Clipped, RotationSeed, RoundMechanism, decode_sum};
use tacit_proto::fleet::{CheckIn, ReadyUpdate};
use tacit_proto::{ClientMessage, RoundPlan, SignedPlan, Wire as _};

/// Coordinates that are shown.
const SHOWN: usize = 8;
/// Bytes of an encoded point or scalar, and of a signature.
const SCALAR: u64 = 32;
const SIGNATURE: u64 = 64;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// A file cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Training fails.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A version cannot be used.
    #[error(transparent)]
    Version(#[from] InstallError),
    /// This client would not join.
    #[error("this client would stay out: {0}")]
    Refused(#[from] ParticipantError),
    /// Nobody has offered anything yet.
    #[error("no plan is known here: let `tacit-client run` reach the coordinator once, then look again")]
    NoPlan,
    /// The version that the plan wants updates of is not here.
    #[error(
        "no version that round {round} of task {task} is trained on is here: let `tacit-client run` fetch it"
    )]
    NoVersion {
        /// The task.
        task: String,
        /// The round.
        round: u64,
    },
}

impl From<BudgetError> for RehearsalError {
    fn from(error: BudgetError) -> Self {
        Self::Refused(error.into())
    }
}

/// What would leave this machine in a round of one task.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal {
    /// The learning task.
    pub task: String,
    /// The round of the plan.
    pub round: u64,
    /// Clients in the largest cohort of the plan, for which sizes are given.
    pub cohort: u32,
    /// The steps, in order.
    pub messages: Vec<Leaving>,
    /// The vector.
    pub vector: Vector,
}

/// One message.
#[derive(Clone, Debug, Serialize)]
pub struct Leaving {
    /// The step.
    pub step: &'static str,
    /// Bytes.
    pub bytes: u64,
    /// What the coordinator can read.
    pub clear: Vec<String>,
    /// What it cannot.
    pub sealed: Vec<String>,
}

/// What becomes of the update on its way.
#[derive(Clone, Debug, Serialize)]
pub struct Vector {
    /// Coordinates.
    pub dimension: usize,
    /// Tokens that the update was trained on, repetitions counted.
    pub tokens: u64,
    /// Euclidean norm of the update, which stays here, and the norm that it is clipped to.
    pub norm: f64,
    /// The clip norm.
    pub clip: f64,
    /// The first coordinates of the update as it was trained. They stay on this machine.
    pub stays_here: Vec<f32>,
    /// The same after clipping, rotation, rounding and this client's noise, turned back: the most that anybody could learn who had
    /// all masks. Empty where the coordinator adds the noise.
    pub noised: Vec<f32>,
    /// Epsilon of this round alone at most, at the plan's delta.
    pub epsilon: f64,
    /// The plan's delta.
    pub delta: f64,
}

/// Goes through the newest plan of each task without saying anything to anybody.
///
/// # Errors
/// [`RehearsalError`].
pub fn rehearse<R: Rng + CryptoRng + Send>(
    folder: &Folder,
    settings: &Settings,
    credentials: &Credentials,
    rng: &mut R,
) -> Result<Vec<Rehearsal>, RehearsalError> {
    let base = Base::read(&settings.base_model)?;
    let limits = settings.limits.into();
    let budget = match Accounts::load(folder)? {
        Some(accounts) => accounts.budget.with_limits(limits)?,
        None => Budget::new(credentials.client(), limits)?,
    };
    let plans = stored_plans(folder)?;
    if plans.is_empty() {
        return Err(RehearsalError::NoPlan);
    }
    let member = credentials.member(base.digest);
    let each = plans.iter().map(|(plan, membership)| {
        let member = Member { membership: membership.clone(), ..member.clone() };
        one(folder, settings, &base, &member, &budget, plan, rng)
    });
    each.collect()
}

fn one<R: Rng + CryptoRng + Send>(
    folder: &Folder,
    settings: &Settings,
    base: &Base,
    member: &Member,
    budget: &Budget,
    signed: &SignedPlan,
    rng: &mut R,
) -> Result<Rehearsal, RehearsalError> {
    let plan = admit(signed, member, budget)?;
    let update = match Update::load(folder, &plan.task)? {
        Some(update) if update.serves(plan) => update,
        _ => train(folder, settings, base, member, plan, rng)?,
    };
    let joined = Joined::new(signed, member, update.parent, update.delta.to_vec(), budget, now(), rng)?;
    let terms = plan.terms();
    let params =
        terms.params(plan.cohort.max).map_err(|error| ParticipantError::from(ClientError::from(error)))?;
    let mechanism = plan.mechanism(&params).map_err(ParticipantError::from)?;
    let rotation = RotationSeed([0; 32]);
    let clipped = Clipped::new(update.delta.to_vec(), plan.privacy.clip).map_err(ParticipantError::from)?;
    let ring = contribute(clipped, &mechanism, &rotation, rng).map_err(ParticipantError::from)?;
    let noised = match &mechanism {
        RoundMechanism::Distributed(distributed) => {
            decode_sum(&ring.to_values(), distributed, &rotation).map_err(ParticipantError::from)?
        }
        RoundMechanism::Central(_) => Vec::new(),
    };
    let shown = |values: &[f32]| values.iter().copied().take(SHOWN).collect();
    Ok(Rehearsal {
        task: plan.task.to_string(),
        round: plan.round,
        cohort: params.n,
        messages: messages(plan, &params, &joined.advert(), base, update.parent),
        vector: Vector {
            dimension: update.delta.len(),
            tokens: update.tokens,
            norm: joined.norm_before_clipping(),
            clip: plan.privacy.clip,
            stays_here: shown(&update.delta),
            noised: shown(&noised),
            epsilon: plan.privacy.epsilon,
            delta: plan.privacy.delta,
        },
    })
}

/// Trains on a version that is here, and keeps nothing of it.
fn train<R: Rng + Send>(
    folder: &Folder,
    settings: &Settings,
    base: &Base,
    member: &Member,
    plan: &RoundPlan,
    rng: &mut R,
) -> Result<Update, RehearsalError> {
    let versions = AdapterFolder::open(folder.path(), &plan.task)?;
    let base_model = adapters::Base { digest: base.digest, config: &base.config };
    for version in versions.versions()?.into_iter().rev() {
        let (manifest, adapter) = versions.load(version, &member.coordinator, &base_model)?;
        if plan.parents.binary_search(&manifest.adapter).is_ok() {
            let job = Job {
                plan: plan.clone(),
                parent: manifest.adapter,
                values: adapter.flat().to_vec(),
                base_model: settings.base_model.clone(),
                code: settings.code.clone(),
                cpu: settings.cpu,
            };
            return Ok(job.run(&AtomicBool::new(false), now(), rng)?);
        }
    }
    Err(RehearsalError::NoVersion { task: plan.task.to_string(), round: plan.round })
}

/// The messages of a round in a cohort of these parameters. The sizes of those that depend on others are given to within the
/// few bytes that protobuf adds.
fn messages(
    plan: &RoundPlan,
    params: &tacit_aggregation::params::RoundParams,
    advert: &ClientMessage,
    base: &Base,
    parent: [u8; 32],
) -> Vec<Leaving> {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let check_in = CheckIn {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        base_models: vec![base.digest],
        ready: vec![ReadyUpdate { task: plan.task.clone(), parent }],
        ledger_size: 0,
        revocations: 0,
        restart: 0,
    };
    let (degree, threshold) = (u64::from(params.degree), u64::from(params.threshold));
    let vector = packed_bytes(params.bits, params.dimension as usize) as u64;
    vec![
        Leaving {
            step: "check-in",
            bytes: check_in.to_wire().len() as u64,
            clear: list(&[
                "version of this program",
                "SHA-256 of the base model",
                "for which task and adapter version an update is ready",
                "size of the ledger, number of its last restart and of the revocation list that were seen",
            ]),
            sealed: Vec::new(),
        },
        Leaving {
            step: "advertise",
            bytes: advert.to_wire().len() as u64,
            clear: list(&[
                "this client's certificate and number",
                "task, round, digests of plan, ledger head and parent version",
                "two public keys and a nonce, drawn for this round",
                "signature",
            ]),
            sealed: Vec::new(),
        },
        Leaving {
            step: "share",
            bytes: degree * (CIPHERTEXT_BYTES as u64 + 8) + 2 * threshold * SCALAR + SIGNATURE,
            clear: list(&["commitments to two polynomials", "signature"]),
            sealed: vec![format!(
                "{degree} pairs of shares of this round's secrets, each for one neighbour alone"
            )],
        },
        Leaving {
            step: "collect",
            bytes: vector + 8 + 8 + SCALAR + SIGNATURE,
            clear: list(&[
                "length and digest of the masked vector",
                "neighbours whose shares were bad",
                "signature",
            ]),
            sealed: vec![format!(
                "the noised update: {} coordinates of {} bits, under the masks of this client and its neighbours",
                params.dimension, params.bits
            )],
        },
        Leaving {
            step: "confirm",
            bytes: 8 + SIGNATURE,
            clear: list(&["signature over who shared and who survived"]),
            sealed: Vec::new(),
        },
        Leaving {
            step: "unmask",
            bytes: degree * (SCALAR + 9) + SIGNATURE,
            clear: list(&[
                "one share per neighbour: of its self-mask if it survived, of its mask key if it dropped",
                "signature",
            ]),
            sealed: Vec::new(),
        },
    ]
}
