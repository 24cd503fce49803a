//! What the sites answer, and how a preview is shown.

use super::Preview;
use crate::{
    gate::{Decision, Request},
    training::FederatedTraining,
};
use std::fmt;
use superduper::{Address, Db, Result};

/// A site in a preview.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SitePreview {
    /// Its name.
    pub site: String,
    /// What it answers.
    pub answer: SiteAnswer,
    /// Its rows, if its data is here.
    pub rows: Option<u64>,
    /// What is done to its updates before they leave it, in this order.
    pub filters: Vec<String>,
}

/// What a site would answer if it were asked to train now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SiteAnswer {
    /// It takes part. It has no gate, or its gate allows it.
    Allowed,
    /// Its gate denies it; why.
    Denied(String),
    /// Its gate cannot tell yet; what its jobs will wait for.
    Blocked(String),
    /// Its gate failed, so that it will not take part.
    Failed(String),
    /// It is somewhere else, and is asked when a round opens.
    Remote,
}

/// Ask the gates of all sites.
pub(super) async fn ask(
    training: &FederatedTraining,
    db: &Db,
    address: &Address,
) -> Result<Vec<SitePreview>> {
    let uuid = training.uuid().map(|uuid| (*uuid).clone()).unwrap_or_default();
    let mut sites = Vec::with_capacity(training.sites.len());
    for site in &training.sites {
        let request = || {
            let request = training.request(address, &uuid, site, ("train", 0))?;
            Ok(Request { is_preview: true, ..request })
        };
        let answer = if site.is_embedded() {
            match site.ask_gates(db, request).await {
                Ok((Decision::Allow, _)) => SiteAnswer::Allowed,
                Ok((Decision::Deny(reason), _)) => SiteAnswer::Denied(reason),
                Ok((Decision::Block { reason, .. }, _)) => SiteAnswer::Blocked(reason),
                Err(error) => SiteAnswer::Failed(error.to_string()),
            }
        } else {
            SiteAnswer::Remote
        };
        sites.push(SitePreview {
            site: site.name.clone(),
            answer,
            rows: site.data.as_ref().map(|data| data.rows()),
            filters: site.filters.iter().map(|filter| filter.name().to_owned()).collect(),
        });
    }
    Ok(sites)
}

impl fmt::Display for SiteAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiteAnswer::Allowed => f.write_str("takes part"),
            SiteAnswer::Denied(why) => write!(f, "does not take part: {why}"),
            SiteAnswer::Blocked(why) => write!(f, "waits: {why}"),
            SiteAnswer::Failed(why) => write!(f, "does not take part, its gate failed: {why}"),
            SiteAnswer::Remote => f.write_str("is asked when a round opens"),
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.training)?;
        writeln!(f, "hash {}", self.hash)?;
        writeln!(f, "\nfiles")?;
        for file in &self.files {
            writeln!(f, "  {} ({} bytes)", file.path, file.text.len())?;
        }
        if !self.notes.is_empty() {
            writeln!(f, "\nnotes")?;
            self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        }
        writeln!(f, "\nsites")?;
        for site in &self.sites {
            write!(f, "  {} {}", site.site, site.answer)?;
            if let Some(rows) = site.rows {
                write!(f, ", {rows} rows")?;
            }
            if !site.filters.is_empty() {
                write!(f, ", filters: {}", site.filters.join(", "))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\njobs of the first round")?;
        for job in &self.jobs {
            write!(f, "  {}", job.key)?;
            if !job.after.is_empty() {
                write!(f, " after {}", job.after.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
