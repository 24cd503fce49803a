//! Faults that can be put into the scheduler, to show that the simulator finds them.

/// A fault; each was in the engine once, or stands for a line that no test guarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// A settlement that the store ignored counts as done.
    BlindSettle,
    /// A prefetched job starts without a look for a lapsed lease.
    StalePrefetchedStart,
    /// A claimed job starts without a look for a lapsed lease.
    StaleClaimedStart,
    /// A job is claimed and started while a thread of an older attempt runs.
    LateRetry,
    /// The permit of a claim whose commit failed is never given back.
    LostPermit,
    /// An end whose commit failed is not sent again.
    LostEnd,
    /// The process wakes up again and again for nothing.
    Spin,
    /// A read counts although the lease lapsed after it was asked for.
    OldRead,
    /// What the answer to a claim says of tries is left out.
    OldTries,
    /// An abandoned attempt that passes its time limit gives its place back while its thread goes
    /// on.
    LatePlaceFreed,
    /// What waits for a job that spawns others goes on before the spawned jobs are known.
    SpawnedTooLate,
    /// An abandoned attempt marks its job as cancelled.
    AbandonCancels,
    /// A retry waits until a time of day, whatever the clock says by then.
    TrustedClock,
    /// An end that was fenced counts as if it were on record.
    FencedEndCounts,
    /// A process claims jobs that it cannot run.
    ClaimsAll,
    /// Pools are limits of each process alone.
    LocalPools,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 16] = [
        Fault::BlindSettle,
        Fault::StalePrefetchedStart,
        Fault::StaleClaimedStart,
        Fault::LateRetry,
        Fault::LostPermit,
        Fault::LostEnd,
        Fault::Spin,
        Fault::OldRead,
        Fault::OldTries,
        Fault::LatePlaceFreed,
        Fault::SpawnedTooLate,
        Fault::AbandonCancels,
        Fault::TrustedClock,
        Fault::FencedEndCounts,
        Fault::ClaimsAll,
        Fault::LocalPools,
    ];
}
