//! Plans as text, JSON, DOT and Mermaid. Deterministic, so that they can be golden files.

use super::{
    Action, Change, LeftOut, NeededJob, Overwrite, Plan, PlannedComponent, PlannedJob, StaleJob,
    outputs::quoted,
};
use crate::{encode::in_key_order, store::RunPurpose};
use serde_json::{Value, json};
use std::{collections::HashSet, fmt};

/// Values longer than this are cut in the text form.
const SHOWN: usize = 72;

impl Action {
    fn sign(self) -> char {
        match self {
            Action::Create | Action::NewVersion => '+',
            Action::Update => '~',
            Action::Unchanged => '=',
            Action::Remove => '-',
        }
    }

    /// The lowercase name.
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::NewVersion => "new version",
            Action::Update => "update",
            Action::Unchanged => "unchanged",
            Action::Remove => "remove",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.purpose {
            RunPurpose::Apply => "apply",
            RunPurpose::Remove => "remove",
        };
        writeln!(f, "plan: {verb} {}", self.root)?;
        match self.purpose {
            RunPurpose::Apply => self.write_tree(f)?,
            RunPurpose::Remove => {
                for component in self.components.iter().rev() {
                    writeln!(f, "  - {}", component.address)?;
                }
            }
        }
        if self.is_empty() && self.joins.is_empty() {
            return writeln!(f, "nothing to do");
        }
        if !self.jobs.is_empty() {
            writeln!(f, "jobs:")?;
        }
        for (index, job) in self.jobs.iter().enumerate() {
            writeln!(f, "  {}", self.job_line(index, job))?;
        }
        for left_out in &self.left_out {
            writeln!(
                f,
                "left out: {} of {}: {}",
                left_out.trigger, left_out.component, left_out.reason
            )?;
        }
        for Overwrite { component, trigger, outputs, certain, labels } in &self.overwrites {
            let verb = if *certain { "overwrites" } else { "may overwrite" };
            write!(f, "{verb}: {} of {component} (`{trigger}`)", quoted(outputs))?;
            match labels.first() {
                Some(label) => writeln!(f, ": refused, the version has the label `{label}`")?,
                None => writeln!(f)?,
            }
        }
        for StaleJob { component, job, method, state } in &self.stale {
            writeln!(
                f,
                "ends: job {job} (`{method}` of {component}), which is {state}: the type no longer has it"
            )?;
        }
        for run in &self.joins {
            writeln!(f, "joins: run {run}, which is unfinished")?;
        }
        if self.owes_jobs
            && self.components.iter().any(|component| component.action != Action::Unchanged)
        {
            writeln!(f, "note: without jobs; the next plain apply runs them")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl Plan {
    /// An explicit stack: trees may be deeper than the thread's.
    fn write_tree(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(root) = self.components.len().checked_sub(1) else { return Ok(()) };
        let mut seen = HashSet::new();
        let mut stack = vec![(root, String::new(), 1_usize)];
        while let Some((index, path, depth)) = stack.pop() {
            let component = &self.components[index];
            let pad = "  ".repeat(depth.min(40));
            let label = if path.is_empty() { String::new() } else { format!("{path}: ") };
            let again = !seen.insert(index);
            write!(
                f,
                "{pad}{} {label}{} ({}",
                component.action.sign(),
                component.address,
                component.action.name()
            )?;
            if component.action != Action::Create
                && component.action != Action::Unchanged
                && let Some(from) = &component.from
            {
                write!(
                    f,
                    " from {}",
                    from.version
                        .map(|at| format!("@{}.{}", at.version, at.revision.unwrap_or(0)))
                        .unwrap_or_default()
                )?;
            }
            if let Some(version) = component.content_of {
                write!(f, ", content of @{version}")?;
            }
            writeln!(f, "){}", if again { " see above" } else { "" })?;
            if again {
                continue;
            }
            self.write_values(f, component, &pad)?;
            for (path, child) in component.children.iter().rev() {
                stack.push((*child, path.clone(), depth + 1));
            }
        }
        Ok(())
    }

    fn write_values(
        &self,
        f: &mut fmt::Formatter<'_>,
        component: &PlannedComponent,
        pad: &str,
    ) -> fmt::Result {
        if component.action == Action::Create {
            for (key, value) in crate::encode::shown_fields(&component.document, &component.singles)
            {
                let holds_children = |(path, _): &(String, usize)| {
                    path.strip_prefix(key.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                };
                if key != "identifier" && !component.children.iter().any(holds_children) {
                    writeln!(f, "{pad}    {key}: {}", short(&value))?;
                }
            }
        }
        for change in &component.changes {
            let mark = if change.breaking { " (breaking)" } else { "" };
            writeln!(
                f,
                "{pad}    {}: {} -> {}{mark}",
                change.path,
                side(&change.old),
                side(&change.new)
            )?;
        }
        Ok(())
    }

    fn job_line(&self, index: usize, job: &PlannedJob) -> String {
        let mut line = format!("{} {} of {}", index + 1, job.method, job.target);
        let mut planned: Vec<usize> = Vec::new();
        let mut recorded = Vec::new();
        for need in &job.needs {
            match need.job {
                NeededJob::Planned(job) => planned.push(job + 1),
                NeededJob::Recorded(job) => recorded.push(job.0),
            }
        }
        planned.sort_unstable();
        planned.dedup();
        if !planned.is_empty() {
            line.push_str(&format!(" after {}", ranges(&planned)));
        }
        recorded.sort_unstable();
        recorded.dedup();
        if !recorded.is_empty() {
            let list: Vec<String> = recorded.iter().map(ToString::to_string).collect();
            let with = if self.purpose == RunPurpose::Remove {
                "after the end of"
            } else {
                "with recorded"
            };
            line.push_str(&format!(" {with} job {}", list.join(", ")));
        }
        if let Some(before) = job.retry_of {
            line.push_str(&format!(", retry of job {before}"));
        }
        line
    }

    /// The plan as JSON: for tools to read; a plan cannot be read back.
    pub fn to_json(&self) -> Value {
        let components: Vec<Value> = self
            .components
            .iter()
            .map(|component| {
                json!({
                    "address": component.address,
                    "action": component.action.name(),
                    "from": component.from,
                    "content_of": component.content_of,
                    "uuid": component.uuid.to_hex(),
                    "content_hash": component.content_hash.to_hex(),
                    "changes": component.changes.iter().map(change_json).collect::<Vec<_>>(),
                    "children": component.children.iter().map(|(path, child)| json!({"path": path, "address": self.components[*child].address})).collect::<Vec<_>>(),
                })
            })
            .collect();
        let jobs: Vec<Value> = self
            .jobs
            .iter()
            .enumerate()
            .map(|(index, job)| {
                let needs: Vec<Value> = job
                    .needs
                    .iter()
                    .map(|need| match need.job {
                        NeededJob::Planned(job) => json!({"job": job + 1, "parameter": need.parameter}),
                        NeededJob::Recorded(job) => json!({"recorded": job, "parameter": need.parameter}),
                    })
                    .collect();
                json!({"job": index + 1, "component": job.target, "role": job.role, "method": job.method, "needs": needs, "retry_of": job.retry_of, "key": job.key})
            })
            .collect();
        let left_out: Vec<Value> = self.left_out.iter().map(left_out_json).collect();
        let overwrites: Vec<Value> = self.overwrites.iter().map(overwrite_json).collect();
        let stale = |stale: &StaleJob| json!({"component": stale.component, "job": stale.job, "method": stale.method, "state": stale.state});
        let stale: Vec<Value> = self.stale.iter().map(stale).collect();
        // The same text in every build, whatever order `Map` keeps.
        in_key_order(json!({
            "purpose": self.purpose,
            "root": self.root,
            "components": components,
            "jobs": jobs,
            "left_out": left_out,
            "overwrites": overwrites,
            "stale": stale,
            "joins": self.joins,
            "notes": self.notes,
        }))
    }

    /// The job graph in the language of Graphviz.
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
        for (index, job) in self.jobs.iter().enumerate() {
            text.push_str(&format!(
                "  j{} [label={}];\n",
                index + 1,
                Value::String(format!("{}\n{}", job.method, job.target))
            ));
        }
        for (from, to) in self.edges() {
            text.push_str(&format!("  j{from} -> j{to};\n"));
        }
        text.push_str("}\n");
        text
    }

    /// The job graph in the language of Mermaid.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for (index, job) in self.jobs.iter().enumerate() {
            let label = format!("{}<br/>{}", job.method, job.target).replace('"', "#quot;");
            text.push_str(&format!("  j{}[\"{label}\"]\n", index + 1));
        }
        for (from, to) in self.edges() {
            text.push_str(&format!("  j{from} --> j{to}\n"));
        }
        text
    }

