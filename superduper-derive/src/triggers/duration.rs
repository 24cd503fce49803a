//! Durations as users write them: `10ms`, `1s`, `1h30m`, `0.5s`.

use syn::LitStr;

const UNITS: [(&str, f64); 5] =
    [("d", 86_400_000.0), ("h", 3_600_000.0), ("m", 60_000.0), ("s", 1000.0), ("ms", 1.0)];

/// The milliseconds of a duration.
pub(super) fn read(literal: &LitStr) -> syn::Result<u64> {
    parse(&literal.value()).map_err(|why| {
        syn::Error::new_spanned(
            literal,
            format!(
                "`{}` is no duration: {why}; write numbers with units, largest first, as in \"10ms\", \"1s\", \"10m\", \"1h30m\", \"2d\"",
                literal.value()
            ),
        )
    })
}

fn parse(text: &str) -> Result<u64, String> {
    let mut rest = text;
    let mut total = 0.0;
    let mut last = None;
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let (number, after) =
            split_at_first(rest, |letter| !letter.is_ascii_digit() && letter != '.');
        let (unit, after) =
            split_at_first(after, |letter| letter.is_ascii_digit() || letter == '.');
        let amount: f64 =
            number.parse().map_err(|_| format!("`{rest}` does not begin with a number"))?;
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(if unit.is_empty() {
                format!("`{number}` has no unit")
            } else {
                format!("there is no unit `{unit}`")
            });
        };
        if last.is_some_and(|last| place <= last) {
            return Err(format!("`{unit}` comes too late"));
        }
        last = Some(place);
        total += amount * UNITS[place].1;
        rest = after;
    }
    // A hundred years: beyond it a duration is a mistake, and far below it `f64` still counts each
    // millisecond.
    if total > 100.0 * 366.0 * UNITS[0].1 {
        return Err("it is longer than a hundred years".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above"
    )]
    Ok(total.round() as u64)
}

fn split_at_first(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in [
            ("10ms", 10),
            ("1s", 1000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("0.01s", 10),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(milliseconds), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "1", "s", "1w", "1 s", "30m1h", "1s1s", "-1s", "1.2.3s", "1e3s", "99999999d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
