//! The standard error of a job process: passed on as it comes, and kept in the job's log.
//!
//! Invariant: of one attempt the log has at most the first [`FIRST`] and the last [`LAST`] bytes, whatever the process writes.

use super::NoteBuffer;
use crate::unreturned::{Site, Unreturned};
use crate::{
    JobFailure,
    store::{JobId, LogLevel, LogRow, Timestamp},
};
use std::{
    collections::VecDeque,
    io::{Read, Write},
    process::ChildStderr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// So many bytes go to the log as they come.
const FIRST: usize = 64 * 1024;
/// Of what comes after them, so many bytes are kept for the end.
const LAST: usize = 64 * 1024;
/// A longer line is cut off.
const LINE: usize = 4096;
/// So many bytes of the end are part of the failure of a process that was lost.
const CAUSE: usize = 2048;
/// Something that the process started may hold its standard error open after its end; it is waited for so long.
const REST: Duration = Duration::from_secs(1);

/// The standard error of one job process.
pub(super) struct Stderr {
    kept: Arc<Mutex<Kept>>,
    ended: oneshot::Receiver<()>,
}

/// Where the lines of an attempt go.
pub(super) struct Log {
    pub(super) notes: Arc<NoteBuffer>,
    pub(super) job: JobId,
    pub(super) attempt: u32,
}

impl Log {
    fn write(&self, at: Timestamp, message: String) {
        self.notes.log(LogRow { job: self.job, attempt: self.attempt, at, level: LogLevel::Info, message });
    }
}

impl Stderr {
    /// Read until nothing holds the pipe open any more, in a thread of its own: a runtime would wait for it when it shuts down.
    pub(super) fn follow(mut pipe: ChildStderr, log: Log) -> Self {
        let kept = Arc::new(Mutex::new(Kept::new(log)));
        let (end, ended) = oneshot::channel();
        let keeper = kept.clone();
        let reader = std::thread::Builder::new().name("superduper-stderr".to_owned()).spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                let count = match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                std::io::stderr().write_all(&buffer[..count]).ignored("a program without a standard error has nobody who reads it");
                keeper.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..count]);
            }
            end.send(()).ignored("nobody waits for it any more");
        });
        // Without the thread there is nothing to wait for: the other end of the channel is dropped.
        reader.or_warn(Site::WORKER, "starting the thread that reads the standard error of a job process");
        Stderr { kept, ended }
    }

    /// After the process has ended: write the rest to the log. Gives the last lines.
    pub(super) async fn finish(self) -> String {
        tokio::time::timeout(REST, self.ended).await.ignored("what is not read by then is left out");
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
    log: Log,
    /// A line that has not ended yet.
    line: Vec<u8>,
    /// Bytes of the line under way that were cut off.
    cut: usize,
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
    fn new(log: Log) -> Self {
        Kept {
            log,
            line: Vec::new(),
            cut: 0,
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
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let fits = text.len().min(LINE - self.line.len());
            self.line.extend_from_slice(&text[..fits]);
            self.cut += text.len() - fits;
            if ends {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let mut text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let cut = std::mem::take(&mut self.cut);
        if cut > 0 {
            text.push_str(&format!(" … ({cut} bytes more)"));
        }
        // Nobody waits for what comes after the end of the process any more.
        if text.is_empty() || self.finished {
            return;
        }
        // With the end of the line, which joins it to the next one.
        self.newest_bytes += text.len() + 1;
        self.newest.push_back(text.clone());
        while self.newest_bytes > CAUSE && self.newest.len() > 1 {
            self.newest_bytes -= self.newest.pop_front().map_or(0, |old| old.len() + 1);
        }
        let at = Timestamp::now();
        if self.last.is_empty() && self.written + text.len() <= FIRST {
            self.written += text.len();
            return self.log.write(at, format!("stderr: {text}"));
        }
        self.last_bytes += text.len();
        self.last.push_back((at, text));
        while self.last_bytes > LAST && self.last.len() > 1 {
            let old = self.last.pop_front().map_or(0, |(_, old)| old.len());
            self.last_bytes -= old;
            self.left_out += old;
        }
    }

    fn finish(&mut self) -> String {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.finished = true;
        if self.left_out > 0 {
            self.log.write(Timestamp::now(), format!("stderr: … ({} bytes are left out here)", self.left_out));
        }
        for (at, text) in std::mem::take(&mut self.last) {
            self.log.write(at, format!("stderr: {text}"));
        }
        std::mem::take(&mut self.newest).into_iter().collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (Kept, Arc<NoteBuffer>) {
        let notes = Arc::new(NoteBuffer::default());
        (Kept::new(Log { notes: notes.clone(), job: JobId(1), attempt: 1 }), notes)
    }

    fn lines(notes: &NoteBuffer) -> Vec<String> {
        notes.take().map_or_else(Vec::new, |notes| notes.logs.into_iter().map(|row| row.message).collect())
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
        assert!(last.ends_with("line 99998\nline 99999") && last.len() <= CAUSE + 100, "{}", last.len());
        let lines = lines(&notes);
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(bytes < (FIRST + LAST) * 2, "{bytes}");
        assert_eq!((&*lines[0], lines.last().map(String::as_str)), ("stderr: line 0", Some("stderr: line 99999")));
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
}
