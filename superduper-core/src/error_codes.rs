//! What other programs are told of an error: a name, an exit code, a status of HTTP.
//!
//! Invariant: names and exit codes are unique and never change their meaning; a kind that is added gets new ones.

use crate::ErrorKind;

macro_rules! codes {
    ($($kind:ident $name:literal $exit:literal $status:literal)*) => {
        /// All kinds, in the order of the table.
        #[cfg(test)]
        const ALL: &[ErrorKind] = &[$(ErrorKind::$kind),*];

        impl ErrorKind {
            /// Its stable name, for APIs and logs: `not_found`.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorKind::$kind => $name,)*
                }
            }

            /// The kind of a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(ErrorKind::$kind),)*
                    _ => None,
                }
            }

            /// The exit code of a program that ends with such an error, as one with `#[superduper::main]` does. 1 is an error of user
            /// code, as of any program; 2 (usage), 101 (panic) and those above 125 (shells) are left to others.
            ///
            #[doc = "| kind | name | exit code | HTTP |\n|---|---|---|---|"]
            $(#[doc = concat!("| `", stringify!($kind), "` | `", $name, "` | ", $exit, " | ", $status, " |")])*
            ///
            /// ```
            /// # use superduper_core as superduper;
            /// use superduper::{Error, ErrorKind};
            ///
            /// let error = Error::not_found("unknown training id `run-7`");
            /// assert_eq!((error.kind().name(), error.kind().exit_code(), error.kind().http_status()), ("not_found", 11, 404));
            /// assert_eq!(ErrorKind::from_name("gone").map(ErrorKind::http_status), Some(410));
            /// ```
            pub fn exit_code(self) -> u8 {
                match self {
                    $(ErrorKind::$kind => $exit,)*
                }
            }

            /// The status with which an API answers such an error; see [`ErrorKind::exit_code`] for the table.
            pub fn http_status(self) -> u16 {
                match self {
                    $(ErrorKind::$kind => $status,)*
                }
            }
        }
    };
}

codes! {
    InvalidInput "invalid_input" 10 400
    NotFound "not_found" 11 404
    Gone "gone" 12 410
    Conflict "conflict" 13 409
    InUse "in_use" 14 409
    UnknownKind "unknown_kind" 15 422
    Encode "encode" 16 422
    Decode "decode" 17 500
    Integrity "integrity" 18 500
    Format "format" 19 500
    JobFailed "job_failed" 20 424
    Cancelled "cancelled" 21 409
    Timeout "timeout" 22 504
    NotSetUp "not_set_up" 23 500
    NotSaved "not_saved" 24 409
    Unsupported "unsupported" 25 501
    Store "store" 26 503
    User "user" 1 500
    Internal "internal" 70 500
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn j15_names_and_exit_codes_are_unique() {
        let names: BTreeSet<&str> = ALL.iter().map(|kind| kind.name()).collect();
        let codes: BTreeSet<u8> = ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!((names.len(), codes.len()), (ALL.len(), ALL.len()));
        assert!(codes.iter().all(|code| !matches!(code, 0 | 2 | 101 | 126..)));
        for kind in ALL {
            assert_eq!(ErrorKind::from_name(kind.name()), Some(*kind));
            assert!((400..600).contains(&kind.http_status()));
        }
        assert_eq!(ErrorKind::from_name("Gone"), None);
    }
}
