//! `#[derive(Settings)]`: a plain struct whose fields stand among those of components.
//!
//! It is read and checked as a component is. Its setters are methods of a trait, for every builder
//! that holds the settings: the derive of a component cannot see the fields of another struct.

use super::{
    ast::{self, Field, Role, SerdeOptions},
    build::{expand_defaults, value_or_default},
    builder::{is_required, parameter, setter, slot},
    expand::{expand_checks, expand_field_spec, generated},
    schema,
    shadow::Shadow,
    valid,
};
use crate::{
    shared::{Errors, OptionList, default_root, name_of, path, without_self},
    source,
};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DataStruct, DeriveInput, Fields, Generics, Path, Visibility, parse_quote};

const STRUCT: OptionList =
    OptionList { known: &["source", "crate"], repeatable: &[], aliases: &[] };

/// A struct of settings.
struct Settings<'a> {
    root: &'a Path,
    ident: &'a Ident,
    vis: &'a Visibility,
    generics: &'a Generics,
    itself: Path,
    serde: SerdeOptions,
    fields: Vec<Field>,
}

/// Expand the derive; on an error, write an implementation that keeps the rest of the program
/// quiet.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let (root, source) = read_options(input, &mut errors);
    let settings = read(input, &root, &mut errors);
    if let Some(settings) = &settings {
        check(settings, &mut errors);
    }
    match (errors.compile_errors(), settings) {
        (None, Some(settings)) => {
            let source = source.then(|| source::of_type(input, &root));
            let expanded = settings.expand();
            quote!(#expanded #source)
        }
        (errors, _) => {
            let fallback = fallback(input, &root);
            quote!(#errors #fallback)
        }
    }
}

fn read_options(input: &DeriveInput, errors: &mut Errors) -> (Path, bool) {
    let (mut root, mut source) = (default_root(), false);
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("component")) {
        let read = attr.parse_args_with(|list: syn::parse::ParseStream<'_>| {
            STRUCT.read(list, errors, |name, ident, value| {
                match name {
                    "source" => source = true,
                    _ => root = path(ident, value, "crate = \"::superduper\"")?,
                }
                Ok(())
            })
        });
        errors.keep(read);
    }
    (root, source)
}

