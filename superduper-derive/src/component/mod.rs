//! `#[derive(Component)]`: `ast` reads, `valid` holds every rule and message, the others write.
//! `#[derive(Settings)]` does the same for fields that components share.

mod ast;
mod build;
mod builder;
mod component_type;
mod derive;
mod expand;
mod fallback;
mod rename;
mod schema;
mod settings;
mod shadow;
mod valid;

pub(crate) use derive::derive;
pub(crate) use settings::derive as derive_settings;
