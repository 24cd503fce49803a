//! Digests of parts of a blob that fall out of hashing the whole of it once.
//!
//! BLAKE3 is a tree over chunks of 1024 bytes. A range of a blob is cut into the largest subtrees
//! that lie inside of it and the loose bytes at its ends; its digest is BLAKE3, under a context of
//! its own, of the loose bytes and the subtrees' chaining values in order. The same values, merged,
//! are the digest of the whole blob: the bytes pass the hash function once, and a range is verified
//! later by reading that range alone.
//!
//! Invariant: the digest of the whole is plain BLAKE3, whatever the ranges.

use super::Hashed;
use crate::digest::Digest;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, max_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};
use std::ops::Range;

const CHUNK: u64 = blake3::CHUNK_LEN as u64;
const CONTEXT: &str = "superduper 2026-01-01 digest of a range of a blob";

/// What a range is made of.
enum Piece<'a> {
    Loose(&'a [u8]),
    Subtree { start: u64, length: u64, value: ChainingValue },
}

/// The digest of one range, from its bytes.
pub(super) struct RangeHasher {
    range: Range<u64>,
    at: u64,
    total: u64,
    /// The subtree that the bytes at `at` belong to, with its start and what is missing of it.
    subtree: Option<(blake3::Hasher, u64, u64)>,
    out: blake3::Hasher,
}

impl RangeHasher {
    /// A hasher for bytes `range` of a blob of `total` bytes.
    pub(super) fn new(range: Range<u64>, total: u64) -> Self {
        RangeHasher {
            at: range.start,
            range,
            total,
            subtree: None,
            out: blake3::Hasher::new_derive_key(CONTEXT),
        }
    }

    /// The digest of a range whose bytes are all here.
    pub(super) fn digest(range: Range<u64>, total: u64, bytes: &[u8]) -> Digest {
        let mut hasher = RangeHasher::new(range, total);
        hasher.update(bytes, &mut |_| ());
        hasher.finish()
    }

    fn update(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            if self.subtree.is_none()
                && let Some(length) = self.subtree_here()
            {
                let mut hasher = blake3::Hasher::new();
                hasher.set_input_offset(self.at);
                self.subtree = Some((hasher, self.at, length));
            }
            let taken = match &mut self.subtree {
                Some((hasher, start, missing)) => {
                    let (now, _) = bytes.split_at(clamp(*missing, bytes.len()));
                    hasher.update(now);
                    *missing -= now.len() as u64;
                    if *missing == 0 {
                        let value = hasher.finalize_non_root();
                        let (start, length) = (*start, self.at + now.len() as u64 - *start);
                        self.out.update(&value);
                        sink(Piece::Subtree { start, length, value });
                        self.subtree = None;
                    }
                    now.len()
                }
                None => {
                    let (now, _) = bytes.split_at(clamp(CHUNK - self.at % CHUNK, bytes.len()));
                    self.out.update(now);
                    sink(Piece::Loose(now));
                    now.len()
                }
            };
            self.at += taken as u64;
            bytes = &bytes[taken..];
        }
    }

    /// The length of the largest subtree that begins here and ends inside of the range.
    fn subtree_here(&self) -> Option<u64> {
        let rest = self.range.end - self.at;
        if !self.at.is_multiple_of(CHUNK) || rest < CHUNK || self.total <= CHUNK {
            return None;
        }
        // The root is no subtree: it is hashed in another way.
        let largest =
            max_subtree_len(self.at).unwrap_or(u64::MAX).min(left_subtree_len(self.total));
        Some(largest.min(1 << rest.ilog2()))
    }

    fn finish(self) -> Digest {
        Digest::from_bytes(*self.out.finalize().as_bytes())
    }
}

fn clamp(wanted: u64, have: usize) -> usize {
    usize::try_from(wanted).map_or(have, |wanted| wanted.min(have))
}

/// The digests of a whole blob and of the ranges it is divided into.
pub(super) struct TreeHasher {
    /// The ranges to come, last first.
    ranges: Vec<Range<u64>>,
    current: RangeHasher,
    digests: Vec<Digest>,
    tree: Tree,
}

impl TreeHasher {
    /// A hasher for a blob that is divided into consecutive ranges.
    pub(super) fn new(mut ranges: Vec<Range<u64>>) -> Self {
        let total = ranges.last().map_or(0, |range| range.end);
        ranges.reverse();
        let first = ranges.pop().unwrap_or(0..0);
        TreeHasher {
            ranges,
            current: RangeHasher::new(first, total),
            digests: Vec::new(),
            tree: Tree::new(total),
        }
    }

    /// Take in more bytes; those beyond the last range are only counted.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) =
                bytes.split_at(clamp(self.current.range.end - self.current.at, bytes.len()));
            let tree = &mut self.tree;
            self.current.update(now, &mut |piece| tree.add(piece));
            bytes = rest;
            if !bytes.is_empty() && !self.next() {
                self.tree.beyond += bytes.len() as u64;
                return;
            }
        }
    }

    fn next(&mut self) -> bool {
        let Some(range) = self.ranges.pop() else { return false };
        let next = RangeHasher::new(range, self.tree.total);
        self.digests.push(std::mem::replace(&mut self.current, next).finish());
        true
    }

    /// The digest of all bytes and those of the ranges; `None` if there were more or fewer bytes
    /// than the ranges have.
    pub(super) fn finish(mut self) -> Option<(Digest, Vec<Digest>)> {
        while self.next() {}
        let complete = self.current.at == self.tree.total && self.tree.beyond == 0;
        self.digests.push(self.current.finish());
        complete.then(|| (self.tree.finish(), self.digests))
    }
}

