//! The one error type of superduper and the failure of a job as data.
//!
//! An [`Error`] is opaque: its [`ErrorKind`] says what a program can do about it, its text names
//! the component, field or job, and a `hint:` line says how to mend it where that is known. A job's
//! failure is not an `Error` but a [`JobFailure`]: plain data that is stored with the job.

use crate::component::schema::Mistake;
use serde::{Deserialize, Serialize};
use std::{any::Any, fmt, sync::Arc};

/// What user code may return as an error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of superduper's functions and of hooks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a program may want to tell the cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value given by the caller is not acceptable: an identifier, an address, a field.
    InvalidInput,
    /// No such component, version, job, run or database.
    NotFound,
    /// It was there, and was deleted on purpose: what is left is a record of it.
    Gone,
    /// The state a plan was made from has moved, or a component is being removed.
    Conflict,
    /// Something else still refers to what should be removed.
    InUse,
    /// A component kind that this program does not know, or that two types claim.
    UnknownKind,
    /// A component could not be turned into its document.
    Encode,
    /// A stored document could not be turned into its component.
    Decode,
    /// Stored bytes are not what their name says, or are missing.
    Integrity,
    /// The folder is not a component database, or one of a newer format.
    Format,
    /// A job of the run failed; [`Error::outcome`] has the whole outcome.
    JobFailed,
    /// A job or run was cancelled.
    Cancelled,
    /// A time limit passed.
    Timeout,
    /// `Runtime` state was used before `setup` made it, or an `Output` before a trigger set it.
    NotSetUp,
    /// A blob or component is used in a way that needs it to be saved first.
    NotSaved,
    /// The store, executor or build lacks what was asked for.
    Unsupported,
    /// Somebody may not do this.
    PermissionDenied,
    /// The metadata store or the artifact store failed.
    Store,
    /// An error of user code.
    User,
    /// A defect of superduper itself.
    Internal,
}

/// The error of superduper. See [`ErrorKind`] for the cases.
pub struct Error(Box<Inner>);

/// A value of a type that only a layer above knows, such as the outcome of a run.
#[derive(Clone)]
struct Attached(Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<String>,
    hint: Option<String>,
    retryable: Option<bool>,
    /// Whether it stands for a panic of user code.
    panic: bool,
    source: Option<BoxError>,
    /// What the layer that made the error adds to it.
    attached: Option<Attached>,
    /// What is wrong in documents.
    mistakes: Vec<Mistake>,
}

