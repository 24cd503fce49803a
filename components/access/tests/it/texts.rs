//! A short, reproducible run of the fuzz target `access`: its corpus, and seeded changes of it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

#[path = "../../../../tests/fuzz/src/access.rs"]
#[expect(unreachable_pub, reason = "the fuzz package uses it")]
mod target;

/// A small generator of pseudo-random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit.max(1) as u64) as usize
    }
}

const WORDS: [&[u8]; 12] = [
    b"not ",
    b"o:",
    b"n:",
    b"any",
    b":",
    b"/",
    b"\n",
    b"99999999999",
    b"\"",
    b"null",
    b"\xff",
    b"RWQ",
];

#[test]
fn texts_of_others_are_read_or_refused() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/access");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(corpus.len() > 5);
    let try_out = |data: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target::access(data))).is_err() {
            panic!("the fuzz target fails for {}", data.escape_ascii());
        }
    };
    corpus.iter().for_each(|data| try_out(data));
    let mut dice = Dice(7);
    for _ in 0..20_000 {
        let mut data = corpus[dice.below(corpus.len())].clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(data.len() + 1);
            let end = (at + dice.below(8)).min(data.len());
            match dice.below(4) {
                0 => drop(data.splice(at..end, WORDS[dice.below(WORDS.len())].iter().copied())),
                1 => drop(data.drain(at..end)),
                2 if at < data.len() => data[at] ^= 1 << dice.below(8),
                _ => data.truncate(data.len() - dice.below(3).min(data.len())),
            }
        }
        try_out(&data);
    }
}
