//! Messages that change on the way, and records that change on a disk. Must never harm what an honest machine could not notice,
//! unless it counts it as such.

use super::{Sent, World};
use crate::model::Violation;
use crate::model::client::{Disk, Reaction};
use crate::model::messages::{ToClient, ToServer};
use crate::model::operations::{Dice, Fault};
use tacit_aggregation::Step;
use tacit_aggregation::journal::Key;
use tacit_aggregation::params::COMPLETE_UP_TO;

impl World {
    pub(super) fn corrupt_to_server(&mut self, pick: u64) -> Result<(), Violation> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let mut dice = Dice::new(pick);
        // More often one of the open step than an old one.
        let open = self.server.phase().step();
        let current: Vec<&Sent> = self.sent.iter().filter(|sent| Some(sent.message.step()) == open).collect();
        let original = if current.is_empty() || dice.one_in(4) {
            &self.sent[dice.below(self.sent.len())]
        } else {
            current[dice.below(current.len())]
        };
        let mut message = original.message.clone();
        message.corrupt(&mut dice, &self.ids());
        if message == original.message {
            return Err("nothing was corrupted".to_owned());
        }
        // Of a vector that was taken before only the announcement is compared: nothing else is kept of a repeat.
        let known = matches!((&message, &original.message), (ToServer::Vector(new), ToServer::Vector(old))
            if new.header == old.header);
        let (step, records) = (message.step(), self.server.disk.clone());
        let vectors = self.server.vectors.clone();
        let verdict = self.server.take(&message, false, self.now, Fault::None)?;
        if self.server.disk != records || self.server.vectors != vectors {
            return Err(format!("an altered message of {step} is stored"));
        }
        match verdict {
            Some(Ok(_)) if !known => Err(format!("an altered message of {step} is accepted")),
            _ => {
                self.coverage.count("altered, refused by the server");
                Ok(())
            }
        }
    }

    pub(super) fn corrupt_to_client(&mut self, index: usize, pick: u64) -> Result<(), Violation> {
        let mut dice = Dice::new(pick);
        let id = self.clients[index].id();
        let old: Vec<&ToClient> =
            self.heard.iter().filter(|(client, _)| *client == index).map(|(_, event)| event).collect();
        let old = if old.is_empty() { None } else { Some(old[dice.below(old.len())].clone()) };
        let due = self.server.message_for(id)?;
        let choice = if dice.one_in(2) { due.or(old) } else { old };
        let (Some(mut event), Some(session)) = (choice, &self.clients[index].session) else { return Ok(()) };
        let step = match &event {
            ToClient::Cohort(..) => Step::Share,
            ToClient::Deliveries(_) => Step::Collect,
            ToClient::Maps(_) => Step::Confirm,
            ToClient::Request(_) => Step::Unmask,
        };
        let unanswered = session.due() == Some(step);
        // In a sparse graph a client is not shown everybody's advert.
        let complete = self.clients.len() <= COMPLETE_UP_TO as usize;
        let detectable = event.corrupt(&mut dice) && complete;
        match self.clients[index].take(&event, self.now, Fault::None)? {
            Reaction::Answered(_) if unanswered && detectable => {
                Err(format!("client {id} answers an altered message of {step}"))
            }
            Reaction::Answered(message) => {
                // It may be a lie that the client cannot tell; the server can.
                self.coverage.count("altered, answered by a client");
                self.sent.push(Sent { message, malformed: false });
                Ok(())
            }
            _ => {
                self.coverage.count("altered, refused by a client");
                Ok(())
            }
        }
    }

    pub(super) fn damage_client(&mut self, index: usize, pick: u64) -> Result<(), Violation> {
        let mut dice = Dice::new(pick);
        let other = &self.clients[dice.below(self.clients.len())];
        let foreign: Vec<Vec<u8>> = if other.id() == self.clients[index].id() {
            Vec::new()
        } else {
            other.disk.values().cloned().collect()
        };
        let machine = &mut self.clients[index];
        let Some(damaged) = damage(&machine.disk, &foreign, &mut dice) else { return Ok(()) };
        if machine.restore_from(&damaged).is_ok() {
            return Err(format!("client {} comes back from damaged records", machine.id()));
        }
        self.coverage.count("damaged records refused");
        machine.session = None;
        Ok(())
    }

    pub(super) fn damage_server(&mut self, pick: u64) -> Result<(), Violation> {
        let mut dice = Dice::new(pick);
        let foreign: Vec<Vec<u8>> =
            self.clients[dice.below(self.clients.len())].disk.values().cloned().collect();
        let open = self.server.phase().step();
        // The loss of the very last record cannot be told from a crash before it was written.
        let last = self.server.disk.last_key_value().map(|(key, _)| *key);
        let closed = |key: &[u8; Key::BYTES]| open.is_none_or(|open| key[0] < open as u8);
        let lost: Vec<[u8; Key::BYTES]> =
            self.server.disk.keys().copied().filter(|key| closed(key) && Some(*key) != last).collect();
        let damaged = if !lost.is_empty() && dice.one_in(3) {
            // A record of a closed step is lost.
            let mut disk = self.server.disk.clone();
            disk.remove(&lost[dice.below(lost.len())]);
            Some(disk)
        } else {
            damage(&self.server.disk, &foreign, &mut dice)
        };
        let Some(damaged) = damaged else { return Ok(()) };
        if self.server.restore_from(&damaged).is_ok() {
            return Err("the server comes back from damaged records".to_owned());
        }
        self.coverage.count("damaged records refused");
        self.server.session = None;
        Ok(())
    }
}

/// A disk on which one record is cut off, has a flipped bit, or was taken from another machine.
fn damage(disk: &Disk, foreign: &[Vec<u8>], dice: &mut Dice) -> Option<Disk> {
    let keys: Vec<_> = disk.keys().copied().collect();
    let key = keys.get(dice.below(keys.len().max(1)))?;
    let mut damaged = disk.clone();
    let record = damaged.get_mut(key)?;
    match dice.below(3) {
        0 => record.truncate(dice.below(record.len())),
        1 if !foreign.is_empty() => *record = foreign[dice.below(foreign.len())].clone(),
        _ => {
            let place = dice.below(record.len());
            record[place] ^= 1 << dice.below(8);
        }
    }
    Some(damaged)
}
