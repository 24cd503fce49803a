//! The output of a job process: passed on as it comes, and kept in the job's log by lines.
//!
//! Invariant: for each attempt and stream the log has at most the first [`FIRST`] and the last
//! [`LAST`] bytes, whatever the process prints, and no more than that is held in memory.

use super::lifeline::Lifeline;
use crate::unreturned::{Site, Unreturned};
use crate::{
    error::JobFailure,
    job::NoteBuffer,
    secret_mask::{mask, mask_cut},
    store::{JobId, LogLevel, LogRow, Timestamp},
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::oneshot;

/// The bytes that go to the log as they come.
const FIRST: usize = 64 * 1024;
/// The last bytes after them, which go to the log at the end.
const LAST: usize = 64 * 1024;
/// A longer line is cut off.
const LINE: usize = 4096;
/// The bytes that a line counts beside its text, so that short lines do not make many rows.
const ROW: usize = 32;
/// How many of the last bytes become part of the failure of a lost job process.
const CAUSE: usize = 2048;
/// How long to wait after the end of the process if another process that it started holds the
/// stream open.
const REST: Duration = Duration::from_secs(1);

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }

    /// The same stream of this process. It is written to without the lock that programs hold while
    /// they print.
    fn own(self) -> Option<File> {
        let own = match self {
            Stream::Out => std::io::stdout().as_fd().try_clone_to_owned(),
            Stream::Err => std::io::stderr().as_fd().try_clone_to_owned(),
        };
        own.ok().map(File::from)
    }
}

/// A stream of one job process.
pub(super) struct JobOutput {
    kept: Arc<Mutex<Kept>>,
    ended: oneshot::Receiver<()>,
}

/// Where the lines of an attempt go.
pub(super) struct Log {
    pub(super) notes: Arc<NoteBuffer>,
    pub(super) job: JobId,
    pub(super) attempt: u32,
    /// The connection over which the job process tells the values of secrets. It is not held: its
    /// end is the end of the job process.
    pub(super) lifeline: Weak<Lifeline>,
}

impl Log {
    /// Learn the secrets that the job process read before it printed what was read of its output.
    fn learn_secrets(&self) {
        if let Some(lifeline) = self.lifeline.upgrade() {
            lifeline.receive();
        }
    }

    fn write(&self, at: Timestamp, stream: Stream, text: &str) {
        let message = format!("{}: {text}", stream.name());
        self.notes.log(LogRow {
            job: self.job,
            attempt: self.attempt,
            at,
            level: LogLevel::Info,
            message,
        });
    }
}

impl JobOutput {
    /// Read until no process holds the pipe open. This is done in a thread of its own: a runtime
    /// would wait for it at its shutdown.
    pub(super) fn follow(mut pipe: impl Read + Send + 'static, stream: Stream, log: Log) -> Self {
        let kept = Arc::new(Mutex::new(Kept::new(stream, log)));
        let (end, ended) = oneshot::channel();
        let keeper = kept.clone();
        let reader = std::thread::Builder::new().name(format!("superduper-{}", stream.name())).spawn(move || {
            let (mut own, mut buffer) = (stream.own(), [0; 8192]);
            loop {
                let count = match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                if let Some(own) = &mut own {
                    own.write_all(&buffer[..count]).ignored("a program may have closed the stream; the log has the lines all the same");
                }
                let mut kept = keeper.lock().unwrap_or_else(PoisonError::into_inner);
                kept.log.learn_secrets();
                kept.take(&buffer[..count]);
            }
            end.send(()).ignored("nobody waits for it any more");
        });
        // Without the thread there is nothing to wait for: the other end of the channel is dropped.
        reader.or_warn(Site::WORKER, "starting the thread that reads what a job process prints");
        JobOutput { kept, ended }
    }

    /// After the process has ended: write the rest to the log. Returns the last lines.
    pub(super) async fn finish(self) -> String {
        tokio::time::timeout(REST, self.ended)
            .await
            .ignored("what is not read by then is left out");
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).finish()
    }
}

/// Add the last lines of its standard error to the failure of a process.
pub(super) fn explain(mut failure: JobFailure, last: &str) -> JobFailure {
    if !last.is_empty() {
        failure.causes.push(format!("its standard error ended with: {last}"));
    }
    failure
}

struct Kept {
    stream: Stream,
    log: Log,
    /// A line that has not ended yet.
    line: Vec<u8>,
    /// Bytes of the line under way that were cut off.
    cut: usize,
    /// Whether the next bytes rewrite the line under way: a carriage return came.
    rewinds: bool,
    written: usize,
    last: VecDeque<(Timestamp, String)>,
    last_bytes: usize,
    left_out: usize,
    /// The newest lines, for the failure.
    newest: VecDeque<String>,
    newest_bytes: usize,
    finished: bool,
}

impl Kept {
    fn new(stream: Stream, log: Log) -> Self {
        Kept {
            stream,
            log,
            line: Vec::new(),
            cut: 0,
            rewinds: false,
            written: 0,
            last: VecDeque::new(),
            last_bytes: 0,
            left_out: 0,
            newest: VecDeque::new(),
            newest_bytes: 0,
            finished: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match part {
                [text @ .., end @ (b'\n' | b'\r')] => (text, Some(*end)),
                text => (text, None),
            };
            if !text.is_empty() {
                if std::mem::take(&mut self.rewinds) {
                    self.line.clear();
                    self.cut = 0;
                }
                let fits = text.len().min(LINE - self.line.len());
                self.line.extend_from_slice(&text[..fits]);
                self.cut += text.len() - fits;
            }
            match end {
                Some(b'\n') => self.end_line(),
                Some(_) => self.rewinds = true,
                None => {}
            }
        }
    }

