//! What becomes of a client in a round, drawn before it begins: at which step it disappears, and how long its messages take.
//! Must never depend on what the client or the coordinator does.

use rand::{Rng, RngExt};

use crate::scenario::Dropouts;

/// A message takes at least this long on its way, in milliseconds of virtual time.
const SHORTEST: u64 = 50;
/// And at most this long; well within the plan's deadlines.
const LONGEST: u64 = 4_000;

/// A step at which a client can disappear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Advertise,
    Share,
    Collect,
    Confirm,
    Unmask,
}

impl Stage {
    pub(super) const ALL: [Self; 5] =
        [Self::Advertise, Self::Share, Self::Collect, Self::Confirm, Self::Unmask];

    /// The name that the coordinator's phase has.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Advertise => "advertise",
            Self::Share => "share",
            Self::Collect => "collect",
            Self::Confirm => "confirm",
            Self::Unmask => "unmask",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// What becomes of one client.
#[derive(Debug, Clone)]
pub(super) struct Behaviour {
    drops_at: Option<Stage>,
    /// Milliseconds that its answer takes, by step.
    delays: [u64; 5],
}

impl Behaviour {
    pub(super) fn draw<R: Rng>(dropouts: &Dropouts, rng: &mut R) -> Self {
        let chances =
            [dropouts.advertise, dropouts.share, dropouts.collect, dropouts.confirm, dropouts.unmask];
        // Every number is drawn whatever the ones before say, so that changing one probability changes nothing else.
        let draws: [f64; 5] = std::array::from_fn(|_| rng.random());
        let delays = std::array::from_fn(|_| rng.random_range(SHORTEST..=LONGEST));
        let gone = draws.iter().zip(chances).position(|(draw, chance)| *draw < chance);
        Self { drops_at: gone.map(|step| Stage::ALL[step]), delays }
    }

    /// The step that it does not answer any more.
    pub(super) fn drops_at(&self) -> Option<Stage> {
        self.drops_at
    }

    /// Whether it is still there at a step.
    pub(super) fn answers(&self, stage: Stage) -> bool {
        self.drops_at.is_none_or(|gone| stage < gone)
    }

    /// Whether it announces itself at all.
    pub(super) fn comes(&self) -> bool {
        self.answers(Stage::Advertise)
    }

    /// Whether its vector arrives.
    pub(super) fn uploads(&self) -> bool {
        self.answers(Stage::Collect)
    }

    /// Milliseconds that its answer takes.
    pub(super) fn delay(&self, stage: Stage) -> u64 {
        self.delays[stage as usize]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn clients_disappear_as_often_as_asked() {
        let dropouts = Dropouts { advertise: 0.1, share: 0.2, collect: 0.0, confirm: 0.5, unmask: 1.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<Behaviour> = (0..20_000).map(|_| Behaviour::draw(&dropouts, &mut rng)).collect();
        let share = |stage| all.iter().filter(|b| b.drops_at() == stage).count() as f64 / all.len() as f64;
        let expected = [0.1, 0.9 * 0.2, 0.0, 0.72 * 0.5, 0.36];
        for (stage, expected) in Stage::ALL.into_iter().zip(expected) {
            assert!((share(Some(stage)) - expected).abs() < 0.015, "{stage:?}: {}", share(Some(stage)));
            assert_eq!(Stage::of(stage.name()), Some(stage));
        }
        assert_eq!(share(None), 0.0);
        for behaviour in &all {
            assert!(Stage::ALL.iter().all(|&s| (SHORTEST..=LONGEST).contains(&behaviour.delay(s))));
            let gone = behaviour.drops_at().expect("everybody goes");
            assert!(Stage::ALL.iter().all(|&stage| behaviour.answers(stage) == (stage < gone)));
        }
        assert_eq!(Stage::of("committed"), None);
    }
}
