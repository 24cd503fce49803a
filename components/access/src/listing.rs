//! What a site with a database of its own shows in the database of the trainings.

use crate::{principal::Principal, site_data::DataOfSite};
use std::collections::BTreeSet;
use superduper::{Address, prelude::*};

/// A site that decides in a database of its own, as its worker lists it.
///
/// It changes whenever something changes there, so that a job which was about to wait looks again.
#[derive(Component, Clone)]
#[component(kind = "superduper.SiteListing")]
pub struct SiteListing {
    identifier: String,
    /// The owner.
    pub owner: Principal,
    /// The users who may see the site.
    pub viewers: BTreeSet<String>,
    /// How often something has changed there.
    pub changes: u64,
    /// The number of rows and classes, the columns and the shape of a row.
    #[component(default)]
    pub(crate) data: Option<DataOfSite>,
}

impl SiteListing {
    pub(crate) fn new(site: &str, owner: &Principal) -> Self {
        SiteListing {
            identifier: site.to_owned(),
            owner: owner.clone(),
            viewers: BTreeSet::new(),
            changes: 0,
            data: None,
        }
    }

    pub(crate) fn address(site: &str) -> Address {
        Address::of::<SiteListing>(site)
    }

    /// The name of the site.
    pub fn name(&self) -> &str {
        &self.identifier
    }

    pub(crate) fn is_seen_by(&self, user: &str) -> bool {
        self.owner.user == user || self.viewers.contains(user)
    }
}
