//! The steps of the round that is measured. Must never do more than carry messages between clients and server.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rayon::ThreadPoolBuilder;
use tacit_aggregation::client::{Advertised, ClientError, ClientSetup, Confirmed, Masked, Shared};
use tacit_aggregation::identity::{ClientId, IdentityKey, IdentityRoot};
use tacit_aggregation::mask::{Mask, MaskKey, Sign, apply};
use tacit_aggregation::messages::chunks;
use tacit_aggregation::params::{Floors, RoundParams, RoundTerms};
use tacit_aggregation::ring_vector::{RingError, RingVector};
use tacit_aggregation::server::{
    Advertise, Collect, Confirm, Share, Summation, Unmask, Upload, VectorSummary,
};
use tacit_privacy::BasisPoints;
use tacit_proto::{ClientMessage, CommitmentCache, ServerMessage};

use super::exchange::{Answer, Costs, Exchange, Player};
use super::spool::Spool;
use super::{BenchError, DropAfter, PARENT, SecaggReport, Settings};
use crate::meter::{Stopwatch, peak_memory};
use crate::progress::Progress;
use crate::random::{Purpose, generator};

/// The time at which everything happens, in Unix seconds.
const NOW: u64 = 1_700_000_000;

/// Most clients whose time is taken.
const MEASURED: usize = 16;

/// Names of the phases.
const ADVERTISE: &str = "advertise";
const SHARE: &str = "share";
const COLLECT: &str = "collect";
const MASK: &str = "mask";
const CONFIRM: &str = "confirm";
const UNMASK: &str = "unmask";

pub(super) fn run(
    settings: &Settings,
    terms: RoundTerms,
    progress: &dyn Progress,
) -> Result<SecaggReport, BenchError> {
    let terms = Arc::new(terms);
    let (root, players) = admit(settings, &terms);
    let count =
        |which: fn(&Player<ClientSetup>) -> bool| players.iter().filter(|player| which(player)).count();
    let (staying, measured) = (count(|player| player.stays), count(|player| player.measured));
    let mut exchange = Exchange {
        progress,
        cache: CommitmentCache::new(players.len()),
        alone: ThreadPoolBuilder::new().num_threads(1).build()?,
        costs: Costs::default(),
        staying: staying as u64,
        measured: measured as u64,
    };
    let goes_on = |step: DropAfter, stays: bool| stays || settings.drop_after != step;

    let mut server = Advertise::new(Arc::clone(&terms), root.public_key())?;
    let players = advertise(&mut exchange, &mut server, players, settings.seed)?;
    let mut server = exchange.serve(ADVERTISE, || server.close())?;
    let params = server.list().params;
    let mut players = share(&mut exchange, &mut server, players)?;
    let mut server = exchange.serve(SHARE, || server.close())?;

    players.retain(|player| goes_on(DropAfter::Share, player.stays));
    let Collected { mut players, spool, plain } =
        collect(&mut exchange, &mut server, players, &params, settings.seed)?;
    let (mut server, mut summation) = exchange.serve(COLLECT, || server.close())?;
    let survivors = server.maps().survived.count();
    sum_up(&mut exchange, &mut summation, spool, survivors)?;

    players.retain(|player| goes_on(DropAfter::Collect, player.stays));
    let players = confirm(&mut exchange, &mut server, players)?;
    let mut server = exchange.serve(CONFIRM, || server.close())?;
    unmask(&mut exchange, &mut server, players)?;
    progress.begin("unmasking the sum", 1);
    let sum = exchange.serve(UNMASK, || server.close(summation.finish()?))?;
    progress.advance();

    let [up, down] = exchange.bytes();
    Ok(SecaggReport {
        clients: params.n,
        dimension: params.dimension,
        bits: params.bits,
        threat: params.threat,
        corrupt: BasisPoints::new(params.corrupt_bp).unwrap_or_default(),
        degree: params.degree,
        threshold: params.threshold,
        dropped: params.n - staying as u32,
        drop_after: settings.drop_after,
        survivors,
        exact: plain == Some(sum.vector),
        clients_measured: measured as u32,
        client_seconds: exchange.client_seconds(),
        server_seconds: exchange.costs.server,
        client_bytes_up: up.values().sum(),
        client_bytes_down: down.values().sum(),
        client_bytes_up_by_phase: up,
        client_bytes_down_by_phase: down,
        peak_rss_bytes: peak_memory(),
    })
}

