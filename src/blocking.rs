//! The database for programs without async code of their own.
//!
//! [`Db`] owns a tokio runtime; each method waits. Everything else is the async [`Db`](crate::Db),
//! reached through [`Db::run`].
//!
//! Invariant: where waiting would hold up a runtime, nothing is begun and the call is an error;
//! tokio itself panics there.

use crate::{
    AsComponent, BuildAt, ComponentType, DbBuilder, Error, ErrorKind, Locator, Outcome, Result,
    VersionRef,
    bundle::Exported,
    db::{Applied, GcReport, Listed, Remove, Removed},
    plan::Plan,
    store::JobId,
    verify::VerifyReport,
};
use std::{panic::AssertUnwindSafe, path::PathBuf, time::Duration};
use tokio::runtime::{Builder, Handle, Runtime};

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
///
/// # Errors
/// Each method is also an error of kind `Unsupported` where it is called by async code: there it
/// would hold up the runtime, and the async [`Db`](crate::Db) is at hand.
#[derive(Debug)]
pub struct Db {
    inner: crate::Db,
    /// Present until the drop.
    runtime: Option<Runtime>,
}

/// Refuse to wait where async code runs. Functions of `spawn_blocking` may wait.
fn check_caller(runtime: &Runtime) -> Result<()> {
    if Handle::try_current().is_err() {
        return Ok(());
    }
    // The main future of a runtime is no task. A task may be a function of `spawn_blocking`: only
    // an attempt to wait can tell.
    let waits =
        || std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(async {}))).is_ok();
    if tokio::task::try_id().is_some() && waits() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "a blocking database is used by async code, which would be held up",
    )
    .with_hint("use `superduper::Db` and `.await`, or call this in `tokio::task::spawn_blocking`")
    .fatal())
}

