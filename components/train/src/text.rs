//! Numbers and names as people read them.

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
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A text on one line that moves no cursor, cut where it is long.
pub(crate) fn one_line(text: &str, at_most: usize) -> String {
    // Besides controls: what XML has no room for, even escaped.
    let is_odd = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    let plain = text.chars().map(|c| if is_odd(c) { ' ' } else { c });
    let cut: String = plain.clone().take(at_most).collect();
    if plain.count() > at_most { cut + "…" } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.12345, "0.1235"),
            (2.0, "2"),
            (1e-7, "1.000e-7"),
            (123456.7, "123457"),
            (f64::NAN, "NaN"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(brief(value), text);
        }
        assert_eq!(one_line("a\u{1b}[2J\nb", 20), "a [2J b");
        assert_eq!(one_line("abc", 2), "ab…");
    }
}
