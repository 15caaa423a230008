//! Uploads that stall, drip, or come twice at once. Must never wait longer for a slow client than the settings say.

use super::machine::{Machine, vector_file};
use super::premises::{Premises, Upload};
use super::world::{CLIENTS, World, name, settings};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tacit_aggregation::Step;
use tacit_aggregation::messages::{MaskedChunk, MaskedHeader};
use tacit_coordinator::serve::{Coordinator, ServeError, system_clock};
use tacit_coordinator::settings::Uploads;
use tacit_proto::fleet::UploadPart;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Within this everything has happened that is to happen soon.
const SOON: Duration = Duration::from_secs(20);

/// A coordinator that serves from this process, with a round in which everybody is about to upload.
struct Scene {
    premises: Premises,
    world: World,
    address: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Scene {
    fn new(seed: u64, uploads: Uploads) -> Self {
        let (mut premises, mut world) = Premises::new(seed, settings());
        world.stop();
        premises.settings.uploads = uploads;
        let start = async { Coordinator::start(&premises.data, &premises.settings) };
        let coordinator = premises.runtime.block_on(start).unwrap();
        let address = coordinator.address().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = premises.runtime.spawn(coordinator.serve(async {
            let _ = stopped.await;
        }));
        let mut scene = Self { premises, world, address, stop, serving };
        for machine in &mut scene.world.machines {
            machine.leaves = Some(Step::Collect);
        }
        let shared = |machine: &Machine| machine.has_answered(Step::Share);
        scene.until(|scene| {
            (0..CLIENTS).for_each(|place| scene.act(place));
            scene.world.machines.iter().all(shared)
        });
        scene.world.machines.iter_mut().for_each(|machine| machine.leaves = None);
        scene
    }

    fn act(&mut self, place: usize) {
        let wire = self.premises.wire(place, &self.address, "0.2.0");
        // Silence is what a refusal for now looks like from here.
        let _ = self.world.machines[place].act(&wire, system_clock());
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < SOON, "it takes too long");
        }
    }

    /// Announces a machine's vector, and sends nothing of it. The header, and the vector.
    fn announce(&mut self, place: usize) -> (MaskedHeader, MaskedChunk) {
        self.until(|scene| {
            scene.act(place);
            scene.world.machines[place].uploads().is_some()
        });
        let machine = &self.world.machines[place];
        (machine.uploads().expect("just seen").clone(), machine.vector())
    }

    /// A stream that sends the first bytes of a vector, which the coordinator has, and then nothing.
    fn stalled(&mut self, place: usize) -> (mpsc::Sender<UploadPart>, Upload, MaskedHeader) {
        const SENT: usize = 7;
        let (header, vector) = self.announce(place);
        let (sender, stream) = self.premises.stream(place, &self.address);
        let chunk = MaskedChunk { offset: 0, bytes: vector.bytes.slice(..SENT) };
        sender.blocking_send(UploadPart { round: name(1), chunk }).unwrap();
        let part = vector_file(&self.world.site.vectors(), &name(1), &header, "part");
        self.until(|_| std::fs::metadata(&part).is_ok_and(|file| file.len() == SENT as u64));
        (sender, stream, header)
    }

    fn upload(&mut self, place: usize) {
        self.until(|scene| {
            scene.act(place);
            scene.world.machines[place].seen.get(&1).is_some_and(|seen| seen.acknowledged)
        });
    }

    fn refusal(&self, stream: Upload) -> Status {
        let ended = self.premises.runtime.block_on(async { tokio::time::timeout(SOON, stream).await });
        ended.expect("it ends").unwrap().expect_err("it is cut")
    }

    /// The round goes on to its end, and everything of it holds.
    fn ends_well(mut self) {
        self.until(|scene| {
            let left = |place: &usize| scene.world.machines[*place].has_left(1);
            let staying: Vec<usize> = (0..CLIENTS).filter(|place| !left(place)).collect();
            staying.iter().for_each(|place| scene.act(*place));
            staying.is_empty()
        });
        assert!(self.world.machines.iter().all(|machine| machine.seen[&1].acknowledged));
        self.stop.send(()).unwrap();
        self.premises.runtime.block_on(self.serving).unwrap().unwrap();
        self.world.site.clock.store(system_clock(), Ordering::SeqCst);
        self.world.start();
        let end = self.world.check(1);
        assert!(end.committed && end.participants.len() == CLIENTS, "{end:?}");
    }
}

#[test]
fn an_upload_that_stalls_gives_its_place_to_others() {
    let mut scene = Scene::new(80, Uploads { places: 1, patience: 500, slowest: 1 });
    let (sender, stream, _) = scene.stalled(0);
    scene.upload(1);
    let refused = scene.refusal(stream);
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    drop(sender);
    scene.ends_well();
}

#[test]
fn an_upload_that_drips_gives_its_place_to_others() {
    let mut scene = Scene::new(81, Uploads { places: 1, patience: 500, slowest: 100 });
    let (header, vector) = scene.announce(0);
    let (sender, stream) = scene.premises.stream(0, &scene.address);
    // Each byte is there in good time, and all of them never would be.
    let drip = scene.premises.runtime.spawn(async move {
        for (offset, byte) in vector.bytes.into_iter().enumerate() {
            let chunk = MaskedChunk { offset: offset as u64, bytes: vec![byte].into() };
            if sender.send(UploadPart { round: name(1), chunk }).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let part = vector_file(&scene.world.site.vectors(), &name(1), &header, "part");
    scene.until(|_| part.exists());
    scene.upload(1);
    let refused = scene.refusal(stream);
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    let stored = std::fs::metadata(&part).unwrap().len();
    assert!(stored > 1 && stored < header.length, "{stored} of {}", header.length);
    scene.premises.runtime.block_on(drip).unwrap();
    scene.ends_well();
}

#[test]
fn an_upload_that_stalls_does_not_stand_in_its_own_clients_way() {
    let mut scene = Scene::new(82, Uploads { places: 1, patience: 60_000, slowest: 1 });
    let (sender, stream, _) = scene.stalled(0);
    // A third stream takes over from the second as that does from the first.
    let (second_sender, second) = scene.premises.stream(0, &scene.address);
    let refused = scene.refusal(stream);
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    scene.upload(0);
    let refused = scene.refusal(second);
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    drop((sender, second_sender));
    scene.upload(1);
    scene.ends_well();
}
