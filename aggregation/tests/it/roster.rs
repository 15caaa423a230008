//! Cohorts that are drawn from a signed roster: an honest round, and everything that a server and its colluders could try to
//! get into one, or to keep others out.

use crate::fleet::{Fleet, Leaving, NOW, inputs, neighbours, plain_sum, run, terms};
use std::num::NonZeroU64;
use std::sync::Arc;
use tacit_aggregation::client::{Advertised, ClientError, ClientSetup, RoundSecrets, Session};
use tacit_aggregation::identity::{
    ClientId, EpochTerms, IdentityRoot, Membership, Rate, Roster, RosterError, SignedRoster,
};
use tacit_aggregation::messages::{Advert, CohortEntry, CohortList};
use tacit_aggregation::params::{BelowFloor, Floors, ParamsError, RosterTerms, RoundTerms, ThreatModel};
use tacit_aggregation::server::{Advertise, Receipt, ServerError};

const HOUR: u64 = 3_600;
/// The period of [`NOW`].
const PERIOD: u64 = 2;
const EPOCH: u64 = 5;

fn epoch() -> EpochTerms {
    EpochTerms {
        number: EPOCH,
        not_before: NOW - PERIOD * HOUR - 1_800,
        not_after: NOW + 3 * HOUR,
        period_seconds: NonZeroU64::new(HOUR).expect("not zero"),
        rate: Rate::new(1, 2).expect("a rate"),
        seed: [8; 32],
    }
}

/// A fleet on a roster, of whom some are drawn now.
struct World {
    fleet: Fleet,
    roster: Roster,
    signed: SignedRoster,
    drawn: Vec<ClientSetup>,
    undrawn: Vec<ClientSetup>,
}

impl World {
    fn new() -> Self {
        let world = Self::of(ThreatModel::SemiMalicious, 24);
        assert!((6..=18).contains(&world.drawn.len()));
        world
    }

    fn of(threat: ThreatModel, clients: u32) -> Self {
        let plain = RoundTerms { corrupt_bp: 0, ..terms(threat, clients, 16, 9) };
        let mut fleet = Fleet::new(clients, plain, 3);
        let roster = Roster::new(fleet.setups.iter().map(|setup| setup.certificate.client).collect());
        let signed = fleet.root.sign_roster(&roster, epoch());
        fleet.terms = Arc::new(with(&fleet.terms, &signed, PERIOD));
        for setup in &mut fleet.setups {
            setup.terms = Arc::clone(&fleet.terms);
            setup.membership = roster.prove(setup.certificate.client);
        }
        let is_drawn = |setup: &ClientSetup| signed.draws(PERIOD, setup.certificate.client);
        let (drawn, undrawn) = fleet.setups.iter().cloned().partition(is_drawn);
        let mut world = Self { fleet, roster, signed, drawn, undrawn };
        assert_eq!(world.drawn.len() + world.undrawn.len(), clients as usize);
        world.fleet.setups.clone_from(&world.drawn);
        world
    }

    fn advertised(&mut self, setup: &ClientSetup) -> Result<Advertised, ClientError> {
        Advertised::new(setup.clone(), NOW, &mut self.fleet.rng)
    }

    /// The advert of a client that has left its honest software behind: it says and signs what it wants.
    fn forged(&mut self, setup: &ClientSetup, membership: Option<Membership>) -> Advert {
        let plain = ClientSetup {
            terms: Arc::new(RoundTerms { roster: None, ..(*setup.terms).clone() }),
            membership: None,
            ..setup.clone()
        };
        let mut advert = (**self.advertised(&plain).expect("no roster is demanded").advert()).clone();
        advert.membership = membership;
        advert.signature = setup.identity.sign(&advert.payload());
        advert
    }

    /// What the first drawn client says when the server puts this advert into its cohort, and what an honest server would say.
    fn refusals(&mut self, advert: Advert) -> (ClientError, ServerError) {
        let honest: Vec<Advertised> =
            self.drawn.clone().iter().map(|setup| self.advertised(setup).expect("drawn")).collect();
        let mut server = self.fleet.server();
        let by_server = server.accept(Arc::new(advert.clone()), NOW).expect_err("a server that checks");
        let mut adverts: Vec<Arc<Advert>> = honest.iter().map(|client| Arc::clone(client.advert())).collect();
        adverts.retain(|other| other.client() != advert.client());
        adverts.push(Arc::new(advert));
        adverts.sort_by_key(|advert| advert.client());
        let entries: Vec<CohortEntry> = adverts
            .iter()
            .map(|advert| CohortEntry { client: advert.client(), advert: advert.digest() })
            .collect();
        let params = self.fleet.terms.params(entries.len() as u32).expect("feasible");
        let liar = entries.len();
        let victim = honest.into_iter().find(|client| adverts.iter().any(|advert| advert == client.advert()));
        let victim = victim.expect("somebody honest");
        adverts.retain(|advert| advert != victim.advert());
        assert_eq!(adverts.len() + 1, liar);
        (victim.share(&CohortList { params, entries }, &adverts, NOW).expect_err("a lie"), by_server)
    }
}

