//! The hooks of a component: what happens after construction, before use, on creation, on removal.

use crate::future::BoxFuture;
use crate::{component::observed::Observed, error::Result, job::JobContext};
use std::{future::Future, marker::PhantomData};

/// What a hook returns: a future of a [`Result`], as each `async fn` has one.
#[diagnostic::on_unimplemented(
    message = "a hook is an `async fn` that returns `Result<{T}>`",
    label = "`{Self}` is not a future of a `Result<{T}>`",
    note = "write `async fn` in front of the name of the hook, also where it waits for nothing"
)]
pub trait HookFuture<T>: Future<Output = Result<T>> {}

#[diagnostic::do_not_recommend]
impl<T, F: Future<Output = Result<T>>> HookFuture<T> for F {}

/// The hooks of a component; every method is optional, `async fn` bodies are accepted.
///
/// # Guarantees
/// - `postinit` runs once per construction by the builder and once after every load, before
///   anything else.
/// - `setup` runs once per decoded instance, children first, before the first hook or trigger of
///   that instance.
/// - `on_create` succeeds at most once per version; it may be attempted again after a crash or a
///   failure, and [`JobContext::is_retry`] tells.
/// - After a [`Db::refresh`](crate::Db::refresh) that found the component missing, `on_create` runs
///   again with the repair.
/// - `cleanup` runs on removal, before rows and blobs vanish. While it fails, nothing is removed.
///
/// # Errors of other libraries
/// A trigger may return any error; a hook returns this crate's [`Result`]. Turn another error into
/// one of this crate with [`Error::other`](crate::Error::other), or with
/// [`context`](crate::ResultExt::context), which also says what was going on:
///
/// ```
/// # extern crate superduper_core as superduper;
/// use superduper::prelude::*;
///
/// #[derive(Component)]
/// struct Table {
///     identifier: String,
///     size: String,
///     rows: Runtime<usize>,
/// }
///
/// impl Lifecycle for Table {
///     fn postinit(&mut self) -> Result<()> {
///         self.size.parse::<usize>().context("reading `size`")?;
///         Ok(())
///     }
///     async fn setup(&self, _ctx: &JobContext) -> Result<()> {
///         self.rows.set(self.size.parse().map_err(Error::other)?);
///         Ok(())
///     }
/// }
///
/// #[triggers]
/// impl Table {
///     #[trigger("apply")]
///     fn double(&self) -> Result<usize, BoxError> {
///         Ok(2 * self.size.parse::<usize>()?)
///     }
/// }
/// ```
///
/// # Assumptions
/// `postinit` is idempotent: applying a component runs it on a copy that may have run it before.
/// `setup`, `on_create` and `cleanup` tolerate being called again: like all jobs they are
/// at-least-once.
pub trait Lifecycle: Sized + Sync {
    /// After construction and after load. An error here means that there is no component.
    ///
    /// # Errors
    /// Any; it reaches the caller of `build`, `apply` or `load`.
    fn postinit(&mut self) -> Result<()> {
        Ok(())
    }
    /// Before any hook or trigger, once per instance: fill `Runtime` fields here.
    ///
    /// # Errors
    /// Any; it fails the job that needed the instance, and the next job tries again.
    fn setup(&self, ctx: &JobContext) -> impl HookFuture<()> + Send {
        let _unused = ctx;
        async { Ok(()) }
    }
    /// Once per new version, after it is durable.
    ///
    /// # Errors
    /// Any; it fails the job and skips the triggers of this version.
    fn on_create(&self, ctx: &JobContext) -> impl HookFuture<()> + Send {
        let _unused = ctx;
        async { Ok(()) }
    }
    /// Look at what the component stands for outside and say what is there;
    /// [`Db::refresh`](crate::Db::refresh) asks for it.
    ///
    /// It changes nothing. It runs after `setup`, outside of any job.
    ///
    /// # Errors
    /// Any; `refresh` reports it with the component's name.
    fn observe(&self, ctx: &JobContext) -> impl HookFuture<Observed> + Send {
        let _unused = ctx;
        async { Ok(Observed::nothing()) }
    }
    /// On `db.remove`, before rows and blobs vanish.
    ///
    /// # Errors
    /// Any; the removal stops and can be tried again or forced.
    fn cleanup(&self, ctx: &JobContext) -> impl HookFuture<()> + Send {
        let _unused = ctx;
        async { Ok(()) }
    }
}

/// The hook that looks, boxed.
pub type Look<T> = for<'a> fn(&'a T, &'a JobContext) -> BoxFuture<'a, Result<Observed>>;

/// A hook of a component, boxed.
pub type Hook<T> = for<'a> fn(&'a T, &'a JobContext) -> BoxFuture<'a, Result<()>>;

/// The hooks of a type as a table.
#[doc(hidden)]
pub struct Hooks<T: 'static> {
    /// Whether the type has an `impl Lifecycle`.
    pub present: bool,
    pub postinit: fn(&mut T) -> Result<()>,
    pub setup: Hook<T>,
    pub on_create: Hook<T>,
    pub observe: Look<T>,
    pub cleanup: Hook<T>,
}

impl<T: Lifecycle + 'static> Hooks<T> {
    /// The hooks of a type with an `impl Lifecycle`.
    pub fn of() -> Self {
        Hooks {
            present: true,
            postinit: T::postinit,
            setup: |this, ctx| Box::pin(this.setup(ctx)),
            on_create: |this, ctx| Box::pin(this.on_create(ctx)),
            observe: |this, ctx| Box::pin(this.observe(ctx)),
            cleanup: |this, ctx| Box::pin(this.cleanup(ctx)),
        }
    }
}