impl Drop for Db {
    fn drop(&mut self) {
        // A runtime waits for its threads when it is dropped, which async code must not.
        if let Some(runtime) = self.runtime.take_if(|_| Handle::try_current().is_ok()) {
            runtime.shutdown_background();
        }
    }
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
        let runtime = Builder::new_multi_thread().enable_all().build().map_err(Error::from)?;
        if let Err(refused) = check_caller(&runtime) {
            runtime.shutdown_background();
            return Err(refused);
        }
        let inner = runtime.block_on(builder.build())?;
        Ok(Db { inner, runtime: Some(runtime) })
    }

    /// Wait for anything the async database can do.
    ///
    /// # Errors
    /// Those of the work.
    pub fn run<T, E: From<Error>>(
        &self,
        work: impl AsyncFnOnce(&crate::Db) -> Result<T, E>,
    ) -> Result<T, E> {
        self.wait(work(&self.inner))?
    }

    fn wait<R>(&self, work: impl Future<Output = R>) -> Result<R> {
        let runtime = self
            .runtime
            .as_ref()
            .ok_or_else(|| Error::internal("the runtime of a blocking database is gone"))?;
        check_caller(runtime)?;
        Ok(runtime.block_on(work))
    }

    /// See [`crate::Db::plan`].
    ///
    /// # Errors
    /// As there.
    pub fn plan(&self, component: impl AsComponent) -> Result<Plan> {
        self.wait(self.inner.plan(component))?
    }

    /// See [`crate::Db::apply`].
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, component: impl AsComponent) -> Result<Applied> {
        let apply = self.inner.apply(component);
        self.wait(apply.into_future())?
    }

    /// A new version of a component, whatever changed, with all its triggers; see
    /// [`Apply::again`](crate::db::Apply::again).
    ///
    /// ```
    /// use superduper::{blocking::Db, prelude::*};
    ///
    /// #[derive(Component)]
    /// #[component(kind = "example.Price")]
    /// struct Price {
    ///     identifier: String,
    ///     fitted: Output<i64>,
    /// }
    ///
    /// #[triggers]
    /// impl Price {
    ///     #[trigger("apply")]
    ///     fn fit(&self, ctx: &JobContext) -> Result<i64> {
    ///         ctx.set(&self.fitted, 7)?;
    ///         Ok(7)
    ///     }
    ///     #[trigger("apply")]
    ///     fn publish(&self, fit: i64) -> Result<String> {
    ///         Ok(format!("published {fit}"))
    ///     }
    /// }
    ///
    /// let (db, price) = (Db::in_memory()?, Price { identifier: "bread".into(), fitted: Output::empty() });
    /// db.apply(&price)?;
    /// assert_eq!(db.apply_again(&price)?.version(), 1);
    ///
    /// let back = db.rollback("example.Price/bread", 0)?;
    /// assert_eq!(back.version(), 2);
    /// assert_eq!(back.left_out[0].trigger, "fit"); // what it set is copied; `publish` ran
    ///
    /// let outcome = db.run_trigger("example.Price/bread@0", "publish")?;
    /// assert_eq!(outcome.result::<String>("publish")?, "published 7");
    /// assert!(db.run_trigger("example.Price/bread@0", "fit").is_err()); // what it set is on record
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`crate::Db::apply`].
    pub fn apply_again(&self, component: impl AsComponent) -> Result<Applied> {
        let apply = self.inner.apply(component).again();
        self.wait(apply.into_future())?
    }

    /// Run one trigger of a stored version; see [`crate::Db::run`], whose name means something else
    /// here.
    ///
    /// # Errors
    /// As there.
    pub fn run_trigger(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        trigger: &str,
    ) -> Result<Outcome> {
        self.wait(self.inner.run(target, trigger))?
    }

    /// See [`crate::Db::rollback`].
    ///
    /// # Errors
    /// As there.
    pub fn rollback(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
        version: impl Into<VersionRef>,
    ) -> Result<Applied> {
        let rollback = self.inner.rollback(address, version);
        self.wait(rollback.into_future())?
    }

    /// See [`crate::Db::plan_rollback`].
    ///
    /// # Errors
    /// As there.
    pub fn plan_rollback(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
        version: impl Into<VersionRef>,
    ) -> Result<Plan> {
        self.wait(self.inner.plan_rollback(address, version))?
    }

    /// See [`crate::Db::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<T> {
        self.wait(self.inner.load(name))?
    }

    /// See [`crate::Db::result`].
    ///
    /// # Errors
    /// As there.
    pub fn result<T: crate::__private::serde::de::DeserializeOwned>(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        trigger: &str,
    ) -> Result<T> {
        self.wait(self.inner.result(target, trigger))?
    }

    /// See [`crate::Db::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self) -> Result<Vec<Listed>> {
        self.wait(self.inner.list())?
    }

    /// See [`crate::Db::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Removed> {
        let remove = self.inner.remove::<T>(name);
        self.wait(remove.into_future())?
    }

    /// [`Db::remove`] with options; see [`Remove`].
    ///
    /// ```
    /// use superduper::{blocking::Db, prelude::*};
    ///
    /// #[derive(Component, Clone)]
    /// #[component(kind = "example.Encoder")]
    /// struct Encoder {
    ///     identifier: String,
    /// }
    ///
    /// #[derive(Component)]
    /// #[component(kind = "example.Classifier")]
    /// struct Classifier {
    ///     identifier: String,
    ///     encoders: Vec<Encoder>,
    /// }
    ///
    /// let db = Db::in_memory()?;
    /// let encoder = |name: &str| Encoder { identifier: name.into() };
    /// db.apply(Classifier { identifier: "old".into(), encoders: vec![encoder("shared"), encoder("own")] })?;
    /// db.apply(Classifier { identifier: "new".into(), encoders: vec![encoder("shared")] })?;
    ///
    /// let removed = db.remove_with::<Classifier>("old", |remove| remove.with_unshared_children())?;
    /// assert_eq!(removed.versions.len(), 2);
    /// assert_eq!(removed.held[0].0.to_string(), "example.Encoder/shared");
    /// # Ok::<(), superduper::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Remove`].
    pub fn remove_with<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
        options: impl FnOnce(Remove) -> Remove,
    ) -> Result<Removed> {
        let remove = options(self.inner.remove::<T>(name));
        self.wait(remove.into_future())?
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
    pub fn export(
        &self,
        address: impl TryInto<Locator, Error = impl Into<Error>>,
        path: impl Into<PathBuf>,
    ) -> Result<Exported> {
        let export = self.inner.export(address, path);
        self.wait(export.into_future())?
    }

    /// See [`crate::Db::plan_import`].
    ///
    /// # Errors
    /// As there.
    pub fn plan_import(&self, path: impl Into<PathBuf>) -> Result<Plan> {
        self.wait(self.inner.plan_import(path))?
    }

    /// See [`crate::Db::import`].
    ///
    /// # Errors
    /// As there.
    pub fn import(&self, path: impl Into<PathBuf>) -> Result<Applied> {
        let import = self.inner.import(path);
        self.wait(import.into_future())?
    }

    /// See [`crate::Db::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self) -> Result<VerifyReport> {
        let verify = self.inner.verify();
        self.wait(verify.into_future())?
    }

    /// See [`crate::Db::gc`].
    ///
    /// # Errors
    /// As there.
    pub fn gc(&self, dry_run: bool) -> Result<GcReport> {
        self.wait(self.inner.gc(dry_run))?
    }

    /// See [`crate::Db::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self) -> Result<Vec<Outcome>> {
        let resume = self.inner.resume();
        self.wait(resume.into_future())?
    }

    /// As [`Db::work`](crate::Db::work). It blocks this thread until another thread closes the
    /// database.
    ///
    /// # Errors
    /// As there.
    pub fn work(&self) -> Result<()> {
        self.wait(self.inner.work())?
    }

    /// As [`Db::close`](crate::Db::close).
    ///
    /// # Errors
    /// As there.
    pub fn close(&self, grace: Duration) -> Result<Vec<JobId>> {
        self.wait(self.inner.close(grace))?
    }

    /// As [`Db::deliver`](crate::Db::deliver).
    ///
    /// # Errors
    /// As there.
    pub fn deliver(&self) -> Result<usize> {
        self.wait(self.inner.deliver())?
    }
}
