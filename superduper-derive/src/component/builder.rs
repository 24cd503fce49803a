//! The checked builder of a component: `Model::builder("mnist").lr(0.1).build()?`.

use super::{
    ast::{Component, Field, Role},
    build::expand_build,
    valid::is_primitive,
};
use crate::shared::{last_segment, name_of, without_self};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{GenericArgument, Generics, Path, PathArguments, Type, Visibility};

/// Write the builder type and `fn builder`.
pub(super) fn expand(
    component: &Component<'_>,
    identifier: &Field,
    bounded: &Generics,
    itself: &Path,
) -> TokenStream {
    let Component { ident, vis, .. } = component;
    let root = &component.options.root;
    let builder = format_ident!("__{}Builder", ident);
    let (impl_generics, type_generics, where_clause) = bounded.split_for_impl();
    let (parameters, declared) = (&component.generics, &component.generics.where_clause);
    let name = name_of(ident);
    let (slots, empty) = expand_slots(component, identifier, itself);
    let methods = expand_setters(component, identifier, itself);
    let build = expand_build(component, identifier, itself);
    let holds = expand_holds(component, &builder, bounded, itself);
    let builder_doc =
        format!("Starts a [`{name}`] with this identifier; `build` checks it and runs `postinit`.");
    let build_doc = format!(
        "Finishes the [`{name}`].\n\n# Errors\n`InvalidInput` for fields that are missing or an identifier that is not usable; the error of `postinit`."
    );
    quote! {
        #[must_use = "a builder does nothing until `build` is called"]
        #vis struct #builder #parameters #declared {
            __identifier: ::std::string::String,
            __component: ::core::marker::PhantomData<fn() -> #itself>,
            #slots
        }

        #[automatically_derived]
        impl #impl_generics #itself #where_clause {
            #[doc = #builder_doc]
            #vis fn builder(identifier: impl ::core::convert::Into<::std::string::String>) -> #builder #type_generics {
                #builder {
                    __identifier: identifier.into(),
                    __component: ::core::marker::PhantomData,
                    #empty
                }
            }
        }

        #[automatically_derived]
        impl #impl_generics #builder #type_generics #where_clause {
            #methods

            #[doc = #build_doc]
            #vis fn build(self) -> #root::Result<#itself> {
                #build
            }
        }

        #holds
    }
}

/// The places for values: as the fields of the builder, and empty.
fn expand_slots(
    component: &Component<'_>,
    identifier: &Field,
    itself: &Path,
) -> (TokenStream, TokenStream) {
    let root = &component.options.root;
    let (mut slots, mut empty) = (TokenStream::new(), TokenStream::new());
    for field in &component.fields {
        let (slot, ty) = (slot(field), without_self(&field.ty, itself));
        if field.flatten.is_some() {
            slots.extend(quote!(#slot: <#ty as #root::Settings>::__Given,));
            empty.extend(quote!(#slot: ::core::default::Default::default(),));
        } else if has_setter(field, identifier) {
            slots.extend(quote!(#slot: ::core::option::Option<#ty>,));
            empty.extend(quote!(#slot: ::core::option::Option::None,));
        }
    }
    (slots, empty)
}

fn expand_setters(component: &Component<'_>, identifier: &Field, itself: &Path) -> TokenStream {
    let setters = component.fields.iter().filter_map(|field| {
        if field.flatten.is_some() {
            return Some(expand_whole(component, field, itself));
        }
        has_setter(field, identifier)
            .then(|| expand_setter(component.vis, component.generics, field, itself))
    });
    quote!(#(#setters)*)
}

/// What lets the setters of flattened settings work on the builder.
fn expand_holds(
    component: &Component<'_>,
    builder: &Ident,
    bounded: &Generics,
    itself: &Path,
) -> TokenStream {
    let root = &component.options.root;
    let (impl_generics, type_generics, where_clause) = bounded.split_for_impl();
    let flattened = component.fields.iter().filter(|field| field.flatten.is_some());
    let holds = flattened.map(|field| {
        let (slot, ty) = (slot(field), without_self(&field.ty, itself));
        quote! {
            #[automatically_derived]
            impl #impl_generics #root::schema::HoldsSettings<#ty> for #builder #type_generics #where_clause {
                fn __settings(&mut self) -> &mut <#ty as #root::Settings>::__Given {
                    &mut self.#slot
                }
            }
        }
    });
    quote!(#(#holds)*)
}

/// Whether the field has a value of its own that a builder takes.
pub(super) fn has_setter(field: &Field, identifier: &Field) -> bool {
    field.is_plainly_stored() && field.name != identifier.name
}

/// Whether a value must be given.
pub(super) fn is_required(field: &Field) -> bool {
    field.is_stored() && field.role != Role::Optional && field.default.is_none()
}

/// Where a builder keeps the value of a field.
pub(super) fn slot(field: &Field) -> Ident {
    format_ident!("__{}", field.name, span = field.ident.span())
}

/// The setter is named after the field; `build` is taken.
pub(super) fn setter(field: &Field) -> Ident {
    if field.name == "build" {
        format_ident!("with_build", span = field.ident.span())
    } else {
        field.ident.clone()
    }
}

fn expand_setter(
    vis: &Visibility,
    generics: &Generics,
    field: &Field,
    itself: &Path,
) -> TokenStream {
    let (setter, slot) = (setter(field), slot(field));
    let (parameter, value) = parameter(generics, field, itself);
    let doc = format!("Sets the field `{}`.", field.name);
    quote! {
        #[doc = #doc]
        #vis fn #setter(mut self, value: #parameter) -> Self {
            self.#slot = ::core::option::Option::Some(#value);
            self
        }
    }
}

/// The type of a setter's parameter `value`, and the value of the field made of it.
pub(super) fn parameter(
    generics: &Generics,
    field: &Field,
    itself: &Path,
) -> (TokenStream, TokenStream) {
    let ty = without_self(&field.ty, itself);
    if takes_exact_type(generics, &field.ty) {
        (ty.to_token_stream(), quote!(value))
    } else {
        (quote!(impl ::core::convert::Into<#ty>), quote!(::core::convert::Into::into(value)))
    }
}

/// The setter of all flattened settings at once.
fn expand_whole(component: &Component<'_>, field: &Field, itself: &Path) -> TokenStream {
    let (vis, root) = (component.vis, &component.options.root);
    let (setter, slot, ty) = (setter(field), slot(field), without_self(&field.ty, itself));
    let doc = format!("Sets all fields of `{}`.", field.name);
    quote! {
        #[doc = #doc]
        #vis fn #setter(mut self, value: #ty) -> Self {
            self.#slot = #root::Settings::__give(value);
            self
        }
    }
}

/// Exact types let literals take the field's type and boxes become trait objects.
fn takes_exact_type(generics: &Generics, ty: &Type) -> bool {
    if is_primitive(ty) {
        return true;
    }
    let Some(segment) = last_segment(ty) else { return false };
    if generics
        .type_params()
        .any(|parameter| matches!(ty, Type::Path(path) if path.path.is_ident(&parameter.ident)))
    {
        return true;
    }
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => {
            matches!(arguments.args.first(), Some(GenericArgument::Type(Type::TraitObject(_))))
        }
        _ => false,
    }
}
