//! `#[derive(Component)]`: `ast` reads, `valid` holds every rule and message, `expand` writes.

mod ast;
mod builder;
mod expand;
mod fallback;
mod rename;
mod valid;

use crate::shared::Errors;
use proc_macro2::TokenStream;
use syn::DeriveInput;

/// Expand the derive; on an error, write an implementation that keeps the rest of the program quiet.
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
