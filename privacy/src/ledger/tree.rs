//! The Merkle tree over the ledger's entries, in the shape of RFC 9162, section 2.1: short proofs that an entry is in the
//! ledger, and that one state of it only extends another. Must never hash a leaf and a node alike.

use sha2::{Digest, Sha256};

use super::Hash;

/// Hash of one leaf: SHA-256(0x00 || entry).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// An append-only tree that remembers every full subtree, so that roots and proofs of all its earlier sizes take
/// O(log^2 size) hashes. Two hashes of 32 bytes for each leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// `levels[h][i]` is the hash over the leaves from `i 2^h` up to, and without, `(i + 1) 2^h`.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf, given its [`leaf_hash`].
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for height in 0.. {
            if height == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(hash);
            match level.as_slice() {
                [.., left, right] if level.len().is_multiple_of(2) => hash = node_hash(left, right),
                _ => break,
            }
        }
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The hash of leaf `index`, from 0.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied()
    }

    /// The root over all leaves; over none it is SHA-256 of the empty string.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.subtree(0, self.size())
    }

    /// The root when the tree had `size` leaves; none for more than it has.
    #[must_use]
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        (size <= self.size()).then(|| self.subtree(0, size))
    }

    /// Proof that leaf `index` is in the tree of the first `size` leaves: the siblings from the leaf up to the root, nearest
    /// first. None unless `index < size <=` [`Self::size`].
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut end, mut path) = (0, size, Vec::new());
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.subtree(middle, end));
                end = middle;
            } else {
                path.push(self.subtree(start, middle));
                start = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// Proof that the tree of the first `size` leaves extends the one of the first `before`; empty where `before` is `size` or
    /// 0. None unless `before <= size <=` [`Self::size`].
    #[must_use]
    pub fn consistency(&self, before: u64, size: u64) -> Option<Vec<Hash>> {
        if before > size || size > self.size() {
            return None;
        }
        if before == 0 || before == size {
            return Some(Vec::new());
        }
        let (mut start, mut end, mut path) = (0, size, Vec::new());
        // Until the subtree that the earlier tree ends with is found; it is known to the verifier if it is the whole tree.
        while before < end {
            let middle = start + split(end - start);
            if before <= middle {
                path.push(self.subtree(middle, end));
                end = middle;
            } else {
                path.push(self.subtree(start, middle));
                start = middle;
            }
        }
        if start > 0 {
            path.push(self.subtree(start, end));
        }
        path.reverse();
        Some(path)
    }

    /// Hash over the leaves from `start` up to, and without, `end`; `start` is a multiple of the least power of two that is
    /// not below their number.
    fn subtree(&self, start: u64, end: u64) -> Hash {
        let count = end - start;
        if count == 0 {
            return Sha256::digest([]).into();
        }
        if count.is_power_of_two() {
            let height = count.ilog2() as usize;
            return self.levels[height][(start >> height) as usize];
        }
        let middle = start + split(count);
        node_hash(&self.subtree(start, middle), &self.subtree(middle, end))
    }
}

impl FromIterator<Hash> for Tree {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut tree = Self::new();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

/// Largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// A proof that does not prove what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not where the proof says.
    #[error(
        "entry {index} is not shown to be in the ledger of {size} entries: the proof leads to another root"
    )]
    NotIncluded {
        /// Place of the entry, from 0.
        index: u64,
        /// Entries of the ledger.
        size: u64,
    },
    /// The later tree is not shown to extend the earlier.
    #[error(
        "the ledger of {size} entries is not shown to extend the one of {before} entries: something was changed or removed"
    )]
    NotExtended {
        /// Entries of the earlier ledger.
        before: u64,
        /// Entries of the later ledger.
        size: u64,
    },
}

/// Checks [`Tree::inclusion`]: the entry with this [`leaf_hash`] is at `index` in the tree of `size` leaves under `root`
/// (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`ProofError::NotIncluded`].
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let refused = ProofError::NotIncluded { index, size };
    if index >= size {
        return Err(refused);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(refused);
        }
        if !at.is_multiple_of(2) || at == last {
            hash = node_hash(sibling, &hash);
            // Levels at which the node had no sibling, and moved up unchanged.
            while at.is_multiple_of(2) && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at /= 2;
        last /= 2;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(refused) }
}

/// Checks [`Tree::consistency`]: the tree of `size` leaves under `root` begins with that of `before` leaves under
/// `before_root` (RFC 9162, section 2.1.4.2).
///
/// # Errors
/// [`ProofError::NotExtended`].
pub fn verify_consistency(
    before: u64,
    before_root: &Hash,
    size: u64,
    root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    let refused = ProofError::NotExtended { before, size };
    let proved = match before {
        0 => path.is_empty() && *before_root == Tree::new().root(),
        _ if before > size => false,
        _ if before == size => path.is_empty() && before_root == root,
        _ => roots_from(before, before_root, size, path) == Some((*before_root, *root)),
    };
    if proved { Ok(()) } else { Err(refused) }
}

