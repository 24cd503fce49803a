//! What must hold for a run after every input: indexes agree with phases, and counts with what they
//! count.

use super::{
    Phase, Start, Step,
    entry::Entry,
    permits::GENERAL,
    run_state::{Call, RunState, Sent},
};

impl RunState {
    pub(super) fn check(&self) -> Result<(), String> {
        for (index, entry) in self.entries.iter().enumerate() {
            if !self.is_indexed(index, entry) {
                return Err(format!(
                    "the indexes do not have job {} as {:?}",
                    entry.id, entry.phase
                ));
            }
            if !self.is_legal(index, entry) {
                let Entry { missing, lost, late, holds, verdict, .. } = entry;
                let beside = format!(
                    "missing {missing}, lost {lost}, late {late}, holds {holds}, verdict {verdict:?}, {:?}",
                    self.call
                );
                return Err(format!("job {} is {:?} beside {beside}", entry.id, entry.phase));
            }
            let open = entry
                .needs
                .iter()
                .filter(|(need, kind)| kind.is_open(self.entries[*need].verdict))
                .count();
            let lost = entry
                .needs
                .iter()
                .filter(|(need, kind)| kind.is_lost(self.entries[*need].verdict))
                .count();
            if (open, lost) != (entry.missing as usize, entry.lost as usize) {
                return Err(format!(
                    "job {} counts {} open and {} lost needs of {open} and {lost}",
                    entry.id, entry.missing, entry.lost
                ));
            }
        }
        self.check_counts()
    }

    fn is_indexed(&self, index: usize, entry: &Entry) -> bool {
        let phase = entry.phase;
        let ready = self.ready.get(&entry.lane).is_some_and(|ready| ready.contains(&index));
        ready == (phase == Phase::Ready)
            && self.prefetched.contains(&index) == matches!(phase, Phase::Prefetched { .. })
            && self.unsent.contains(&index)
                == matches!(phase, Phase::Ending { step: Step::Unsent, .. })
            && phase.due().is_none_or(|time| self.due.contains(&(time, index)))
    }

    fn is_legal(&self, index: usize, entry: &Entry) -> bool {
        let is_sent = |found: &dyn Fn(&Sent) -> bool| {
            self.call == Call::Commit && self.sent.iter().any(found)
        };
        match entry.phase {
            Phase::Waiting => entry.missing > 0 && !entry.holds,
            Phase::Ready => entry.missing == 0 && !entry.holds,
            Phase::Claiming { permit } => {
                entry.holds == permit
                    && is_sent(&|sent| matches!(sent, Sent::Claim(all) if all.contains(&index)))
            }
            Phase::Running { start, .. } => {
                let fits = start != Start::Sent
                    || is_sent(&|sent| matches!(sent, Sent::Start(other) if *other == index));
                entry.holds && fits
            }
            Phase::Ending { step, .. } => {
                let fits = step != Step::Sent
                    || is_sent(&|sent| matches!(sent, Sent::End(other) if *other == index));
                entry.end.is_some() && fits && (!entry.holds || entry.lane != GENERAL)
            }
            Phase::Settling(_) => {
                !entry.holds
                    && is_sent(&|sent| matches!(sent, Sent::Settle(other, _) if *other == index))
            }
            Phase::Prefetched { .. }
            | Phase::Backoff { .. }
            | Phase::Blocked { .. }
            | Phase::Elsewhere
            | Phase::Final(_) => !entry.holds,
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        let count =
            |test: &dyn Fn(&Entry) -> bool| self.entries.iter().filter(|entry| test(entry)).count();
        let counts = [
            ("running", self.running, count(&|entry| matches!(entry.phase, Phase::Running { .. }))),
            (
                "saving",
                self.saving,
                count(&|entry| matches!(entry.phase, Phase::Ending { step: Step::Saving, .. })),
            ),
            (
                "away",
                self.away,
                count(&|entry| {
                    entry.own && matches!(entry.phase, Phase::Elsewhere | Phase::Blocked { .. })
                }),
            ),
            ("undecided", self.undecided, count(&|entry| entry.own && entry.verdict.is_none())),
            (
                "open jobs of others",
                self.others_open,
                count(&|entry| !entry.own && entry.verdict.is_none()),
            ),
            ("due", self.due.len(), count(&|entry| entry.phase.due().is_some())),
            (
                "prefetched",
                self.prefetched.len(),
                count(&|entry| matches!(entry.phase, Phase::Prefetched { .. })),
            ),
        ];
        match counts.into_iter().find(|(_, counted, there)| counted != there) {
            Some((name, counted, there)) => {
                Err(format!("{counted} jobs are counted as {name}, and {there} are"))
            }
            None => Ok(()),
        }
    }
}
