//! The derive itself: read, check, and write what the struct stands for.

use super::{ast, expand, fallback, valid};
use crate::shared::Errors;
use proc_macro2::TokenStream;
use syn::DeriveInput;

/// Expand the derive; on an error, write an implementation that keeps the rest of the program
/// quiet.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let options = ast::read_options(input, &mut errors);
    let component = ast::read(input, &options, &mut errors);
    let identifier = component.as_ref().and_then(|component| valid::check(component, &mut errors));
    match (errors.compile_errors(), &component, identifier) {
        (None, Some(component), Some(identifier)) => expand::expand(component, identifier),
        (errors, _, _) => {
            let fallback = fallback::expand(input, &options);
            quote::quote!(#errors #fallback)
        }
    }
}
