//! Sites that have left a training.

use superduper::{Component, Db, ErrorKind, Result};

/// That a site takes no part in a training any more.
///
/// Its identifier is `<training uuid>-<site>`.
#[derive(Component)]
#[component(kind = "superduper.Departure")]
pub struct Departure {
    identifier: String,
    /// The training.
    pub training_uuid: String,
    /// The site.
    pub site: String,
    /// Why it left.
    pub reason: String,
}

impl Departure {
    pub(crate) fn name(uuid: &str, site: &str) -> String {
        format!("{uuid}-{site}")
    }

    /// Put it on record; nothing changes for a site that has left before.
    pub(crate) async fn record(db: &Db, uuid: &str, site: &str, reason: &str) -> Result<()> {
        if Departure::of(db, uuid, site).await?.is_some() {
            return Ok(());
        }
        let departure = Departure {
            identifier: Departure::name(uuid, site),
            training_uuid: uuid.to_owned(),
            site: site.to_owned(),
            reason: reason.to_owned(),
        };
        db.apply(departure).jobs(false).detach().await.map(|_| ())
    }

    /// Why a site has left, if it has.
    pub(crate) async fn of(db: &Db, uuid: &str, site: &str) -> Result<Option<String>> {
        match db.load::<Departure>(Departure::name(uuid, site).as_str()).await {
            Ok(departure) => Ok(Some(departure.reason)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remove those of a training.
    pub(crate) async fn remove_all(db: &Db, uuid: &str) -> Result<()> {
        for (site, _) in Departure::all(db, uuid).await? {
            match db.remove::<Departure>(Departure::name(uuid, &site).as_str()).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The sites that have left, with the reasons.
    pub(crate) async fn all(db: &Db, uuid: &str) -> Result<Vec<(String, String)>> {
        use superduper::store::ComponentFilter;
        let prefix = format!("{uuid}-");
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let filter = ComponentFilter::new().kind("superduper.Departure").text(&prefix);
            let page = db.component_lines(filter).after(cursor.take()).await?;
            for line in &page.lines {
                if let Some(site) = line.address.identifier.strip_prefix(&prefix) {
                    found.push((site.to_owned(), Departure::of(db, uuid, site).await?));
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let all = found.into_iter().map(|(site, why)| (site, why.unwrap_or_default()));
        Ok(all.collect())
    }
}
