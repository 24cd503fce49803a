//! How generated code turns what a method returned into what is stored.

use super::path_at;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::Path;

/// The expression that encodes `output`, a variable at the place of the result, whose type is known
/// by then. Only types tell whether a result can be read back, so that the choice is left to the
/// compiler.
pub(crate) fn encode_result(output: &Ident, returned: &impl ToTokens, root: &Path) -> TokenStream {
    // All at one place and of one origin: the compiler would tell an error of two places twice.
    let span = output.span();
    let root = &path_at(root, span);
    // The compiler chooses without regard to lifetimes: what borrows would be taken for something
    // that can be read.
    if borrows(returned.to_token_stream()) {
        return quote_spanned!(span=> #root::schema::TriggerOutput::into_encoded(#output));
    }
    let checked = Ident::new("checked", span);
    quote_spanned! {span=>
        {
            let #checked = {
                #[allow(unused_imports, reason = "which of the two applies is for the compiler to find")]
                use #root::__private::probe::{ReadBack as _, WrittenOnly as _};
                (&&#root::__private::probe::result_of(&#output)).checked()
            };
            #root::schema::TriggerOutput::__into_encoded(#output, #checked)
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
