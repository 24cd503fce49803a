//! The connection between a job process and its parent: the standard input of the job process, a socket.
//!
//! - It closes when the parent dies, or gives the attempt up. The job process then ends, with all processes that it started.
//! - A byte from the parent tells the job process to read the record. The byte [`PAUSE`] also asks the job to pause, because the
//!   parent closes. That request is not on record, so that another process continues the job.
//! - If the attempt has a limit for the time without a sign of life, the job process sends bytes as signs of
//!   life, at least once in each [`SIGNS`]th of the limit: always before and after the call; during the call, if the call gave a
//!   sign of life.
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

/// At least how many times within the limit a job process looks for signs of life: twice as often as its parent.
const SIGNS: u32 = 16;
/// How long a job process may take until its first sign of life, unless the limit is longer: its program has to be loaded.
const START: Duration = Duration::from_secs(60);
/// How often a job process checks that its parent lives. The connection tells at once, unless another process holds it open.
const PARENT: Duration = Duration::from_secs(1);
/// The pause between two reads of a socket that is non-blocking.
const NO_WAIT: Duration = Duration::from_millis(100);
/// The exit code of a job process whose parent is gone.
const ALONE: i32 = 71;

/// The byte by which a parent that closes asks the job to pause.
const PAUSE: u8 = 1;
/// Whether the byte [`PAUSE`] came.
static CLOSING: AtomicBool = AtomicBool::new(false);

/// The parent's end.
pub(super) struct Lifeline(UnixStream);

impl Lifeline {
    /// Give the other end to a job process that is about to start.
    pub(super) fn to(command: &mut Command) -> Result<Self> {
        let (own, other) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(other)));
        Ok(Lifeline(own))
    }

    /// Tell the job process to read the record.
    pub(super) fn nudge(&self) {
        (&self.0).write(&[0]).ignored("a job process that is gone, or that has unread nudges, needs none");
    }

    /// Ask the job to pause because this process closes. Nothing on record says so.
    pub(super) fn ask_to_pause(&self) {
        (&self.0).write(&[PAUSE]).ignored("a job process that is gone needs none");
    }

    /// Whether a sign of life came since the last call.
    fn heard(&self) -> bool {
        let (mut heard, mut buffer) = (false, [0; 64]);
        while matches!((&self.0).read(&mut buffer), Ok(count) if count > 0) {
            heard = true;
        }
        heard
    }

    /// Completes when the job process has given no sign of life for the limit, also if the job process is stopped or stuck. The
    /// time in which this process itself was suspended does not count.
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

/// Whether the parent of this job process closes, so that the job is asked to pause.
pub(super) fn is_closing() -> bool {
    CLOSING.load(Ordering::Acquire)
}

/// End this process when its parent ends. `nudged` is notified when the parent tells this process to read the record.
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
                // A process that inherited the socket may have made it non-blocking.
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

/// Send signs of life from a thread of its own: a job that blocks its runtime does not hold them back.
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
