//! Starting again from the record, where what the driver held for true may not be: after an end was fenced off, after
//! another process ended the run, or after this process stood still for its lease.
//!
//! Invariant: only attempts that the record still calls ours, and ends that are on their way to it, survive.

use super::{look::was_taken_over, *};

impl Driver {
    /// Read everything again, and keep of what happens here only what the record agrees with. No commit is under way.
    pub(super) async fn recover(&mut self) -> Result<()> {
        self.lapses = self.db.metadata.lapses();
        self.seen = ChangeCursor::default();
        // What was decided on old knowledge is decided anew; ends of attempts are facts.
        self.ops.retain(|op| matches!(op, Op::Finish(_)));
        self.group.asked.clear();
        self.run = self.db.run_row(self.run.id).await?;
        self.ended = self.run.state != RunState::Running;
        let rows = self.db.metadata.jobs(JobFilter { run: Some(self.run.id), ..JobFilter::default() }).await?;
        let mut ended_elsewhere = false;
        for row in rows {
            let Some(index) = self.by_id.get(&row.id).copied() else { continue };
            if row.state == JobState::Succeeded && self.node(index).is_some_and(|node| !node.row.state.is_terminal()) {
                ended_elsewhere = true;
                self.unshown.insert(row.target.clone());
            }
            self.compare(index, row);
        }
        self.show_outputs().await?;
        let slots = &self.slots;
        let holds = |index: usize, hold| matches!(&slots[index], Slot::Job(node) if node.hold == hold);
        self.ahead.retain(|index| holds(*index, Hold::Ahead));
        let ahead = &self.ahead;
        self.reserved.retain(|index, _| ahead.contains(index));
        self.delayed.retain(|(_, index), ()| holds(*index, Hold::Delayed));
        self.rebuild();
        // Jobs that were spawned meanwhile.
        self.look_again(ended_elsewhere).await.map(|_| ())
    }

    /// Let go of what the record does not agree with.
    fn compare(&mut self, index: usize, row: JobRow) {
        let owner = self.owner;
        let Some(node) = self.node(index) else { return };
        if node.unrecorded {
            return;
        }
        let is_mine = row.owner == Some(owner) && row.attempt == node.row.attempt && !row.state.is_terminal();
        let waits = row.state == JobState::Queued && row.owner.is_none() && row.attempt == node.row.attempt;
        let keeps = match node.hold {
            Hold::Running | Hold::Ahead => is_mine,
            Hold::Delayed | Hold::Pooled => waits,
            Hold::None | Hold::Asked | Hold::Elsewhere => false,
        };
        if !keeps && node.live.is_some() && was_taken_over(node, &row, owner) {
            self.abandon(index);
        } else if !keeps && node.live.take().is_some() {
            // A worker recorded its own end and goes on with what its job started.
            node.lingering = true;
            self.running -= 1;
        }
        let Some(node) = self.node(index) else { return };
        if !keeps {
            node.hold = Hold::None;
        }
        let started = node.live.filter(|_| row.state == JobState::Queued);
        node.row = row;
        if let Some(attempt) = started {
            // Its start was among what is decided anew.
            self.unstarted.push_front((Instant::now(), index, attempt));
        }
    }

    /// Make the graph anew from the rows.
    fn rebuild(&mut self) {
        self.dag.restart();
        for index in 0..self.slots.len() {
            match &self.slots[index] {
                Slot::External(External { settled: Some(true), .. }) => self.dag.succeed(index),
                Slot::External(External { settled: Some(false), .. }) => drop(self.dag.lost(index)),
                Slot::External(_) => self.dag.take(index),
                Slot::Job(node) if matches!(node.hold, Hold::Running | Hold::Ahead | Hold::Pooled | Hold::Delayed | Hold::Elsewhere) => {
                    self.dag.take(index)
                }
                Slot::Job(_) => {}
            }
        }
        for index in 0..self.slots.len() {
            let Slot::Job(node) = &self.slots[index] else { continue };
            if node.hold == Hold::None {
                let cancelled = node.row.cancel_requested || node.cancel.is_cancelled();
                let waits = node.row.state == JobState::Queued && !node.unrecorded;
                self.adopt(index);
                if cancelled && waits {
                    self.cancel(index);
                }
            }
        }
        for index in 0..self.slots.len() {
            if matches!(&self.slots[index], Slot::Job(_)) {
                self.skip_if_lost(index);
            }
        }
    }
}
