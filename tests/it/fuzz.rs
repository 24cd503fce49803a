//! A short, reproducible run of the fuzz targets: their corpora, and seeded mutations of those.
//!
//! The long runs are libFuzzer's; see `tests/fuzz`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};
use superduper::prelude::*;

#[path = "../fuzz/src/bodies.rs"]
#[expect(unreachable_pub, unnameable_types, reason = "the fuzz package uses them")]
mod bodies;

/// A small generator of pseudo-random numbers (xorshift64*), the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// What is worth trying in the place of something else.
const WORDS: &[&[u8]] = &[
    b"$ref",
    b"$blob",
    b"$$",
    b"$kind",
    b"$body",
    b"$callable",
    b"$secret",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"{}",
    b"[]",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"@",
    b"/",
    b"\xff",
    b"fuzz.Leaf/l",
    b"fuzz.Node/n",
    b"blake3:",
    b"F64",
    b"BOOL",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x01\x00\x00",
];

/// Change an input in a few places.
fn mutate(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len() + 1);
        let end = (at + dice.below(16)).min(data.len());
        match dice.below(6) {
            0 => drop(data.splice(at..end, WORDS[dice.below(WORDS.len())].iter().copied())),
            1 => drop(data.drain(at..end)),
            2 => {
                let part = data[at..end].to_vec();
                let to = dice.below(data.len() + 1);
                drop(data.splice(to..to, part));
            }
            3 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            4 if at < data.len() => data[at] ^= 1 << dice.below(8),
            _ if at < data.len() => data[at] = data[at].wrapping_add(1),
            _ => {}
        }
    }
    data
}

fn try_out(target: &str, body: fn(&[u8]), data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| body(data))).is_err() {
        panic!("the fuzz target `{target}` fails for {}", data.escape_ascii());
    }
}

fn run(target: &str, body: fn(&[u8]), seed: u64) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    files.iter().for_each(|path| try_out(target, body, &read(path)));
    // A cycle is followed down to the limit of depth each time, which takes a while without
    // optimization.
    files.retain(|path| !path.ends_with("cycle"));
    let corpus: Vec<Vec<u8>> = files.iter().map(read).collect();
    assert!(corpus.len() > 5);
    let mut dice = Dice(seed);
    for _ in 0..10_000 {
        try_out(target, body, &mutate(&mut dice, &corpus));
    }
}

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn documents_of_unknown_origin_are_decoded_or_refused() {
    // The callable is named, so that it is linked.
    assert!(format!("{:?}", bodies::callable()).contains("fuzz.twice"));
    run("document", bodies::document, 1);
}

#[test]
fn a_few_documents_that_unfold_to_thousands_of_millions_are_refused() {
    let document = |n: usize| {
        let held = if n == 0 {
            json!([])
        } else {
            json!([{"$ref": format!("fuzz.Holder/h{}", n - 1)}, {"$ref": format!("fuzz.Holder/h{}", n - 1)}])
        };
        json!({"kind": "fuzz.Holder", "version": 1, "identifier": format!("h{n}"), "fields": {"identifier": format!("h{n}"), "held": null, "more": held}})
    };
    let few: Vec<Value> = (0..8).map(document).collect();
    assert!(superduper::__private::decode_documents(&few).is_ok());
    let many: Vec<Value> = (0..32).map(document).collect();
    let error = superduper::__private::decode_documents(&many).map(drop).expect_err("a refusal");
    assert!(error.to_string().contains("shared so often"), "{:.300}", error.to_string());
}

#[test]
fn addresses_are_parsed_or_refused() {
    run("address", bodies::address, 2);
}

#[test]
fn safetensors_headers_are_read_or_refused() {
    run("safetensors", bodies::safetensors, 3);
}

#[test]
fn lengths_that_a_file_claims_are_refused_before_memory_is_taken() {
    if !crate::support::alone::alone(
        "fuzz::lengths_that_a_file_claims_are_refused_before_memory_is_taken",
    ) {
        return;
    }
    let before = peak_kib();
    for exponent in 20..64 {
        for text in [
            "{}".to_owned(),
            format!(
                r#"{{"w":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#,
                1_u64 << exponent
            ),
        ] {
            for length in [text.len() as u64, 1 << exponent, (1 << exponent) + text.len() as u64] {
                let mut data = length.to_le_bytes().to_vec();
                data.extend_from_slice(text.as_bytes());
                bodies::safetensors(&data);
            }
        }
        let reference =
            format!(r#"{{"$blob":"blake3:{}","size":{}}}"#, "ab".repeat(32), 1_u64 << exponent);
        let fields = format!(
            r#"{{"identifier":"n","number":1,"any":null,"children":[],"by_name":{{}},"blob":{reference},"weights":{reference}}}"#
        );
        bodies::document(
            format!(r#"[{{"kind":"fuzz.Node","version":3,"identifier":"n","fields":{fields}}}]"#)
                .as_bytes(),
        );
    }
    let grown = peak_kib() - before;
    assert!(grown < 32 << 10, "{grown} KiB");
}