/// The earlier and the later root that a consistency proof leads to, `0 < before < size`; none when it has the wrong length.
fn roots_from(before: u64, before_root: &Hash, size: u64, path: &[Hash]) -> Option<(Hash, Hash)> {
    let (mut at, mut last) = (before - 1, size - 1);
    while !at.is_multiple_of(2) {
        at /= 2;
        last /= 2;
    }
    // The earlier tree's last full subtree; it is the whole of it where `before` is a power of two.
    let (first, rest) = if before.is_power_of_two() { (before_root, path) } else { path.split_first()? };
    let (mut earlier, mut later) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return None;
        }
        if !at.is_multiple_of(2) || at == last {
            earlier = node_hash(sibling, &earlier);
            later = node_hash(sibling, &later);
            while at.is_multiple_of(2) && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            later = node_hash(&later, sibling);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some((earlier, later))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 9162's definition, word for word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&defined(left), &defined(right))
            }
        }
    }

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|value| leaf_hash(&[value])).collect()
    }

    #[test]
    fn roots_of_all_sizes_are_the_defined_ones() {
        let leaves = leaves(70);
        let tree: Tree = leaves.iter().copied().collect();
        for size in 0..=leaves.len() {
            assert_eq!(tree.root_at(size as u64), Some(defined(&leaves[..size])), "{size}");
        }
        assert_eq!(tree.root_at(71), None);
        assert_eq!(tree.root(), defined(&leaves));
    }

    #[test]
    fn the_roots_are_those_of_certificate_transparency() {
        // The test tree of the reference implementation: roots over the first n of its leaves.
        let data: [&[u8]; 7] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
        ];
        let tree: Tree = data.iter().map(|data| leaf_hash(data)).collect();
        let root = |size: u64| tree.root_at(size).unwrap().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(root(1), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(root(3), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        assert_eq!(root(7), "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c");
    }

    #[test]
    fn every_leaf_is_shown_where_it_is_and_nowhere_else() {
        let leaves = leaves(33);
        let tree: Tree = leaves.iter().copied().collect();
        for size in 1..=33 {
            let root = tree.root_at(size).unwrap();
            for index in 0..size {
                let (leaf, path) = (&leaves[index as usize], tree.inclusion(index, size).unwrap());
                assert_eq!(verify_inclusion(leaf, index, size, &path, &root), Ok(()), "{index} of {size}");
                let refused = Err(ProofError::NotIncluded { index, size });
                assert_eq!(verify_inclusion(&leaf_hash(b"other"), index, size, &path, &root), refused);
                assert_eq!(verify_inclusion(leaf, index, size, &path, &[7; 32]), refused);
                for other in (0..size).filter(|&other| other != index) {
                    assert!(verify_inclusion(leaf, other, size, &path, &root).is_err(), "{index} as {other}");
                }
                let longer = [path.as_slice(), &[root]].concat();
                assert_eq!(verify_inclusion(leaf, index, size, &longer, &root), refused);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(verify_inclusion(leaf, index, size, shorter, &root), refused);
                }
            }
            assert_eq!(tree.inclusion(size, size), None);
        }
        assert_eq!(tree.inclusion(0, 34), None);
    }

    #[test]
    fn a_tree_is_shown_to_extend_its_past_and_no_other() {
        let first = leaves(33);
        let tree: Tree = first.iter().copied().collect();
        for before in 0..=33 {
            let past = tree.root_at(before).unwrap();
            // The same past with one leaf changed.
            let mut forged = first.clone();
            forged[before.saturating_sub(1) as usize / 2] = leaf_hash(b"forged");
            let forged: Tree = forged.into_iter().collect();
            for size in before..=33 {
                let (root, path) = (tree.root_at(size).unwrap(), tree.consistency(before, size).unwrap());
                assert_eq!(
                    verify_consistency(before, &past, size, &root, &path),
                    Ok(()),
                    "{before} to {size}"
                );
                if before == 0 {
                    continue;
                }
                let refused = Err(ProofError::NotExtended { before, size });
                let (root, path) = (forged.root_at(size).unwrap(), forged.consistency(before, size).unwrap());
                assert_eq!(verify_consistency(before, &past, size, &root, &path), refused);
                let longer = [path.as_slice(), &[root]].concat();
                let past = forged.root_at(before).unwrap();
                assert_eq!(verify_consistency(before, &past, size, &root, &path), Ok(()));
                assert_eq!(verify_consistency(before, &past, size, &root, &longer), refused);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(verify_consistency(before, &past, size, &root, shorter), refused);
                }
            }
        }
        assert_eq!(tree.consistency(2, 1), None);
        assert_eq!(tree.consistency(1, 34), None);
        assert!(verify_consistency(3, &tree.root(), 2, &tree.root(), &[]).is_err());
    }

    #[test]
    fn a_changed_hash_anywhere_in_a_proof_is_noticed() {
        let leaves = leaves(21);
        let tree: Tree = leaves.iter().copied().collect();
        let (root, past) = (tree.root(), tree.root_at(11).unwrap());
        let inclusion = tree.inclusion(6, 21).unwrap();
        let consistency = tree.consistency(11, 21).unwrap();
        for place in 0..inclusion.len() {
            let mut path = inclusion.clone();
            path[place][31] ^= 1;
            assert!(verify_inclusion(&leaves[6], 6, 21, &path, &root).is_err(), "{place}");
        }
        for place in 0..consistency.len() {
            let mut path = consistency.clone();
            path[place][0] ^= 128;
            assert!(verify_consistency(11, &past, 21, &root, &path).is_err(), "{place}");
        }
    }
}
