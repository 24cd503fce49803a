//! The database for programs without async code of their own.
//!
//! [`Db`] owns a tokio runtime; each method waits. Everything else is the async [`Db`](crate::Db), reached
//! through [`Db::run`].

use crate::{
    Applied, AsComponent, BuildAt, ComponentType, DbBuilder, Error, Exported, GcReport, Listed, Outcome, Plan, Removed, Result,
    VerifyReport,
};
use std::path::PathBuf;

/// A database whose methods wait.
///
/// ```
/// use superduper::{blocking::Db, prelude::*};
///
/// #[derive(Component)]
/// struct Greeting {
///     identifier: String,
///     text: String,
/// }
///
/// let db = Db::in_memory()?;
/// db.apply(Greeting { identifier: "hello".into(), text: "hi".into() })?;
/// assert_eq!(db.load::<Greeting>("hello")?.text, "hi");
/// # Ok::<(), superduper::Error>(())
/// ```
#[derive(Debug)]
pub struct Db {
    inner: crate::Db,
    runtime: tokio::runtime::Runtime,
}

impl Db {
    /// Open the database in a folder or at a URL; see [`OpenDb::open`](crate::OpenDb::open).
    ///
    /// # Errors
    /// As for [`OpenDb::open`](crate::OpenDb::open).
    pub fn open(location: impl Into<PathBuf> + Send) -> Result<Self> {
        Self::build(crate::Db::builder().at(location)?)
    }

    /// A database that lives as long as this value.
    ///
    /// # Errors
    /// As for [`OpenDb::in_memory`](crate::OpenDb::in_memory).
    pub fn in_memory() -> Result<Self> {
        Self::build(crate::Db::builder().in_memory())
    }

    /// Open a database with chosen stores and limits.
    ///
    /// # Errors
    /// As for [`DbBuilder::build`].
    pub fn build(builder: DbBuilder) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().map_err(Error::from)?;
        let inner = runtime.block_on(builder.build())?;
        Ok(Db { inner, runtime })
    }

    /// Wait for anything the async database can do.
    pub fn run<R>(&self, work: impl AsyncFnOnce(&crate::Db) -> R) -> R {
        self.runtime.block_on(work(&self.inner))
    }

    /// See [`crate::Db::plan`].
    ///
    /// # Errors
    /// As there.
    pub fn plan(&self, component: impl AsComponent) -> Result<Plan> {
        self.runtime.block_on(self.inner.plan(component))
    }

    /// See [`crate::Db::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, component: impl AsComponent) -> Result<Applied> {
        let apply = self.inner.apply(component);
        self.runtime.block_on(apply.into_future())
    }

    /// See [`crate::Db::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load<T: ComponentType>(&self, name: &str) -> Result<T> {
        self.runtime.block_on(self.inner.load(name))
    }

    /// See [`crate::Db::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self) -> Result<Vec<Listed>> {
        self.runtime.block_on(self.inner.list())
    }

    /// See [`crate::Db::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove<T: ComponentType>(&self, identifier: &str) -> Result<Removed> {
        let remove = self.inner.remove::<T>(identifier);
        self.runtime.block_on(remove.into_future())
    }

    /// See [`crate::Db::export`].
    ///
    /// ```
    /// use superduper::{blocking::Db, prelude::*};
    ///
    /// #[derive(Component)]
    /// #[component(kind = "example.Model")]
    /// struct Model {
    ///     identifier: String,
    ///     weights: Artifact<Bytes>,
    /// }
    ///
    /// # let folder = std::env::temp_dir().join(format!("superduper-example-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("model.tar");
    /// let (here, there) = (Db::in_memory()?, Db::in_memory()?);
    /// here.apply(Model { identifier: "m".into(), weights: Bytes::from("0.5 0.25").into() })?;
    /// let exported = here.export("example.Model/m", &path)?;
    /// assert_eq!((exported.components, exported.blobs), (1, 1));
    ///
    /// println!("{}", there.plan_import(&path)?);
    /// there.import(&path)?;
    /// let model: Model = there.load("m")?;
    /// let weights = there.run(async |_| model.weights.get().await)?;
    /// assert_eq!(&weights[..], b"0.5 0.25");
    /// assert!(there.verify()?.is_sound());
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn export(&self, address: &str, path: impl Into<PathBuf>) -> Result<Exported> {
        let export = self.inner.export(address, path);
        self.runtime.block_on(export.into_future())
    }

    /// See [`crate::Db::plan_import`].
    ///
    /// # Errors
    /// As there.
    pub fn plan_import(&self, path: impl Into<PathBuf>) -> Result<Plan> {
        self.runtime.block_on(self.inner.plan_import(path))
    }

    /// See [`crate::Db::import`].
    ///
    /// # Errors
    /// As there.
    pub fn import(&self, path: impl Into<PathBuf>) -> Result<Applied> {
        let import = self.inner.import(path);
        self.runtime.block_on(import.into_future())
    }

    /// See [`crate::Db::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self) -> Result<VerifyReport> {
        let verify = self.inner.verify();
        self.runtime.block_on(verify.into_future())
    }

    /// See [`crate::Db::gc`].
    ///
    /// # Errors
    /// As there.
    pub fn gc(&self, dry_run: bool) -> Result<GcReport> {
        self.runtime.block_on(self.inner.gc(dry_run))
    }

    /// See [`crate::Db::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self) -> Result<Vec<Outcome>> {
        let resume = self.inner.resume();
        self.runtime.block_on(resume.into_future())
    }
}
