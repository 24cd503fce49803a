//! Which columns of the sites a model uses.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use superduper::{Error, Result};
use superduper_federated::Site;

/// An image column, with the shape of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageColumn {
    /// The name of the column.
    pub name: String,
    /// Channels, height and width.
    pub shape: (u32, u32, u32),
}

/// Which columns of the sites a model uses: the target, the features or an image, and what is
/// ignored.
///
/// At a site the model reads it as the setting `datastructure`:
/// `ctx.arg::<DataStructure>("datastructure")`.
///
/// ```
/// use superduper_access::DataStructure;
///
/// let columns = DataStructure::new().target("outcome").ignore(["name"]);
/// let of_site = ["age", "bmi", "name", "outcome"].map(str::to_owned);
/// assert_eq!(columns.features_of(&of_site), ["age", "bmi"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataStructure {
    /// The column to predict.
    pub target: Option<String>,
    /// The columns to predict from, in this order. Empty: all but target, image and ignored columns,
    /// in the order of the site.
    pub features: Vec<String>,
    /// A column of images to predict from.
    pub image: Option<ImageColumn>,
    /// Columns that are not used.
    pub ignored: Vec<String>,
}

impl DataStructure {
    /// All columns are features.
    pub fn new() -> Self {
        DataStructure::default()
    }

    /// Predict this column.
    #[must_use]
    pub fn target(mut self, name: impl Into<String>) -> Self {
        self.target = Some(name.into());
        self
    }

    /// Predict from these columns.
    #[must_use]
    pub fn features<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.features = names.into_iter().map(Into::into).collect();
        self
    }

    /// Predict from a column of images of this shape: channels, height and width.
    #[must_use]
    pub fn image(mut self, name: impl Into<String>, shape: (u32, u32, u32)) -> Self {
        self.image = Some(ImageColumn { name: name.into(), shape });
        self
    }

    /// Do not use these columns.
    #[must_use]
    pub fn ignore<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ignored = names.into_iter().map(Into::into).collect();
        self
    }

    /// The features among these columns of a site.
    pub fn features_of(&self, columns: &[String]) -> Vec<String> {
        if !self.features.is_empty() {
            return self.features.clone();
        }
        let image = self.image.as_ref().map(|image| &image.name);
        let is_other = |name: &&String| {
            Some(*name) == self.target.as_ref()
                || Some(*name) == image
                || self.ignored.contains(name)
        };
        columns.iter().filter(|name| !is_other(name)).cloned().collect()
    }

    /// Compare with the columns of sites, as [`DataSchema::check`](crate::DataSchema::check) does.
    ///
    /// # Errors
    /// `InvalidInput` with all faults: a column in two places, a column that a site lacks, images of
    /// another shape, and sites that differ in the features that follow from their columns.
    pub fn check(&self, sites: &[Site]) -> Result<()> {
        let mut faults = self.twice();
        let mut first: Option<(&str, Vec<String>)> = None;
        for site in sites {
            let Some(data) = &site.data else { continue };
            let columns = data.columns();
            let type_of = |name: &str| {
                columns.iter().find(|(column, _)| column == name).map(|(_, found)| found.as_str())
            };
            for name in self.target.iter().chain(&self.features) {
                if type_of(name).is_none() {
                    faults.push(format!("site `{}` has no column `{name}`", site.name));
                }
            }
            if let Some(ImageColumn { name, shape: (channels, height, width) }) = &self.image {
                let wanted = format!("image({channels}, {height}, {width})");
                match type_of(name) {
                    None => faults.push(format!("site `{}` has no column `{name}`", site.name)),
                    Some(found) if found != wanted => faults.push(format!(
                        "column `{name}` of site `{}` is {found}, not {wanted}",
                        site.name
                    )),
                    Some(_) => {}
                }
            }
            let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
            let features = self.features_of(&names);
            match &first {
                None => first = Some((&site.name, features)),
                Some((other, expected)) if *expected != features => faults.push(format!(
                    "the features of site `{}` are {features:?}, those of site `{other}` \
                     {expected:?}",
                    site.name
                )),
                Some(_) => {}
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(faults.join("; "))),
        }
    }

    /// Columns that have two places.
    fn twice(&self) -> Vec<String> {
        let image = self.image.as_ref().map(|image| &image.name);
        let used = self.target.iter().chain(&self.features).chain(image).chain(&self.ignored);
        let (mut seen, mut faults) = (BTreeSet::new(), Vec::new());
        for name in used.filter(|name| !seen.insert(name.as_str())) {
            faults.push(format!("the column `{name}` is used twice"));
        }
        faults
    }
}
