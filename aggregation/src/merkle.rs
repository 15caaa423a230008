//! Merkle trees over SHA-256 in the shape of RFC 9162, section 2.1. Must never hash a leaf and a node alike.

use crate::Digest;
use sha2::{Digest as _, Sha256};

/// Hash of one leaf: SHA-256(0x00 || data).
#[must_use]
pub fn leaf(data: &[u8]) -> Digest {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree, kept level by level: a node without a sibling moves up unchanged.
#[derive(Clone, Debug)]
pub struct Tree {
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Over leaf hashes.
    #[must_use]
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    single => single[0],
                })
                .collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The root; over no leaves it is SHA-256 of the empty string.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or_else(|| Sha256::digest([]).into())
    }

    /// Siblings from a leaf up to the root, nearest first; empty for an index beyond the last leaf.
    #[must_use]
    pub fn path(&self, index: usize) -> Vec<Digest> {
        let inside = index < self.levels[0].len();
        let siblings =
            self.levels.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1));
        if inside { siblings.copied().collect() } else { Vec::new() }
    }
}

/// Root that a leaf and its siblings lead to, in a tree of `size` leaves; none when the path has the wrong length.
#[must_use]
pub fn root_from_path(leaf: &Digest, index: usize, size: usize, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    if size == 1 {
        return path.is_empty().then_some(*leaf);
    }
    let (sibling, below) = path.split_last()?;
    let at = split(size);
    if index < at {
        Some(node(&root_from_path(leaf, index, at, below)?, sibling))
    } else {
        Some(node(sibling, &root_from_path(leaf, index - at, size - at, below)?))
    }
}

/// Largest power of two below `size`.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::{Tree, leaf, root_from_path};

    #[test]
    fn every_path_leads_to_the_root_and_no_other_does() {
        for size in 1..40usize {
            let leaves: Vec<_> = (0..size).map(|i| leaf(&[i as u8])).collect();
            let tree = Tree::new(leaves.clone());
            let top = tree.root();
            for (index, own) in leaves.iter().enumerate() {
                let siblings = tree.path(index);
                assert_eq!(root_from_path(own, index, size, &siblings), Some(top));
                assert_ne!(root_from_path(&leaf(&[200]), index, size, &siblings), Some(top));
                let elsewhere = (index + 1) % size;
                if elsewhere != index {
                    assert_ne!(root_from_path(own, elsewhere, size, &siblings), Some(top));
                }
                let mut longer = siblings.clone();
                longer.push(top);
                assert_eq!(root_from_path(own, index, size, &longer), None);
                assert_eq!(root_from_path(own, size, size, &siblings), None);
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_9162() {
        // The test tree of certificate transparency: roots over the first n of its eight leaves.
        let leaves: Vec<_> = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
            .iter()
            .map(|data| leaf(&hex::decode(data).expect("hexadecimal")))
            .collect();
        let root = |count: usize| hex::encode(Tree::new(leaves[..count].to_vec()).root());
        assert_eq!(root(1), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(root(3), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        assert_eq!(root(7), "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c");
    }
}
