//! The keys of maps: which ones can be read, and patterns for them.

use super::node::Key;

impl Key {
    /// Whether a key can be read.
    pub(super) fn takes(self, key: &str) -> bool {
        match self {
            Key::Text => true,
            Key::Char => key.chars().count() == 1,
            Key::Bool => matches!(key, "true" | "false"),
            Key::Integer { min, max } => {
                let digits = key.strip_prefix('-').unwrap_or(key);
                let written = !digits.is_empty()
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
                    && (digits.len() == 1 || !digits.starts_with('0'))
                    && key != "-0";
                let number = key.parse::<i128>().unwrap_or(i128::MAX);
                written && number >= i128::from(min) && number <= i128::from(max)
            }
        }
    }

    /// What a key should be, in words.
    pub(super) fn expected(self) -> String {
        match self {
            Key::Text => "a text as key".to_owned(),
            Key::Char => "one character as key".to_owned(),
            Key::Bool => "`true` or `false` as key".to_owned(),
            Key::Integer { min, max } => format!("a whole number from {min} to {max} as key"),
        }
    }

    /// A regular expression for the keys; None where all texts are keys.
    pub(super) fn pattern(self) -> Option<String> {
        match self {
            Key::Text => None,
            Key::Char => Some("^[\\s\\S]$".to_owned()),
            Key::Bool => Some("^(true|false)$".to_owned()),
            Key::Integer { min, max } => {
                let mut parts = vec!["0".to_owned()];
                parts.extend(up_to(max.to_string().as_bytes()));
                if min < 0 {
                    let negative = up_to(min.unsigned_abs().to_string().as_bytes());
                    parts.push(format!("-({})", negative.join("|")));
                }
                Some(format!("^({})$", parts.join("|")))
            }
        }
    }
}

/// Regular expressions that together take the numbers from 1 to this one.
fn up_to(most: &[u8]) -> Vec<String> {
    let text = |digits: &[u8]| String::from_utf8_lossy(digits).into_owned();
    let free = |count: usize| match count {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        count => format!("[0-9]{{{count}}}"),
    };
    let mut parts = Vec::new();
    // Fewer digits.
    for count in 1..most.len() {
        parts.push(format!("[1-9]{}", free(count - 1)));
    }
    // As many digits, the first different one smaller.
    for (place, digit) in most.iter().enumerate() {
        let least = if place == 0 { b'1' } else { b'0' };
        if *digit > least {
            let range = format!("[{}-{}]", char::from(least), char::from(digit - 1));
            parts.push(format!("{}{range}{}", text(&most[..place]), free(most.len() - place - 1)));
        }
    }
    parts.push(text(most));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_up_to_255() {
        assert_eq!(
            up_to(b"255"),
            ["[1-9]", "[1-9][0-9]", "[1-1][0-9]{2}", "2[0-4][0-9]", "25[0-4]", "255"]
        );
        let byte = Key::Integer { min: 0, max: 255 };
        for key in ["0", "7", "255"] {
            assert!(byte.takes(key), "{key}");
        }
        for key in ["", "-1", "256", "01", "1.0", "+1", "-0", "x"] {
            assert!(!byte.takes(key), "{key}");
        }
    }
}
