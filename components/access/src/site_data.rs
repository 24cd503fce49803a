//! The data of a governed site, in a training that names the site.

use crate::{homes::deciding, site::GovernedSite, stored::find};
use serde::{Deserialize, Serialize};
use std::{any::Any, sync::Arc};
use superduper::{Address, BoxFuture, Db, Error, Result};
use superduper_federated::SiteData;

/// Stands for the data of a [`GovernedSite`] in a training. It has the columns and the number of rows
/// and classes; the rows are read at the site, when the gate has allowed a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DataOfSite {
    rows: u64,
    columns: Vec<(String, String)>,
    classes: Option<usize>,
    #[serde(default)]
    shape: Vec<usize>,
}

impl DataOfSite {
    /// Data of which nothing is known here.
    pub(crate) fn unknown() -> Self {
        DataOfSite { rows: 0, columns: Vec::new(), classes: None, shape: Vec::new() }
    }

    /// Describe the data of a site.
    ///
    /// # Errors
    /// `InvalidInput` for a site without data on record.
    pub(crate) fn of(site: &GovernedSite) -> Result<Self> {
        let data = data_of(site)?;
        Ok(DataOfSite {
            rows: data.rows(),
            columns: data.columns(),
            classes: data.classes(),
            shape: data.input_shape(),
        })
    }
}

#[typetag::serde(name = "access.DataOfSite")]
impl SiteData for DataOfSite {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn columns(&self) -> Vec<(String, String)> {
        self.columns.clone()
    }

    fn classes(&self) -> Option<usize> {
        self.classes
    }

    fn input_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn load<'a>(
        &'a self,
        db: &'a Db,
        site: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn SiteData>>>> {
        Box::pin(async move {
            let home = deciding(db, site).await?;
            let found = find::<GovernedSite>(&home, Address::of::<GovernedSite>(site)).await?;
            let unknown = || Error::not_found(format!("site `{site}` was not found"));
            data_of(&found.ok_or_else(unknown)?).map(Some)
        })
    }
}

fn data_of(site: &GovernedSite) -> Result<Arc<dyn SiteData>> {
    site.data.clone().ok_or_else(|| no_data(site.name()))
}

/// The error for a site without data on record.
pub(crate) fn no_data(site: &str) -> Error {
    Error::invalid(format!("site `{site}` has no data on record"))
        .with_hint("its owner sets `data` of the `GovernedSite`")
}
