//! How fast a run is, and its numbers as people read them: pure, for whoever shows it.

use crate::Info;
use std::time::{Duration, Instant};

/// Rates are of about this long.
const WINDOW: Duration = Duration::from_secs(10);

/// Steps and times of a run, as far as they were seen.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    attempt: u32,
    /// Where the rate is measured from, of this attempt: an attempt that goes on from a checkpoint did not make those steps.
    from: Option<(u64, Instant)>,
    last: Option<(u64, u64, Instant)>,
    rate: Option<f64>,
    moved: bool,
    took: Option<Duration>,
}

impl Pace {
    pub(crate) fn see(&mut self, info: &Info, now: Instant) {
        self.took = info.started_at.zip(info.completed_at).map(|(from, to)| Duration::from_millis(to.as_ms().saturating_sub(from.as_ms())));
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
        let (Some(rate), Some((done, total, _))) = (self.rate.filter(|rate| *rate > 0.0), self.last) else { return String::new() };
        let left = Duration::try_from_secs_f64(total.saturating_sub(done) as f64 / rate).map(lasting);
        let rate = if rate < 1.0 { format!(", {} s/step", brief(1.0 / rate)) } else { format!(", {} steps/s", brief(rate)) };
        left.map_or(rate.clone(), |left| format!("{rate}, {left} left"))
    }

    /// ` after 1000/1000 steps in 3s`, as far as it is known.
    pub(crate) fn took(&self) -> String {
        let steps = self.last.map(|(done, total, _)| format!(" after {done}/{total} steps")).unwrap_or_default();
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

/// A number to four digits or so.
pub(crate) fn brief(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits: usize = match size {
        _ if !(1e-3..1e6).contains(&size) => return format!("{value:.3e}"),
        _ if size >= 1000.0 => 0,
        _ if size >= 100.0 => 1,
        _ if size >= 10.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A text on one line that moves no cursor, cut where it is long.
pub(crate) fn one_line(text: &str, at_most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let cut: String = plain.clone().take(at_most).collect();
    if plain.count() > at_most { cut + "…" } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        for (value, text) in
            [(0.0, "0"), (0.12345, "0.1235"), (2.0, "2"), (1e-7, "1.000e-7"), (123456.7, "123457"), (f64::NAN, "NaN"), (-0.5, "-0.5")]
        {
            assert_eq!(brief(value), text);
        }
        for (millis, text) in [(12, "12ms"), (3_200, "3.2s"), (80_000, "1m20s"), (7_260_000, "2h1m"), (90_000_000, "1d1h")] {
            assert_eq!(lasting(Duration::from_millis(millis)), text);
        }
        assert_eq!(one_line("a\u{1b}[2J\nb", 20), "a [2J b");
        assert_eq!(one_line("abc", 2), "ab…");
    }
}