/// Merges subtrees, from left to right, to the digest of the whole.
struct Tree {
    total: u64,
    beyond: u64,
    /// Bytes of a chunk that more than one range has a part of, or the last one.
    loose: Vec<u8>,
    at: u64,
    done: Vec<Subtree>,
}

struct Subtree {
    start: u64,
    length: u64,
    value: ChainingValue,
}

impl Tree {
    fn new(total: u64) -> Self {
        Tree {
            total,
            beyond: 0,
            loose: Vec::with_capacity(blake3::CHUNK_LEN),
            at: 0,
            done: Vec::new(),
        }
    }

    fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Loose(bytes) => {
                self.loose.extend_from_slice(bytes);
                self.at += bytes.len() as u64;
                if self.total > CHUNK && (self.loose.len() as u64 == CHUNK || self.at == self.total)
                {
                    let start = self.at - self.loose.len() as u64;
                    let value = blake3::Hasher::new()
                        .set_input_offset(start)
                        .update(&self.loose)
                        .finalize_non_root();
                    self.loose.clear();
                    self.push(Subtree { start, length: CHUNK, value });
                }
            }
            Piece::Subtree { start, length, value } => {
                self.at = start + length;
                self.push(Subtree { start, length, value });
            }
        }
    }

    /// Add a subtree and merge it with its left sibling as long as both are there; the root is left
    /// for `finish`.
    fn push(&mut self, mut right: Subtree) {
        while let Some(left) = self.done.pop_if(|left| {
            let parent = 2 * right.length;
            left.length == right.length
                && left.start.is_multiple_of(parent)
                && !(left.start == 0 && parent >= self.total)
        }) {
            let value = merge_subtrees_non_root(&left.value, &right.value, Mode::Hash);
            right = Subtree { start: left.start, length: 2 * right.length, value };
        }
        self.done.push(right);
    }

    fn finish(mut self) -> Digest {
        let Some(mut right) = self.done.pop() else {
            // At most one chunk.
            return Digest::of(&self.loose);
        };
        while let Some(left) = self.done.pop() {
            if self.done.is_empty() {
                return Digest::from_bytes(
                    *merge_subtrees_root(&left.value, &right.value, Mode::Hash).as_bytes(),
                );
            }
            let value = merge_subtrees_non_root(&left.value, &right.value, Mode::Hash);
            right = Subtree { start: left.start, length: left.length + right.length, value };
        }
        unreachable!(
            "a blob of more than one chunk has more than one subtree, since no subtree is the whole"
        )
    }
}

/// What hashing gave, with the digests of the ranges as the extra member `key`.
pub(super) fn hashed(key: &str, size: u64, digest: Digest, ranges: &[Digest]) -> Hashed {
    let ranges: Vec<String> = ranges.iter().map(Digest::to_hex).collect();
    Hashed { digest, size, extra: serde_json::Map::from_iter([(key.to_owned(), ranges.into())]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length as u64)
            .map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect()
    }

    fn check(data: &[u8], cuts: &[u64], step: usize) {
        let total = data.len() as u64;
        let mut ends = cuts.to_vec();
        ends.push(total);
        let mut start = 0;
        let ranges: Vec<Range<u64>> =
            ends.iter().map(|&end| std::mem::replace(&mut start, end)..end).collect();
        let mut hasher = TreeHasher::new(ranges.clone());
        data.chunks(step).for_each(|part| hasher.update(part));
        let (digest, digests) = hasher.finish().expect("all bytes came");
        assert_eq!(digest, Digest::of(data), "{total} bytes cut at {cuts:?}");
        assert_eq!(digests.len(), ranges.len());
        for (range, digest) in ranges.into_iter().zip(digests) {
            let part = &data[range.start as usize..range.end as usize];
            assert_eq!(
                RangeHasher::digest(range.clone(), total, part),
                digest,
                "{range:?} of {total}"
            );
            if !part.is_empty() {
                let mut changed = part.to_vec();
                changed[part.len() / 2] ^= 1;
                assert_ne!(
                    RangeHasher::digest(range.clone(), total, &changed),
                    digest,
                    "a change in {range:?} of {total}"
                );
            }
        }
    }

    #[test]
    fn the_whole_is_plain_blake3_and_ranges_verify_alone() {
        let data = bytes(300_000);
        for length in [
            0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4096, 5000, 8192, 16_384, 65_536,
            65_537, 131_072, 262_144, 300_000,
        ] {
            let data = &data[..length];
            let end = length as u64;
            check(data, &[], 1 << 20);
            check(data, &[end / 2], 777);
            check(data, &[end / 3, end / 3, end / 2, end], 4096);
            check(data, &[end.min(8), end.min(1024), end.min(2048), end.min(2050)], 1 << 20);
        }
    }

    #[test]
    fn many_cuts() {
        let data = bytes(200_000);
        let mut state = 7_u64;
        for round in 0..60 {
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            };
            let length = next() % 200_000 + 1;
            let mut cuts: Vec<u64> = (0..round).map(|_| next() % (length + 1)).collect();
            cuts.sort_unstable();
            check(&data[..length as usize], &cuts, (next() % 30_000 + 1) as usize);
        }
    }

    #[test]
    fn too_many_or_too_few_bytes_give_no_digest() {
        let mut short = TreeHasher::new(vec![0..10, 10..5000]);
        short.update(&bytes(4999));
        assert!(short.finish().is_none());
        let mut long = TreeHasher::new(vec![0..10, 10..5000]);
        long.update(&bytes(5001));
        assert!(long.finish().is_none());
    }
}
