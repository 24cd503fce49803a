//! Who may run which code on whose data.
//!
//! A [`GovernedSite`] has an owner and a policy. Its [`SiteGate`] decides, at the start of each attempt
//! of a federated training's jobs at the site, by roles and grants that are on record. A user without a
//! grant asks for one; the job waits, the owner reads the source and grants or rejects, and the same job
//! goes on. Each decision is in an append-only log. [`ModelReference`] names published models by owner,
//! name and version.
//!
//! `docs/access.md` walks through it.

#![warn(clippy::unwrap_used, clippy::print_stdout)]

mod access;
mod audit;
#[cfg(feature = "candle")]
mod custom_model;
mod decide;
mod form;
mod gate;
mod home;
mod homes;
mod identity;
mod listing;
mod over_sites;
mod policy;
mod principal;
mod proof;
mod published;
mod reference;
mod request;
mod right;
mod role;
mod schema;
mod site;
mod site_data;
mod stored;
mod structure;
mod update;

pub use access::{Access, GrantRole, Review};
pub use audit::{AuditEntry, AuditRecord, Outcome};
#[cfg(feature = "candle")]
pub use custom_model::{CustomModel, Forward};
pub use form::{AccessForm, ModelCard};
pub use gate::SiteGate;
pub use home::{SiteWorker, Working, at_home};
pub use identity::{KEY_PASSWORD, PublicKey, SignedHead, SignedRequest, SigningKey, TakenNonce};
pub use listing::SiteListing;
pub use over_sites::{OverSites, SiteModel};
pub use policy::{Rule, SitePolicy};
pub use principal::Principal;
pub use published::{Publish, PublishedModel, PublishedVersion};
pub use reference::{ModelReference, Resolved};
pub use request::{AccessRequest, RequestState};
pub use right::Right;
pub use role::{DATA_READER, GENERAL_MODELLER, OWNER, Role, Roles, SUPER_MODELLER};
pub use schema::{ColumnType, DataSchema};
pub use site::{Given, GovernedSite, Permissions};
pub use structure::{DataStructure, ImageColumn};

/// The page whose examples are compiled and run as documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/access.md")]
    pub struct Access;
}

/// What the macros write refers to this module; it may change in any release.
#[cfg(feature = "candle")]
#[doc(hidden)]
pub mod __private {
    pub mod custom_model {
        pub use crate::custom_model::run::{initial, predict, test, train};
    }
    pub use superduper::{Result, Tensors};
    pub use superduper_federated::{
        __private::{FederatedEntry, inventory},
        FederatedModel, SiteContext, Tested, Trained,
    };
}
