//! Memory that a training gives back and asks for again.
//!
//! Each step frees its activations and gradients. By default glibc returns blocks of that size to
//! the system at once, and the next step pays for them with page faults: 260 of them and a third of
//! the processor time of a step, for a perceptron of 784, 128 and 10 units on batches of 64 rows.

use std::sync::Once;
use superduper::unreturned::Unreturned;

/// The block that is freed: the limit up to which glibc keeps blocks becomes its size, and at most
/// twice as much stays with the process.
const BLOCK: usize = 16 << 20;

/// Let the allocator keep what a step frees, for the next one. Once per process; touches no memory.
///
/// A program without unsafe code cannot call `mallopt`. But glibc adapts: when a block is freed
/// that was mapped on its own, such blocks come from the heap from then on (`M_MMAP_THRESHOLD` in
/// mallopt(3)). Where the limits are set by `MALLOC_TRIM_THRESHOLD_` and the like, they stay; other
/// allocators see one block come and go.
pub(crate) fn keep_freed() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let mut block = Vec::<u8>::new();
        block
            .try_reserve_exact(BLOCK)
            .ignored("without the block training is slower, nothing else");
        let _freed = std::hint::black_box(block);
    });
}
