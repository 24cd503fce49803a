//! Labels: names such as `prod` that point at a version of a component and move.

use super::Db;
use crate::{
    address::Address,
    error::{Error, Result},
    locator::{LATEST, Locator, check_label},
    store::{Batch, Expect, LabelRow, Op, Timestamp},
};

impl Db {
    /// Point a label at a version: `db.label("acme.Model/churn@3", "prod")`. `load("churn@prod")`
    /// gives that version from then on.
    ///
    /// The version may itself be named by a label; without one the newest is meant. Gives the
    /// version that the label pointed at before. A labelled version is not removed alone, and
    /// [`Db::prune`] keeps it.
    ///
    /// # Guarantees
    /// The label moves in one commit: who reads it sees the old version or the new one.
    ///
    /// # Errors
    /// `InvalidInput` for a text that cannot be a label; `NotFound`; `Conflict` for a version that
    /// is being removed; `Store`.
    pub async fn label(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        label: &str,
    ) -> Result<Option<u32>> {
        let before = self.label_all([(target.try_into().map_err(Into::into)?, label)]).await?;
        Ok(before.into_iter().next().flatten())
    }

    /// Point several labels at versions in one commit: all of them move, or none.
    ///
    /// Gives the versions that they pointed at before.
    ///
    /// # Errors
    /// As for [`Db::label`].
    pub async fn label_all<'a>(
        &self,
        targets: impl IntoIterator<Item = (Locator, &'a str)>,
    ) -> Result<Vec<Option<u32>>> {
        self.inner().check_writable("label")?;
        let at = Timestamp::now();
        let mut ops = Vec::new();
        let mut before = Vec::new();
        for (target, label) in targets {
            refuse_reserved(label)?;
            let address = self.resolve(target).await?;
            let version = match address.version {
                Some(version) => version.version,
                None => self.newest_version(&address).await?,
            };
            before.push(self.labelled(&address, label).await?);
            ops.push(Op::Label {
                address: address.unversioned(),
                label: label.to_owned(),
                version: Some(version),
                at,
            });
        }
        let targets = ops.iter().filter_map(|op| match op {
            Op::Label { address, label, version, .. } => {
                Some(format!("{address}@{} {label}", version.unwrap_or(0)))
            }
            _ => None,
        });
        let targets: Vec<String> = targets.collect();
        let audit = self.audit("label", targets.join(", "));
        ops.extend(audit);
        self.inner().commit_once(Batch { expect: Vec::new(), ops }).await?;
        self.inner().committed();
        Ok(before)
    }

    /// Move a label only if it points where the caller thinks: at version `from`, or nowhere yet.
    ///
    /// # Errors
    /// As for [`Db::label`]; `Conflict`, naming the version that it points at.
    pub async fn move_label(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        label: &str,
        from: Option<u32>,
    ) -> Result<()> {
        self.inner().check_writable("move a label")?;
        refuse_reserved(label)?;
        let address = self.resolve(target).await?;
        let version = match address.version {
            Some(version) => version.version,
            None => self.newest_version(&address).await?,
        };
        let address = address.unversioned();
        let expect = vec![Expect::Label {
            address: address.clone(),
            label: label.to_owned(),
            version: from,
        }];
        let audit = self.audit("label", format_args!("{address}@{version} {label}"));
        let mut ops = vec![Op::Label {
            address,
            label: label.to_owned(),
            version: Some(version),
            at: Timestamp::now(),
        }];
        ops.extend(audit);
        self.inner().commit_once(Batch { expect, ops }).await?;
        self.inner().committed();
        Ok(())
    }

    /// Take a label away. Gives the version that it pointed at, if there was one.
    ///
    /// # Errors
    /// `NotFound` for a component that does not exist; `Store`.
    pub async fn unlabel(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
        label: &str,
    ) -> Result<Option<u32>> {
        self.inner().check_writable("take a label away")?;
        let address = self.resolve(target).await?.unversioned();
        let before = self.labelled(&address, label).await?;
        let audit = if before.is_some() {
            self.audit("unlabel", format_args!("{address} {label}"))
        } else {
            None
        };
        let mut ops = vec![Op::Label {
            address,
            label: label.to_owned(),
            version: None,
            at: Timestamp::now(),
        }];
        ops.extend(audit);
        self.inner().commit_once(Batch { expect: Vec::new(), ops }).await?;
        self.inner().committed();
        Ok(before)
    }

    /// The labels of a component and the versions they point at.
    ///
    /// # Errors
    /// `Store`.
    pub async fn labels(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Vec<LabelRow>> {
        let address = self.resolve(target).await?.unversioned();
        self.inner().metadata.labels(Some(address)).await
    }

    /// The address that a locator means now: labels are looked up, addresses are given back as they
    /// are.
    ///
    /// # Errors
    /// `NotFound` for a label that the component does not have, naming those that it has;
    /// `InvalidInput` for a name without a kind.
    pub async fn resolve(
        &self,
        target: impl TryInto<Locator, Error = impl Into<Error>>,
    ) -> Result<Address> {
        let Locator { address, label } = target.try_into().map_err(Into::into)?;
        if address.kind.is_empty() {
            return Err(self.without_kind(&Locator { address, label }).await?);
        }
        match label.as_deref() {
            None => Ok(address),
            Some(LATEST) => Ok(address.unversioned()),
            Some(label) => match self.labelled(&address, label).await? {
                Some(version) => Ok(address.at(version)),
                None => {
                    let error =
                        Error::not_found(format!("`{}` has no label `{label}`", address.path()));
                    let known = self.inner().metadata.labels(Some(address.clone())).await?;
                    let known: Vec<String> =
                        known.iter().map(|row| format!("`{}`", row.label)).collect();
                    let set = format!(
                        "`db.label(\"{}@<version>\", \"{label}\")` sets one",
                        address.path()
                    );
                    Err(error.with_hint(if known.is_empty() {
                        set
                    } else {
                        format!("it has {}; {set}", known.join(", "))
                    }))
                }
            },
        }
    }

    /// The error for a name without a kind, which names the components of that name.
    async fn without_kind(&self, target: &Locator) -> Result<Error> {
        let text = format!("`{target}` does not say of which kind the component is");
        let mut found = self.inner().metadata.list(None).await?;
        found.retain(|row| row.address.identifier == target.address.identifier);
        let names: Vec<String> =
            found.iter().take(3).map(|row| format!("`{}`", row.address.path())).collect();
        let hint = match names.is_empty() {
            true => "write `Kind/identifier`, or make the address with `Address::of::<Type>(…)`"
                .to_owned(),
            false => format!("there is {}", names.join(", ")),
        };
        Ok(Error::invalid(text).with_hint(hint))
    }

    /// The version that a label points at.
    pub(super) async fn labelled(&self, address: &Address, label: &str) -> Result<Option<u32>> {
        let rows = self.inner().metadata.labels(Some(address.unversioned())).await?;
        Ok(rows
            .iter()
            .find(|row| row.label == label)
            .and_then(|row| row.address.version)
            .map(|at| at.version))
    }

    async fn newest_version(&self, address: &Address) -> Result<u32> {
        let versions = self.versions(address).await?;
        Ok(versions.last().map_or(0, crate::store::StoredVersion::version))
    }
}

fn refuse_reserved(label: &str) -> Result<()> {
    check_label(label)?;
    if label == LATEST {
        return Err(Error::invalid("the label `latest` always means the newest version")
            .with_hint("choose another label"));
    }
    Ok(())
}
