//! The connection between a job process and its parent: the standard input of the job process, a socket.
//!
//! - It closes when the parent dies, or gives the attempt up. The job process then ends, with all that it started.
//! - A byte from the parent says that the record is worth a look; the byte [`PAUSE`] also that the job is to pause, since the
//!   parent closes. That is not on record, so that another process goes on with the job.
//! - If the attempt has a limit for the time without a sign of life, the job process sends a byte for each sign of life: at
//!   least one within each [`SIGNS`]th of the limit before and after the call, and during the call if the call gave one.
//!
//! Invariant: what users ask of a job, and what has become of it, is on record alone.

use super::{request::Request, strays};
use crate::unreturned::{Site, Unreturned};
use crate::{
    Error, JobFailure, Result,
    job::{
        CancelToken,
        call::{looks, no_sign_of_life},
    },
};
use rustix::process::{Pid, getpid, getppid};
use std::{
    io::{ErrorKind, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How often a job process looks for signs of life within their limit: twice as often as its parent.
const SIGNS: u32 = 16;
/// How long a job process may take until its first sign of life, unless the limit is longer: its program has to be loaded.
const START: Duration = Duration::from_secs(60);
/// How often a job process looks whether its parent lives. The connection tells at once, unless something else holds it open.
const PARENT: Duration = Duration::from_secs(1);
/// The pause between two reads of a socket on which no read waits.
const NO_WAIT: Duration = Duration::from_millis(100);
/// The exit code of a job process whose parent is gone.
const ALONE: i32 = 71;

/// The byte by which a parent that closes asks the job to pause.
const PAUSE: u8 = 1;
/// Whether it came.
static CLOSING: AtomicBool = AtomicBool::new(false);

/// The parent's end.
pub(super) struct Lifeline(UnixStream);

impl Lifeline {
    /// Give a job process that is about to start the other end.
    pub(super) fn to(command: &mut Command) -> Result<Self> {
        let (own, other) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(other)));
        Ok(Lifeline(own))
    }

    /// Say that the record is worth a look.
    pub(super) fn nudge(&self) {
        (&self.0).write(&[0]).ignored("a job process that is gone, or that has unread nudges, needs none");
    }

    /// Say that this process closes: the job is to pause, although nothing on record says so.
    pub(super) fn ask_to_pause(&self) {
        (&self.0).write(&[PAUSE]).ignored("a job process that is gone needs none");
    }

    /// Whether there was a sign of life since the last time.
    fn heard(&self) -> bool {
        let (mut heard, mut buffer) = (false, [0; 64]);
        while matches!((&self.0).read(&mut buffer), Ok(count) if count > 0) {
            heard = true;
        }
        heard
    }

    /// Ends when the job process gives no sign of life for the limit, also where it cannot tell so itself: it is stopped, or
    /// stuck. The time in which this process itself stood still does not count.
    pub(super) async fn silent(&self, limit: Option<Duration>) -> JobFailure {
        let Some(limit) = limit else { return std::future::pending().await };
        let begun = Instant::now();
        let (pause, looks) = looks(limit);
        let (mut started, mut quiet) = (false, 0);
        while quiet < looks {
            tokio::time::sleep(pause).await;
            if self.heard() {
                (started, quiet) = (true, 0);
            } else if started || begun.elapsed() > limit.max(START) {
                quiet += 1;
            }
        }
        no_sign_of_life(limit)
    }
}

/// Whether the parent of this job process closes, and its job is to pause.
pub(super) fn is_closing() -> bool {
    CLOSING.load(Ordering::Acquire)
}

/// End this process when its parent does; `nudged` hears of what is on record.
pub(super) fn hold(request: &Request, nudged: &'static Notify) -> Result<UnixStream> {
    let unusable =
        |error: std::io::Error| Error::from(error).context("the standard input of a job process is not the socket of its parent");
    let stream = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(unusable)?;
    stream.peer_addr().map_err(unusable)?;
    strays::keep_orphans();
    // If this process is stopped when the thread that started it ends, Linux wakes it. The signal does not kill it, because it
    // still has to end what it started.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT))
        .or_warn(Site::WORKER, "asking to be woken at the end of the parent");
    let mut reads = stream.try_clone()?;
    thread("superduper-lifeline", move || {
        let mut buffer = [0; 64];
        loop {
            match reads.read(&mut buffer) {
                Ok(0) => return end(),
                Ok(count) => {
                    if buffer[..count].contains(&PAUSE) {
                        CLOSING.store(true, Ordering::Release);
                    }
                    nudged.notify_one();
                }
                // A process that inherited the socket may have set it so that no read waits.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NO_WAIT),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return end(),
            }
        }
    })?;
    let parent = i32::try_from(request.parent).ok().and_then(Pid::from_raw);
    thread("superduper-parent", move || {
        while getppid() == parent {
            std::thread::sleep(PARENT);
        }
        end();
    })?;
    Ok(stream)
}

/// End this process, with all that it started.
fn end() {
    strays::end_own();
    strays::end_group(getpid());
    std::process::exit(ALONE);
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| Error::from(error).context(format_args!("starting the thread `{name}` of a job process")))
}

/// Send signs of life, from a thread of its own: nothing that the job does to a runtime keeps them back.
pub(super) fn tell(mut stream: UnixStream, limit: Duration, attempt: Arc<CancelToken>) -> Result<()> {
    let pause = (limit / SIGNS).clamp(Duration::from_millis(1), Duration::from_secs(1));
    thread("superduper-life", move || {
        let mut seen = None;
        loop {
            let beats = attempt.beats();
            if (!attempt.is_in_call() || seen != Some(beats))
                && let Err(error) = stream.write(&[0])
                && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
            {
                return;
            }
            seen = Some(beats);
            std::thread::sleep(pause);
        }
    })
}
