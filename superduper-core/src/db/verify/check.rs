//! The call that checks a database.

use super::{Finding, Severity, VerifyReport, blobs, documents, jobs};
use crate::{db::Db, error::Result, future::BoxFuture};
use std::future::IntoFuture;

/// A check under construction; await it.
#[must_use = "nothing is verified until it is awaited"]
pub struct Verify {
    pub(super) db: Db,
    pub(super) repair: bool,
    pub(super) blobs: bool,
    pub(super) load: bool,
}

impl Db {
    /// Check the database: that every blob that is referred to is there and intact, that rows and
    /// documents agree, that documents can be read and loaded, that no job or run is left behind,
    /// that the store's own files are sound.
    ///
    /// It takes time in proportion to the bytes of all blobs, and memory in proportion to what it
    /// finds. It is safe beside running applies and jobs. `postinit` runs on what it loads, no
    /// other user code.
    ///
    /// # Errors
    /// `Store` where the stores cannot be read at all; what is wrong with their content is in the
    /// report.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// use superduper::prelude::*;
    ///
    /// # async fn example(db: &Db) -> Result<()> {
    /// let report = db.verify().repair(true).await?;
    /// if !report.is_sound() {
    ///     return Err(Error::msg(report));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn verify(&self) -> Verify {
        Verify { db: self.clone(), repair: false, blobs: true, load: true }
    }
}

impl Verify {
    /// Repair what is safe to repair: write references anew from the documents, complete
    /// interrupted sweeps, move damaged blobs aside (as `<digest>.corrupt` in a folder). What was
    /// moved aside comes back with the next import of a bundle that has it, or when a component
    /// that has it is applied as something new.
    pub fn repair(mut self, repair: bool) -> Self {
        self.repair = repair;
        self
    }

    /// Whether the bytes of all blobs are read and hashed, as by default; else only their lengths
    /// are compared.
    pub fn blobs(mut self, blobs: bool) -> Self {
        self.blobs = blobs;
        self
    }

    /// Read no bytes of blobs and load no component.
    pub fn quick(mut self) -> Self {
        self.blobs = false;
        self.load = false;
        self
    }

    async fn run(self) -> Result<VerifyReport> {
        if self.repair {
            self.db.inner().check_writable("repair")?;
        }
        let mut report = VerifyReport::default();
        for what in self.db.inner().metadata.check().await? {
            report.findings.push(Finding::new(
                Severity::Error,
                format!("the metadata store is damaged: {what}"),
            ));
        }
        let damaged = blobs::check(&self, &mut report).await?;
        documents::check(&self, damaged, &mut report).await?;
        jobs::check(&self, &mut report).await?;
        report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(report)
    }
}

impl IntoFuture for Verify {
    type Output = Result<VerifyReport>;
    type IntoFuture = BoxFuture<'static, Result<VerifyReport>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
