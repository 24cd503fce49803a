//! The heartbeat of owners: a counter in the owner's lock file that rises while the process runs.
//!
//! Invariants: an owner knows that its lease may have lapsed no later than any observer declares
//! it: it counts from before a beat is written, an observer from after it is read. Only monotonic
//! clocks are compared, each with itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    time::{Duration, Instant},
};
use superduper_core::store::WorkerId;
use superduper_core::unreturned::{Site, Unreturned};

/// How long an owner may stand still unless something else was asked for.
const TTL: Duration = Duration::from_secs(30);
/// No lease is shorter: a busy machine does not run each thread more often than that.
const SHORTEST: Duration = Duration::from_millis(100);
/// So many beats fall into one lease.
const BEATS: u32 = 4;

/// What is in an owner's file: how often it has beaten, and how long it may stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    count: u64,
    ttl: Duration,
}

impl Beat {
    /// The beat in a file; `None` in one that has none.
    pub(crate) fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let [count, ttl] =
            [&bytes[..8], &bytes[8..]].map(|half| half.try_into().map(u64::from_le_bytes).ok());
        Some(Beat { count: count?, ttl: Duration::from_millis(ttl?).max(SHORTEST) })
    }

    fn write(self, file: &File) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..].copy_from_slice(
            &u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX).to_le_bytes(),
        );
        file.write_all_at(&bytes, 0)
    }
}

/// Beats for the owners of one store.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<WorkerId, File>,
    ttl: Duration,
    count: u64,
    /// From before the last beat was written.
    last: Instant,
    lapses: u64,
    /// Ends the thread that beats; absent while there is none.
    stop: Option<mpsc::Sender<()>>,
}

impl Default for State {
    fn default() -> Self {
        State {
            files: BTreeMap::new(),
            ttl: TTL,
            count: 0,
            last: Instant::now(),
            lapses: 0,
            stop: None,
        }
    }
}

impl Heartbeat {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.state().ttl = ttl.max(SHORTEST);
    }

    pub(crate) fn owners(&self) -> BTreeSet<WorkerId> {
        self.state().files.keys().copied().collect()
    }

    /// Beat in a file from now on.
    pub(crate) fn add(&self, owner: WorkerId, file: File) -> io::Result<()> {
        let mut state = self.state();
        if state.files.is_empty() {
            state.last = Instant::now();
        }
        Beat { count: state.count, ttl: state.ttl }.write(&file)?;
        if state.stop.is_none() {
            let (stop, stopped) = mpsc::channel();
            let shared = Arc::downgrade(&self.state);
            std::thread::Builder::new()
                .name("superduper-lease".to_owned())
                .spawn(move || beat(&shared, &stopped))?;
            state.stop = Some(stop);
        }
        state.files.insert(owner, file);
        Ok(())
    }

    /// Let go of a file; whether it was held.
    pub(crate) fn remove(&self, owner: WorkerId) -> bool {
        let mut state = self.state();
        let held = state.files.remove(&owner).is_some();
        if state.files.is_empty() {
            state.stop = None;
        }
        held
    }

    /// How often this process stood still for as long as a lease.
    pub(crate) fn lease_lapses(&self, now: Instant) -> u64 {
        self.state().look(now)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        // The thread may hold the state for one more beat; the locks must be free by now.
        let mut state = self.state();
        state.files.clear();
        state.stop = None;
    }
}

impl State {
    /// A gap as long as the lease counts once; the next one starts now.
    fn look(&mut self, now: Instant) -> u64 {
        if !self.files.is_empty() && now.saturating_duration_since(self.last) >= self.ttl {
            self.lapses += 1;
            self.last = now;
        }
        self.lapses
    }

