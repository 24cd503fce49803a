//! How many components are doing.

use super::{Db, Status, read::status_of};
use crate::{
    error::{Error, Result},
    locator::Locator,
    store::Health,
};

impl Db {
    /// How components are doing, with the jobs that say so, in the order of the addresses; `None`
    /// for a component that does not exist. It takes as many queries as [`Db::status`] of one, and
    /// reads only these components and what they hold.
    ///
    /// ```
    /// # use superduper_core as superduper;
    /// # async fn example(db: superduper::Db) -> superduper::Result<()> {
    /// use superduper::store::Health;
    ///
    /// let all = db.statuses(["acme.Model/churn", "acme.Model/fraud"]).await?;
    /// let ready = all.iter().flatten().filter(|status| status.health() == Health::Ready);
    /// println!("{} of {} are ready", ready.count(), all.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no address; `Store`.
    pub async fn statuses(
        &self,
        addresses: impl IntoIterator<Item = impl TryInto<Locator, Error = impl Into<Error>>>,
    ) -> Result<Vec<Option<Status>>> {
        let mut asked = Vec::new();
        for address in addresses {
            asked.push(self.resolve(address).await?.unversioned());
        }
        let db = self.inner();
        let found = db.metadata.health_of(asked).await?;
        Ok(found.into_iter().map(|health| health.map(|health| status_of(db, health))).collect())
    }
}

impl Status {
    /// The same in a word, without the jobs.
    pub fn health(&self) -> Health {
        match self {
            Status::Ready => Health::Ready,
            Status::Pending(_) => Health::Pending,
            Status::Degraded(_) => Health::Degraded,
            Status::OwesJobs => Health::OwesJobs,
            Status::Removing => Health::Removing,
        }
    }
}
