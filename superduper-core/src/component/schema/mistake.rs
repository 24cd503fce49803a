//! What is wrong in a document, and where.

use crate::error::{Error, ErrorKind};
use std::fmt;

/// One mistake in a document, as [`Registry::decode`](crate::Registry::decode) found it;
/// [`Error::mistakes`] has all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    document: usize,
    pointer: String,
    problem: String,
    expected: String,
    near: Option<String>,
}

impl Mistake {
    pub(super) fn new(
        document: usize,
        pointer: String,
        problem: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Mistake {
            document,
            pointer,
            problem: problem.into(),
            expected: expected.into(),
            near: None,
        }
    }

    pub(super) fn near(mut self, near: Option<String>) -> Self {
        self.near = near;
        self
    }

    /// The place of the document among those that were given, from 0.
    pub fn document(&self) -> usize {
        self.document
    }

    /// The place in the document, as a JSON pointer: `/layers/0/width`. For a field that is missing
    /// it is the place where the field should be.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// What is there: ``unknown field `widht` ``.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What should be there: `an integer from 0 to 255`. Empty where the problem says it all.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The name that may have been meant.
    pub fn did_you_mean(&self) -> Option<&str> {
        self.near.as_deref()
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the document" } else { &self.pointer };
        write!(f, "{place}: {}", self.problem)?;
        if !self.expected.is_empty() {
            write!(f, ", expected {}", self.expected)?;
        }
        match &self.near {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}

/// The mistakes of some documents.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) mistakes: Vec<Mistake>,
    /// The error behind a mistake, where it is one of user code.
    pub(crate) source: Option<Error>,
}

impl Report {
    /// The error that has them all; `documents` is how many were given.
    pub(crate) fn into_error(self, documents: usize) -> Error {
        let name = |mistake: &Mistake| match documents {
            1 => mistake.to_string(),
            _ => format!("document {}: {mistake}", mistake.document),
        };
        let text = match self.mistakes.as_slice() {
            [mistake] => name(mistake),
            mistakes => {
                let lines: Vec<String> =
                    mistakes.iter().map(|mistake| format!("\n  {}", name(mistake))).collect();
                format!("{} mistakes in the documents:{}", mistakes.len(), lines.concat())
            }
        };
        let unlinked =
            self.mistakes.iter().find_map(|mistake| crate::near::unlinked(&mistake.problem));
        let error = Error::new(ErrorKind::InvalidInput, text).with_mistakes(self.mistakes);
        let error = match unlinked {
            Some(hint) => error.with_hint(hint),
            None => error,
        };
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

/// The known name that may have been meant.
pub(crate) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    crate::near::nearest(word, known).map(str::to_owned)
}
