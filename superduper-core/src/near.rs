//! Hints for names that do not exist: the one that was meant, or those that there are.

/// The known name that was probably meant: at most three letters are added, left out, changed or
/// swapped with their neighbour, and at most half of them. The macros have the same rule.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = |text: &str| text.chars().count();
    let (distance, near) = known
        .into_iter()
        .filter(|other| *other != name)
        .map(|other| (strsim::damerau_levenshtein(other, name), other))
        .min()?;
    let longest = length(near).max(length(name));
    (distance < longest && distance <= longest.div_ceil(2).min(3)).then_some(near)
}

/// How to get the type of a tag that nothing in this program has, such as `my_crate.Cosine`: the
/// crate may not be linked. `None` for other errors.
pub(crate) fn unlinked(error: &str) -> Option<String> {
    let tag = error.split("unknown variant `").nth(1)?.split('`').next()?;
    let (krate, _) = tag.split_once('.')?;
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    (!krate.is_empty() && krate.chars().all(is_name)).then(|| {
        let path = krate.replace('-', "_");
        format!("if the crate `{krate}` has the type `{tag}`, link it: write `use {path} as _;`")
    })
}

/// "did you mean …" for a name that is close to a known one, else the list of the known ones.
/// `None` if there are none.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() {
        return None;
    }
    Some(match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has `{}`", known.join("`, `")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_a_crate_that_is_not_linked_has_a_hint() {
        let hint = unlinked("unknown variant `my-scans.Cosine`, expected `a.B`").expect("a hint");
        assert!(hint.ends_with("write `use my_scans as _;`"), "{hint}");
        for other in [
            "unknown variant `Fast`, expected `Slow`",
            "missing field `a.b`",
            "unknown variant `a b.c`",
        ] {
            assert_eq!(unlinked(other), None);
        }
    }
}