fn with(terms: &RoundTerms, signed: &SignedRoster, period: u64) -> RoundTerms {
    let roster = RosterTerms::new(signed.clone(), period, 1).expect("feasible");
    RoundTerms { roster: Some(roster), ..terms.clone() }
}

/// What a drawn client says at once to a plan that demands this.
fn refused(world: &mut World, roster: RosterTerms) -> ClientError {
    refused_at(world, roster, NOW)
}

fn refused_at(world: &mut World, roster: RosterTerms, now: u64) -> ClientError {
    let terms = Arc::new(RoundTerms { roster: Some(roster), ..(*world.fleet.terms).clone() });
    let setup = ClientSetup { terms, ..world.drawn[0].clone() };
    Advertised::new(setup, now, &mut world.fleet.rng).expect_err("a lie")
}

fn present(world: &World) -> RosterTerms {
    world.fleet.terms.roster.clone().expect("demanded")
}

#[test]
fn a_drawn_cohort_aggregates() {
    let mut world = World::new();
    let fleet = &mut world.fleet;
    let values = inputs(fleet);
    let sum = run(fleet, &values, &Leaving::default()).expect("an honest round");
    assert_eq!(sum.vector, plain_sum(&values, values.keys()));
}

#[test]
fn whoever_is_not_drawn_stays_out_by_itself() {
    let mut world = World::new();
    let setup = world.undrawn[0].clone();
    let client = setup.certificate.client;
    let refused = world.advertised(&setup).expect_err("not drawn");
    let expected = RosterError::NotDrawn { client, period: PERIOD, epoch: EPOCH };
    assert_eq!(refused, ClientError::Roster(expected));
    let unproved = ClientSetup { membership: None, ..world.drawn[0].clone() };
    let client = unproved.certificate.client;
    let refused = world.advertised(&unproved).expect_err("no proof");
    assert_eq!(refused, ClientError::Roster(RosterError::NoProof { client, epoch: EPOCH }));
}

#[test]
fn a_colluder_that_is_not_drawn_is_refused_by_everybody() {
    let mut world = World::new();
    let setup = world.undrawn[0].clone();
    let client = setup.certificate.client;
    let proof = world.roster.prove(client);
    let advert = world.forged(&setup, proof);
    let expected = RosterError::NotDrawn { client, period: PERIOD, epoch: EPOCH };
    let (by_client, by_server) = world.refusals(advert);
    assert_eq!(by_client, ClientError::Roster(expected.clone()));
    assert_eq!(by_server, ServerError::Roster(expected));
}

#[test]
fn a_colluder_that_is_shown_to_few_is_refused_by_those_who_never_see_it() {
    // On a sparse graph a client that trusts the server to follow the protocol is shown its neighbours and nobody else.
    let mut world = World::of(ThreatModel::HonestButCurious, 260);
    let setup = world.undrawn[0].clone();
    let colluder = setup.certificate.client;
    let proof = world.roster.prove(colluder);
    let advert = Arc::new(world.forged(&setup, proof));
    // The server's own terms draw everybody on the same list, so that it closes this cohort as any other.
    let everybody = world.fleet.root.sign_roster(&world.roster, EpochTerms { rate: Rate::ONE, ..epoch() });
    let lax = with(&world.fleet.terms, &everybody, PERIOD);
    assert_eq!(lax.roster.as_ref().map(|roster| roster.corrupt), Some(present(&world).corrupt));
    let mut server = Advertise::new(Arc::new(lax), world.fleet.root.public_key()).expect("feasible");
    let honest = world.fleet.advertise();
    for advert in honest.values().map(|client| client.advert()).chain([&advert]) {
        assert_eq!(server.accept(Arc::clone(advert), NOW), Ok(Receipt::Accepted));
    }
    let server = server.close().expect("feasible");
    let expected = RosterError::NotDrawn { client: colluder, period: PERIOD, epoch: EPOCH };
    let mut unshown = 0;
    for client in honest.into_values() {
        let shown = neighbours(&server, client.advert());
        unshown += usize::from(!shown.contains(&advert));
        let refused = client.share(server.list(), &shown, NOW).expect_err("somebody is not drawn");
        assert_eq!(refused, ClientError::Roster(expected.clone()));
    }
    assert!(unshown > 10, "{unshown}");
}