/// The organisation and its clients: who will drop out, and whose time is taken.
fn admit(settings: &Settings, terms: &Arc<RoundTerms>) -> (IdentityRoot, Vec<Player<ClientSetup>>) {
    let mut rng = generator(settings.seed, Purpose::Identities, 0, 0);
    let root = IdentityRoot::generate(&mut rng);
    let mut ids = BTreeSet::new();
    while ids.len() < settings.clients as usize {
        ids.insert(ClientId::random(&mut rng));
    }
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.shuffle(&mut generator(settings.seed, Purpose::Behaviour, 0, 0));
    let (leaving, staying) = order.split_at(settings.dropout.of(settings.clients) as usize);
    let leaving: BTreeSet<usize> = leaving.iter().copied().collect();
    let measured: BTreeSet<usize> = staying.iter().copied().take(MEASURED).collect();
    let players = ids.into_iter().enumerate().map(|(index, id)| {
        let identity = Arc::new(IdentityKey::generate(&mut rng));
        let setup = ClientSetup {
            membership: None,
            terms: Arc::clone(terms),
            floors: Floors { n_min: 2, corrupt_bp: terms.corrupt_bp, threat: terms.threat, roster: false },
            root: root.public_key(),
            certificate: root.certify(id, identity.public_key(), NOW),
            identity,
            parent: PARENT,
        };
        Player { id, stays: !leaving.contains(&index), measured: measured.contains(&index), state: setup }
    });
    let players = players.collect();
    (root, players)
}

/// The error for a client that refused.
fn left(client: ClientId) -> impl Fn(ClientError) -> BenchError {
    move |source| BenchError::Client { client, source }
}

fn advertise(
    exchange: &mut Exchange<'_>,
    server: &mut Advertise,
    players: Vec<Player<ClientSetup>>,
    seed: u64,
) -> Result<Vec<Player<Advertised>>, BenchError> {
    exchange.phase(
        ADVERTISE,
        "announcing keys",
        server,
        players,
        |_, _| Ok(None),
        |player, setup, _| {
            let mut rng = generator(seed, Purpose::Protocol, player.id.0, 0);
            let state = Advertised::new(setup, NOW, &mut rng).map_err(left(player.id))?;
            let messages = vec![ClientMessage::Advert(Arc::clone(state.advert()))];
            Ok(Answer { state, messages, aside: 0.0 })
        },
        |server, _, message| match message {
            ClientMessage::Advert(advert) => Ok(server.accept(advert, NOW).map(drop)?),
            other => Err(BenchError::Step { step: other.step() }),
        },
    )
}

fn share(
    exchange: &mut Exchange<'_>,
    server: &mut Share,
    players: Vec<Player<Advertised>>,
) -> Result<Vec<Player<Shared>>, BenchError> {
    exchange.phase(
        SHARE,
        "sharing secrets",
        server,
        players,
        |server, id| {
            let list = Arc::clone(server.list());
            Ok(server.adverts_for(id).map(|adverts| ServerMessage::Cohort { list, adverts }))
        },
        |player, state, message| {
            let Some(ServerMessage::Cohort { list, adverts }) = message else {
                return Err(BenchError::Opening { step: SHARE });
            };
            let (state, message) = state.share(&list, &adverts, NOW).map_err(left(player.id))?;
            Ok(Answer { state, messages: vec![ClientMessage::Share(message)], aside: 0.0 })
        },
        |server, _, message| match message {
            ClientMessage::Share(message) => Ok(server.accept(message).map(drop)?),
            other => Err(BenchError::Step { step: other.step() }),
        },
    )
}

/// What the step Collect leaves.
struct Collected {
    players: Vec<Player<Masked>>,
    spool: Spool,
    /// The plain sum of the vectors that were uploaded; none when it could not be built.
    plain: Option<RingVector>,
}