    /// The edges of the job graph: what is needed, who needs it; numbered from 1 as in the text.
    pub fn edges(&self) -> Vec<(usize, usize)> {
        let mut edges: Vec<(usize, usize)> = self
            .jobs
            .iter()
            .enumerate()
            .flat_map(|(index, job)| {
                job.needs.iter().filter_map(move |need| match need.job {
                    NeededJob::Planned(other) => Some((other + 1, index + 1)),
                    NeededJob::Recorded(_) => None,
                })
            })
            .collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

fn change_json(change: &Change) -> Value {
    json!({"path": change.path, "old": change.old, "new": change.new, "breaking": change.breaking})
}

fn left_out_json(left: &LeftOut) -> Value {
    json!({
        "component": left.component,
        "trigger": left.trigger,
        "reason": left.reason,
        "outputs": left.outputs,
        "from": left.from,
    })
}

fn overwrite_json(overwrite: &Overwrite) -> Value {
    json!({
        "component": overwrite.component,
        "trigger": overwrite.trigger,
        "outputs": overwrite.outputs,
        "certain": overwrite.certain,
        "labels": overwrite.labels,
    })
}

/// `1, 2, 3, 7` as `1-3, 7`.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut index = 0;
    while index < numbers.len() {
        let start = index;
        while index + 1 < numbers.len() && numbers[index + 1] == numbers[index] + 1 {
            index += 1;
        }
        parts.push(match index - start {
            0 => numbers[start].to_string(),
            1 => format!("{}, {}", numbers[start], numbers[index]),
            _ => format!("{}-{}", numbers[start], numbers[index]),
        });
        index += 1;
    }
    parts.join(", ")
}

fn side(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "absent".to_owned(), short)
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    let cut: String = text.chars().take(SHOWN).collect();
    format!("{cut}…")
}
