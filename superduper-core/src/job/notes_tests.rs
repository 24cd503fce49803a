//! What jobs note, on its way to a store that fails now and then.

use super::*;
use crate::store::{LogLevel, Timestamp};

#[test]
fn fault_32_progress_that_was_put_back_gives_way_to_newer_progress() {
    let notes = NoteBuffer::default();
    let (one, other) = (JobId(1), JobId(2));
    notes.progress(one, 3, 10);
    notes.progress(other, 1, 2);
    let failed = notes.take().expect("something was noted");
    notes.progress(one, 4, 10);
    notes.put_back(failed);
    let again = notes.take().expect("it was put back");
    assert_eq!(again.progress, [(one, 4, 10), (other, 1, 2)], "the newer one, and what has none");
    assert!(notes.take().is_none());
}

#[test]
fn fault_32_lines_and_numbers_that_were_put_back_come_before_newer_ones() {
    let notes = NoteBuffer::default();
    let line = |message: &str| LogRow {
        job: JobId(1),
        attempt: 1,
        at: Timestamp(0),
        level: LogLevel::Info,
        message: message.to_owned(),
    };
    let number = |step| MetricRow {
        job: JobId(1),
        name: "loss".to_owned(),
        step,
        value: 0.5,
        at: Timestamp(0),
    };
    notes.log(line("first"));
    notes.metric(number(1));
    let failed = notes.take().expect("something was noted");
    notes.log(line("second"));
    notes.metric(number(2));
    notes.put_back(failed);
    let again = notes.take().expect("it was put back");
    assert_eq!(
        (again.logs, again.metrics),
        (vec![line("first"), line("second")], vec![number(1), number(2)])
    );
}