fn collect(
    exchange: &mut Exchange<'_>,
    server: &mut Collect,
    players: Vec<Player<Shared>>,
    params: &RoundParams,
    seed: u64,
) -> Result<Collected, BenchError> {
    let (bits, dimension) = (params.bits, params.dimension as usize);
    let mut spool = Spool::new(params.packed_bytes(), params.n)?;
    let plain = Mutex::new(Some(RingVector::zeros(bits, dimension)?));
    let masking = Mutex::new(0.0);
    let mut upload: Option<Upload> = None;
    let players = exchange.phase(
        COLLECT,
        "checking shares, masking, uploading",
        server,
        players,
        |server, id| Ok(Some(ServerMessage::Shares(server.deliveries(id)?))),
        |player, state, message| {
            let Some(ServerMessage::Shares(deliveries)) = message else {
                return Err(BenchError::Opening { step: COLLECT });
            };
            let watch = Stopwatch::start();
            let vector = vector(bits, dimension, seed, player.id);
            let mut sum = plain.lock().unwrap_or_else(PoisonError::into_inner);
            let added =
                vector.as_ref().is_ok_and(|vector| sum.as_mut().is_some_and(|sum| sum.add(vector).is_ok()));
            if !added {
                *sum = None;
            }
            drop(sum);
            let mut aside = watch.seconds();
            let (state, sent) = state.mask(&deliveries, vector?).map_err(left(player.id))?;
            let mut messages = vec![ClientMessage::MaskedHeader(sent.header)];
            messages.extend(chunks(&sent.packed, 0).map(ClientMessage::MaskedChunk));
            if player.measured {
                let watch = Stopwatch::start();
                let seconds = mask_again(bits, dimension, deliveries.len() + 1)?;
                *masking.lock().unwrap_or_else(PoisonError::into_inner) += seconds;
                aside += watch.seconds();
            }
            Ok(Answer { state, messages, aside })
        },
        |server, id, message| {
            match message {
                ClientMessage::MaskedHeader(header) => upload = Some(server.begin(&header)?),
                ClientMessage::MaskedChunk(chunk) => {
                    if let Some(upload) = &mut upload {
                        upload.append(&chunk)?;
                    }
                }
                other => return Err(BenchError::Step { step: other.step() }),
            }
            if let Some(whole) = upload.take_if(|upload| upload.resume_at() == upload.header().length) {
                let (header, packed) = whole.finish()?;
                server.accept(&header, &VectorSummary::of(&packed))?;
                spool.keep(id, &packed)?;
            }
            Ok(())
        },
    )?;
    let masking = masking.into_inner().unwrap_or_else(PoisonError::into_inner);
    exchange.costs.client.insert(MASK, masking);
    Ok(Collected { players, spool, plain: plain.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

/// A client's vector: uniform, so that a mask too many or too few cannot hide.
fn vector(bits: u8, dimension: usize, seed: u64, id: ClientId) -> Result<RingVector, RingError> {
    let mut rng = generator(seed, Purpose::Training, id.0, 0);
    let values: Vec<u32> = (0..dimension).map(|_| rng.next_u32() >> (32 - u32::from(bits))).collect();
    RingVector::new(bits, &values)
}

/// Seconds of the same function on as many masks of the same length as the client has just applied.
fn mask_again(bits: u8, dimension: usize, count: usize) -> Result<f64, RingError> {
    let masks: Vec<Mask> = (0..count as u64)
        .map(|index| {
            let mut key = [7; 32];
            key[..8].copy_from_slice(&index.to_le_bytes());
            Mask {
                key: MaskKey::from_bytes(key),
                sign: if index % 2 == 0 { Sign::Add } else { Sign::Subtract },
            }
        })
        .collect();
    let mut vector = RingVector::zeros(bits, dimension)?;
    let watch = Stopwatch::start();
    apply(&mut vector, &masks);
    Ok(watch.seconds())
}

/// Adds the survivors' vectors, read back one by one.
fn sum_up(
    exchange: &mut Exchange<'_>,
    summation: &mut Summation,
    spool: Spool,
    survivors: u32,
) -> Result<(), BenchError> {
    exchange.progress.begin("adding masked vectors", survivors as usize);
    let survivors: BTreeSet<ClientId> = summation.missing().collect();
    spool.replay(|client, packed| {
        if survivors.contains(&client) {
            exchange.serve(COLLECT, || summation.add(client, packed))?;
            exchange.progress.advance();
        }
        Ok(())
    })
}

fn confirm(
    exchange: &mut Exchange<'_>,
    server: &mut Confirm,
    players: Vec<Player<Masked>>,
) -> Result<Vec<Player<Confirmed>>, BenchError> {
    exchange.phase(
        CONFIRM,
        "confirming survivors",
        server,
        players,
        |server, _| Ok(Some(ServerMessage::Maps(server.maps().clone()))),
        |player, state, message| {
            let Some(ServerMessage::Maps(maps)) = message else {
                return Err(BenchError::Opening { step: CONFIRM });
            };
            let (state, confirm) = state.confirm(&maps).map_err(left(player.id))?;
            Ok(Answer { state, messages: vec![ClientMessage::Confirm(confirm)], aside: 0.0 })
        },
        |server, _, message| match message {
            ClientMessage::Confirm(confirm) => Ok(server.accept(&confirm).map(drop)?),
            other => Err(BenchError::Step { step: other.step() }),
        },
    )
}

fn unmask(
    exchange: &mut Exchange<'_>,
    server: &mut Unmask,
    mut players: Vec<Player<Confirmed>>,
) -> Result<(), BenchError> {
    let asked: BTreeSet<ClientId> = server.answering().collect();
    players.retain(|player| asked.contains(&player.id));
    exchange.phase(
        UNMASK,
        "handing over shares",
        server,
        players,
        |server, id| Ok(Some(ServerMessage::Unmask(server.request_for(id)?))),
        |player, state, message| {
            let Some(ServerMessage::Unmask(request)) = message else {
                return Err(BenchError::Opening { step: UNMASK });
            };
            let (state, shares) = state.unmask(&request).map_err(left(player.id))?;
            Ok(Answer { state, messages: vec![ClientMessage::Unmask(shares)], aside: 0.0 })
        },
        |server, _, message| match message {
            ClientMessage::Unmask(shares) => Ok(server.accept(&shares).map(drop)?),
            other => Err(BenchError::Step { step: other.step() }),
        },
    )?;
    Ok(())
}
