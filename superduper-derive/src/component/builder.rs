//! The checked builder of a component: `Model::builder("mnist").lr(0.1).build()?`.

use super::{
    ast::{Component, DefaultValue, Field, Role},
    valid::is_primitive,
};
use crate::shared::{last_segment, name_of, without_self};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{GenericArgument, Generics, Path, PathArguments, Type, spanned::Spanned};

/// Write the builder type and `fn builder`.
pub(super) fn expand(component: &Component<'_>, identifier: &Field, bounded: &Generics, itself: &Path) -> TokenStream {
    let Component { ident, vis, .. } = component;
    let root = &component.options.root;
    let builder = format_ident!("__{}Builder", ident);
    let (impl_generics, type_generics, where_clause) = bounded.split_for_impl();
    let (parameters, declared) = (&component.generics, &component.generics.where_clause);
    let name = name_of(ident);

    let settable: Vec<&Field> = component.fields.iter().filter(|field| has_setter(field, identifier)).collect();
    let slots = settable.iter().map(|field| {
        let (slot, ty) = (slot(field), without_self(&field.ty, itself));
        quote!(#slot: ::core::option::Option<#ty>)
    });
    let empty = settable.iter().map(|field| {
        let slot = slot(field);
        quote!(#slot: ::core::option::Option::None)
    });
    let setters = settable.iter().map(|field| expand_setter(component, field, itself));
    let build = expand_build(component, identifier, itself);
    let builder_doc = format!("Starts a [`{name}`] with this identifier; `build` checks it and runs `postinit`.");
    let build_doc = format!(
        "Finishes the [`{name}`].\n\n# Errors\n`InvalidInput` for fields that are missing or an identifier that is not usable; the error of `postinit`."
    );
    quote! {
        #[must_use = "a builder does nothing until `build` is called"]
        #vis struct #builder #parameters #declared {
            __identifier: ::std::string::String,
            __component: ::core::marker::PhantomData<fn() -> #itself>,
            #(#slots),*
        }

        #[automatically_derived]
        impl #impl_generics #itself #where_clause {
            #[doc = #builder_doc]
            #vis fn builder(identifier: impl ::core::convert::Into<::std::string::String>) -> #builder #type_generics {
                #builder {
                    __identifier: identifier.into(),
                    __component: ::core::marker::PhantomData,
                    #(#empty),*
                }
            }
        }

        #[automatically_derived]
        impl #impl_generics #builder #type_generics #where_clause {
            #(#setters)*

            #[doc = #build_doc]
            #vis fn build(self) -> #root::Result<#itself> {
                #build
            }
        }
    }
}

fn has_setter(field: &Field, identifier: &Field) -> bool {
    field.is_stored() && field.name != identifier.name
}

fn slot(field: &Field) -> Ident {
    format_ident!("__{}", field.name, span = field.ident.span())
}

/// The setter is named after the field; `build` is taken.
fn setter(field: &Field) -> Ident {
    if field.name == "build" { format_ident!("with_build", span = field.ident.span()) } else { field.ident.clone() }
}

fn expand_setter(component: &Component<'_>, field: &Field, itself: &Path) -> TokenStream {
    let vis = component.vis;
    let (setter, slot, ty) = (setter(field), slot(field), without_self(&field.ty, itself));
    let doc = format!("Sets the field `{}`.", field.name);
    let (parameter, value) = if takes_exact_type(component, &field.ty) {
        (ty.to_token_stream(), quote!(value))
    } else {
        (quote!(impl ::core::convert::Into<#ty>), quote!(::core::convert::Into::into(value)))
    };
    quote! {
        #[doc = #doc]
        #vis fn #setter(mut self, value: #parameter) -> Self {
            self.#slot = ::core::option::Option::Some(#value);
            self
        }
    }
}

/// Exact types let literals take the field's type and boxes become trait objects.
fn takes_exact_type(component: &Component<'_>, ty: &Type) -> bool {
    if is_primitive(ty) {
        return true;
    }
    let Some(segment) = last_segment(ty) else { return false };
    if component.generics.type_params().any(|parameter| matches!(ty, Type::Path(path) if path.path.is_ident(&parameter.ident))) {
        return true;
    }
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => {
            matches!(arguments.args.first(), Some(GenericArgument::Type(Type::TraitObject(_))))
        }
        _ => false,
    }
}

fn expand_build(component: &Component<'_>, identifier: &Field, itself: &Path) -> TokenStream {
    let ident = component.ident;
    let root = &component.options.root;
    let base = component.serde.default.as_ref();
    let stored = component.fields.iter().filter(|field| has_setter(field, identifier));
    let required: Vec<&Field> = stored.filter(|field| base.is_none() && field.role != Role::Optional && field.default.is_none()).collect();
    let missing = required.iter().map(|field| {
        let (name, slot, setter) = (&field.name, slot(field), name_of(&setter(field)));
        quote!((#name, #setter, self.#slot.is_none()))
    });
    let check = quote! {
        #root::__private::check_builder::<#itself>(&self.__identifier, &[#(#missing),*])?;
    };
    let (slots, values): (Vec<_>, Vec<_>) = required.iter().map(|field| (slot(field), slot(field))).unzip();
    let take = (!required.is_empty()).then(|| {
        quote! {
            let (#(::core::option::Option::Some(#slots),)*) = (#(self.#values,)*) else {
                ::core::unreachable!("`check_builder` found no field missing")
            };
        }
    });
    let fields = component.fields.iter().map(|field| {
        let (ident, slot) = (&field.ident, slot(field));
        if field.name == identifier.name {
            let span = field.ty.span();
            return quote_spanned!(span=> #ident: ::core::convert::From::from(self.__identifier));
        }
        let value = if !has_setter(field, identifier) {
            default_of(field)
        } else if required.iter().any(|other| other.name == field.name) {
            slot.to_token_stream()
        } else if field.role == Role::Optional && field.default.is_none() {
            quote!(::core::option::Option::flatten(self.#slot))
        } else {
            let default = default_of(field);
            quote!(match self.#slot {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => #default,
            })
        };
        quote!(#ident: #value)
    });
    let make = match base {
        None => quote!(let component: #itself = #ident { #(#fields),* };),
        Some(base) => {
            let base = match base {
                DefaultValue::Trait => quote!(::core::default::Default::default()),
                DefaultValue::Function(path) => quote!(#path()),
            };
            let identifier = &identifier.ident;
            let assignments = component.fields.iter().filter(|field| &field.ident != identifier && field.is_stored()).map(|field| {
                let (ident, slot) = (&field.ident, slot(field));
                quote! {
                    if let ::core::option::Option::Some(value) = self.#slot {
                        component.#ident = value;
                    }
                }
            });
            quote! {
                let mut component: #itself = #base;
                component.#identifier = ::core::convert::From::from(self.__identifier);
                #(#assignments)*
            }
        }
    };
    quote! {
        #check
        #take
        #make
        #root::__private::finish_builder(component)
    }
}

fn default_of(field: &Field) -> TokenStream {
    match &field.default {
        Some(DefaultValue::Function(path)) => quote!(#path()),
        _ => {
            let span = field.ty.span();
            quote_spanned!(span=> ::core::default::Default::default())
        }
    }
}
