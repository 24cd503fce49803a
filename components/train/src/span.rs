//! Spans of time as configuration writes them: `1d`, `0.01s`, `1d12h3m0.2s`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr, time::Duration};
use superduper::{Error, Result};

/// A span of time: days, hours, minutes and seconds, in that order; only seconds may have a
/// fraction.
///
/// ```
/// use superduper_train::Span;
///
/// let span: Span = "1d12h3m0.2s".parse()?;
/// assert_eq!(span.get().as_millis(), 129_780_200);
/// assert!("1w".parse::<Span>().is_err());
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(Duration);

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl Span {
    /// The span as a duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Span(duration)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map(Span).ok_or_else(|| {
            Error::invalid(format!("`{}` is no span of time", text.escape_debug()))
                .with_hint("write days, hours, minutes and seconds in that order, such as `1d`, `0.01s` or `1d12h3m0.2s`")
        })
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut next = 0;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit = tail.chars().next()?;
        let place =
            UNITS.iter().position(|(name, _)| *name == unit).filter(|place| *place >= next)?;
        let part = if unit == 's' {
            seconds(number)?
        } else {
            Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(UNITS[place].1)?)
        };
        total = total.checked_add(part)?;
        next = place + 1;
        rest = &tail[1..];
    }
    (!text.is_empty()).then_some(total)
}

fn seconds(number: &str) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let nanos = fraction.parse::<u32>().ok()? * 10_u32.pow(9 - u32::try_from(fraction.len()).ok()?);
    Some(Duration::new(whole.parse().ok()?, nanos))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_secs();
        for (name, size) in &UNITS[..3] {
            if left >= *size {
                write!(f, "{}{name}", left / size)?;
                left %= size;
            }
        }
        let nanos = self.0.subsec_nanos();
        if nanos > 0 {
            let fraction = format!("{nanos:09}");
            write!(f, "{left}.{}s", fraction.trim_end_matches('0'))
        } else if left > 0 || self.0.is_zero() {
            write!(f, "{left}s")
        } else {
            Ok(())
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j04_spans_are_read_and_written() {
        for (text, millis) in [
            ("1d", 86_400_000),
            ("0.01s", 10),
            ("1d12h3m0.2s", 129_780_200),
            ("0s", 0),
            ("90m", 5_400_000),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.get().as_millis(), millis, "{text}");
            assert_eq!(span.to_string().parse::<Span>().expect(text), span, "{text}");
        }
        for text in [
            "",
            "1w",
            "1.5h",
            "30m1d",
            "s",
            "1",
            "1d1d",
            "-1s",
            "1s ",
            "1.s",
            "1..2s",
            "99999999999999999999d",
            "1é",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
