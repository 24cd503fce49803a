//! How fast a run is. Pure: it shows nothing itself.

use crate::{info::Info, text::brief};
use std::time::{Duration, Instant};

/// Rates are of about this long.
const WINDOW: Duration = Duration::from_secs(10);

/// Steps and times of a run, as far as they were seen.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    attempt: u32,
    /// Where the rate is measured from, of this attempt: an attempt that goes on from a checkpoint
    /// did not make those steps.
    from: Option<(u64, Instant)>,
    last: Option<(u64, u64, Instant)>,
    rate: Option<f64>,
    moved: bool,
    took: Option<Duration>,
}

impl Pace {
    pub(crate) fn see(&mut self, info: &Info, now: Instant) {
        self.took = info
            .started_at
            .zip(info.completed_at)
            .map(|(from, to)| Duration::from_millis(to.0.saturating_sub(from.0).unsigned_abs()));
        let Some((done, total)) = info.progress else { return };
        let back = self.last.is_some_and(|(last, ..)| done < last);
        if info.attempt != self.attempt || back {
            *self = Pace { attempt: info.attempt, took: self.took, ..Pace::default() };
        }
        self.moved = self.last.is_none_or(|(last, ..)| done > last);
        self.last = Some((done, total, now));
        let (from, at) = *self.from.get_or_insert((done, now));
        let seconds = now.duration_since(at).as_secs_f64();
        if done > from && seconds > 0.0 {
            self.rate = Some((done - from) as f64 / seconds);
        }
        if now.duration_since(at) >= WINDOW {
            // What was stands still counts against the rate, and is forgotten with the window.
            self.rate = Some((done - from) as f64 / seconds);
            self.from = Some((done, now));
        }
    }

    /// Whether steps were made since the last look.
    pub(crate) fn moved(&self) -> bool {
        self.moved
    }

    /// `, 812 steps/s, 1m20s left`, as far as it is known.
    pub(crate) fn rate_and_left(&self) -> String {
        let (Some(rate), Some((done, total, _))) =
            (self.rate.filter(|rate| *rate > 0.0), self.last)
        else {
            return String::new();
        };
        let left =
            Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate).map(lasting);
        let rate = if rate < 1.0 {
            format!(", {} s/step", brief(1.0 / rate))
        } else {
            format!(", {} steps/s", brief(rate))
        };
        left.map_or(rate.clone(), |left| format!("{rate}, {left} left"))
    }

    /// ` after 1000/1000 steps in 3s`, as far as it is known.
    pub(crate) fn took(&self) -> String {
        let steps = self
            .last
            .map(|(done, total, _)| format!(" after {done}/{total} steps"))
            .unwrap_or_default();
        let took = self.took.map(|took| format!(" in {}", lasting(took))).unwrap_or_default();
        steps + &took
    }
}

/// A span of time, to about a percent.
fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..10 => format!("{:.1}s", time.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (millis, text) in [
            (12, "12ms"),
            (3_200, "3.2s"),
            (80_000, "1m20s"),
            (7_260_000, "2h1m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(lasting(Duration::from_millis(millis)), text);
        }
    }
}
