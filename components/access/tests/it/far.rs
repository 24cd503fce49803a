//! A model for sites with databases of their own, and such a site; for the tests and their worker.

use serde::{Deserialize, Serialize};
use std::{any::Any, collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use superduper::{DbBuilder, prelude::*};
use superduper_access::{Access, GovernedSite, Principal};
use superduper_federated::{FederatedModel, SiteContext, SiteData, Tested, Trained, federates};
use superduper_object::ObjectStore;
use superduper_sqlite::SqliteStore;

#[source]
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Values(pub(crate) Vec<f32>);

#[typetag::serde(name = "access-it.Values")]
impl SiteData for Values {
    fn rows(&self) -> u64 {
        self.0.len() as u64
    }
    fn columns(&self) -> Vec<(String, String)> {
        vec![("value".to_owned(), "f32".to_owned())]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Sums up the means of the rounds; slow, so that it can be killed.
#[derive(Component, Clone)]
#[component(kind = "access-it.Sum", source)]
pub(crate) struct Sum {
    pub(crate) identifier: String,
    #[component(breaking, default = 0)]
    pub(crate) millis: u64,
}
federates!(Sum);

#[source]
impl FederatedModel for Sum {
    fn initial(&self, _: usize, _: u64) -> Result<Tensors> {
        Tensors::new().with("sum", &[1], &[0.0_f32])
    }
    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        std::thread::sleep(Duration::from_millis(self.millis));
        let before = ctx.block_on(weights.to_vec::<f32>("sum"))?[0];
        let rows = &ctx.data_as::<Values>()?.0;
        let mean = rows.iter().sum::<f32>() / rows.len() as f32;
        let weights = Tensors::new().with("sum", &[1], &[before + mean])?;
        Ok(Trained { weights, samples: rows.len() as u64, metrics: BTreeMap::new() })
    }
    fn test(&self, _: Tensors, _: &mut SiteContext<'_>) -> Result<Tested> {
        Ok(Tested::default())
    }
}

/// A database in a folder.
pub(crate) fn builder(folder: &Path) -> DbBuilder {
    let metadata = SqliteStore::open(folder).expect("the metadata opens");
    let artifacts = ObjectStore::folder(folder.join("artifacts")).expect("the artifacts open");
    Db::builder().metadata(Arc::new(metadata)).artifacts(Arc::new(artifacts))
}

/// The owner of a site, in the home of the site.
pub(crate) fn owner_at(home: &Db) -> Access {
    Access::acting(home, Principal::user("dr_far").of("clinic")).expect("an owner")
}

/// Govern a site in its home.
pub(crate) async fn govern_at(home: &Db, site: &str, values: Vec<f32>) -> Result<()> {
    let owner = owner_at(home);
    owner.govern(GovernedSite::new(site, owner.who().clone()).data(Values(values))).await
}
