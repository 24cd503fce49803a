//! Looking at types by their tokens: all that a macro can see of them.

use proc_macro2::{Delimiter, Ident, Spacing, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Generics, Path, Type, ext::IdentExt, parse_quote, visit_mut::VisitMut};

/// The name of an identifier, without `r#`.
pub(crate) fn name_of(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The last segment of a path type: `Option` of `std::option::Option<i64>`.
pub(crate) fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        Type::Paren(paren) => last_segment(&paren.elem),
        Type::Group(group) => last_segment(&group.elem),
        _ => None,
    }
}

/// Whether `impl Trait` occurs in the type.
pub(crate) fn mentions_impl_trait(ty: &Type) -> bool {
    mentions(ty.to_token_stream(), "impl")
}

/// Whether a `dyn Trait` occurs in the type that is not `dyn Component`.
pub(crate) fn mentions_trait_object(ty: &Type) -> bool {
    let tokens = ty.to_token_stream();
    mentions(tokens.clone(), "dyn") && !mentions(tokens, "Component")
}

fn mentions(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => mentions(group.stream(), word),
        _ => false,
    })
}

/// The type with `Self` replaced by the type it stands for, to be used outside of the item.
pub(crate) fn without_self(ty: &Type, meant: &Path) -> Type {
    struct Replace<'a>(&'a Path);
    impl VisitMut for Replace<'_> {
        fn visit_path_mut(&mut self, path: &mut Path) {
            if path.is_ident("Self") {
                *path = self.0.clone();
            }
            syn::visit_mut::visit_path_mut(self, path);
        }
    }
    let mut ty = ty.clone();
    Replace(meant).visit_type_mut(&mut ty);
    ty
}

/// The generics with what every parameter of a component must be able to do.
pub(crate) fn dependency_bounds(generics: &Generics, root: &Path) -> Generics {
    let mut generics = generics.clone();
    let parameters: Vec<Ident> =
        generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    if !parameters.is_empty() {
        let clause = generics.make_where_clause();
        for parameter in parameters {
            clause.predicates.push(parse_quote! {
                #parameter: #root::__private::serde::Serialize
                    + #root::__private::serde::de::DeserializeOwned
                    + ::core::marker::Send
                    + ::core::marker::Sync
                    + 'static
            });
        }
    }
    generics
}

/// The path, with all its tokens at this place: the compiler points at where the path of a call
/// begins.
pub(crate) fn path_at(path: &Path, span: Span) -> TokenStream {
    let tokens = path.to_token_stream().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

/// Tokens as a person would write them: `BTreeMap<String, Value>`.
pub(crate) fn plain_text(tokens: &impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.to_token_stream(), &mut text);
    text.trim_end().to_owned()
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut after_word = false;
    for token in tokens {
        let word = matches!(token, TokenTree::Ident(_) | TokenTree::Literal(_));
        if word && after_word {
            text.push(' ');
        }
        after_word = word;
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.truncate(text.trim_end().len());
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' | ';' => {
                    text.push(punct.as_char());
                    text.push(' ');
                }
                '+' | '=' => {
                    text.push(' ');
                    text.push(punct.as_char());
                    text.push(' ');
                }
                '-' if punct.spacing() == Spacing::Joint => text.push_str(" -"),
                '>' if text.ends_with(" -") => text.push_str("> "),
                other => text.push(other),
            },
            other => text.push_str(&other.to_string()),
        }
    }
}
