//! Errors of a macro, collected and emitted together, and the suggestions in them.
//!
//! Invariant: an error never stops the reading of what follows, so that one build shows all of
//! them.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use std::fmt::Display;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    /// Note an error at one place.
    pub(crate) fn at(&mut self, span: Span, message: impl Display) {
        self.push(syn::Error::new(span, message));
    }

    /// Note an error over a range of tokens.
    pub(crate) fn on(&mut self, tokens: &impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Note an error.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// Keep the value of a result, note its error.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Whether none was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All of them as one error.
    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }

    /// The `compile_error!` calls, where there are errors.
    pub(crate) fn compile_errors(&self) -> Option<TokenStream> {
        self.0.as_ref().map(syn::Error::to_compile_error)
    }
}

/// What to say after "unknown `word`": the nearest known word, else all of them.
pub(crate) fn suggestion(word: &str, known: &[&str], plural: &str) -> String {
    let length = |text: &str| text.chars().count();
    let nearest = known
        .iter()
        .filter(|candidate| **candidate != word)
        .map(|candidate| (strsim::damerau_levenshtein(candidate, word), *candidate))
        .min()
        .filter(|(distance, candidate)| {
            let longest = length(candidate).max(length(word));
            *distance < longest && *distance <= longest.div_ceil(2).min(3)
        });
    match nearest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None if known.is_empty() => format!("; there are no {plural}"),
        None => format!("; the {plural} are: {}", known.join(", ")),
    }
}
