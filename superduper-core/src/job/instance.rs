//! Decoded components that a run's jobs share, and their `setup`.
//!
//! Invariant: jobs run on copies decoded from stored documents. One instance serves all jobs of a
//! (component, version, revision) in a run and process; its `setup` succeeds once, children first.

use super::JobContext;
use crate::{
    address::Address,
    component::Component,
    db::DbInner,
    digest::Digest,
    encode::{DecodeEnv, Document, in_decode_session},
    error::{Error, Result},
    store::StoredVersion,
};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// A decoded component.
pub(crate) struct Instance {
    pub(crate) component: Box<dyn Component>,
    pub(crate) uuid: Digest,
    pub(crate) env: Arc<DecodeEnv>,
    /// By component, the paths and references of its secrets.
    secrets: Vec<(String, Vec<(String, String)>)>,
    setup: OnceCell<()>,
}

impl Instance {
    /// Run `setup` unless it has succeeded before.
    pub(crate) async fn set_up(&self, ctx: &JobContext) -> Result<()> {
        let work = || async {
            self.secrets.iter().try_for_each(|(component, secrets)| {
                crate::component::secret::check_all(component, secrets)
            })?;
            setup_tree(&*self.component, ctx).await
        };
        self.setup.get_or_try_init(work).await.copied()
    }

    /// Whether `setup` has succeeded.
    pub(crate) fn is_set_up(&self) -> bool {
        self.setup.initialized()
    }
}

/// Run the `setup` of a component and of those it holds, children first.
pub(crate) async fn setup_tree(root: &dyn Component, ctx: &JobContext) -> Result<()> {
    let mut order: Vec<&dyn Component> = Vec::new();
    let mut stack = vec![root];
    while let Some(component) = stack.pop() {
        order.push(component);
        component.__visit_children(&mut |child| stack.push(child));
    }
    for component in order.into_iter().rev() {
        if component.__has_lifecycle() {
            let setup = component.__setup(ctx).await;
            setup.map_err(|error| {
                error.context(format_args!(
                    "setup of `{}/{}`",
                    component.kind(),
                    component.identifier()
                ))
            })?;
        }
    }
    Ok(())
}

/// A stored version as the decoder and the jobs need it.
#[derive(Clone)]
struct Source {
    document: Document,
    uuid: Digest,
}

/// The instances of a run and the documents they are decoded from.
#[derive(Default)]
pub(crate) struct Instances {
    sources: Mutex<HashMap<String, Source>>,
    instances: Mutex<HashMap<Address, Arc<Instance>>>,
}

fn key(address: &Address) -> String {
    address.at(address.version.map_or(0, |at| at.version)).to_string()
}

impl Instances {
    /// Make a document known, so that it is not read again.
    pub(crate) fn add(
        &self,
        address: Address,
        uuid: Digest,
        type_version: u32,
        body: Value,
        outputs: Map<String, Value>,
    ) {
        let document = Document { address: address.clone(), type_version, body, outputs };
        self.sources().insert(key(&address), Source { document, uuid });
    }

    /// Make a whole tree known at once: who finds a component finds what it holds.
    fn add_tree(&self, tree: Vec<StoredVersion>) {
        let mut sources = self.sources();
        for StoredVersion { address, uuid, type_version, document, outputs, .. } in tree {
            let key = key(&address);
            // A revision that is known already may have outputs that are newer than what was read.
            if sources.get(&key).is_none_or(|source| source.document.address != address) {
                sources.insert(
                    key,
                    Source {
                        document: Document { address, type_version, body: document, outputs },
                        uuid,
                    },
                );
            }
        }
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, HashMap<String, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance for a job, if it was decoded before.
    pub(crate) fn cached(&self, target: &Address) -> Option<Arc<Instance>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }

    /// The instance for a job.
    pub(crate) async fn get(&self, db: &Arc<DbInner>, target: &Address) -> Result<Arc<Instance>> {
        if let Some(instance) = self.cached(target) {
            return Ok(instance);
        }
        if !self.has(target) {
            let tree = db.metadata.tree(target.clone()).await?;
            if tree.is_empty() {
                return Err(Error::not_found(format!(
                    "component `{target}` is not stored any more"
                ))
                .fatal());
            }
            self.add_tree(tree);
        }
        // Two jobs may decode at the same time; the first to finish is kept.
        let made = Arc::new(self.decode(db, target)?);
        Ok(self
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(target.clone())
            .or_insert(made)
            .clone())
    }

