//! The struct that serde's derives see. It has the fields of the component, or of settings, and
//! serde's `remote` makes its functions read and write the type itself; so the `Serialize` of a
//! component stays free to join an encode session.

use super::{
    ast::{DefaultValue, Field, SerdeOptions},
    build::default_function,
};
use crate::shared::{plain_text, without_self};
use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Generics, Path};

/// What the shadow of a type is made of.
pub(super) struct Shadow<'a> {
    pub(super) ident: &'a Ident,
    /// Its own name.
    pub(super) body: &'a Ident,
    /// The type, with its parameters.
    pub(super) itself: &'a Path,
    pub(super) generics: &'a Generics,
    /// The same, with the bounds of the shadow.
    pub(super) bounds: &'a Generics,
    pub(super) serde: &'a SerdeOptions,
    pub(super) fields: &'a [Field],
}

impl Shadow<'_> {
    /// Write it.
    pub(super) fn expand(&self, root: &Path) -> TokenStream {
        let Shadow { body, itself, .. } = self;
        let serde = quote!(#root::__private::serde);
        let (serde_path, remote) = (plain_text(&serde), self.ident.to_string());
        let attrs = &self.serde.attrs;
        let (parameters, bounds) = (self.generics, &self.bounds.where_clause);
        let fields = self.fields.iter().map(|field| {
            let (attrs, ident, ty) =
                (&field.serde.attrs, &field.ident, without_self(&field.ty, itself));
            let default = self.default_of(field);
            quote!(#(#attrs)* #default #ident: #ty)
        });
        quote! {
            #[derive(#serde::Serialize, #serde::Deserialize)]
            #[serde(crate = #serde_path, remote = #remote)]
            #(#attrs)*
            struct #body #parameters #bounds {
                #(#fields),*
            }
        }
    }

    /// The attribute for a default that is a value in an attribute of ours.
    fn default_of(&self, field: &Field) -> Option<TokenStream> {
        let Some(DefaultValue::Value(_) | DefaultValue::Text(_)) = &field.default else {
            return None;
        };
        let (itself, function) = (plain_text(&self.itself), default_function(field));
        let function = format!("<{itself}>::{}", function.to_token_stream());
        Some(quote!(#[serde(default = #function)]))
    }
}
