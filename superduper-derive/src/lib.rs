//! The macros of superduper: `Component`, `triggers`, `trigger`, `callable`.

use proc_macro::TokenStream;

#[proc_macro_derive(Component, attributes(component, serde))]
pub fn derive_component(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
#[proc_macro_attribute]
pub fn triggers(_args: TokenStream, input: TokenStream) -> TokenStream {
    input
}
#[proc_macro_attribute]
pub fn trigger(_args: TokenStream, input: TokenStream) -> TokenStream {
    input
}
#[proc_macro_attribute]
pub fn callable(_args: TokenStream, input: TokenStream) -> TokenStream {
    input
}
