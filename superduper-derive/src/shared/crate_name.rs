//! The name of the crate being compiled, which the kinds of its components begin with.

/// The name; nothing where no one tells it, as where `rustc` is called without Cargo.
pub(crate) fn crate_name() -> Option<String> {
    of_variables(|name| std::env::var(name).ok())
}

fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let package = || variable("CARGO_PKG_NAME").map(|name| name.replace('-', "_"));
    // Documentation tests are compiled by rustdoc, which has a variable of its own.
    let documentation = || variable("UNSTABLE_RUSTDOC_TEST_PATH").map(|_| "doctest".to_owned());
    variable("CARGO_CRATE_NAME").or_else(package).or_else(documentation)
}

#[cfg(test)]
mod tests {
    use super::of_variables;

    #[test]
    fn cargo_and_rustdoc_tell_the_name() {
        let with = |pairs: &[(&str, &str)]| {
            of_variables(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let both = [("CARGO_CRATE_NAME", "tests"), ("CARGO_PKG_NAME", "my-crate")];
        assert_eq!(with(&both).as_deref(), Some("tests"));
        assert_eq!(with(&both[1..]).as_deref(), Some("my_crate"));
        assert_eq!(with(&[("UNSTABLE_RUSTDOC_TEST_PATH", "a.rs")]).as_deref(), Some("doctest"));
        assert_eq!(with(&[]), None);
    }
}