#[test]
fn proofs_that_are_missing_forged_or_anothers() {
    let mut world = World::new();
    let setup = world.drawn[1].clone();
    let client = setup.certificate.client;
    let good = world.roster.prove(client).expect("listed");
    let mut bent = good.clone();
    bent.path[0][0] ^= 1;
    let moved = Membership { index: good.index ^ 1, ..good.clone() };
    let longer = Membership { path: [good.path.clone(), vec![[0; 32]]].concat(), ..good };
    let others = world.roster.prove(world.drawn[2].certificate.client).expect("listed");
    let unproved = RosterError::Membership { client, epoch: EPOCH };
    for (proof, expected) in [
        (None, RosterError::NoProof { client, epoch: EPOCH }),
        (Some(bent), unproved.clone()),
        (Some(moved), unproved.clone()),
        (Some(longer), unproved.clone()),
        (Some(others), unproved),
    ] {
        let advert = world.forged(&setup, proof);
        let (by_client, by_server) = world.refusals(advert);
        assert_eq!(by_client, ClientError::Roster(expected.clone()));
        assert_eq!(by_server, ServerError::Roster(expected));
    }
}

#[test]
fn a_client_that_the_roster_does_not_list() {
    let mut world = World::new();
    // Certified after the roster was signed, with a number that the lottery would pick.
    let mut setup = world.drawn[1].clone();
    let client = (0..).map(ClientId).find(|client| world.signed.draws(PERIOD, *client)).expect("one in two");
    setup.certificate = world.fleet.root.certify(client, setup.identity.public_key(), NOW + 1);
    world.drawn.remove(1);
    let borrowed = world.roster.prove(world.drawn[0].certificate.client);
    let advert = world.forged(&setup, borrowed);
    let (by_client, by_server) = world.refusals(advert);
    let expected = RosterError::Membership { client, epoch: EPOCH };
    assert_eq!(by_client, ClientError::Roster(expected.clone()));
    assert_eq!(by_server, ServerError::Roster(expected));
}

#[test]
fn the_server_cannot_choose_the_period() {
    let mut world = World::new();
    let present = present(&world);
    for period in [0, 1, 3, 4] {
        let terms = RosterTerms::new(world.signed.clone(), period, 1).expect("feasible");
        let expected = RosterError::Period { epoch: EPOCH, period, present: PERIOD };
        assert_eq!(refused(&mut world, terms), ClientError::Roster(expected));
    }
    let periods = world.signed.epoch.periods();
    let beyond = RosterTerms { period: periods, ..present.clone() };
    let expected = ClientError::Parameters(ParamsError::Period { period: periods, periods });
    assert_eq!(refused(&mut world, beyond), expected);
    // A period is as long as the root says, so another length cannot make it another period's turn.
    let mut stretched = present;
    stretched.roster.epoch.period_seconds = NonZeroU64::new(HOUR * 2).expect("not zero");
    stretched.corrupt = RosterTerms::new(stretched.roster.clone(), 0, 1).expect("feasible").corrupt;
    stretched.period = 1;
    assert_eq!(refused(&mut world, stretched), ClientError::Roster(RosterError::Signature { epoch: EPOCH }));
}