impl Error {
    /// Make an error of a kind. The text is a lowercase fragment that fits after "failed to …".
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            retryable: None,
            panic: false,
            source: None,
            attached: None,
            mistakes: Vec::new(),
        }))
    }

    /// Make an error for user code.
    pub fn msg(message: impl fmt::Display) -> Self {
        Error::new(ErrorKind::User, message.to_string())
    }

    /// An error of another library, as user code returns it: `.map_err(Error::other)`. One of this
    /// type stays what it is.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// use superduper::{Error, Result};
    ///
    /// fn read(text: &str) -> Result<u32> {
    ///     text.parse().map_err(Error::other)
    /// }
    /// assert_eq!(read("x").unwrap_err().to_string(), "invalid digit found in string");
    /// ```
    pub fn other(error: impl Into<BoxError>) -> Self {
        Error::from(error.into())
    }

    /// User code panicked.
    pub(crate) fn panicked(message: impl Into<String>) -> Self {
        let mut error = Error::new(ErrorKind::User, message);
        error.0.panic = true;
        error
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anything being changed; a job that ends with
    /// such an error is retried as often as its trigger allows.
    ///
    /// Its kind says so ([`ErrorKind::is_retryable`]) unless it was marked by [`Error::fatal`] or
    /// [`Error::retryable`].
    pub fn is_retryable(&self) -> bool {
        self.0.retryable.unwrap_or_else(|| self.0.kind.is_retryable())
    }

    /// Say that trying again cannot help: a job that returns this error is not retried.
    pub fn fatal(mut self) -> Self {
        self.0.retryable = Some(false);
        self
    }

    /// Say that trying again may help, although the kind of this error says otherwise.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// use superduper::Error;
    ///
    /// let error = Error::not_found("the service has no such model yet");
    /// assert!(!error.is_retryable() && error.retryable().is_retryable());
    /// ```
    pub fn retryable(mut self) -> Self {
        self.0.retryable = Some(true);
        self
    }

    /// Whether the error was marked by [`Error::fatal`].
    pub fn is_fatal(&self) -> bool {
        self.0.retryable == Some(false)
    }

    /// The hint printed on a line of its own, if there is one.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What a layer above has added.
    pub(crate) fn attached<T: 'static>(&self) -> Option<&T> {
        self.0.attached.as_ref()?.0.downcast_ref()
    }

    /// All mistakes that [`Registry::decode`](crate::Registry::decode) found; none for any other
    /// error.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0.mistakes
    }

    /// The place of the first mistake in its document, as a JSON pointer: `/layers/0/width`.
    pub fn pointer(&self) -> Option<&str> {
        self.0.mistakes.first().map(Mistake::pointer)
    }

    pub(crate) fn with_mistakes(mut self, mistakes: Vec<Mistake>) -> Self {
        self.0.mistakes = mistakes;
        self
    }

    /// Add how to mend it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Add the error that caused this one.
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Put a context in front of the text: `context: text`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.context.push(context.to_string());
        self
    }

    /// The same error once more, for another one who waits for the same thing; causes are kept as
    /// their texts.
    pub(crate) fn copied(&self) -> Self {
        let Inner { kind, message, context, hint, retryable, panic, attached, mistakes, source: _ } =
            &*self.0;
        Error(Box::new(Inner {
            kind: *kind,
            message: message.clone(),
            context: context.clone(),
            hint: hint.clone(),
            retryable: *retryable,
            panic: *panic,
            source: Chain::of(causes_of(self)),
            attached: attached.clone(),
            mistakes: mistakes.clone(),
        }))
    }

    /// Add what a layer above knows; it replaces what was added before.
    pub(crate) fn attach<T: Send + Sync + 'static>(mut self, what: T) -> Self {
        self.0.attached = Some(Attached(Arc::new(what)));
        self
    }

    /// A value given by the caller is not acceptable.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// No such component, version, job or run.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NotFound, message)
    }

    /// The state has moved.
    pub fn conflict(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Conflict, message)
    }

    /// The store failed.
    pub fn store(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Store, message)
    }

    /// Stored bytes are not what their name says.
    pub fn integrity(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Integrity, message)
    }

    /// A defect of superduper itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        causes_of(self).iter().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|error| error as &(dyn std::error::Error + 'static))
    }
}

impl From<BoxError> for Error {
    /// An `Error` in the box is taken out; anything else becomes the source of a user error.
    fn from(error: BoxError) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => {
                let mut error = Error::new(ErrorKind::User, other.to_string());
                error.0.source = Chain::of(causes_of(&*other));
                error
            }
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::from(Box::new(error) as BoxError)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::from(Box::new(error) as BoxError)
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// A cause chain kept as text, for causes that cannot be moved out of their error.
#[derive(Debug)]
struct Chain {
    message: String,
    next: Option<Box<Chain>>,
}

impl Chain {
    /// The chain of these texts, outermost first.
    fn of(causes: Vec<String>) -> Option<BoxError> {
        let chain = causes
            .into_iter()
            .rev()
            .fold(None, |next, message| Some(Box::new(Chain { message, next })));
        chain.map(|chain| chain as BoxError)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Chain {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as &(dyn std::error::Error + 'static))
    }
}

/// Adds [`context`](ResultExt::context) to any result.
pub trait ResultExt<T> {
    /// Put a context in front of the error's text.
    ///
    /// # Errors
    /// The error of `self`, as a superduper [`Error`].
    fn context(self, context: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<BoxError>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::from(error.into()).context(context))
    }
}

/// How a job came to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The method returned an error.
    Error,
    /// The method panicked.
    Panic,
    /// The attempt ran longer than its time limit.
    Timeout,
    /// The process that ran the attempt is gone.
    WorkerLost,
    /// The job was cancelled.
    Cancelled,
    /// Something that this job needs failed or was cancelled.
    Upstream,
}

/// The failure of a job: data, stored with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobFailure {
    /// How the job came to fail.
    pub kind: FailureKind,
    /// The kind of the error that the method returned; `None` where it returned none, and in
    /// records of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "kind_name")]
    pub error_kind: Option<ErrorKind>,
    /// The error's text, or that of the panic.
    pub message: String,
    /// Where the method panicked: file, line and column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The texts of its causes, outermost first; none of them repeats an earlier text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Whether a retry may help.
    pub retryable: bool,
}

