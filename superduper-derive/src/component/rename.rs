//! serde's rules for the names of fields in a document.

/// A `#[serde(rename_all = "…")]` rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum RenameRule {
    #[default]
    Keep,
    Upper,
    Pascal,
    Camel,
    Kebab,
    UpperKebab,
}

impl RenameRule {
    /// The rule of this name; unknown names are serde's to report.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "UPPERCASE" | "SCREAMING_SNAKE_CASE" => RenameRule::Upper,
            "PascalCase" => RenameRule::Pascal,
            "camelCase" => RenameRule::Camel,
            "kebab-case" => RenameRule::Kebab,
            "SCREAMING-KEBAB-CASE" => RenameRule::UpperKebab,
            // "lowercase" and "snake_case" leave field names as they are written.
            _ => RenameRule::Keep,
        }
    }

    /// The name in the document of a field with this Rust name.
    pub(super) fn apply(self, field: &str) -> String {
        match self {
            RenameRule::Keep => field.to_owned(),
            RenameRule::Upper => field.to_ascii_uppercase(),
            RenameRule::Pascal => pascal(field),
            RenameRule::Camel => {
                let pascal = pascal(field);
                let mut letters = pascal.chars();
                letters
                    .next()
                    .map(|first| first.to_ascii_lowercase())
                    .into_iter()
                    .chain(letters)
                    .collect()
            }
            RenameRule::Kebab => field.replace('_', "-"),
            RenameRule::UpperKebab => field.to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn pascal(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut capital = true;
    for letter in field.chars() {
        match letter {
            '_' => capital = true,
            letter if capital => {
                text.push(letter.to_ascii_uppercase());
                capital = false;
            }
            letter => text.push(letter),
        }
    }
    text
}
