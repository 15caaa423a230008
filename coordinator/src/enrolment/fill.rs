//! Records of clients that are made up, to measure a coordinator with a large fleet. Must never be used on a store that serves
//! anybody: nobody has the keys.

use rand_core::CryptoRng;
use tacit_aggregation::identity::ClientId;

use super::tables::{Client, Clients, Decision, Decisions};
use crate::store::{Batch, Epoch, Store, StoreError};

/// Clients whose records are written at once.
const AT_ONCE: u64 = 10_000;
/// Bytes that a certificate of ours and one for connections take, about.
const CERTIFICATE_BYTES: usize = 160;
const TRANSPORT_CERTIFICATE_BYTES: usize = 380;

/// Writes what enrolment keeps of so many clients, as long as real records are. `written` hears how many there are so far.
///
/// # Errors
/// [`StoreError`].
pub fn fill<R: CryptoRng>(
    store: &dyn Store,
    epoch: Epoch,
    clients: u64,
    now: u64,
    rng: &mut R,
    mut written: impl FnMut(u64),
) -> Result<(), StoreError> {
    let mut done = 0;
    while done < clients {
        let mut batch = Batch::new();
        let end = clients.min(done + AT_ONCE);
        for _ in done..end {
            let client = ClientId::random(rng);
            let [mut ticket, mut identity_key, mut transport_key] = [[0; 32]; 3];
            rng.fill_bytes(&mut ticket);
            rng.fill_bytes(&mut identity_key);
            rng.fill_bytes(&mut transport_key);
            let mut certificate = vec![0; CERTIFICATE_BYTES];
            let mut transport_certificate = vec![0; TRANSPORT_CERTIFICATE_BYTES];
            rng.fill_bytes(&mut certificate);
            rng.fill_bytes(&mut transport_certificate);
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let row = Client { ticket, version, note: String::new(), enrolled_at: now, not_after: now };
            let decision = Decision::Issued {
                client,
                identity_key,
                transport_key,
                not_after: now,
                certificate,
                transport_certificate,
            };
            batch.put::<Clients>(&client, &row).put::<Decisions>(&ticket, &decision);
        }
        batch.commit(store, epoch)?;
        done = end;
        written(done);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Records};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn there_are_as_many_as_were_asked_for() {
        let store = MemoryStore::new();
        let epoch = store.lease().unwrap();
        let mut heard = Vec::new();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        fill(&store, epoch, 10_003, 7, &mut rng, |count| heard.push(count)).unwrap();
        assert_eq!(heard, [10_000, 10_003]);
        let rows = Records(&store).scan::<Clients>(&(), None, 20_000).unwrap();
        assert_eq!(rows.len(), 10_003);
        let (client, row) = &rows[77];
        let decision = Records(&store).get::<Decisions>(&row.ticket).unwrap();
        assert!(matches!(decision, Some(Decision::Issued { client: found, .. }) if found == *client));
    }
}
