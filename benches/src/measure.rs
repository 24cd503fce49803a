//! Clocks and counters of this process: processor time, wall time, memory, bytes read and written.
//!
//! They cover all threads of the process, so a measurement is only true in a process that does
//! nothing else: each runs in a worker of its own. What the system does not tell is `None`, and
//! left out of the output.

use serde_json::{Map, Value, json};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Named figures of one measurement.
pub(crate) type Figures = Map<String, Value>;

/// User and system time of all threads since the process was started.
pub(crate) fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A line of `/proc/self/status`, in MiB.
fn status_mib(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The highest resident set since the start, or since [`reset_peak`].
pub(crate) fn peak_rss_mib() -> Option<f64> {
    status_mib("VmHWM")
}

/// The resident set now.
pub(crate) fn rss_mib() -> Option<f64> {
    status_mib("VmRSS")
}

/// Let the highest resident set start again from now; says whether the system did.
pub(crate) fn reset_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Bytes read and written through system calls since the start.
fn transferred() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let field = |name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    };
    Some((field("rchar:")?, field("wchar:")?))
}

/// Runs from its making.
pub(crate) struct Watch {
    cpu: Duration,
    wall: Instant,
    transferred: Option<(f64, f64)>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Watch { wall: Instant::now(), cpu: cpu_time(), transferred: None }
    }

    /// A watch that also knows what was read and written by its start.
    pub(crate) fn start_with_bytes() -> Self {
        let transferred = transferred();
        Watch { transferred, ..Watch::start() }
    }

    /// Processor and wall time since the start, in milliseconds.
    pub(crate) fn split(&self) -> (f64, f64) {
        let cpu = cpu_time().saturating_sub(self.cpu);
        (cpu.as_secs_f64() * 1e3, self.wall.elapsed().as_secs_f64() * 1e3)
    }

    /// The times as figures.
    pub(crate) fn stop(&self) -> Figures {
        let (cpu, wall) = self.split();
        figures([("cpu_ms", round(cpu)), ("wall_ms", round(wall))])
    }

    /// Adds what was read and written since the start, in MiB.
    pub(crate) fn stop_with_bytes(&self) -> Figures {
        let mut found = self.stop();
        if let (Some((read, written)), Some((read_before, written_before))) =
            (transferred(), self.transferred)
        {
            found.insert("read_mib".to_owned(), round((read - read_before) / 1_048_576.0));
            found.insert("written_mib".to_owned(), round((written - written_before) / 1_048_576.0));
        }
        found
    }
}

/// Times of many equal operations.
#[derive(Default)]
pub(crate) struct Samples {
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

impl Samples {
    pub(crate) fn push(&mut self, (cpu, wall): (f64, f64)) {
        self.cpu.push(cpu);
        self.wall.push(wall);
    }

    /// The median of both times, and the mean of the processor time, which also has what runs in
    /// the background.
    pub(crate) fn figures(&self) -> Figures {
        let mean = self.cpu.iter().sum::<f64>() / self.cpu.len().max(1) as f64;
        figures([
            ("cpu_ms", round(median(&self.cpu))),
            ("cpu_mean_ms", round(mean)),
            ("wall_ms", round(median(&self.wall))),
        ])
    }
}

/// The middle of some numbers; 0 of none.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Four significant digits are more than any of these figures has.
pub(crate) fn round(number: f64) -> Value {
    if number == 0.0 || !number.is_finite() {
        return json!(0);
    }
    let digits = (3 - number.abs().log10().floor() as i32).clamp(0, 6);
    let factor = 10_f64.powi(digits);
    json!((number * factor).round() / factor)
}

/// Figures from pairs.
pub(crate) fn figures<const N: usize>(pairs: [(&str, Value); N]) -> Figures {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
