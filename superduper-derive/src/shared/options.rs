//! Lists of options as they stand in attributes: `kind = "…", migrate, version = 2`.
//!
//! Invariant: each option of a list is looked at, whatever is wrong with the ones before it.

use super::{Errors, suggestion};
use proc_macro2::TokenTree;
use syn::{
    Ident, LitInt, LitStr, Path, Token, bracketed, ext::IdentExt, parse::ParseStream, token,
};

/// The options that an attribute knows.
pub(crate) struct OptionList {
    /// Their names.
    pub(crate) known: &'static [&'static str],
    /// Those that may be given more than once.
    pub(crate) repeatable: &'static [&'static str],
    /// Other spellings: `(written, meant)`.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
}

impl OptionList {
    /// Read a list; `read` is given each option's name and reads its value.
    pub(crate) fn read(
        &self,
        input: ParseStream<'_>,
        errors: &mut Errors,
        mut read: impl FnMut(&str, &Ident, ParseStream<'_>) -> syn::Result<()>,
    ) -> syn::Result<()> {
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            match input.call(Ident::parse_any) {
                Ok(ident) => self.read_one(input, errors, &mut seen, &ident, &mut read),
                Err(error) => {
                    errors.push(syn::Error::new(error.span(), "expected the name of an option"))
                }
            }
            while !input.is_empty() && !input.peek(Token![,]) {
                input.parse::<TokenTree>()?;
            }
            if input.peek(Token![,]) {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    fn read_one(
        &self,
        input: ParseStream<'_>,
        errors: &mut Errors,
        seen: &mut Vec<String>,
        ident: &Ident,
        read: &mut impl FnMut(&str, &Ident, ParseStream<'_>) -> syn::Result<()>,
    ) {
        let written = ident.to_string();
        let name = self
            .aliases
            .iter()
            .find(|(alias, _)| *alias == written)
            .map_or(written.as_str(), |(_, meant)| meant);
        if !self.known.contains(&name) {
            errors.at(
                ident.span(),
                format!(
                    "unknown option `{written}`{}",
                    suggestion(&written, self.known, "options")
                ),
            );
            return;
        }
        if !self.repeatable.contains(&name) {
            if seen.iter().any(|other| other == name) {
                errors.at(ident.span(), format!("option `{name}` is given twice"));
                return;
            }
            seen.push(name.to_owned());
        }
        match read(name, ident, input) {
            Err(error) => errors.push(error),
            Ok(()) if input.peek(Token![=]) => {
                errors.at(input.span(), format!("option `{name}` takes no value"))
            }
            Ok(()) if !input.is_empty() && !input.peek(Token![,]) => {
                errors.at(input.span(), "expected `,`")
            }
            Ok(()) => {}
        }
    }
}

/// Read `= "text"`; `example` is what the option looks like when it is right.
pub(crate) fn text(option: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<LitStr> {
    equals(option, input, example)?;
    input.parse().map_err(|error| {
        syn::Error::new(error.span(), format!("expected a text, as in `{example}`"))
    })
}

/// Read `= 3`.
pub(crate) fn whole_number(
    option: &Ident,
    input: ParseStream<'_>,
    example: &str,
) -> syn::Result<u32> {
    equals(option, input, example)?;
    let wrong = |span| syn::Error::new(span, format!("expected a whole number, as in `{example}`"));
    let literal: LitInt = input.parse().map_err(|error: syn::Error| wrong(error.span()))?;
    literal.base10_parse().map_err(|_| wrong(literal.span()))
}

/// Read `= yes` or `= no`.
pub(crate) fn yes_or_no(option: &Ident, input: ParseStream<'_>) -> syn::Result<bool> {
    let example = format!("{option} = yes");
    equals(option, input, &example)?;
    let span = input.span();
    match input.call(Ident::parse_any) {
        Ok(word) if word == "yes" => Ok(true),
        Ok(word) if word == "no" => Ok(false),
        _ => Err(syn::Error::new(span, "expected `yes` or `no`")),
    }
}

/// Read `= "a"` or `= ["a", "b"]`.
pub(crate) fn one_or_many(
    option: &Ident,
    input: ParseStream<'_>,
    example: &str,
) -> syn::Result<Vec<LitStr>> {
    equals(option, input, example)?;
    if !input.peek(token::Bracket) {
        let one = input.parse().map_err(|error: syn::Error| {
            syn::Error::new(error.span(), format!("expected a text or a list of texts, as in `{example}` or `{option} = [\"a\", \"b\"]`"))
        })?;
        return Ok(vec![one]);
    }
    let content;
    bracketed!(content in input);
    let items = content.parse_terminated(<LitStr as syn::parse::Parse>::parse, Token![,]);
    let items = items.map_err(|error| {
        syn::Error::new(error.span(), format!("expected texts, as in `{option} = [\"a\", \"b\"]`"))
    })?;
    Ok(items.into_iter().collect())
}

/// Read `= "some::path"`.
pub(crate) fn path(option: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<Path> {
    let literal = text(option, input, example)?;
    literal
        .parse()
        .map_err(|_| syn::Error::new(literal.span(), format!("expected a path, as in `{example}`")))
}

/// The crate that generated code refers to unless `crate = "…"` says otherwise.
pub(crate) fn default_root() -> Path {
    syn::parse_quote!(::superduper)
}

fn equals(option: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<()> {
    if input.peek(Token![=]) {
        return input.parse::<Token![=]>().map(|_| ());
    }
    Err(syn::Error::new(
        option.span(),
        format!("option `{option}` needs a value, as in `{example}`"),
    ))
}