impl<T: Sync + 'static> Hooks<T> {
    /// The hooks of a type without one.
    pub fn none() -> Self {
        Hooks {
            present: false,
            postinit: |_| Ok(()),
            setup: |_, _| Box::pin(async { Ok(()) }),
            on_create: |_, _| Box::pin(async { Ok(()) }),
            observe: |_, _| Box::pin(async { Ok(Observed::nothing()) }),
            cleanup: |_, _| Box::pin(async { Ok(()) }),
        }
    }
}

/// Finding out at compile time what a type has, without asking the user to say it.
///
/// `(&&Probe::<T>::new()).hooks()` picks [`ViaLifecycle`](probe::ViaLifecycle) where `T: Lifecycle`
/// and the default elsewhere (autoref specialisation). It decides where it is written, so on a
/// generic type it would silently pick the default: the derive refuses those without
/// `#[component(lifecycle = yes|no)]`.
#[doc(hidden)]
pub mod probe {
    use super::*;
    use crate::{
        component::{
            Component, FieldSpec, VisitChildren,
            output::{Output, OutputCell},
            trigger::{Encode, Trigger},
        },
        encode::encode_result,
    };
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub struct Probe<T: ?Sized>(pub PhantomData<T>);
    pub trait ViaLifecycle<T: 'static> {
        fn hooks(&self) -> Hooks<T>;
    }
    impl<T: Lifecycle + 'static> ViaLifecycle<T> for &Probe<T> {
        fn hooks(&self) -> Hooks<T> {
            Hooks::of()
        }
    }
    pub trait ViaDefault<T: 'static> {
        fn hooks(&self) -> Hooks<T>;
    }
    impl<T: Sync + 'static> ViaDefault<T> for Probe<T> {
        fn hooks(&self) -> Hooks<T> {
            Hooks::none()
        }
    }

    /// Inherent constants win over trait ones: `Self::__THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT`
    /// is the user's block or this.
    pub trait NoTriggers: Sized + 'static {
        const __THE_ONLY_TRIGGERS_BLOCK_OF_THE_COMPONENT: &'static [Trigger<Self>] = &[];
    }
    impl<T: 'static> NoTriggers for T {}

    /// The derive's constant of this name wins over this one, which is for components that were
    /// written by hand.
    pub trait UnknownFields {
        const __FIELDS: &'static [&'static str] = &[];
        const __SETTINGS: &'static [(&'static str, &'static [FieldSpec])] = &[];
    }
    impl<T: ?Sized> UnknownFields for T {}

    /// The constant of this name that `#[derive(Settings)]` writes wins over this one.
    pub trait NoSettings {
        const __HAS_BREAKING: bool = false;
    }
    impl<T: ?Sized> NoSettings for T {}

    /// What reads and writes the fields of a component where one of them cannot be stored: that is
    /// one error already, and serde's would follow it. The inherent functions, which need fields
    /// that can be stored, win over these.
    pub trait CannotBeStored: Sized {
        fn __serialize_fields<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
            unreachable!("a field cannot be stored, which is an error when it is compiled")
        }
        fn __deserialize_fields<'de, D: Deserializer<'de>>(
            _: D,
        ) -> std::result::Result<Self, D::Error> {
            unreachable!("a field cannot be stored, which is an error when it is compiled")
        }
    }
    impl<T> CannotBeStored for T {}

    /// What a method returned: `(&&result_of(&output)).checked()` gives how its value is encoded so
    /// that it can be read back, if the type can be read at all.
    pub struct ResultOf<R>(PhantomData<R>);
    pub fn result_of<R>(_: &R) -> ResultOf<R> {
        ResultOf(PhantomData)
    }
    pub trait ReadBack<T> {
        fn checked(&self) -> Option<Encode<T>>;
    }
    // Not `DeserializeOwned`: the compiler chooses this one for what holds a `&'static str` too.
    impl<T: Serialize + Deserialize<'static>, E> ReadBack<T> for &ResultOf<std::result::Result<T, E>> {
        fn checked(&self) -> Option<Encode<T>> {
            Some(encode_result)
        }
    }
    pub trait WrittenOnly<T> {
        fn checked(&self) -> Option<Encode<T>> {
            None
        }
    }
    impl<R, T> WrittenOnly<T> for ResultOf<R> {}

    /// A field under examination: `(&&Field(&self.x)).children(visit)`,
    /// `(&&Field(&self.x)).output("x", visit)`.
    pub struct Field<'a, T: ?Sized>(pub &'a T);
    pub trait ViaChildren<'a> {
        fn children(&self, visit: &mut dyn FnMut(&'a dyn Component));
    }
    impl<'a, T: VisitChildren + ?Sized> ViaChildren<'a> for &Field<'a, T> {
        fn children(&self, visit: &mut dyn FnMut(&'a dyn Component)) {
            self.0.visit_children(visit);
        }
    }
    pub trait NoChildren<'a> {
        fn children(&self, _visit: &mut dyn FnMut(&'a dyn Component)) {}
    }
    impl<'a, T: ?Sized> NoChildren<'a> for Field<'a, T> {}

    pub trait ViaOutput {
        fn output(&self, name: &'static str, visit: &mut dyn FnMut(&'static str, &dyn OutputCell));
    }
    impl<T: Send + Sync + 'static> ViaOutput for &Field<'_, Output<T>> {
        fn output(&self, name: &'static str, visit: &mut dyn FnMut(&'static str, &dyn OutputCell)) {
            visit(name, self.0);
        }
    }
    pub trait NoOutput {
        fn output(
            &self,
            _name: &'static str,
            _visit: &mut dyn FnMut(&'static str, &dyn OutputCell),
        ) {
        }
    }
    impl<T: ?Sized> NoOutput for Field<'_, T> {}
}
