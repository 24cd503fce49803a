//! `#[superduper::main]`: a main function that can also be a worker.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Error, ItemFn, spanned::Spanned};

/// Expand the attribute; on an error the function stays as it is.
pub(crate) fn main_function(args: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.to_compile_error();
            return quote!(#error #item);
        }
    };
    match check(&args, &function) {
        Ok(()) => expand(&function),
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#error #item)
        }
    }
}

fn check(args: &TokenStream, function: &ItemFn) -> Result<(), Error> {
    if !args.is_empty() {
        return Err(Error::new_spanned(args, "`#[superduper::main]` takes no arguments"));
    }
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(
            function.sig.fn_token,
            "`#[superduper::main]` goes on an `async fn`",
        ));
    }
    match function.sig.inputs.first() {
        Some(input) => Err(Error::new_spanned(input, "the main function takes no parameters")),
        None => Ok(()),
    }
}

fn expand(function: &ItemFn) -> TokenStream {
    let ItemFn { attrs, vis, sig, block, .. } = function;
    let (name, output) = (&sig.ident, &sig.output);
    let body = quote_spanned!(block.span()=> async #block);
    quote! {
        #(#attrs)*
        #vis fn #name() #output {
            ::superduper::__run_main(#body)
        }
    }
}
