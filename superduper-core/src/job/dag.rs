//! The order of a run's jobs: a pure state machine over a petgraph graph. No clock, no IO, no randomness.
//!
//! Invariants: a job is ready only when everything it needs is done; what needs a job that did not
//! succeed never runs; a final state never changes; jobs become ready in the order they were added.

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::{Direction, visit::EdgeRef};
use std::collections::{BTreeSet, VecDeque};

/// How a job is doing, as far as the order of the others cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Waits for others.
    Waiting,
    /// Can be taken.
    Ready,
    /// Was taken, here or by another process; also while it waits for a retry or is blocked.
    Taken,
    /// Done.
    Succeeded,
    /// Will never be done.
    Lost,
}

#[derive(Debug)]
struct Node {
    progress: Progress,
    /// How many needed jobs are not done yet.
    missing: usize,
}

/// The jobs of a run and which waits for which.
#[derive(Debug, Default)]
pub(crate) struct Dag {
    graph: DiGraph<Node, ()>,
    ready: BTreeSet<usize>,
    open: usize,
}

impl Dag {
    /// Add a job that needs earlier added ones; gives its index. Lost needs make it lost at once.
    pub(crate) fn add(&mut self, needs: &[usize]) -> usize {
        let index = self.graph.add_node(Node { progress: Progress::Waiting, missing: 0 });
        self.open += 1;
        for need in needs {
            self.need(index.index(), *need);
        }
        let node = &mut self.graph[index];
        if node.progress == Progress::Waiting && node.missing == 0 {
            node.progress = Progress::Ready;
            self.ready.insert(index.index());
        }
        index.index()
    }

    /// Let a job that has not started wait for one more.
    pub(crate) fn need(&mut self, job: usize, needed: usize) {
        let (job, needed) = (NodeIndex::new(job), NodeIndex::new(needed));
        // Also where it is done: a start from the beginning needs the edge.
        self.graph.update_edge(needed, job, ());
        match self.graph[needed].progress {
            Progress::Succeeded => {}
            Progress::Lost => self.lose(job),
            _ => {
                let missing = self.graph.neighbors_directed(job, Direction::Incoming).filter(|other| !self.is_final(*other)).count();
                let node = &mut self.graph[job];
                node.missing = missing;
                if node.progress == Progress::Ready {
                    node.progress = Progress::Waiting;
                    self.ready.remove(&job.index());
                }
            }
        }
    }

    /// Start from the beginning: nothing is taken, done or lost.
    pub(crate) fn restart(&mut self) {
        self.ready.clear();
        self.open = self.graph.node_count();
        for node in self.graph.node_indices().collect::<Vec<_>>() {
            let missing = self.graph.neighbors_directed(node, Direction::Incoming).count();
            let progress = if missing == 0 { Progress::Ready } else { Progress::Waiting };
            self.graph[node] = Node { progress, missing };
            if missing == 0 {
                self.ready.insert(node.index());
            }
        }
    }

    fn is_final(&self, node: NodeIndex) -> bool {
        matches!(self.graph[node].progress, Progress::Succeeded | Progress::Lost)
    }

    fn lose(&mut self, node: NodeIndex) {
        if !self.is_final(node) {
            self.graph[node].progress = Progress::Lost;
            self.ready.remove(&node.index());
            self.open -= 1;
        }
    }

    /// The first job that can be taken.
    pub(crate) fn first_ready(&self) -> Option<usize> {
        self.ready.first().copied()
    }

    /// How many jobs can be taken.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// A ready job was taken.
    pub(crate) fn take(&mut self, job: usize) {
        self.ready.remove(&job);
        let node = &mut self.graph[NodeIndex::new(job)];
        if matches!(node.progress, Progress::Ready | Progress::Waiting) {
            node.progress = Progress::Taken;
        }
    }

    /// A taken job was given back and can be taken again.
    pub(crate) fn give_back(&mut self, job: usize) {
        let node = &mut self.graph[NodeIndex::new(job)];
        if node.progress != Progress::Taken {
            return;
        }
        // It may have been taken while it waited: by a block.
        node.progress = if node.missing == 0 { Progress::Ready } else { Progress::Waiting };
        if node.missing == 0 {
            self.ready.insert(job);
        }
        if self.lost_need(job).is_some() {
            self.lose(NodeIndex::new(job));
        }
    }

