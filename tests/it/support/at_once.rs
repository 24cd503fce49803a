//! How many jobs run at the same time: counted under a name, since all tests of a program share one
//! counter.

use std::{collections::BTreeMap, sync::Mutex};

/// Counts by name.
pub(crate) struct AtOnce(Mutex<BTreeMap<String, Count>>);

#[derive(Default)]
struct Count {
    now: usize,
    most: usize,
}

impl AtOnce {
    pub(crate) const fn new() -> Self {
        AtOnce(Mutex::new(BTreeMap::new()))
    }

    /// Count one more of this name until the guard is dropped.
    pub(crate) fn enter(&'static self, name: &str) -> Inside {
        let mut counts = self.0.lock().expect("no test panics here");
        let count = counts.entry(name.to_owned()).or_default();
        count.now += 1;
        count.most = count.most.max(count.now);
        Inside(self, name.to_owned())
    }

    /// The most that there were of this name.
    pub(crate) fn most(&self, name: &str) -> usize {
        self.0.lock().expect("no test panics here").get(name).map_or(0, |count| count.most)
    }
}

/// One that is counted.
pub(crate) struct Inside(&'static AtOnce, String);

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(count) = self.0.0.lock().expect("no test panics here").get_mut(&self.1) {
            count.now -= 1;
        }
    }
}