    fn end_line(&mut self) {
        self.rewinds = false;
        let mut bytes = std::mem::take(&mut self.line);
        let mut cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            // A character that was cut in two is left out as a whole.
            let whole = std::str::from_utf8(&bytes)
                .err()
                .filter(|error| error.error_len().is_none())
                .map(|error| error.valid_up_to());
            cut += whole.map_or(0, |whole| bytes.len() - whole);
            bytes.truncate(whole.unwrap_or(bytes.len()));
        }
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let mut text = if cut > 0 { mask_cut(text) } else { mask(text) };
        if cut > 0 {
            text.push_str(&format!(" … ({cut} bytes more)"));
        }
        // Lines that come after the end of the process are not kept.
        if text.is_empty() || self.finished {
            return;
        }
        self.keep_for_failure(&text);
        let (at, size) = (Timestamp::now(), text.len() + ROW);
        if self.last.is_empty() && self.written + size <= FIRST {
            self.written += size;
            return self.log.write(at, self.stream, &text);
        }
        // From now on nothing goes to the log before the end.
        self.written = FIRST;
        self.last_bytes += size;
        self.last.push_back((at, text));
        while self.last_bytes > LAST && self.last.len() > 1 {
            let old = self.last.pop_front().map_or(0, |(_, old)| old.len());
            self.last_bytes -= old + ROW;
            self.left_out += old;
        }
    }

    fn keep_for_failure(&mut self, text: &str) {
        // With the end of the line, which joins it to the next one.
        self.newest_bytes += text.len() + 1;
        self.newest.push_back(text.to_owned());
        while self.newest_bytes > CAUSE && self.newest.len() > 1 {
            self.newest_bytes -= self.newest.pop_front().map_or(0, |old| old.len() + 1);
        }
    }

    fn finish(&mut self) -> String {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.finished = true;
        if self.left_out > 0 {
            self.log.write(
                Timestamp::now(),
                self.stream,
                &format!("… ({} bytes are left out here)", self.left_out),
            );
        }
        for (at, text) in std::mem::take(&mut self.last) {
            self.log.write(at, self.stream, &text);
        }
        std::mem::take(&mut self.newest).into_iter().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (Kept, Arc<NoteBuffer>) {
        let notes = Arc::new(NoteBuffer::default());
        (
            Kept::new(
                Stream::Err,
                Log { notes: notes.clone(), job: JobId(1), attempt: 1, lifeline: Weak::new() },
            ),
            notes,
        )
    }

    fn lines(notes: &NoteBuffer) -> Vec<String> {
        notes
            .take()
            .map_or_else(Vec::new, |notes| notes.logs.into_iter().map(|row| row.message).collect())
    }

    #[test]
    fn fault_30_the_first_and_the_last_bytes_of_a_standard_error_are_kept() {
        let (mut kept, notes) = kept();
        kept.take(b"one\ntw");
        kept.take(b"o\n\nthree");
        assert_eq!(kept.finish(), "one\ntwo\nthree");
        assert_eq!(lines(&notes), ["stderr: one", "stderr: two", "stderr: three"]);

        let (mut kept, notes) = self::kept();
        for number in 0..100_000 {
            kept.take(format!("line {number}\n").as_bytes());
        }
        let last = kept.finish();
        assert!(
            last.ends_with("line 99998\nline 99999") && last.len() <= CAUSE + 100,
            "{}",
            last.len()
        );
        let lines = lines(&notes);
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(bytes < (FIRST + LAST) * 2, "{bytes}");
        assert_eq!(
            (&*lines[0], lines.last().map(String::as_str)),
            ("stderr: line 0", Some("stderr: line 99999"))
        );
        assert_eq!(lines.iter().filter(|line| line.contains("bytes are left out here")).count(), 1);
    }

    #[test]
    fn fault_30_a_line_without_an_end_is_cut_off() {
        let (mut kept, notes) = kept();
        for _ in 0..10_000 {
            kept.take(&[b'x'; 1000]);
        }
        assert!(kept.finish().len() < LINE + 100);
        assert!(lines(&notes)[0].ends_with("(9995904 bytes more)"));
    }

    #[test]
    fn e23_half_lines_rewritten_lines_and_bytes_that_are_no_text() {
        let (mut kept, notes) = kept();
        kept.take(b"ten \xff\xfe\r\n\r");
        kept.take(b"  5 %\r 60 %\r");
        kept.take("100 %\nhalf of \u{e9}".as_bytes().strip_suffix(b"\xa9").unwrap());
        kept.take(b"\xa9 line");
        kept.finish();
        assert_eq!(
            lines(&notes),
            ["stderr: ten \u{fffd}\u{fffd}", "stderr: 100 %", "stderr: half of \u{e9} line"]
        );

        let (mut kept, notes) = self::kept();
        kept.take("\u{20ac}".repeat(LINE).as_bytes());
        kept.finish();
        let text = lines(&notes).remove(0);
        assert!(
            text.ends_with("\u{20ac} … (8193 bytes more)") && !text.contains('\u{fffd}'),
            "{text}"
        );
    }

    #[test]
    fn e23_short_lines_make_few_rows() {
        let (mut kept, notes) = kept();
        for _ in 0..100_000 {
            kept.take(b"x\n");
        }
        kept.finish();
        assert!(lines(&notes).len() < 5000);
    }
}
