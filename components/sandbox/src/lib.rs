//! Unvetted code as WebAssembly: callables and models that cannot harm the process.
//!
//! A guest is a module of WebAssembly. It shares memory with the host, and nothing else: it has no
//! file, socket, clock or environment, and its random numbers are seeded. [`Limits`] bound its memory,
//! stack, fuel and time. What it gives back is checked: a place outside of its memory, a NaN and a wrong
//! shape are errors.
//!
//! `docs/sandbox.md` has the interface between host and guest.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod callable;
mod check;
mod declared;
mod engine;
mod guest;
mod limits;
#[cfg(feature = "models")]
mod model;
#[cfg(feature = "models")]
mod running;

pub use callable::{Wasm, callable};
pub use declared::{
    Declared, DeclaredCallable, DeclaredModel, DeclaredParam, DeclaredSetting, DeclaredTensor,
    Labels,
};
pub use guest::Guest;
pub use limits::{Limits, limit_models};
#[cfg(feature = "models")]
pub use model::SandboxedModel;

/// The page whose examples are compiled as documentation tests.
#[cfg(all(doctest, feature = "models"))]
mod pages {
    #[doc = include_str!("../../../docs/sandbox.md")]
    pub struct Sandbox;
}