    /// A job that this one needs and that is lost.
    pub(crate) fn lost_need(&self, job: usize) -> Option<usize> {
        let needs = self.graph.neighbors_directed(NodeIndex::new(job), Direction::Incoming);
        needs.filter(|need| self.graph[*need].progress == Progress::Lost).map(NodeIndex::index).min()
    }

    /// A job is done; jobs that waited only for it become ready.
    pub(crate) fn succeed(&mut self, job: usize) {
        let node = NodeIndex::new(job);
        if self.is_final(node) {
            return;
        }
        self.ready.remove(&job);
        self.graph[node].progress = Progress::Succeeded;
        self.open -= 1;
        let waiting: Vec<NodeIndex> = self.graph.neighbors(node).collect();
        for other in waiting {
            let state = &mut self.graph[other];
            state.missing = state.missing.saturating_sub(1);
            if state.missing == 0 && state.progress == Progress::Waiting {
                state.progress = Progress::Ready;
                self.ready.insert(other.index());
            }
        }
    }

    /// A job will never be done; gives the jobs that therefore never run, nearest first.
    pub(crate) fn lost(&mut self, job: usize) -> Vec<usize> {
        self.lose(NodeIndex::new(job));
        let mut skipped = Vec::new();
        let mut queue = VecDeque::from([NodeIndex::new(job)]);
        while let Some(node) = queue.pop_front() {
            let after: BTreeSet<NodeIndex> = self.graph.edges(node).map(|edge| edge.target()).collect();
            for other in after {
                if matches!(self.graph[other].progress, Progress::Waiting | Progress::Ready) {
                    self.lose(other);
                    skipped.push(other.index());
                    queue.push_back(other);
                }
            }
        }
        skipped
    }

    /// How a job is doing.
    pub(crate) fn progress(&self, job: usize) -> Progress {
        self.graph[NodeIndex::new(job)].progress
    }

    /// The jobs that wait for a job and have not been taken.
    pub(crate) fn waiting_for(&self, job: usize) -> Vec<usize> {
        let mut waiting: Vec<usize> = self
            .graph
            .neighbors(NodeIndex::new(job))
            .filter(|other| matches!(self.graph[*other].progress, Progress::Waiting))
            .map(|other| other.index())
            .collect();
        waiting.sort_unstable();
        waiting
    }

    /// Whether every job is final, apart from so many that stand for jobs of others.
    pub(crate) fn is_done_but(&self, others: usize) -> bool {
        self.open == others
    }

    /// Whether every job is final.
    #[cfg(test)]
    pub(crate) fn is_done(&self) -> bool {
        self.is_done_but(0)
    }
}

#[cfg(test)]
#[path = "dag_oracle.rs"]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs everything that is ready, first come first served, and gives the order.
    fn drain(dag: &mut Dag, fails: &[usize]) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some(job) = dag.first_ready() {
            dag.take(job);
            order.push(job);
            if fails.contains(&job) {
                dag.lost(job);
            } else {
                dag.succeed(job);
            }
        }
        order
    }

    #[test]
    fn diamond_runs_in_order() {
        let mut dag = Dag::default();
        let a = dag.add(&[]);
        let b = dag.add(&[a]);
        let c = dag.add(&[a]);
        let d = dag.add(&[b, c]);
        assert_eq!(drain(&mut dag, &[]), [a, b, c, d]);
        assert!(dag.is_done());
    }

    #[test]
    fn a_failure_skips_only_what_needs_it() {
        let mut dag = Dag::default();
        let a = dag.add(&[]);
        let b = dag.add(&[a]);
        let c = dag.add(&[]);
        let d = dag.add(&[b]);
        assert_eq!(drain(&mut dag, &[a]), [a, c]);
        assert_eq!(dag.progress(b), Progress::Lost);
        assert_eq!(dag.progress(d), Progress::Lost);
        assert!(dag.is_done());
    }

    #[test]
    fn spawned_jobs_hold_up_what_waits_for_the_spawner() {
        let mut dag = Dag::default();
        let a = dag.add(&[]);
        let b = dag.add(&[a]);
        dag.take(a);
        let s = dag.add(&[]);
        dag.need(b, s);
        dag.succeed(a);
        assert_eq!(dag.progress(b), Progress::Waiting);
        assert_eq!(drain(&mut dag, &[]), [s, b]);
        assert!(dag.is_done());
    }
}
