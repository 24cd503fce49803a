//! Reading what `#[source]` stands on, and writing what was found of it.

use super::capture::capture;
use crate::shared::{
    Errors, OptionList, default_root, mentions_impl_trait, name_of, path, plain_text,
};
use proc_macro2::{Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, DeriveInput, FnArg, Generics, Ident, Item, ItemFn, ItemImpl, Path, Type,
    parse::Parser,
};

const OPTIONS: OptionList = OptionList { known: &["crate"], repeatable: &[], aliases: &[] };
const PLACES: &str = "`#[source]` stands on a struct, an enum, a function or an `impl` block";

/// An item whose source is wanted.
struct Wanted<'a> {
    /// `struct Model`.
    item: String,
    /// A token that the item cannot be without.
    anchor: (String, Span),
    owner: TokenStream,
    /// The name of the type of an `impl` block.
    of: Option<String>,
    attrs: &'a [Attribute],
}

/// Expand the attribute; the item itself stays as it is.
pub(crate) fn attribute(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut root = default_root();
    let read = |input: syn::parse::ParseStream<'_>| {
        OPTIONS.read(input, &mut errors, |_, ident, value| {
            root = path(ident, value, "crate = \"::superduper\"")?;
            Ok(())
        })
    };
    if let Err(error) = read.parse2(args) {
        errors.push(error);
    }
    let parsed = syn::parse2::<Item>(item.clone());
    let wanted = match &parsed {
        Ok(Item::Struct(parsed)) => {
            Some(wanted_type("struct", &parsed.ident, &parsed.generics, &parsed.attrs, &root))
        }
        Ok(Item::Enum(parsed)) => {
            Some(wanted_type("enum", &parsed.ident, &parsed.generics, &parsed.attrs, &root))
        }
        Ok(Item::Fn(parsed)) => wanted_fn(parsed, &root),
        Ok(Item::Impl(parsed)) => Some(wanted_impl(parsed, &root)),
        _ => None,
    };
    if wanted.is_none() {
        let first: TokenStream = item.clone().into_iter().take(2).collect();
        errors.on(&first, PLACES);
    }
    let entry = wanted.filter(|_| errors.is_empty()).map(|wanted| expand(&wanted, &item, &root));
    let errors = errors.compile_errors();
    quote!(#errors #item #entry)
}

/// What `#[component(source)]` writes.
pub(crate) fn of_type(input: &DeriveInput, root: &Path) -> TokenStream {
    let wanted = wanted_type("struct", &input.ident, &input.generics, &[], root);
    expand(&wanted, &input.to_token_stream(), root)
}

fn wanted_type<'a>(
    what: &str,
    ident: &Ident,
    generics: &Generics,
    attrs: &'a [Attribute],
    root: &Path,
) -> Wanted<'a> {
    let owner = if generics.params.is_empty() {
        of_concrete(&quote!(#ident), root)
    } else {
        of_generic(ident, root)
    };
    let item = format!("{what} {}", name_of(ident));
    Wanted { item, anchor: (ident.to_string(), ident.span()), owner, of: None, attrs }
}

fn wanted_fn<'a>(function: &'a ItemFn, root: &Path) -> Option<Wanted<'a>> {
    let signature = &function.sig;
    if matches!(signature.inputs.first(), Some(FnArg::Receiver(_))) {
        return None;
    }
    let ident = &signature.ident;
    let takes_any = signature.inputs.iter().any(|input| match input {
        FnArg::Typed(argument) => mentions_impl_trait(&argument.ty),
        FnArg::Receiver(_) => false,
    });
    let has_parameters = signature.generics.type_params().next().is_some()
        || signature.generics.const_params().next().is_some();
    let private = quote!(#root::__private);
    let owner = if takes_any || has_parameters {
        of_generic(ident, root)
    } else {
        quote!(#private::Owner::Type(|| #private::type_of(&#ident)))
    };
    let anchor = (ident.to_string(), ident.span());
    let (item, of) = (format!("fn {}", name_of(ident)), None);
    Some(Wanted { item, anchor, owner, of, attrs: &function.attrs })
}

fn wanted_impl<'a>(block: &'a ItemImpl, root: &Path) -> Wanted<'a> {
    let itself = plain_text(&block.self_ty);
    let item = match &block.trait_ {
        Some((path, _)) => format!("impl {} for {itself}", plain_text(path)),
        None => format!("impl {itself}"),
    };
    let owner = match (&*block.self_ty, block.generics.params.is_empty()) {
        (ty, true) => of_concrete(ty, root),
        (Type::Path(ty), false) => of_path(&ty.path, root),
        (ty, false) => of_path(&syn::parse_quote!(#ty), root),
    };
    let anchor = ("impl".to_owned(), block.impl_token.span);
    let of = match &*block.self_ty {
        Type::Path(ty) => ty.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    };
    Wanted { item, anchor, owner, of, attrs: &block.attrs }
}

fn of_concrete(ty: &impl ToTokens, root: &Path) -> TokenStream {
    quote!(#root::__private::Owner::Type(|| ::core::any::TypeId::of::<#ty>()))
}

fn of_generic(ident: &Ident, root: &Path) -> TokenStream {
    let name = name_of(ident);
    quote!(#root::__private::Owner::Generic(::core::concat!(::core::module_path!(), "::", #name)))
}

/// The path of a type with parameters, as far as the tokens tell: one name is a type of the same
/// module, and `crate` is the first name of each path.
fn of_path(path: &Path, root: &Path) -> TokenStream {
    let names: Vec<String> = path.segments.iter().map(|segment| name_of(&segment.ident)).collect();
    match names.split_first() {
        Some((first, rest)) if first == "crate" => {
            let rest = format!("::{}", rest.join("::"));
            quote!(#root::__private::Owner::Within(::core::module_path!(), #rest))
        }
        Some((name, [])) => {
            quote!(#root::__private::Owner::Generic(::core::concat!(::core::module_path!(), "::", #name)))
        }
        _ => {
            let name = names.join("::");
            quote!(#root::__private::Owner::Generic(#name))
        }
    }
}

fn expand(wanted: &Wanted<'_>, tokens: &TokenStream, root: &Path) -> TokenStream {
    let Wanted { item, anchor: (name, span), owner, of, attrs } = wanted;
    let private = quote!(#root::__private);
    let last = tokens.clone().into_iter().last();
    let last = last.as_ref().map_or_else(Span::call_site, TokenTree::span);
    let captured = match capture((name.as_str(), *span), last, of.as_deref()) {
        Ok(found) => {
            let line = Literal::usize_unsuffixed(found.line);
            let (path, text, uses) = (&found.path, &found.text, &found.uses);
            let helpers = &found.helpers;
            quote! {
                #private::Captured::found(
                    #item, #path, #line, #text, &[#(#uses),*], &[#(#helpers),*],
                    ::core::module_path!()
                )
            }
        }
        Err(why) => quote!(#private::Captured::missing(#item, #why)),
    };
    let cfg = attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    quote! {
        #(#cfg)*
        #[doc(hidden)]
        const _: () = {
            #private::inventory::submit! {
                #private::SourceEntry { owner: #owner, captured: #captured }
            }
        };
    }
}
