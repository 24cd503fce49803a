//! How generated code turns what a method returned into what is stored.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::Path;

/// The expression that encodes `output`, whose type is known by then. Only types tell whether a result can be read back, so
/// that the choice is left to the compiler.
pub(crate) fn encode_result(output: &Ident, returned: &impl ToTokens, span: Span, root: &Path) -> TokenStream {
    // The compiler chooses without regard to lifetimes: what borrows would be taken for something that can be read.
    if borrows(returned.to_token_stream()) {
        return quote_spanned!(span=> #root::TriggerOutput::into_encoded(#output));
    }
    // At the place of the result, so that a wrong type is one error and not two.
    let checked = Ident::new("checked", Span::mixed_site().located_at(span));
    quote_spanned! {span=>
        {
            let #checked = {
                #[allow(unused_imports, reason = "which of the two applies is for the compiler to find")]
                use #root::__private::probe::{ReadBack as _, WrittenOnly as _};
                (&&#root::__private::probe::result_of(&#output)).checked()
            };
            #root::TriggerOutput::__into_encoded(#output, #checked)
        }
    }
}

fn borrows(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Punct(punct) => matches!(punct.as_char(), '&' | '\''),
        TokenTree::Group(group) => borrows(group.stream()),
        _ => false,
    })
}
