//! What a schema needs to know of a component: plain data, and a function for the type of each
//! field. All logic is in superduper itself.

use super::{
    ast::{Component, DefaultValue, Field, Role, SerdeOptions},
    build::default_of,
};
use crate::shared::{last_segment, without_self};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, GenericArgument, Lit, Meta, Path, PathArguments, Type};

/// The lines of a doc comment.
pub(super) fn docs(attrs: &[Attribute]) -> Vec<Expr> {
    let docs = attrs.iter().filter(|attr| attr.path().is_ident("doc"));
    docs.filter_map(|attr| match &attr.meta {
        Meta::NameValue(value) => Some(value.value.clone()),
        _ => None,
    })
    .collect()
}

/// Write the constant with all of it.
pub(super) fn expand(component: &Component<'_>, identifier: &Field, itself: &Path) -> TokenStream {
    let root = &component.options.root;
    let private = quote!(#root::__private);
    let doc = text_of(&component.docs);
    let default = match &component.serde.default {
        None => quote!(::core::option::Option::None),
        Some(default) => {
            let whole = match default {
                DefaultValue::Function(path) => quote!(#path()),
                _ => quote!(<Self as ::core::default::Default>::default()),
            };
            quote!(::core::option::Option::Some(|| #private::default_body::<Self>(&#whole)))
        }
    };
    let fields = expand_list(component, identifier, itself);
    quote! {
        const __PARTS: #private::TypeParts = #private::TypeParts {
            doc: #doc,
            default: #default,
            fields: #fields,
        };
    }
}

/// The list of all fields; those of flattened settings are a list of their own.
fn expand_list(component: &Component<'_>, identifier: &Field, itself: &Path) -> TokenStream {
    let root = &component.options.root;
    let part = |field: &Field| {
        let is_identifier = field.name == identifier.name;
        expand_field(root, &component.serde, field, is_identifier, itself)
    };
    if component.fields.iter().all(|field| field.flatten.is_none()) {
        let fields = component.fields.iter().map(part);
        return quote!(&[#(#fields),*]);
    }
    let (mut lists, mut lengths) = (Vec::new(), Vec::new());
    for field in &component.fields {
        if field.flatten.is_some() {
            let ty = without_self(&field.ty, itself);
            lists.push(quote!(<#ty as #root::Settings>::__PARTS));
            lengths.push(quote!(<#ty as #root::Settings>::__PARTS.len()));
        } else {
            let part = part(field);
            lists.push(quote!(&[#part]));
            lengths.push(quote!(1));
        }
    }
    quote!(&#root::__private::join_parts::<{ #(#lengths)+* }>(&[#(#lists),*]))
}

/// The fields of settings, for the components that flatten them.
pub(super) fn expand_settings(
    root: &Path,
    serde: &SerdeOptions,
    fields: &[Field],
    itself: &Path,
) -> TokenStream {
    let parts = fields.iter().map(|field| expand_field(root, serde, field, false, itself));
    quote!(const __PARTS: &'static [#root::__private::FieldPart] = &[#(#parts),*];)
}

fn expand_field(
    root: &Path,
    serde: &SerdeOptions,
    field: &Field,
    is_identifier: bool,
    itself: &Path,
) -> TokenStream {
    let private = quote!(#root::__private);
    let (name, key, doc) = (&field.name, field.key(serde.rename_all), text_of(&field.docs));
    let (role, aliases) = (role_of(field), &field.serde.aliases);
    let breaking = field.breaking.is_some();
    let may_be_missing = field.default.is_some()
        || serde.default.is_some()
        || (field.role == Role::Optional && field.serde.reader.is_none());
    let required = field.is_stored() && field.serde.flatten.is_none() && !may_be_missing;
    let none = quote!(::core::option::Option::None);
    let default = match &field.default {
        Some(_) if field.is_stored() && !field.serde.custom => {
            let (ty, value) = (without_self(&field.ty, itself), default_of(field, itself));
            quote!(::core::option::Option::Some(|| {
                use #private::types::{ViaNotStored as _, ViaStored as _};
                let value: #ty = #value;
                (&&#private::types::Made(&value)).stored()
            }))
        }
        _ => none.clone(),
    };
    let ty = if is_identifier { none } else { expand_type(field, itself, &private) };
    quote! {
        #private::FieldPart {
            name: #name,
            key: #key,
            doc: #doc,
            role: #private::Role::#role,
            breaking: #breaking,
            required: #required,
            aliases: &[#(#aliases),*],
            default: #default,
            ty: #ty,
        }
    }
}

fn role_of(field: &Field) -> TokenStream {
    match field.role {
        _ if field.skip.is_some() => quote!(Absent),
        Role::Runtime => quote!(Absent),
        Role::Output => quote!(Output),
        _ if field.serde.flatten.is_some() => quote!(Flat),
        _ => quote!(Stored),
    }
}

/// A function that gives what is known of the type.
fn expand_type(field: &Field, itself: &Path, private: &TokenStream) -> TokenStream {
    let none = quote!(::core::option::Option::None);
    if field.skip.is_some() || field.role == Role::Runtime {
        return none;
    }
    let ty = without_self(&field.ty, itself);
    if let Some(reader) = &field.serde.reader {
        return quote!(::core::option::Option::Some(|| #private::FieldType::custom(|reader| {
            let value: #ty = #reader(reader)?;
            ::core::mem::drop(value);
            ::core::result::Result::Ok(())
        })));
    }
    let ty = match field.role {
        Role::Output => match argument_of(&ty) {
            Some(value) => value,
            None => return none,
        },
        _ => ty,
    };
    quote!(::core::option::Option::Some(|| {
        use #private::types::{ViaDescribed as _, ViaForeign as _, ViaNothing as _, ViaSerde as _};
        (&&&&#private::types::Probe::<#ty>(::core::marker::PhantomData)).of()
    }))
}

/// `T` of `Output<T>`.
fn argument_of(ty: &Type) -> Option<Type> {
    match &last_segment(ty)?.arguments {
        PathArguments::AngleBracketed(arguments) => {
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty.clone()),
                _ => None,
            })
        }
        _ => None,
    }
}

/// A doc comment as one text.
fn text_of(docs: &[Expr]) -> TokenStream {
    let literals: Option<Vec<String>> = docs
        .iter()
        .map(|line| match line {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        })
        .collect();
    match literals {
        Some(lines) => {
            let text = lines.join("\n");
            quote!(#text)
        }
        None => quote!(::core::concat!(#(#docs, "\n"),*)),
    }
}
