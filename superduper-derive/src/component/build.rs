//! How a builder ends: what is missing, and how the values become a component.

use super::{
    ast::{Component, DefaultValue, Field, Role},
    builder::{has_setter, is_required, setter, slot},
};
use crate::shared::{name_of, path_at, without_self};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Path, spanned::Spanned};

/// Write the body of `build`.
pub(super) fn expand_build(
    component: &Component<'_>,
    identifier: &Field,
    itself: &Path,
) -> TokenStream {
    let root = &component.options.root;
    let required: Vec<&Field> = component
        .fields
        .iter()
        .filter(|field| has_setter(field, identifier) && is_required(field))
        .filter(|_| component.serde.default.is_none())
        .collect();
    let missing = expand_missing(component, &required, itself);
    let slots: Vec<Ident> = required.iter().map(|field| slot(field)).collect();
    let take = (!required.is_empty()).then(|| {
        quote! {
            let (#(::core::option::Option::Some(#slots),)*) = (#(self.#slots,)*) else {
                ::core::unreachable!("`check_builder` found no field missing")
            };
        }
    });
    let make = match &component.serde.default {
        None => expand_make(component, identifier, &required, itself),
        Some(base) => expand_over_base(component, identifier, base, itself),
    };
    quote! {
        #root::__private::check_builder::<#itself>(&self.__identifier, #missing)?;
        #take
        #make
        #root::__private::finish_builder(component)
    }
}

/// The list of the fields without a default, with those of flattened settings.
fn expand_missing(component: &Component<'_>, required: &[&Field], itself: &Path) -> TokenStream {
    let root = &component.options.root;
    let missing = required.iter().map(|field| {
        let (name, slot, setter) = (&field.name, slot(field), name_of(&setter(field)));
        quote!((#name, #setter, self.#slot.is_none()))
    });
    let flattened = component.fields.iter().filter(|field| field.flatten.is_some());
    let settings: Vec<TokenStream> = flattened
        .map(|field| {
            let (slot, ty) = (slot(field), without_self(&field.ty, itself));
            quote!(&<#ty as #root::Settings>::__missing(&self.#slot)[..])
        })
        .collect();
    match settings[..] {
        [] => quote!(&[#(#missing),*]),
        _ => quote!(&[&[#(#missing),*][..], #(#settings),*].concat()),
    }
}

/// The component by its fields.
fn expand_make(
    component: &Component<'_>,
    identifier: &Field,
    required: &[&Field],
    itself: &Path,
) -> TokenStream {
    let (name, root) = (component.ident, &component.options.root);
    let fields = component.fields.iter().map(|field| {
        let (ident, slot) = (&field.ident, slot(field));
        if field.name == identifier.name {
            let span = field.ty.span();
            return quote_spanned!(span=> #ident: ::core::convert::From::from(self.__identifier));
        }
        let value = if field.flatten.is_some() {
            quote!(#root::Settings::__make(self.#slot))
        } else if !has_setter(field, identifier) {
            default_of(field, itself)
        } else if required.iter().any(|other| other.name == field.name) {
            slot.to_token_stream()
        } else {
            value_or_default(field, &quote!(self.#slot), itself)
        };
        quote!(#ident: #value)
    });
    quote!(let component: #itself = #name { #(#fields),* };)
}

/// The component by a default of the whole struct, with what was given put over it.
fn expand_over_base(
    component: &Component<'_>,
    identifier: &Field,
    base: &DefaultValue,
    itself: &Path,
) -> TokenStream {
    let base = match base {
        DefaultValue::Function(path) => quote!(#path()),
        _ => quote!(::core::default::Default::default()),
    };
    let stored = component.fields.iter().filter(|field| has_setter(field, identifier));
    let assignments = stored.map(|field| {
        let (ident, slot) = (&field.ident, slot(field));
        if field.default.is_some() {
            let value = value_or_default(field, &quote!(self.#slot), itself);
            return quote!(component.#ident = #value;);
        }
        quote! {
            if let ::core::option::Option::Some(value) = self.#slot {
                component.#ident = value;
            }
        }
    });
    let identifier = &identifier.ident;
    quote! {
        let mut component: #itself = #base;
        component.#identifier = ::core::convert::From::from(self.__identifier);
        #(#assignments)*
    }
}

/// The value in a slot that may be empty.
pub(super) fn value_or_default(field: &Field, slot: &TokenStream, itself: &Path) -> TokenStream {
    if field.role == Role::Optional && field.default.is_none() {
        return quote!(::core::option::Option::flatten(#slot));
    }
    let default = default_of(field, itself);
    quote!(match #slot {
        ::core::option::Option::Some(value) => value,
        ::core::option::Option::None => #default,
    })
}

/// The value of a field that was not given.
pub(super) fn default_of(field: &Field, itself: &Path) -> TokenStream {
    match &field.default {
        Some(DefaultValue::Function(path)) => quote!(#path()),
        Some(DefaultValue::Value(_) | DefaultValue::Text(_)) => {
            let function = default_function(field);
            quote!(<#itself>::#function())
        }
        _ => {
            let span = field.ty.span();
            quote_spanned!(span=> ::core::default::Default::default())
        }
    }
}

/// The function that makes the default of a field out of the value in its attribute.
pub(super) fn default_function(field: &Field) -> Ident {
    format_ident!("__default_of_{}", field.name)
}

/// The functions that make the defaults which are values in attributes.
pub(super) fn expand_defaults(fields: &[Field], root: &Path) -> TokenStream {
    let functions = fields.iter().filter_map(|field| {
        let value = match field.default.as_ref()? {
            DefaultValue::Value(value) => value.to_token_stream(),
            DefaultValue::Text(text) => {
                let (span, root) = (text.span(), path_at(root, text.span()));
                quote_spanned!(span=> #root::__private::text_default(#text))
            }
            DefaultValue::Trait | DefaultValue::Function(_) => return None,
        };
        let (function, ty) = (default_function(field), &field.ty);
        Some(quote! {
            #[doc(hidden)]
            fn #function() -> #ty {
                #value
            }
        })
    });
    quote!(#(#functions)*)
}
