//! The macros of superduper: `Component`, `triggers`, `trigger`, `callable`.

mod callable;
mod component;
mod shared;
mod triggers;

use proc_macro::TokenStream;

/// Makes a struct a component.
#[proc_macro_derive(Component, attributes(component, serde))]
pub fn derive_component(input: TokenStream) -> TokenStream {
    component::derive(&syn::parse_macro_input!(input as syn::DeriveInput)).into()
}

/// Collects the triggers of a component.
#[proc_macro_attribute]
pub fn triggers(args: TokenStream, item: TokenStream) -> TokenStream {
    triggers::triggers(args.into(), item.into()).into()
}

/// Marks a method as a trigger.
#[proc_macro_attribute]
pub fn trigger(_args: TokenStream, item: TokenStream) -> TokenStream {
    triggers::misplaced(&item.into()).into()
}

/// Makes a function callable by name.
#[proc_macro_attribute]
pub fn callable(args: TokenStream, item: TokenStream) -> TokenStream {
    callable::callable(args.into(), item.into()).into()
}
