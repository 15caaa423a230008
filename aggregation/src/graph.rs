//! Who shares with whom: a graph that everybody recomputes from the cohort root, so that nobody can choose neighbours.
//! Must never depend on anything but its seed, n and k.
//!
//! k = n-1 gives the complete graph; otherwise a Harary graph (k/2 places to each side) on a pseudorandom permutation, as in
//! Bell et al. (CCS 2020), section 3.1, whose random k-regular graph it replaces by one that clients can check.

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

/// The graph of one cohort, over cohort indices.
#[derive(Clone, Debug)]
pub struct Graph {
    degree: u32,
    /// Client at each place of the ring.
    clients: Vec<u32>,
    /// Place of each client.
    places: Vec<u32>,
}

impl Graph {
    /// The graph over `n` clients of even degree below n-1, or of degree n-1. The permutation orders clients by the
    /// AES-256 encryption of their index (16 bytes, big-endian) under the seed; no two encryptions are equal.
    #[must_use]
    pub fn new(n: u32, degree: u32, seed: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(seed.into());
        let mut keyed: Vec<([u8; 16], u32)> = (0..n)
            .map(|client| {
                let mut block = u128::from(client).to_be_bytes().into();
                cipher.encrypt_block(&mut block);
                (block.into(), client)
            })
            .collect();
        keyed.sort_unstable();
        let clients: Vec<u32> = keyed.into_iter().map(|(_, client)| client).collect();
        let mut places = vec![0; n as usize];
        for (place, &client) in clients.iter().enumerate() {
            places[client as usize] = place as u32;
        }
        Self { degree: degree.min(n.saturating_sub(1)), clients, places }
    }

    /// Neighbours of a client, increasing; empty for an index outside the cohort.
    #[must_use]
    pub fn neighbours(&self, client: u32) -> Vec<u32> {
        let n = self.clients.len() as u32;
        let Some(&place) = self.places.get(client as usize) else {
            return Vec::new();
        };
        if self.degree + 1 == n {
            return (0..n).filter(|&other| other != client).collect();
        }
        let mut neighbours: Vec<u32> = (1..=self.degree / 2)
            .flat_map(|step| [(place + step) % n, (place + n - step) % n])
            .map(|place| self.clients[place as usize])
            .collect();
        neighbours.sort_unstable();
        neighbours
    }

    /// Clients in the order of the ring.
    #[must_use]
    pub fn ring(&self) -> &[u32] {
        &self.clients
    }
}

#[cfg(test)]
mod tests {
    use super::Graph;

    #[test]
    fn every_graph_is_regular_symmetric_and_without_loops() {
        for (n, k) in [(3, 2), (10, 9), (100, 99), (101, 50), (128, 26), (129, 2), (130, 128)] {
            let graph = Graph::new(n, k, &[7; 32]);
            for client in 0..n {
                let neighbours = graph.neighbours(client);
                assert_eq!(neighbours.len() as u32, k, "n {n}, k {k}");
                assert!(neighbours.windows(2).all(|pair| pair[0] < pair[1]));
                for &other in &neighbours {
                    assert_ne!(other, client);
                    assert!(graph.neighbours(other).contains(&client));
                }
            }
            assert!(graph.neighbours(n).is_empty());
        }
    }

    #[test]
    fn the_ring_is_a_permutation_that_the_seed_decides() {
        let graph = Graph::new(500, 40, &[1; 32]);
        let mut sorted = graph.ring().to_vec();
        assert_ne!(sorted, (0..500).collect::<Vec<_>>());
        sorted.sort_unstable();
        assert_eq!(sorted, (0..500).collect::<Vec<_>>());
        assert_eq!(graph.ring(), Graph::new(500, 40, &[1; 32]).ring());
        assert_ne!(graph.ring(), Graph::new(500, 40, &[2; 32]).ring());
    }

    #[test]
    fn every_place_is_equally_likely() {
        // Chi-squared of the place of client 0 among 16, over 1,600 seeds; 15 degrees of freedom: 37.7 at p = 0.001.
        let mut counts = [0f64; 16];
        for seed in 0u32..1_600 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&seed.to_be_bytes());
            let ring = Graph::new(16, 4, &key);
            counts[ring.ring().iter().position(|&client| client == 0).expect("a permutation")] += 1.0;
        }
        let chi_squared: f64 = counts.iter().map(|count| (count - 100.0).powi(2) / 100.0).sum();
        assert!(chi_squared < 37.7, "{chi_squared}");
    }
}