/// The kind of an error by its name. A name that this program does not know is none.
mod kind_name {
    use super::ErrorKind;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        kind: &Option<ErrorKind>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        kind.map(ErrorKind::name).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ErrorKind>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(ErrorKind::from_name))
    }
}

impl JobFailure {
    /// The failure that an error of user code stands for.
    pub fn of(error: &Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Timeout => FailureKind::Timeout,
            ErrorKind::Cancelled => FailureKind::Cancelled,
            _ if error.0.panic => FailureKind::Panic,
            _ => FailureKind::Error,
        };
        JobFailure {
            error_kind: Some(error.kind()),
            causes: causes_of(error),
            retryable: error.is_retryable(),
            ..JobFailure::new(kind, error.to_string())
        }
    }

    /// A failure without causes.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let retryable = !matches!(kind, FailureKind::Cancelled | FailureKind::Upstream);
        JobFailure {
            kind,
            error_kind: None,
            message: message.into(),
            location: None,
            causes: Vec::new(),
            retryable,
        }
    }

    /// The error that reports this failure: `what: message`, with the hint and the causes of the
    /// failure.
    pub fn to_error(&self, kind: ErrorKind, what: impl fmt::Display) -> Error {
        let (text, hint) = self.parts();
        let mut error = Error::new(kind, format!("{what}: {text}"));
        error.0.hint = hint;
        error.0.source = Chain::of(self.further_causes());
        error
    }

    /// The text with the place of a panic, and the hint.
    fn parts(&self) -> (String, Option<String>) {
        let (text, hint) = match self.message.split_once("\nhint: ") {
            Some((text, hint)) => (text, Some(hint.to_owned())),
            None => (&*self.message, None),
        };
        match &self.location {
            Some(location) => (format!("{text} (at {location})"), hint),
            None => (text.to_owned(), hint),
        }
    }

    /// The causes that say more than the text; records of older programs repeat it.
    fn further_causes(&self) -> Vec<String> {
        unsaid(&self.message, self.causes.iter().cloned())
    }
}

impl From<&str> for JobFailure {
    fn from(message: &str) -> Self {
        JobFailure::new(FailureKind::Error, message)
    }
}

impl From<String> for JobFailure {
    fn from(message: String) -> Self {
        JobFailure::new(FailureKind::Error, message)
    }
}

impl From<Error> for JobFailure {
    fn from(error: Error) -> Self {
        JobFailure::of(&error)
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, hint) = self.parts();
        f.write_str(&text)?;
        self.further_causes().iter().try_for_each(|cause| write!(f, ": {cause}"))?;
        hint.map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for JobFailure {}

/// The texts of an error's causes, outermost first, without what an earlier text says already.
fn causes_of(error: &dyn std::error::Error) -> Vec<String> {
    unsaid(
        &error.to_string(),
        std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string),
    )
}

/// Of these texts, what neither `first` nor an earlier one of them says.
fn unsaid(first: &str, texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut said = first.to_owned();
    let mut further = Vec::new();
    for text in texts {
        let lines: Vec<&str> = text
            .lines()
            .map(|line| without_head(&said, line))
            .filter(|line| !says(&said, line))
            .collect();
        if lines.is_empty() {
            continue;
        }
        let text = lines.join("\n");
        said.push('\n');
        said.push_str(&text);
        further.push(text);
    }
    further
}

/// Whether a text contains another one as a part of its own: the whole of it, after a colon, or in
/// brackets or quotes.
fn says(text: &str, part: &str) -> bool {
    let opens = |before: &str| {
        before.is_empty()
            || before.ends_with(": ")
            || before.ends_with(['\n', '(', '[', '"', '`', '\''])
    };
    let closes = |after: &str| {
        after.is_empty() || after.starts_with([':', '\n', ')', ']', '"', '`', '\'', ',', ';', '.'])
    };
    part.trim().is_empty()
        || text
            .match_indices(part)
            .any(|(at, _)| opens(&text[..at]) && closes(&text[at + part.len()..]))
}

