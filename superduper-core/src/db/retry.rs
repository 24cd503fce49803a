//! Trying again: the one way in which a call goes on beside other writers and sweeps.
//!
//! A call reads the stored state, decides, and commits on the condition that the state still
//! stands. If another writer or a sweep moved it in between, the commit is refused with `Conflict`,
//! and the call reads and decides again. Applies, imports, removals, renamings, triggers run by
//! name, checkpoints and the blobs of results all use this type.
//!
//! Invariant: a call gives up only if the same state refused it [`ATTEMPTS`] times in a row, or
//! after [`MOVES`] moves.

use super::DbInner;
use crate::{
    digest::Digest,
    error::{Error, ErrorKind, Result},
};
use std::{sync::Arc, time::Duration};

/// How often a call is refused in a row by the same state before it gives up.
const ATTEMPTS: u32 = 16;
/// How often the state may move under a call before it gives up. Each move is the progress of
/// another writer. If many writers share a component, a call may lose many times in a row. The
/// limit only keeps a call from going on for ever.
const MOVES: u32 = 2000;
/// The longest pause between two tries is 2 to this power, in milliseconds.
const LONGEST: u32 = 6;

/// The tries of one call. `S` is the state that a try was decided on. The text of a refusal counts
/// as part of that state.
#[derive(Debug)]
pub(crate) struct Retry<S> {
    what: String,
    moves: u32,
    /// How many tries in a row the current state has refused.
    still: u32,
    before: Option<(S, String)>,
}

impl<S: PartialEq> Retry<S> {
    /// For a call that an error names like this: "removing `acme.Model/churn`".
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Retry { what: what.into(), moves: 0, still: 0, before: None }
    }

    /// The call was refused: wait until it can be tried again.
    ///
    /// `seen` is the state that it was decided on. A sweep of one of its blobs is waited out,
    /// however long it takes.
    ///
    /// # Errors
    /// The refusal itself, if it is not a conflict or if it is time to give up; `Store`.
    pub(crate) async fn again(
        &mut self,
        db: &Arc<DbInner>,
        refused: Error,
        seen: S,
        blobs: &[Digest],
    ) -> Result<()> {
        if refused.kind() != ErrorKind::Conflict {
            return Err(refused);
        }
        outlast_sweep(db, blobs).await?;
        tracing::debug!(target: "superduper::run", call = self.what, refusal = %refused, "tried again");
        let pause = self.pause_after(refused, seen)?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// How long to wait after a refusal.
    ///
    /// The pauses grow in fixed steps: the store puts commits in an order, so if several calls meet
    /// again, one of them succeeds.
    fn pause_after(&mut self, refused: Error, seen: S) -> Result<Duration> {
        let now = Some((seen, refused.to_string()));
        if self.before == now {
            self.still += 1;
        } else {
            // The first refusal also means that the state moved: it was another one when the call
            // read it.
            (self.moves, self.still) = (self.moves + 1, 1);
        }
        self.before = now;
        let Retry { what, moves, still, .. } = self;
        if *moves >= MOVES {
            return Err(refused
                .context(format_args!("{what}: other writers changed the state {moves} times in the meantime; the last refusal was")));
        }
        if *still >= ATTEMPTS {
            return Err(refused.context(what));
        }
        let step = if *still > 1 { *still } else { *moves };
        Ok(Duration::from_millis(1 << step.min(LONGEST)))
    }
}

/// Wait until none of the blobs is being deleted.
async fn outlast_sweep(db: &Arc<DbInner>, blobs: &[Digest]) -> Result<()> {
    if blobs.is_empty() {
        return Ok(());
    }
    let mut pause = Duration::from_millis(5);
    while db.metadata.marked_blobs().await?.iter().any(|marked| blobs.contains(marked)) {
        tokio::time::sleep(pause).await;
        // If the process that swept is gone, no other process completes its sweep.
        db.finish_sweeps().await?;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(version: u32) -> Error {
        Error::conflict(format!("`acme.Model/churn` is {version}, but the plan was made with it 0"))
    }

    #[test]
    fn a_call_goes_on_as_long_as_the_state_moves() {
        let mut retry = Retry::new("importing `acme.Model/churn`");
        let pauses: Vec<u128> = (1..MOVES)
            .map(|turn| retry.pause_after(moved(turn), turn).expect("goes on").as_millis())
            .collect();
        assert_eq!(pauses[..8], [2, 4, 8, 16, 32, 64, 64, 64]);
        let error = retry.pause_after(moved(MOVES), MOVES).expect_err("gives up at last");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = "importing `acme.Model/churn`: other writers changed the state 2000 times in the meantime; the last refusal was: \
                    `acme.Model/churn` is 2000, but the plan was made with it 0";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_call_gives_up_where_nothing_moves() {
        let mut retry = Retry::new("removing `acme.Model/churn`");
        for turn in 0..5 {
            for _ in 1..ATTEMPTS {
                retry.pause_after(moved(7), turn).expect("goes on");
            }
        }
        let error = retry.pause_after(moved(7), 4).expect_err("gives up");
        assert_eq!(
            error.to_string(),
            "removing `acme.Model/churn`: `acme.Model/churn` is 7, but the plan was made with it 0"
        );
    }

    #[test]
    fn a_refusal_with_another_text_is_a_move() {
        let mut retry = Retry::new("renaming `a`");
        for run in 0..ATTEMPTS * 4 {
            retry
                .pause_after(Error::conflict(format!("run {run} of `a` is not finished")), ())
                .expect("goes on");
        }
    }
}