fn read<'a>(input: &'a DeriveInput, root: &'a Path, errors: &mut Errors) -> Option<Settings<'a>> {
    let Data::Struct(DataStruct { fields: Fields::Named(fields), .. }) = &input.data else {
        errors.on(&input.ident, "settings are a struct with named fields");
        return None;
    };
    let ident = &input.ident;
    Some(Settings {
        root,
        ident,
        vis: &input.vis,
        generics: &input.generics,
        itself: parse_quote!(#ident),
        serde: ast::read_serde(&input.attrs, true),
        fields: fields
            .named
            .iter()
            .filter_map(|field| ast::read_field(field, &ast::SETTING, errors))
            .collect(),
    })
}

fn check(settings: &Settings<'_>, errors: &mut Errors) {
    if !settings.generics.params.is_empty() {
        errors.on(
            &settings.generics.params,
            "settings have no parameters: components of all kinds share them",
        );
    }
    for name in &settings.serde.refused {
        errors.on(
            name,
            format!("`#[serde({name})]` is not possible here: settings are written field by field, among those of their component"),
        );
    }
    if let Some(span) = settings.serde.split_rename {
        errors.at(
            span,
            "settings are read by the names they are written with; give one rule for both",
        );
    }
    if let Some(default) = &settings.serde.default_at {
        errors.at(*default, "the defaults of settings are those of their fields, as in `#[component(default = 30)]`");
    }
    for field in &settings.fields {
        valid::check_field(field, errors);
        if matches!(field.role, Role::Output | Role::Runtime) {
            errors.on(&field.ty, "settings are declared data; put an `Output` or a `Runtime` into the component itself");
        }
        if let Some(span) = field.serde.flatten {
            errors.at(
                span,
                "settings cannot collect further keys: they could be those of the component",
            );
        }
    }
    valid::check_setters(&settings.fields, errors);
}

impl Settings<'_> {
    fn expand(&self) -> TokenStream {
        let body = format_ident!("__{}Body", self.ident);
        let shadow = Shadow {
            ident: self.ident,
            body: &body,
            itself: &self.itself,
            generics: self.generics,
            bounds: self.generics,
            serde: &self.serde,
            fields: &self.fields,
        };
        let shadow = shadow.expand(self.root);
        let checks = expand_checks(&self.fields, self.root, self.generics, &self.itself);
        let serde = self.expand_serde(&body);
        let given = self.expand_given();
        let implementation = self.expand_trait();
        let setters = self.expand_setters();
        let generated = generated("Settings");
        quote! {
            #[doc(hidden)]
            #generated
            const _: () = {
                #checks
                #shadow
                #serde
                #given
                #implementation
            };
            #setters
        }
    }

    fn expand_serde(&self, body: &Ident) -> TokenStream {
        let Settings { root, ident, fields, .. } = self;
        let private = quote!(#root::__private);
        let defaults = expand_defaults(fields, root);
        let has_breaking = fields.iter().any(|field| field.breaking.is_some());
        let children = fields.iter().filter(|field| field.skip.is_none()).map(|field| {
            let ident = &field.ident;
            quote!((&&#private::probe::Field(&self.#ident)).children(visit);)
        });
        quote! {
            #[automatically_derived]
            impl #ident {
                #[doc(hidden)]
                pub const __HAS_BREAKING: bool = #has_breaking;
                #defaults
            }

            #[automatically_derived]
            impl #private::serde::Serialize for #ident {
                fn serialize<__S: #private::serde::Serializer>(
                    &self,
                    serializer: __S,
                ) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #body::serialize(self, serializer)
                }
            }

            #[automatically_derived]
            impl<'de> #private::serde::Deserialize<'de> for #ident {
                fn deserialize<__D: #private::serde::Deserializer<'de>>(
                    deserializer: __D,
                ) -> ::core::result::Result<Self, __D::Error> {
                    #body::deserialize(deserializer)
                }
            }

            #[automatically_derived]
            impl #root::schema::VisitChildren for #ident {
                fn visit_children<'__visit>(&'__visit self, visit: &mut dyn ::core::ops::FnMut(&'__visit dyn #root::Component)) {
                    use #private::probe::{NoChildren as _, ViaChildren as _};
                    #(#children)*
                }
            }
        }
    }

    /// The values given so far, and the builder of settings by themselves.
    fn expand_given(&self) -> TokenStream {
        let Settings { root, ident, vis, itself, fields, .. } = self;
        let (given, name) = (given(ident), name_of(ident));
        let slots: Vec<Ident> = fields.iter().map(slot).collect();
        let types = fields.iter().map(|field| without_self(&field.ty, itself));
        let builder_doc = format!("Starts a [`{name}`] by itself; `build` checks it.");
        let build_doc = format!(
            "Finishes the [`{name}`].\n\n# Errors\n`InvalidInput` for fields that are missing."
        );
        quote! {
            #[must_use = "a builder does nothing until `build` is called"]
            #vis struct #given {
                #(#slots: ::core::option::Option<#types>),*
            }

            #[automatically_derived]
            impl ::core::default::Default for #given {
                fn default() -> Self {
                    #given { #(#slots: ::core::option::Option::None),* }
                }
            }

            #[automatically_derived]
            impl #root::schema::HoldsSettings<#ident> for #given {
                fn __settings(&mut self) -> &mut #given {
                    self
                }
            }

            #[automatically_derived]
            impl #given {
                #[doc = #build_doc]
                #vis fn build(self) -> #root::Result<#ident> {
                    #root::__private::finish_settings(#name, self)
                }
            }

            #[automatically_derived]
            impl #ident {
                #[doc = #builder_doc]
                #vis fn builder() -> #given {
                    ::core::default::Default::default()
                }
            }
        }
    }

    fn expand_trait(&self) -> TokenStream {
        let Settings { root, ident, itself, fields, .. } = self;
        let given = given(ident);
        let parts = schema::expand_settings(root, &self.serde, fields, itself);
        let stored = || fields.iter().filter(|field| field.is_stored());
        let specs = stored().map(|field| expand_field_spec(field, self.serde.rename_all, root));
        let keys = stored().flat_map(|field| {
            let aliases = field.serde.aliases.iter().map(syn::LitStr::value);
            std::iter::once(field.key(self.serde.rename_all)).chain(aliases)
        });
        let missing = fields.iter().filter(|field| is_required(field)).map(|field| {
            let (name, setter, slot) = (&field.name, name_of(&setter(field)), slot(field));
            quote!((#name, #setter, given.#slot.is_none()))
        });
        let values = fields.iter().map(|field| {
            let (ident, slot) = (&field.ident, slot(field));
            let value = if is_required(field) {
                quote! {
                    match given.#slot {
                        ::core::option::Option::Some(value) => value,
                        ::core::option::Option::None => {
                            ::core::unreachable!("no field is missing")
                        }
                    }
                }
            } else {
                value_or_default(field, &quote!(given.#slot), itself)
            };
            quote!(#ident: #value)
        });
        let slots = fields.iter().map(|field| {
            let (ident, slot) = (&field.ident, slot(field));
            quote!(#slot: ::core::option::Option::Some(self.#ident))
        });
        quote! {
            #[automatically_derived]
            impl #root::Settings for #ident {
                const FIELDS: &'static [#root::schema::FieldSpec] = &[#(#specs),*];
                const __KEYS: &'static [&'static str] = &[#(#keys),*];
                #parts
                type __Given = #given;

                fn __missing(
                    given: &Self::__Given,
                ) -> ::std::vec::Vec<(&'static str, &'static str, bool)> {
                    ::std::vec![#(#missing),*]
                }
                fn __make(given: Self::__Given) -> Self {
                    #ident { #(#values),* }
                }
                fn __give(self) -> Self::__Given {
                    #given { #(#slots),* }
                }
            }
        }
    }

    /// The trait of setters, beside the struct: it is imported with it.
    fn expand_setters(&self) -> TokenStream {
        let Settings { root, ident, vis, itself, fields, .. } = self;
        let (name, setters) = (name_of(ident), setters(ident));
        let doc = format!("The setters of the builders of components that hold [`{name}`].");
        let methods = fields.iter().filter(|field| field.is_stored()).map(|field| {
            let (setter, slot) = (setter(field), slot(field));
            let (parameter, value) = parameter(self.generics, field, itself);
            let doc = format!("Sets the field `{}` of the [`{name}`].", field.name);
            quote! {
                #[doc = #doc]
                #[must_use = "a builder does nothing until `build` is called"]
                fn #setter(mut self, value: #parameter) -> Self {
                    #root::schema::HoldsSettings::<#ident>::__settings(&mut self).#slot =
                        ::core::option::Option::Some(#value);
                    self
                }
            }
        });
        quote! {
            #[doc = #doc]
            #[allow(dead_code, private_bounds, private_interfaces, unreachable_pub, reason = "generated by `#[derive(Settings)]`")]
            #vis trait #setters: #root::schema::HoldsSettings<#ident> {
                #(#methods)*
            }
            impl<__Builder: #root::schema::HoldsSettings<#ident>> #setters for __Builder {}
        }
    }
}

fn given(ident: &Ident) -> Ident {
    format_ident!("__{}Given", ident)
}

fn setters(ident: &Ident) -> Ident {
    format_ident!("{}Setters", ident)
}

/// What is written after an error: components that hold the settings have no errors of their own.
fn fallback(input: &DeriveInput, root: &Path) -> Option<TokenStream> {
    if !input.generics.params.is_empty() {
        return None;
    }
    let (ident, vis, setters) = (&input.ident, &input.vis, setters(&input.ident));
    let private = quote!(#root::__private);
    let never = quote!(::core::unreachable!("the derive of this type failed"));
    Some(quote! {
        #[doc(hidden)]
        #[allow(unused_variables, clippy::all, reason = "generated by `#[derive(Settings)]`")]
        const _: () = {
            impl #private::serde::Serialize for #ident {
                fn serialize<__S: #private::serde::Serializer>(&self, serializer: __S) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #never
                }
            }
            impl<'de> #private::serde::Deserialize<'de> for #ident {
                fn deserialize<__D: #private::serde::Deserializer<'de>>(deserializer: __D) -> ::core::result::Result<Self, __D::Error> {
                    #never
                }
            }
            impl #root::Settings for #ident {
                const FIELDS: &'static [#root::schema::FieldSpec] = &[];
                const __KEYS: &'static [&'static str] = &[];
                const __PARTS: &'static [#private::FieldPart] = &[];
                type __Given = ();
                fn __missing(given: &()) -> ::std::vec::Vec<(&'static str, &'static str, bool)> {
                    #never
                }
                fn __make(given: ()) -> Self {
                    #never
                }
                fn __give(self) {
                    #never
                }
            }
        };
        #[allow(dead_code, reason = "the derive of this type failed")]
        #vis trait #setters {}
    })
}
