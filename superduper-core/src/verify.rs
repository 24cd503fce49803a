//! Checks of what is stored, and of what stands outside.
//!
//! `db.verify()` is a [`Verify`]; its [`VerifyReport`] lists each [`Finding`] with a [`Severity`].
//! `db.refresh(..)` compares what the hook `observe` sees outside with what is stored, and gives a
//! [`Drift`].

pub use crate::db::{
    refresh::{Difference, Drift, Drifted},
    verify::{Finding, Severity, Verify, VerifyReport},
};