    fn beat(&mut self, now: Instant) {
        self.look(now);
        self.count += 1;
        let beat = Beat { count: self.count, ttl: self.ttl };
        let mut written = true;
        for file in self.files.values() {
            written &= beat.write(file).or_warn(Site::LEASE, "writing a heartbeat").is_some();
        }
        // A beat that could not be written was not seen either: from here on the lease runs out.
        if written {
            self.last = now;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn beat(shared: &Weak<Mutex<State>>, stopped: &mpsc::Receiver<()>) {
    loop {
        let Some(state) = shared.upgrade() else { return };
        let pause = lock(&state).ttl / BEATS;
        drop(state);
        match stopped.recv_timeout(pause) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        let Some(state) = shared.upgrade() else { return };
        lock(&state).beat(Instant::now());
    }
}

/// What an observer has seen of other owners.
#[derive(Debug, Default)]
pub(crate) struct Sightings(BTreeMap<WorkerId, Sighting>);

#[derive(Debug)]
struct Sighting {
    count: u64,
    looked: Instant,
    still: Duration,
}

impl Sightings {
    /// Whether an owner has stood still for its lease, as far as it was watched.
    ///
    /// The time between two looks counts for at most half of the lease. So it takes three looks,
    /// and an observer that stood still itself, together with the owner, does not take its own
    /// pause for one of the owner.
    pub(crate) fn stands_still(&mut self, owner: WorkerId, beat: Beat, now: Instant) -> bool {
        let first = || Sighting { count: beat.count, looked: now, still: Duration::ZERO };
        let seen = self.0.entry(owner).or_insert_with(first);
        if seen.count != beat.count {
            *seen = first();
            return false;
        }
        seen.still += now.saturating_duration_since(seen.looked).min(beat.ttl / 2);
        seen.looked = now;
        seen.still >= beat.ttl
    }

    /// Forget all other owners.
    pub(crate) fn keep(&mut self, owners: &BTreeSet<WorkerId>) {
        self.0.retain(|owner, _| owners.contains(owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: WorkerId = WorkerId(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn who_stands_still_for_the_lease_is_dead() {
        let (start, beat) = (Instant::now(), |count| Beat { count, ttl: ms(1000) });
        let mut seen = Sightings::default();
        for step in 0..10 {
            assert!(
                !seen.stands_still(OWNER, beat(7), start + ms(step * 100)),
                "after {step} steps"
            );
        }
        assert!(seen.stands_still(OWNER, beat(7), start + ms(1000)));
        assert!(!seen.stands_still(OWNER, beat(8), start + ms(1100)), "it goes on");
        assert!(!seen.stands_still(OWNER, beat(8), start + ms(2000)));
        assert!(!seen.stands_still(OWNER, beat(3), start + ms(2100)), "any other count is a beat");
    }

    #[test]
    fn an_observer_that_stood_still_too_declares_nobody_dead_at_once() {
        let (start, beat) = (Instant::now(), |count| Beat { count, ttl: ms(1000) });
        let mut seen = Sightings::default();
        assert!(!seen.stands_still(OWNER, beat(7), start));
        assert!(!seen.stands_still(OWNER, beat(7), start + ms(400)));
        let hours = ms(10_000_000);
        assert!(!seen.stands_still(OWNER, beat(7), start + hours), "both may have been frozen");
        assert!(!seen.stands_still(OWNER, beat(8), start + hours + ms(300)));
    }

    #[test]
    fn an_owner_knows_that_its_lease_lapsed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.lock");
        let file =
            File::options().create_new(true).read(true).write(true).open(&path).expect("a file");
        let heartbeat = Heartbeat::default();
        heartbeat.set_ttl(ms(60_000));
        assert_eq!(
            heartbeat.lease_lapses(Instant::now() + ms(600_000)),
            0,
            "without an owner there is no lease"
        );
        heartbeat.add(OWNER, file.try_clone().expect("a file")).expect("a beat");
        let first = Beat::read(&file).expect("a beat");
        assert_eq!(first.ttl, ms(60_000));
        let start = Instant::now();
        heartbeat.state().beat(start + ms(59_000));
        assert_ne!(Beat::read(&file), Some(first), "the file has another count after each beat");
        assert_eq!(heartbeat.lease_lapses(start + ms(118_000)), 0);
        assert_eq!(heartbeat.lease_lapses(start + ms(119_000)), 1);
        assert_eq!(heartbeat.lease_lapses(start + ms(119_001)), 1, "one pause counts once");
        heartbeat.state().beat(start + ms(200_000));
        assert_eq!(
            heartbeat.lease_lapses(start + ms(200_000)),
            2,
            "also where the beat comes first"
        );
        assert!(heartbeat.remove(OWNER) && !heartbeat.remove(OWNER));
    }

    #[test]
    fn leases_are_never_too_short() {
        let heartbeat = Heartbeat::default();
        heartbeat.set_ttl(ms(1));
        assert_eq!(heartbeat.state().ttl, SHORTEST);
    }
}
