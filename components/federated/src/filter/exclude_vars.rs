//! Tensors that stay at their site.

use super::contract::Filter;
use crate::update::{GLOBAL, Update};
use serde::{Deserialize, Serialize};
use superduper::{BoxFuture, Error, Result, Tensors};

/// Keeps tensors at their site: what goes out in their place are the values of the global model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcludeVars {
    /// Names of tensors; one that ends with `*` means all that begin like this.
    pub names: Vec<String>,
}

impl ExcludeVars {
    /// Whether a name means a tensor.
    fn means(pattern: &str, name: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        }
    }

    async fn exclude(&self, global: &Tensors, mut update: Update) -> Result<Update> {
        self.check()?;
        update.check_layout(global, GLOBAL)?;
        for pattern in &self.names {
            let mut found = false;
            for name in global.names() {
                if Self::means(pattern, name) {
                    found = true;
                    update.tensors.insert(name, global.get(name).await?)?;
                }
            }
            if !found {
                // A misspelt name would send out what is to stay.
                let text = format!("the global model has no tensor `{pattern}` to exclude");
                let some: Vec<_> = global.names().take(8).collect();
                let hint = format!("its tensors are {}", some.join(", "));
                return Err(Error::invalid(text).with_hint(hint));
            }
        }
        Ok(update)
    }
}

#[typetag::serde(name = "federated.ExcludeVars")]
impl Filter for ExcludeVars {
    fn name(&self) -> &'static str {
        "ExcludeVars"
    }

    fn check(&self) -> Result<()> {
        if self.names.is_empty() {
            return Err(Error::invalid("ExcludeVars: `names` is empty")
                .with_hint("name a tensor, or take the filter out")
                .fatal());
        }
        let wrong = self.names.iter().find(|name| {
            let start = name.strip_suffix('*').unwrap_or(name);
            name.is_empty() || start.contains('*')
        });
        match wrong {
            Some(name) => Err(Error::invalid(format!("ExcludeVars: `{name}` is no name"))
                .with_hint("a `*` can stand at the end only")
                .fatal()),
            None => Ok(()),
        }
    }

    fn apply<'a>(
        &'a self,
        _round: u64,
        global: &'a Tensors,
        update: Update,
        _seed: u64,
    ) -> BoxFuture<'a, Result<Update>> {
        Box::pin(self.exclude(global, update))
    }
}