#[test]
fn another_roster_epoch_rate_or_seed() {
    let mut world = World::new();
    let present = present(&world);
    let changes: [fn(&mut SignedRoster); 5] = [
        |roster| roster.epoch.number += 1,
        |roster| roster.epoch.seed[0] ^= 1,
        |roster| roster.epoch.rate = Rate::ONE,
        |roster| roster.root[0] ^= 1,
        |roster| roster.size += 1,
    ];
    for change in changes {
        let mut roster = world.signed.clone();
        change(&mut roster);
        let epoch = roster.epoch.number;
        let terms = RosterTerms::new(roster, PERIOD, 1).expect("feasible");
        assert_eq!(refused(&mut world, terms), ClientError::Roster(RosterError::Signature { epoch }));
    }
    // Signed, but by another root.
    let foreign = IdentityRoot::from_bytes(&[9; 32]).sign_roster(&world.roster, epoch());
    let terms = RosterTerms::new(foreign, PERIOD, 1).expect("feasible");
    assert_eq!(refused(&mut world, terms), ClientError::Roster(RosterError::Signature { epoch: EPOCH }));
    // Another epoch's, which the root signed as well: this client's place on it is another one.
    let clients = world.roster.clients()[1..].to_vec();
    let shorter = world.fleet.root.sign_roster(&Roster::new(clients), EpochTerms { number: 6, ..epoch() });
    let listed = world.drawn.iter().position(|setup| shorter.draws(PERIOD, setup.certificate.client));
    world.drawn.swap(0, listed.expect("one in two"));
    let client = world.drawn[0].certificate.client;
    let terms = RosterTerms::new(shorter, PERIOD, 1).expect("feasible");
    let expected = RosterError::Membership { client, epoch: 6 };
    assert_eq!(refused(&mut world, terms), ClientError::Roster(expected));
    // The epoch is over.
    let now = world.signed.epoch.not_after + 1;
    world.drawn[0].certificate =
        world.fleet.root.certify(client, world.drawn[0].identity.public_key(), now + HOUR);
    let refused = refused_at(&mut world, present, now);
    let EpochTerms { not_before, not_after, .. } = epoch();
    assert_eq!(refused, ClientError::Roster(RosterError::Time { epoch: EPOCH, not_before, not_after, now }));
}

#[test]
fn fewer_colluders_than_follow_or_than_the_client_fears() {
    let mut world = World::new();
    let present = present(&world);
    let none = RosterTerms { corrupt: 0, ..present.clone() };
    let expected = ClientError::Parameters(ParamsError::Drawn { offered: 0, expected: 1 });
    assert_eq!(refused(&mut world, none), expected);
    // One in 24 of the roster is less than one in ten.
    world.drawn[0].floors = Floors { corrupt_bp: 1_000, ..Floors::default() };
    match refused(&mut world, present) {
        ClientError::ParameterBelowFloor(BelowFloor { parameter: "roster.colluders", .. }) => {}
        other => panic!("{other}"),
    }
    // Who wants a roster takes part in nothing else.
    let terms = Arc::new(RoundTerms { roster: None, ..(*world.fleet.terms).clone() });
    let floors = Floors { roster: true, ..Floors::default() };
    let setup = ClientSetup { terms, floors, membership: None, ..world.drawn[0].clone() };
    match world.advertised(&setup).expect_err("no roster") {
        ClientError::ParameterBelowFloor(BelowFloor { parameter: "roster", .. }) => {}
        other => panic!("{other}"),
    }
}

#[test]
fn a_proof_where_none_is_demanded() {
    let mut world = World::new();
    let terms = Arc::new(RoundTerms { roster: None, ..(*world.fleet.terms).clone() });
    let setup = ClientSetup { terms, ..world.drawn[0].clone() };
    let client = setup.certificate.client;
    let refused = world.advertised(&setup).expect_err("nobody asked");
    assert_eq!(refused, ClientError::Roster(RosterError::NotDemanded { client }));
}

#[test]
fn both_sides_come_back_to_a_drawn_round() {
    let mut world = World::new();
    let setup = world.drawn[0].clone();
    let mut stored = Vec::new();
    let secrets = RoundSecrets::generate(&mut world.fleet.rng);
    let begun = Session::begin(setup.clone(), secrets, NOW, |record| {
        stored.push(record.bytes().to_vec());
        Ok::<(), ()>(())
    });
    let (_, advert) = begun.expect("drawn");
    // With no proof at hand, or in a later period: what counts is what was stored.
    let later = ClientSetup { membership: None, ..setup };
    let again = Session::restore(later, &stored).expect("its own record");
    assert_eq!(again.advert(), Some(&advert));

    let root = world.fleet.root.public_key();
    let mut server =
        tacit_aggregation::server::Session::open(Arc::clone(&world.fleet.terms), root).expect("fine");
    let mut journal = Vec::new();
    let receipt = server.advert(Arc::clone(&advert), NOW, |record| {
        journal.push(record.bytes().to_vec());
        Ok::<(), ()>(())
    });
    assert_eq!(receipt.expect("drawn"), Receipt::Accepted);
    let restored =
        tacit_aggregation::server::Session::restore(Arc::clone(&world.fleet.terms), root, &journal);
    restored.expect("its own record");
}
