//! The one error type of superduper and the failure of a job as data.
//!
//! An [`Error`] is opaque: its [`ErrorKind`] says what a program can do about it, its text names the
//! component, field or job, and a `hint:` line says how to mend it where that is known. A job's
//! failure is not an `Error` but a [`JobFailure`]: plain data that is stored with the job.

use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// The metadata store or the artifact store failed.
    Store,
    /// An error of user code.
    User,
    /// A defect of superduper itself.
    Internal,
}

/// The error of superduper. See [`ErrorKind`] for the cases.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<String>,
    hint: Option<String>,
    retryable: Option<bool>,
    /// Whether it stands for a panic of user code.
    panic: bool,
    source: Option<BoxError>,
    outcome: Option<Box<crate::job::Outcome>>,
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
            outcome: None,
        }))
    }

    /// Make an error for user code.
    pub fn msg(message: impl fmt::Display) -> Self {
        Error::new(ErrorKind::User, message.to_string())
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

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable.unwrap_or(matches!(self.0.kind, ErrorKind::Store | ErrorKind::Timeout | ErrorKind::User | ErrorKind::NotSetUp))
    }

    /// Say that trying again cannot help: a job that returns this error is not retried.
    pub fn fatal(mut self) -> Self {
        self.0.retryable = Some(false);
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

    /// The outcome of the run in which a job failed, for an error of kind [`ErrorKind::JobFailed`].
    pub fn outcome(&self) -> Option<&crate::job::Outcome> {
        self.0.outcome.as_deref()
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

    /// The same error once more, for another one who waits for the same thing; causes are kept as their texts.
    pub(crate) fn copied(&self) -> Self {
        let Inner { kind, message, context, hint, retryable, panic, source, outcome } = &*self.0;
        Error(Box::new(Inner {
            kind: *kind,
            message: message.clone(),
            context: context.clone(),
            hint: hint.clone(),
            retryable: *retryable,
            panic: *panic,
            source: source.as_deref().map(|source| Box::new(Chain::of(source)) as BoxError),
            outcome: outcome.clone(),
        }))
    }

    pub(crate) fn with_outcome(mut self, outcome: crate::job::Outcome) -> Self {
        self.0.outcome = Some(Box::new(outcome));
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
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            write!(f, "\n  caused by: {error}")?;
            source = error.source();
        }
        Ok(())
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
                let message = other.to_string();
                let source = other.source().map(Chain::of);
                let mut error = Error::new(ErrorKind::User, message);
                error.0.source = source.map(|chain| Box::new(chain) as BoxError);
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
    fn of(error: &(dyn std::error::Error + 'static)) -> Chain {
        Chain { message: error.to_string(), next: error.source().map(|next| Box::new(Chain::of(next))) }
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
pub struct JobFailure {
    /// How the job came to fail.
    pub kind: FailureKind,
    /// The error's text.
    pub message: String,
    /// The texts of its causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Whether a retry may help.
    pub retryable: bool,
}

impl JobFailure {
    /// The failure that an error of user code stands for.
    pub fn of(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        let kind = match error.kind() {
            ErrorKind::Timeout => FailureKind::Timeout,
            ErrorKind::Cancelled => FailureKind::Cancelled,
            _ if error.0.panic => FailureKind::Panic,
            _ => FailureKind::Error,
        };
        JobFailure { kind, message: error.to_string(), causes, retryable: !error.is_fatal() }
    }

    /// A failure without causes.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let retryable = !matches!(kind, FailureKind::Cancelled | FailureKind::Upstream);
        JobFailure { kind, message: message.into(), causes: Vec::new(), retryable }
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JobFailure {}
