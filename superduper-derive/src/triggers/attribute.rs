//! The two attributes: `#[triggers]` on a block, and a `#[trigger]` that no block has read.

use super::{ast, expand, valid};
use crate::shared::Errors;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemImpl, parse::Parser};

/// Expand the attribute; on an error, keep the user's methods and write an empty table.
pub(crate) fn triggers(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let parsed = syn::parse2::<ItemImpl>(item.clone());
    let Ok(mut block) = parsed else {
        let is_impl = item.clone().into_iter().any(|token| token.to_string() == "impl");
        let error = match parsed {
            Err(error) if is_impl => error,
            _ => syn::Error::new_spanned(
                first_tokens(&item),
                "`#[triggers]` stands on the `impl` block of a component",
            ),
        };
        let error = error.to_compile_error();
        return quote!(#error #item);
    };
    let root =
        errors.keep((|input: syn::parse::ParseStream<'_>| ast::read_root(input)).parse2(args));
    let mut triggers = ast::read(&mut block, &mut errors);
    valid::check(&mut block, &mut triggers, &mut errors);
    let errors = errors.compile_errors();
    if errors.is_some() {
        triggers.clear();
    }
    // A trait impl or a type with lifetimes cannot have the table at all.
    let table =
        valid::can_have_table(&block).then(|| expand::expand(&block, &triggers, root.flatten()));
    quote!(#errors #block #table)
}

/// Expand `#[trigger]` where `#[triggers]` did not take it away.
pub(crate) fn misplaced(item: &TokenStream) -> TokenStream {
    let message = "a `#[trigger(…)]` is read by `#[triggers]`, which is missing here: put `#[triggers]` on the `impl` block of this method";
    let error = syn::Error::new(proc_macro2::Span::call_site(), message).to_compile_error();
    quote!(#error #item)
}

fn first_tokens(item: &TokenStream) -> TokenStream {
    item.clone().into_iter().take(2).collect()
}
