//! The implementation of `ComponentType`, and of what follows from it.

use super::{
    ast::{Component, Field},
    expand::kind_text,
    schema,
};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Generics, Path, spanned::Spanned};

/// Write them; `spec` is the constant.
pub(super) fn expand(
    component: &Component<'_>,
    identifier: &Field,
    spec: &TokenStream,
    bounded: &Generics,
    itself: &Path,
) -> TokenStream {
    let root = &component.options.root;
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    let private = quote!(#root::__private);
    let parts = schema::expand(component, identifier, itself);
    let names = expand_names(component, identifier);
    let bodies = expand_bodies(component);
    let behaviour = expand_behaviour(component);
    let visits = expand_visits(component);
    quote! {
        #[automatically_derived]
        impl #impl_generics #root::ComponentType for #itself #where_clause {
            const SPEC: #root::schema::TypeSpec = #spec;
            #parts
            #names
            #bodies
            #behaviour
            #visits
        }

        #[automatically_derived]
        impl #impl_generics #private::Described for #itself #where_clause {
            fn node(maker: &mut #private::Maker<'_>) -> #private::Node {
                maker.child::<Self>()
            }
        }

        #[automatically_derived]
        impl #impl_generics #root::AsComponent for #itself #where_clause {
            fn as_component(&self) -> &dyn #root::Component {
                self
            }
        }

        #[automatically_derived]
        impl #impl_generics #root::schema::VisitChildren for #itself #where_clause {
            fn visit_children<'__visit>(&'__visit self, visit: &mut dyn ::core::ops::FnMut(&'__visit dyn #root::Component)) {
                visit(self);
            }
        }
    }
}

/// Kind and identifier.
fn expand_names(component: &Component<'_>, identifier: &Field) -> TokenStream {
    let root = &component.options.root;
    let kind = if component.is_generic() {
        quote!(#root::__private::registered_kind::<Self>())
    } else {
        let kind = kind_text(component);
        quote!(#kind)
    };
    let identifier = {
        let (ident, span) = (&identifier.ident, identifier.ty.span());
        quote_spanned!(span=> &self.#ident)
    };
    quote! {
        fn __kind() -> &'static str {
            #kind
        }
        fn __identifier(&self) -> &str {
            #identifier
        }
    }
}

/// How documents are written, read and migrated.
fn expand_bodies(component: &Component<'_>) -> TokenStream {
    let root = &component.options.root;
    let private = quote!(#root::__private);
    let migrate = if component.options.migrate {
        quote!(<Self as #root::Migrate>::migrate(from, body))
    } else {
        quote!({
            let _ = from;
            ::core::result::Result::Ok(body)
        })
    };
    quote! {
        fn __serialize_body<__S: #private::serde::Serializer>(
            &self,
            serializer: __S,
        ) -> ::core::result::Result<__S::Ok, __S::Error> {
            use #private::probe::CannotBeStored as _;
            Self::__serialize_fields(self, serializer)
        }
        fn __deserialize_body<'de, __D: #private::serde::Deserializer<'de>>(
            deserializer: __D,
        ) -> ::core::result::Result<Self, __D::Error> {
            use #private::probe::CannotBeStored as _;
            Self::__deserialize_fields(deserializer)
        }
        fn __migrate(from: u32, body: #root::Value) -> #root::Result<#root::Value> {
            #migrate
        }
    }
}

/// Hooks and triggers.
fn expand_behaviour(component: &Component<'_>) -> TokenStream {
    let options = component.options;
    let root = &options.root;
    let private = quote!(#root::__private);
    let hooks = match options.lifecycle {
        Some((true, span)) => quote_spanned!(span=> #private::hooks_of::<Self>()),
        Some((false, _)) => quote!(#private::Hooks::<Self>::none()),
        None => quote! {
            use #private::probe::{ViaDefault as _, ViaLifecycle as _};
            (&&#private::probe::Probe::<Self>(::core::marker::PhantomData)).hooks()
        },
    };
    let triggers = match options.triggers {
        Some((true, span)) => {
            quote_spanned!(span=> Self::__THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT)
        }
        Some((false, _)) => quote!(&[]),
        None => quote! {
            use #private::probe::NoTriggers as _;
            Self::__THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT
        },
    };
    quote! {
        fn __hooks() -> #private::Hooks<Self> {
            #hooks
        }
        fn __triggers() -> &'static [#private::Trigger<Self>] {
            #triggers
        }
    }
}

/// The outputs and the components in fields.
fn expand_visits(component: &Component<'_>) -> TokenStream {
    let root = &component.options.root;
    let private = quote!(#root::__private);
    let fields = || component.fields.iter().filter(|field| field.skip.is_none());
    let outputs = fields().map(|field| {
        let (ident, name) = (&field.ident, &field.name);
        quote!((&&#private::probe::Field(&self.#ident)).output(#name, visit);)
    });
    let children = fields().map(|field| {
        let ident = &field.ident;
        quote!((&&#private::probe::Field(&self.#ident)).children(visit);)
    });
    quote! {
        fn __outputs(&self, visit: &mut dyn ::core::ops::FnMut(&'static str, &dyn #private::OutputCell)) {
            use #private::probe::{NoOutput as _, ViaOutput as _};
            #(#outputs)*
        }
        fn __children<'__visit>(&'__visit self, visit: &mut dyn ::core::ops::FnMut(&'__visit dyn #root::Component)) {
            use #private::probe::{NoChildren as _, ViaChildren as _};
            #(#children)*
        }
    }
}
