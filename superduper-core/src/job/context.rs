//! What a hook or trigger is given.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::{any::Any, sync::Arc};

/// What a hook or trigger is given.
#[derive(Debug)]
pub struct JobContext(());

impl JobContext {
    /// The result of a trigger that this one waits for.
    #[doc(hidden)]
    pub fn __dependency<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        Err(Error::internal(format!("the result of `{name}` is not at hand")))
    }

    /// `Kind:identifier:uuid` of the component.
    pub fn huuid(&self) -> String {
        String::new()
    }
}

pub(crate) fn current_overlay(_key: usize) -> Option<Arc<dyn Any + Send + Sync>> {
    None
}
