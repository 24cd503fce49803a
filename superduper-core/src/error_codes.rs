//! What other programs are told of an error: a name, an exit code, a status of HTTP, whether a
//! retry is worth it.
//!
//! Invariant: names and exit codes are unique and never change their meaning; a kind that is added
//! gets new ones.

use crate::error::ErrorKind;

macro_rules! codes {
    ($($kind:ident $name:literal $exit:literal $status:literal $retry:literal)*) => {
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

            /// The exit code of a program that ends with such an error, as one with
            /// `#[superduper::main]` does. 1 is an error of user code, as of any program; 2
            /// (usage), 101 (panic) and those above 125 (shells) are left to others.
            ///
            #[doc = "| kind | name | exit code | HTTP | worth a retry |\n|---|---|---|---|---|"]
            $(#[doc = concat!("| `", stringify!($kind), "` | `", $name, "` | ", $exit, " | ", $status, " | ", $retry, " |")])*
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

            /// The status with which an API answers such an error; see [`ErrorKind::exit_code`] for
            /// the table.
            pub fn http_status(self) -> u16 {
                match self {
                    $(ErrorKind::$kind => $status,)*
                }
            }

            /// Whether the same call may succeed later without anything being changed; see
            /// [`ErrorKind::exit_code`] for the table.
            ///
            /// A job that ends with an error of such a kind is retried as often as its trigger
            /// allows, any other one is not;
            /// [`Error::fatal`](crate::Error::fatal) and [`Error::retryable`](crate::Error::retryable) say otherwise for one error.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(ErrorKind::$kind => $retry,)*
                }
            }
        }
    };
}

codes! {
    InvalidInput "invalid_input" 10 400 false
    NotFound "not_found" 11 404 false
    Gone "gone" 12 410 false
    Conflict "conflict" 13 409 true
    InUse "in_use" 14 409 false
    UnknownKind "unknown_kind" 15 422 false
    Encode "encode" 16 422 false
    Decode "decode" 17 500 false
    Integrity "integrity" 18 500 false
    Format "format" 19 500 false
    JobFailed "job_failed" 20 424 false
    Cancelled "cancelled" 21 409 false
    Timeout "timeout" 22 504 true
    NotSetUp "not_set_up" 23 500 true
    NotSaved "not_saved" 24 409 false
    Unsupported "unsupported" 25 501 false
    PermissionDenied "permission_denied" 27 403 false
    Store "store" 26 503 true
    User "user" 1 500 true
    Internal "internal" 70 500 false
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