/// A line `message: more` without the message, where that is an earlier line or the end of one.
fn without_head<'a>(said: &str, line: &'a str) -> &'a str {
    let ends = |head: &str| {
        said.lines().any(|earlier| {
            earlier.strip_suffix(head).is_some_and(|rest| rest.is_empty() || rest.ends_with(": "))
        })
    };
    let cut = line.rmatch_indices(": ").find(|(at, _)| ends(&line[..*at]));
    cut.map_or(line, |(at, colon)| &line[at + colon.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error whose text has the text of its cause in it, as many crates write them.
    #[derive(Debug)]
    struct Outer(&'static str, std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0.replace("{}", &self.1.to_string()))
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.1)
        }
    }

    fn outer(text: &'static str) -> Error {
        Error::from(Box::new(Outer(text, "x".parse::<i32>().expect_err("no number"))) as BoxError)
    }

    #[test]
    fn fault_30_no_cause_repeats_what_was_said() {
        const CAUSE: &str = "invalid digit found in string";
        for text in ["reading: {}", "reading ({})", "{}: reading", "reading \"{}\"", "{}"] {
            for error in [
                outer(text),
                Error::store("top").with_source(outer(text)),
                outer(text).context("while it ran"),
            ] {
                let failure = JobFailure::of(&error);
                let again = failure.to_error(ErrorKind::JobFailed, "job 1");
                for printed in [format!("{error:?}"), failure.to_string(), format!("{again:?}")] {
                    assert_eq!(printed.matches(CAUSE).count(), 1, "{printed}");
                }
            }
        }
        let apart = outer("reading");
        assert_eq!(format!("{apart:?}"), format!("User: reading\n  caused by: {CAUSE}"));
        assert_eq!(JobFailure::of(&apart).to_string(), format!("reading: {CAUSE}"));
        let repeated = JobFailure {
            causes: vec!["boom: no room".into(), "no room".into()],
            ..JobFailure::new(FailureKind::Error, "boom")
        };
        assert_eq!(repeated.to_string(), "boom: no room", "a record of an older program");
        let short = JobFailure {
            causes: vec!["a".into(), "b".into()],
            ..JobFailure::new(FailureKind::Error, "that a cause has")
        };
        assert_eq!(
            short.to_string(),
            "that a cause has: a: b",
            "a word inside of a text is no cause that was named"
        );
    }

    #[test]
    fn fault_30_a_hint_is_given_once_and_last() {
        let missing = Error::not_found("no key")
            .with_hint("set KEY")
            .with_source(std::io::Error::other("gone"));
        let wrapped = Error::store("setup")
            .with_source(Error::not_found("no key").with_hint("set KEY"))
            .with_hint("set KEY");
        assert_eq!(format!("{wrapped:?}").matches("set KEY").count(), 1, "{wrapped:?}");
        let failure = JobFailure::of(&missing);
        assert_eq!(failure.to_string(), "no key: gone\nhint: set KEY");
        assert_eq!(
            format!("{:?}", failure.to_error(ErrorKind::JobFailed, "job 1")),
            "JobFailed: job 1: no key\nhint: set KEY\n  caused by: gone"
        );
    }

    #[test]
    fn fault_30_the_kind_of_an_error_says_whether_a_retry_helps() {
        for (error, name, retryable) in [
            (Error::msg("no room"), "user", true),
            (Error::store("no room"), "store", true),
            (Error::invalid("no rows"), "invalid_input", false),
            (Error::not_found("no rows"), "not_found", false),
            (Error::not_found("no rows yet").retryable(), "not_found", true),
            (Error::msg("no use").fatal(), "user", false),
        ] {
            let failure = JobFailure::of(&error);
            assert_eq!(
                (failure.error_kind.map(ErrorKind::name), failure.retryable),
                (Some(name), retryable),
                "{error}"
            );
            let stored = serde_json::to_value(&failure).expect("JSON");
            assert_eq!(stored["error_kind"], name);
            assert_eq!(serde_json::from_value::<JobFailure>(stored).expect("a failure"), failure);
        }
        let of_others = r#"{"kind":"error","message":"m","retryable":true,"error_kind":"kind_of_a_later_program"}"#;
        assert_eq!(
            serde_json::from_str::<JobFailure>(of_others).expect("a failure").error_kind,
            None
        );
        let of_before = r#"{"kind":"panic","message":"panicked: m","retryable":true}"#;
        assert_eq!(
            serde_json::from_str::<JobFailure>(of_before).expect("a failure"),
            JobFailure::new(FailureKind::Panic, "panicked: m")
        );
    }
}
