//! What a call of a guest costs. The figures are in `docs/benchmarks.md`.
//!
//! ```sh
//! cargo run --release -p superduper-sandbox --example figures
//! ```

use std::time::{Duration, Instant};
use superduper::{Bytes, prelude::*};
use superduper_sandbox::{Guest, Limits};

/// The sides of the dense layer.
const ROWS: usize = 768;
const COLUMNS: usize = 128;

/// Multiplies a matrix of 768 × 128 with a vector, so often as the argument says.
fn dense() -> Result<Bytes> {
    let text = r#"(module
        (memory (export "memory") 64)
        (@custom "superduper" "{\"abi\": 1, \"name\": \"dense\", \"callable\": {\"params\": []}}")
        (data (i32.const 16) "{\"ok\": 42}")
        (global $times (mut i32) (i32.const 200))
        (func (export "alloc") (param i32) (result i32) (i32.const 1024))
        (func $row (param $a i32) (param $b i32) (result f32)
            (local $end i32) (local $one v128) (local $two v128) (local $three v128) (local $four v128)
            (local.set $end (i32.add (local.get $a) (i32.const 512)))
            (loop $next
                (local.set $one (f32x4.add (local.get $one) (f32x4.mul (v128.load (local.get $a)) (v128.load (local.get $b)))))
                (local.set $two (f32x4.add (local.get $two) (f32x4.mul (v128.load offset=16 (local.get $a)) (v128.load offset=16 (local.get $b)))))
                (local.set $three (f32x4.add (local.get $three) (f32x4.mul (v128.load offset=32 (local.get $a)) (v128.load offset=32 (local.get $b)))))
                (local.set $four (f32x4.add (local.get $four) (f32x4.mul (v128.load offset=48 (local.get $a)) (v128.load offset=48 (local.get $b)))))
                (local.set $a (i32.add (local.get $a) (i32.const 64)))
                (local.set $b (i32.add (local.get $b) (i32.const 64)))
                (br_if $next (i32.lt_u (local.get $a) (local.get $end))))
            (local.set $one (f32x4.add (f32x4.add (local.get $one) (local.get $two)) (f32x4.add (local.get $three) (local.get $four))))
            (f32.add (f32.add (f32x4.extract_lane 0 (local.get $one)) (f32x4.extract_lane 1 (local.get $one)))
                (f32.add (f32x4.extract_lane 2 (local.get $one)) (f32x4.extract_lane 3 (local.get $one)))))
        (func (export "call") (param i32 i32) (result i64)
            (local $times i32) (local $row i32)
            (local.set $times (global.get $times))
            (loop $again
                (local.set $row (i32.const 0))
                (loop $rows
                    (f32.store offset=458752 (i32.shl (local.get $row) (i32.const 2))
                        (call $row (i32.add (i32.const 65536) (i32.shl (local.get $row) (i32.const 9))) (i32.const 32768)))
                    (local.set $row (i32.add (local.get $row) (i32.const 1)))
                    (br_if $rows (i32.lt_u (local.get $row) (i32.const 768))))
                (local.set $times (i32.sub (local.get $times) (i32.const 1)))
                (br_if $again (local.get $times)))
            (i64.const 0x100000000a)))"#;
    wat::parse_str(text).map(Bytes::from).map_err(Error::other)
}

/// The same product by the host, with the instructions that every x86-64 processor has: as many lanes
/// as the guest.
fn native(matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    for (row, out) in matrix.chunks_exact(COLUMNS).zip(out) {
        let mut sums = [0.0_f32; 16];
        for (row, vector) in row.chunks_exact(16).zip(vector.chunks_exact(16)) {
            for (sum, (row, vector)) in sums.iter_mut().zip(row.iter().zip(vector)) {
                *sum += row * vector;
            }
        }
        *out = sums.iter().sum();
    }
}

/// The least time of some tries.
fn least(tries: usize, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..tries {
        let begun = Instant::now();
        work()?;
        least = least.min(begun.elapsed());
    }
    Ok(least)
}

fn main() -> Result<()> {
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    let small = wat::parse_str(
        r#"(module (memory (export "memory") 64)
            (@custom "superduper" "{\"abi\": 1, \"name\": \"small\", \"callable\": {\"params\": []}}")
            (data (i32.const 16) "{\"ok\": 42}")
            (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i64) (i64.const 0x100000000a)))"#,
    );
    let small = Bytes::from(small.map_err(Error::other)?);

    let mut guest = Guest::new(&small, &limits, 0)?;
    let warm = least(20, || {
        for _ in 0..1000 {
            guest.call_without_arguments()?;
        }
        Ok(())
    })?;
    println!("a call with arguments and result in JSON, warm: {:?}", warm / 1000);
    let fresh = least(20, || {
        for _ in 0..100 {
            Guest::new(&small, &limits, 0)?.call_without_arguments()?;
        }
        Ok(())
    })?;
    println!("the same in a fresh instance of 4 MiB: {:?}", fresh / 100);

    let mut guest = Guest::new(&dense()?, &limits, 0)?;
    let sandboxed = least(20, || guest.call_without_arguments().map(drop))? / 200;
    let (matrix, vector) = (vec![0.5_f32; ROWS * COLUMNS], vec![0.5_f32; COLUMNS]);
    let mut out = vec![0.0_f32; ROWS];
    let own = least(20, || {
        for _ in 0..200 {
            native(std::hint::black_box(&matrix), &vector, &mut out);
        }
        Ok(())
    })? / 200;
    let ratio = sandboxed.as_secs_f64() / own.as_secs_f64();
    println!("dense {ROWS} × {COLUMNS}: {sandboxed:?} sandboxed, {own:?} native: {ratio:.1} times");

    let endless = wat::parse_str(
        r#"(module (memory (export "memory") 1)
            (@custom "superduper" "{\"abi\": 1, \"name\": \"endless\", \"callable\": {\"params\": []}}")
            (func (export "alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i64) (loop $l (br $l)) unreachable))"#,
    );
    let endless = Bytes::from(endless.map_err(Error::other)?);
    let deadline = Duration::from_millis(200);
    let mut guest = Guest::new(&endless, &Limits { deadline, ..limits }, 0)?;
    let stopped = least(10, || match guest.call_without_arguments() {
        Ok(_) => Err(Error::internal("it ended")),
        Err(_) => Ok(()),
    })?;
    println!("a guest that never ends: stopped {:?} after its deadline", stopped - deadline);
    Ok(())
}
