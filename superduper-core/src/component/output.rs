//! What triggers make of a component: trained weights, an index, metrics.

use crate::{
    component::registry::Registry,
    encode::{DecodeEnv, Encoded, decode_value, encode_checked},
    error::{Error, ErrorKind, Result},
    job::current_overlay,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use std::{
    any::Any,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// A field that triggers fill: empty when declared, set by
/// [`JobContext::set`](crate::JobContext::set), committed together with the job's result, stored
/// and loaded with its component, but no part of its identity.
///
/// # Guarantees
/// A value set in a job is visible in that job at once and elsewhere after the job's result is
/// durable. Applying the declaration again keeps outputs. A new version starts with empty ones, or,
/// where an older version has the same content, with copies of what that one has. Outputs of a
/// version with a label are not set again.
///
/// # Assumptions
/// It is a direct field of the component. Two jobs that set one output are ordered by `depends_on`.
pub struct Output<T>(Arc<RwLock<State<T>>>);

struct State<T> {
    name: Option<&'static str>,
    owner: String,
    value: Slot<T>,
}

impl<T> State<T> {
    /// The error of one who asks for the value of an empty output.
    fn empty(&self) -> Error {
        let name = self.name.unwrap_or("field");
        if !self.owner.is_empty() {
            let text = format!("output `{name}` of `{}` is empty", self.owner);
            let hint = format!(
                "a trigger fills it with `ctx.set(&self.{name}, value)`; wait for the jobs of the component"
            );
            return Error::new(ErrorKind::NotSetUp, text).with_hint(hint);
        }
        let text = match self.name {
            Some(name) => format!("output `{name}` of a component that was not loaded is empty"),
            None => format!(
                "an output of type `{}` of a component that was not loaded is empty",
                std::any::type_name::<T>()
            ),
        };
        let hint = format!(
            "a trigger fills it with `ctx.set(&self.{name}, value)`; read it from the component that `db.load` gives"
        );
        Error::new(ErrorKind::NotSetUp, text).with_hint(hint)
    }
}

enum Slot<T> {
    Empty,
    Stored(Value, Arc<DecodeEnv>),
    Ready(Arc<T>),
}

/// An output field of unknown type.
#[doc(hidden)]
pub trait OutputCell: Send + Sync {
    fn bind(&self, name: &'static str, owner: &str, value: Option<&Value>, env: &Arc<DecodeEnv>);
    /// Note the field, for errors; the output stays that of a component which is not stored.
    fn name(&self, name: &'static str);
}

impl<T: Send + Sync + 'static> OutputCell for Output<T> {
    fn bind(&self, name: &'static str, owner: &str, value: Option<&Value>, env: &Arc<DecodeEnv>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.name = Some(name);
        owner.clone_into(&mut state.owner);
        state.value = match value {
            Some(value) => Slot::Stored(value.clone(), env.clone()),
            None => Slot::Empty,
        };
    }

    fn name(&self, name: &'static str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).name.get_or_insert(name);
    }
}

impl<T> Output<T> {
    /// An empty output.
    pub fn empty() -> Self {
        Output(Arc::new(RwLock::new(State {
            name: None,
            owner: String::new(),
            value: Slot::Empty,
        })))
    }

    /// Make it an output of a component, where it is none yet: tests call methods of components that
    /// were never stored.
    pub(crate) fn own_for_test(&self, owner: &str) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.name.get_or_insert("output");
        if state.owner.is_empty() {
            owner.clone_into(&mut state.owner);
        }
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    pub(crate) fn bound_name(&self) -> Result<(usize, &'static str)> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match state.name.filter(|_| !state.owner.is_empty()) {
            Some(name) => Ok((self.key(), name)),
            None => Err(Error::new(
                ErrorKind::NotSaved,
                "this output does not belong to a stored component",
            )
            .with_hint("set outputs inside a trigger, on `self`")),
        }
    }
}

impl<T: Send + Sync + 'static> Output<T> {
    /// Set the value here and now.
    pub(crate) fn fill(&self, value: Arc<dyn Any + Send + Sync>) {
        if let Ok(value) = value.downcast() {
            self.0.write().unwrap_or_else(PoisonError::into_inner).value = Slot::Ready(value);
        }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Output<T> {
    /// The value, decoded when first asked for.
    ///
    /// # Errors
    /// `NotSetUp` while no trigger has set it; `Decode` where the stored value is no `T`.
    pub fn get(&self) -> Result<Arc<T>> {
        if let Some(Ok(value)) = current_overlay(self.key()).map(|value| value.downcast::<T>()) {
            return Ok(value);
        }
        {
            let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
            match &state.value {
                Slot::Ready(value) => return Ok(value.clone()),
                Slot::Empty => return Err(state.empty()),
                Slot::Stored(..) => {}
            }
        }
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let value = match &state.value {
            Slot::Ready(value) => return Ok(value.clone()),
            Slot::Stored(value, env) => {
                let owner = format!("output `{}` of `{}`", state.name.unwrap_or("?"), state.owner);
                let value: T = decode_value(value.clone(), env, &owner)
                    .map_err(|error| error.context(&owner))?;
                Arc::new(value)
            }
            Slot::Empty => return Err(state.empty()),
        };
        state.value = Slot::Ready(value.clone());
        Ok(value)
    }

    /// Whether a trigger has set it.
    pub fn is_set(&self) -> bool {
        current_overlay(self.key()).is_some()
            || !matches!(self.0.read().unwrap_or_else(PoisonError::into_inner).value, Slot::Empty)
    }
}

/// A value on its way into an output.
pub(crate) struct PendingOutput {
    pub(crate) key: usize,
    pub(crate) name: &'static str,
    pub(crate) encoded: Encoded,
    pub(crate) value: Arc<dyn Any + Send + Sync>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Output<T> {
    pub(crate) fn pending(&self, value: T, registry: Arc<Registry>) -> Result<PendingOutput> {
        let (key, name) = self.bound_name()?;
        match encode_checked(&value, registry, false) {
            Ok(encoded) => Ok(PendingOutput { key, name, encoded, value: Arc::new(value) }),
            Err(error) => {
                crate::json::drop_refused(value);
                Err(error.context(format_args!("output `{name}`")))
            }
        }
    }
}

/// A clone has the value of now; what is set later in one is not seen in the other.
impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let value = match &state.value {
            Slot::Empty => Slot::Empty,
            Slot::Stored(value, env) => Slot::Stored(value.clone(), env.clone()),
            Slot::Ready(value) => Slot::Ready(value.clone()),
        };
        Output(Arc::new(RwLock::new(State { name: state.name, owner: state.owner.clone(), value })))
    }
}

impl<T> Default for Output<T> {
    fn default() -> Self {
        Output::empty()
    }
}

impl<T> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.write_str(if matches!(state.value, Slot::Empty) {
            "Output(empty)"
        } else {
            "Output(set)"
        })
    }
}

impl<T> Serialize for Output<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit_struct(crate::encode::OUTPUT_MARK)
    }
}

impl<'de, T> Deserialize<'de> for Output<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::component::runtime::absent(deserializer).map(|()| Output::empty())
    }
}
