//! What a plan would do, as a digest: agreed on in one process, carried out in another.
//!
//! Invariant: the digest is a function of what would be written and run and of the versions that
//! were read. It does not depend on the process, on the order of equal things, or on texts that
//! only explain.

use super::{Action, Change, Copied, LeftOut, NeededJob, Overwrite, Plan, PlannedJob, StaleJob};
use crate::digest::{Digest, Hasher, write_canonical};
use serde_json::{Value, json};

impl Plan {
    /// A digest of what the plan would do: which components it creates, changes or removes, from
    /// which versions, with which values; which jobs it records, and what they wait for.
    ///
    /// Print it beside the plan that a person or a pipeline approves, and give it to
    /// [`Apply::expect`](crate::db::Apply::expect) or
    /// [`Remove::expect`](crate::db::Remove::expect) when the plan is carried out: another process
    /// may do that, from the same declaration.
    ///
    /// ```
    /// # extern crate superduper_core as superduper;
    /// # use superduper::prelude::*;
    /// # #[derive(Component)]
    /// # struct Model {
    /// #     identifier: String,
    /// # }
    /// # async fn example(db: &Db, model: Model) -> Result<()> {
    /// let agreed = db.plan(&model).await?.digest();
    /// println!("to be approved: {agreed}");
    /// // Later, perhaps elsewhere:
    /// db.apply(&model).expect(agreed).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn digest(&self) -> Digest {
        let mut facts = vec![json!(["plan", 1, self.purpose, self.root])];
        facts.extend(
            self.components.iter().enumerate().map(|(index, _)| self.component_fact(index)),
        );
        facts.extend(self.jobs.iter().map(|job| self.job_fact(job)));
        facts.extend(self.left_out.iter().map(left_out_fact));
        facts.extend(self.overwrites.iter().map(overwrite_fact));
        facts.extend(self.stale.iter().map(stale_fact));
        facts.extend(self.copies.iter().map(|copied| self.copied_fact(copied)));
        facts.extend(self.clears_owed.iter().map(|address| json!(["owed", address])));
        facts.push(json!(["owes", self.owes_jobs]));
        facts.extend(self.removal_facts());
        hash(&facts)
    }

    fn component_fact(&self, index: usize) -> Value {
        let component = &self.components[index];
        let mut children: Vec<Value> = component
            .children
            .iter()
            .map(|(path, child)| json!([path, self.components[*child].address]))
            .collect();
        sort(&mut children);
        // The document of what stays is on record; the text of its functions may differ here.
        let content = match component.action {
            Action::Unchanged => Value::Null,
            _ => json!([component.uuid, component.content_hash, component.document]),
        };
        json!([
            "component",
            component.address,
            component.action.name(),
            component.from,
            component.content_of,
            component.changes.iter().map(change_fact).collect::<Vec<_>>(),
            children,
            content,
        ])
    }

    /// A job by what it does, not by its place in the list.
    fn job_name(&self, job: &PlannedJob) -> Value {
        json!([job.target, job.role, job.method, job.key, job.retry_of])
    }

    fn job_fact(&self, job: &PlannedJob) -> Value {
        let mut needs: Vec<Value> = job
            .needs
            .iter()
            .map(|need| match need.job {
                NeededJob::Planned(index) => {
                    json!([self.job_name(&self.jobs[index]), need.parameter])
                }
                NeededJob::Recorded(id) => json!([id, need.parameter]),
            })
            .collect();
        sort(&mut needs);
        json!(["job", self.job_name(job), needs, job.placement().to_text()])
    }

    fn copied_fact(&self, copied: &Copied) -> Value {
        let Copied { component, from, outputs } = copied;
        json!(["copies", self.components[*component].address, from, sorted(outputs)])
    }

    fn removal_facts(&self) -> Vec<Value> {
        let Some(removal) = &self.removal else { return Vec::new() };
        let mut facts = vec![json!(["removal", removal.force])];
        facts.extend(removal.versions.iter().map(|(address, versions)| {
            let mut versions = versions.clone();
            versions.sort_unstable();
            json!(["removes", address, versions])
        }));
        facts.extend(removal.whole.iter().map(|address| json!(["whole", address])));
        facts.extend(removal.live.iter().map(|job| json!(["cancels", job])));
        facts.extend(removal.held.iter().map(|(address, _)| json!(["holds", address])));
        facts.extend(removal.label.iter().map(|label| json!(["unlabels", label])));
        facts
    }
}

fn change_fact(change: &Change) -> Value {
    json!([change.path, change.old, change.new, change.breaking])
}

fn left_out_fact(left_out: &LeftOut) -> Value {
    let LeftOut { component, trigger, outputs, from, .. } = left_out;
    json!(["left out", component, trigger, sorted(outputs), from])
}

fn overwrite_fact(overwrite: &Overwrite) -> Value {
    let Overwrite { component, trigger, outputs, certain, labels } = overwrite;
    json!(["overwrites", component, trigger, sorted(outputs), certain, sorted(labels)])
}

fn stale_fact(stale: &StaleJob) -> Value {
    json!(["ends", stale.component, stale.job, stale.method])
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_unstable();
    names
}

fn canonical(value: &Value) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    write_canonical(value, &mut text);
    text
}

fn sort(values: &mut [Value]) {
    values.sort_by_cached_key(canonical);
}

fn hash(facts: &[Value]) -> Digest {
    let mut texts: Vec<Vec<u8>> = facts.iter().map(canonical).collect();
    texts.sort_unstable();
    let mut hasher = Hasher::new();
    for text in texts {
        hasher.update(&text);
        hasher.update(b"\n");
    }
    hasher.finish()
}