    /// Whether the document of this very revision is at hand.
    fn has(&self, target: &Address) -> bool {
        self.sources().get(&key(target)).is_some_and(|source| source.document.address == *target)
    }

    fn decode(&self, db: &Arc<DbInner>, target: &Address) -> Result<Instance> {
        let mut env = DecodeEnv::new(db.registry.clone(), Some(db.artifacts.clone()));
        let root = {
            let sources = self.sources();
            let root = sources.get(&key(target)).cloned().ok_or_else(|| {
                Error::internal(format!("the document of `{target}` is not at hand"))
            })?;
            let mut wanted = references(&root.document.body);
            while let Some(name) = wanted.pop() {
                if env.documents.contains_key(&name) {
                    continue;
                }
                if let Some(source) = sources.get(&name) {
                    wanted.extend(references(&source.document.body));
                    env.documents.insert(name, source.document.clone());
                }
            }
            root
        };
        let documents = env.documents.values().chain([&root.document]);
        let secrets = documents
            .map(|document| (document.address.path(), crate::encode::secrets(&document.body)));
        let secrets = secrets.filter(|(_, secrets)| !secrets.is_empty()).collect();
        let env = Arc::new(env);
        // Trying again in this program changes nothing.
        let entry = db.registry.entry(&target.kind).map_err(Error::fatal)?;
        let component = in_decode_session(&env, || (entry.decode)(&root.document))?;
        Ok(Instance { component, uuid: root.uuid, env, secrets, setup: OnceCell::new() })
    }

    /// Outputs of a version are durable: show them to all instances that hold it.
    pub(crate) fn outputs_committed(&self, target: &Address, outputs: &[(String, Value)]) {
        if let Some(source) = self.sources().get_mut(&key(target)) {
            source.document.outputs.extend(outputs.iter().cloned());
        }
        let instances: Vec<Arc<Instance>> = self
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for instance in instances {
            let mut stack: Vec<&dyn Component> = vec![&*instance.component];
            while let Some(component) = stack.pop() {
                if component.kind() == target.kind && component.identifier() == target.identifier {
                    let owner = key(target);
                    component.__visit_outputs(&mut |name, cell| {
                        if let Some((_, value)) = outputs.iter().find(|(output, _)| output == name)
                        {
                            cell.bind(name, &owner, Some(value), &instance.env);
                        }
                    });
                }
                component.__visit_children(&mut |child| stack.push(child));
            }
        }
    }
}

/// The `$ref` texts of a body.
pub(crate) fn references(body: &Value) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(map) => match map.get("$ref") {
                Some(Value::String(text)) => found.push(text.clone()),
                _ => map.values().for_each(|item| walk(item, found)),
            },
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(body, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ComponentId, Timestamp};
    use serde_json::json;

    fn stored(name: &str, document: Value, output: i64) -> StoredVersion {
        let digest = Digest::of(name.as_bytes());
        StoredVersion {
            component: ComponentId(1),
            address: format!("test.Kind/{name}@0.0").parse().expect("an address"),
            newest: true,
            removing: false,
            next_version: 1,
            uuid: digest,
            content_hash: digest,
            type_version: 1,
            document,
            outputs: Map::from_iter([("output".to_owned(), json!(output))]),
            owes_jobs: false,
            content_of: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    #[test]
    fn who_finds_a_component_finds_what_it_holds() {
        let children: Vec<String> = (0..5000).map(|index| format!("child-{index}")).collect();
        let references: Vec<Value> =
            children.iter().map(|name| json!({"$ref": format!("test.Kind/{name}@0")})).collect();
        let root = stored("root", json!({ "children": references }), 0);
        let target = root.address.clone();
        let tree: Vec<_> = std::iter::once(root)
            .chain(children.iter().map(|name| stored(name, json!({}), 0)))
            .collect();
        let instances = Instances::default();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                while !instances.has(&target) {
                    std::hint::spin_loop();
                }
                instances.sources().len()
            });
            instances.add_tree(tree);
            assert_eq!(other.join().expect("no panic"), 5001);
        });
    }

    #[test]
    fn a_slow_read_does_not_take_newer_outputs_back() {
        let instances = Instances::default();
        let row = stored("child", json!({}), 1);
        let target = row.address.clone();
        instances.add_tree(vec![row.clone()]);
        instances.outputs_committed(&target, &[("output".to_owned(), json!(2))]);
        instances.add_tree(vec![row]);
        assert_eq!(instances.sources()[&key(&target)].document.outputs["output"], 2);
    }
}
