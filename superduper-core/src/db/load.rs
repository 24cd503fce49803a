//! Loading a component of a known type, by its name.

use super::{Db, read::decode_stored};
use crate::{
    address::Address,
    component::{AsComponent, Component, ComponentType},
    encode::decode_body,
    error::{Error, ErrorKind, Result},
    locator::Locator,
};
use std::{fmt, ops};

/// A component that was loaded, with the address that it has: kind, identifier, version and
/// revision. [`Db::load_with_address`] gives it.
///
/// It can be used as the component itself.
#[derive(Clone)]
pub struct Loaded<T> {
    component: T,
    address: Address,
}

impl<T> Loaded<T> {
    /// Where it was loaded from.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The version that was loaded.
    pub fn version(&self) -> u32 {
        self.address.version.map_or(0, |at| at.version)
    }

    /// The component alone.
    pub fn into_inner(self) -> T {
        self.component
    }
}

impl<T> ops::Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.component
    }
}

impl<T> ops::DerefMut for Loaded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.component
    }
}

impl<T: AsComponent> AsComponent for Loaded<T> {
    fn as_component(&self) -> &dyn Component {
        self.component.as_component()
    }
}

/// The version that was loaded.
impl<T> From<&Loaded<T>> for Locator {
    fn from(loaded: &Loaded<T>) -> Self {
        (&loaded.address).into()
    }
}

/// The address: the component need not have a text.
impl<T> fmt::Debug for Loaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({})", self.address)
    }
}

impl Db {
    /// Load the newest version of a component; `postinit` runs, `setup` does not.
    ///
    /// The name is an identifier, `identifier@3` for a version, `identifier@prod` for the version
    /// that a label points at (see [`Db::label`]), or a content label `Kind:identifier:uuid`. An
    /// [`Address`], a component and what else a [`Locator`] can be made of will do too.
    ///
    /// A test that expects an error writes `db.load::<Model>("x").await.err().unwrap()`:
    /// `unwrap_err` asks that the component can be printed. [`Loaded`] always can.
    ///
    /// # Errors
    /// `NotFound`, naming what there is; `Decode` for a row that `T` cannot read; the error of
    /// `postinit`; `InvalidInput` for an address of another kind.
    pub async fn load<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<T> {
        self.load_with_address(name).await.map(Loaded::into_inner)
    }

    /// [`Db::load`], which also tells which version and revision it loaded.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # use superduper::prelude::*;
    /// # #[derive(Component)]
    /// # struct Model {
    /// #     identifier: String,
    /// #     size: u32,
    /// # }
    /// # async fn example(db: &Db) -> Result<()> {
    /// let model = db.load_with_address::<Model>("churn@prod").await?;
    /// println!("{} has {} units", model.address(), model.size);
    /// let accuracy: f64 = db.result(&model, "evaluate").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Db::load`].
    pub async fn load_with_address<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Loaded<T>> {
        let Locator { address, label } = Locator::of::<T>(name)?;
        let mut missing = None;
        for kind in std::iter::once(T::__kind()).chain(T::SPEC.aliases.iter().copied()) {
            let mut address = Address { kind: kind.to_owned(), ..address.clone() };
            if let Some(label) = &label {
                match self.resolve(Locator { address, label: Some(label.clone()) }).await {
                    Ok(resolved) => address = resolved,
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        missing.get_or_insert(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(found) = self.read_typed(&address).await? {
                return Ok(found);
            }
            if let Some(found) = self.find_label(&address).await? {
                return Ok(found);
            }
        }
        let identifier = &address.identifier;
        match missing {
            // What lacks is the label, unless the component itself does.
            Some(error)
                if self
                    .inner()
                    .metadata
                    .versions(Address::new(T::__kind(), identifier))
                    .await?
                    .is_empty() =>
            {
                Err(self.not_found(T::__kind(), identifier).await.with_source(error))
            }
            Some(error) => Err(error),
            None => {
                let name = Locator { address: Address { kind: String::new(), ..address }, label };
                Err(self.not_found(T::__kind(), &name.to_string()).await)
            }
        }
    }

    /// Load one version of a component, at its newest revision.
    ///
    /// # Errors
    /// As for [`Db::load`].
    pub async fn load_version<T: ComponentType>(
        &self,
        name: impl TryInto<Locator, Error = impl Into<Error>>,
        version: u32,
    ) -> Result<T> {
        let Locator { address, .. } = Locator::of::<T>(name)?;
        self.load(address.at(version)).await
    }

    /// The component at an address, if there is one.
    async fn read_typed<T: ComponentType>(&self, address: &Address) -> Result<Option<Loaded<T>>> {
        let tree = self.inner().metadata.tree(address.clone()).await?;
        let Some(address) = tree.first().map(|stored| stored.address.clone()) else {
            return Ok(None);
        };
        let component = decode_stored(self.inner(), tree, decode_body::<T>)?;
        Ok(Some(Loaded { component, address }))
    }

    /// A content label names the newest version with that content.
    async fn find_label<T: ComponentType>(&self, wanted: &Address) -> Result<Option<Loaded<T>>> {
        let Some((identifier, uuid)) = wanted
            .identifier
            .strip_prefix(&wanted.kind)
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(|rest| rest.rsplit_once(':'))
        else {
            return Ok(None);
        };
        if uuid.len() < 16 {
            return Ok(None);
        }
        let address = Address::new(&*wanted.kind, identifier);
        let versions = self.inner().metadata.versions(address).await?;
        if let Some(found) =
            versions.iter().rev().find(|version| version.uuid.to_hex().starts_with(uuid))
        {
            return self.read_typed(&found.address).await;
        }
        // A row from before its type gained a breaking field has another label than its value has
        // today.
        for version in versions.iter().rev() {
            if let Ok(Some(found)) = self.read_typed::<T>(&version.address).await
                && super::Encoding::of(&*found)
                    .is_ok_and(|encoding| encoding.tree().root().uuid.to_hex().starts_with(uuid))
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
