//! The connection between a job process and its parent: the standard input of the job process, a
//! socket.
//!
//! - It closes when the parent dies, or gives the attempt up. The job process then ends, with all
//!   processes that it started.
//! - A byte from the parent tells the job process to read the record. The byte [`PAUSE`] also asks
//!   the job to pause, because the parent closes. That request is not on record, so that another
//!   process continues the job.
//! - If the attempt has a limit for the time without a sign of life, the job process sends bytes as
//!   signs of life, at least once in each [`SIGNS`]th of the limit: always before and after the
//!   call; during the call, if the call gave a sign of life.
//! - The job process tells the value of each secret that it reads, before the code that asked for
//!   it gets it: the byte [`SECRET`], the length in four bytes, the text. So the parent knows a
//!   value before it reads anything that the job process printed with it, and masks it in the log.
//!   The values are in no file, and in no other process than these two.
//!
//! Invariant: what users ask of a job, and what has become of it, is on record alone.

use super::{request::Request, strays};
use crate::unreturned::{Site, Unreturned};
use crate::{
    error::{Error, JobFailure, Result},
    job::{
        CancelToken,
        call::{looks, no_sign_of_life},
    },
    secret_mask,
};
use rustix::process::{Pid, getpid, getppid};
use std::{
    io::{ErrorKind, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// At least how many times within the limit a job process looks for signs of life: twice as often
/// as its parent.
const SIGNS: u32 = 16;
/// How long a job process may take until its first sign of life, unless the limit is longer: its
/// program has to be loaded.
const START: Duration = Duration::from_secs(60);
/// How often a job process checks that its parent lives. The connection tells at once, unless
/// another process holds it open.
const PARENT: Duration = Duration::from_secs(1);
/// The pause between two reads of a socket that is non-blocking.
const NO_WAIT: Duration = Duration::from_millis(100);
/// The exit code of a job process whose parent is gone.
const ALONE: i32 = 71;

/// The byte before the value of a secret.
const SECRET: u8 = 2;
/// The value of a longer secret is not told.
const LONGEST: usize = 1 << 20;
/// The byte by which a parent that closes asks the job to pause.
const PAUSE: u8 = 1;
/// Whether the byte [`PAUSE`] came.
static CLOSING: AtomicBool = AtomicBool::new(false);

/// The parent's end.
pub(super) struct Lifeline {
    stream: UnixStream,
    inbox: Mutex<Inbox>,
}

/// What came from a job process.
#[derive(Default)]
struct Inbox {
    /// A message of which not all has come yet.
    begun: Vec<u8>,
    /// Whether a sign of life came since somebody looked.
    heard: bool,
}

impl Inbox {
    fn take(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let mut rest = &self.begun[..];
        while let [kind, after @ ..] = rest {
            if *kind != SECRET {
                (self.heard, rest) = (true, after);
                continue;
            }
            let Some((length, text)) = after.split_first_chunk::<4>() else { break };
            let length = u32::from_be_bytes(*length) as usize;
            if length > LONGEST {
                // No job process sends this.
                rest = after;
                continue;
            }
            let Some((text, next)) = text.split_at_checked(length) else { break };
            secret_mask::remember(&String::from_utf8_lossy(text));
            rest = next;
        }
        self.begun = rest.to_vec();
    }
}

impl Lifeline {
    /// Give the other end to a job process that is about to start.
    pub(super) fn to(command: &mut Command) -> Result<Self> {
        let (own, other) = UnixStream::pair()?;
        own.set_nonblocking(true)?;
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(other)));
        Ok(Lifeline { stream: own, inbox: Mutex::default() })
    }

    /// Tell the job process to read the record.
    pub(super) fn nudge(&self) {
        (&self.stream)
            .write(&[0])
            .ignored("a job process that is gone, or that has unread nudges, needs none");
    }

    /// Ask the job to pause because this process closes. Nothing on record says so.
    pub(super) fn ask_to_pause(&self) {
        (&self.stream).write(&[PAUSE]).ignored("a job process that is gone needs none");
    }

    /// Take what has come: signs of life, and values of secrets, which are masked from now on.
    pub(super) fn receive(&self) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = (&self.stream).read(&mut buffer) {
            inbox.take(&buffer[..count]);
        }
    }

    /// Whether a sign of life came since the last call.
    fn heard(&self) -> bool {
        self.receive();
        std::mem::take(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner).heard)
    }

    /// Completes when the job process has given no sign of life for the limit, also if the job
    /// process is stopped or stuck. The time in which this process itself was suspended does not
    /// count.
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

/// The stream on which a job process tells things to its parent, one message at a time.
pub(super) type Told = Arc<Mutex<UnixStream>>;

/// End this process when its parent ends. `nudged` is notified when the parent tells this process
/// to read the record.
pub(super) fn hold(request: &Request, nudged: &'static Notify) -> Result<Told> {
    let unusable = |error: std::io::Error| {
        Error::from(error)
            .context("the standard input of a job process is not the socket of its parent")
    };
    let stream =
        std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(unusable)?;
    stream.peer_addr().map_err(unusable)?;
    strays::keep_orphans();
    // If this process is stopped when the thread that started it ends, Linux wakes it. The signal
    // does not kill it, because it still has to end what it started.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT))
        .or_warn(Site::WORKER, "asking to be woken at the end of the parent");
    let mut reads = stream.try_clone()?;
    let told: Told = Arc::new(Mutex::new(stream));
    let secrets = told.clone();
    secret_mask::forward(move |text| tell_secret(&secrets, text));
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
    Ok(told)
}

/// Tell the value of a secret to the parent.
fn tell_secret(told: &Told, text: &str) {
    let Some(length) = u32::try_from(text.len()).ok().filter(|_| text.len() <= LONGEST) else {
        return;
    };
    let message = [&[SECRET][..], &length.to_be_bytes(), text.as_bytes()].concat();
    let mut stream = told.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rest = &message[..];
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A process that inherited the socket may have made it non-blocking. The parent reads
            // soon.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
            }
            // The parent is gone: what is printed from here on could not be masked.
            Err(_) => end(),
        }
    }
}

/// End this process, with all that it started.
fn end() {
    strays::end_own();
    strays::end_group(getpid());
    std::process::exit(ALONE);
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| {
        Error::from(error).context(format_args!("starting the thread `{name}` of a job process"))
    })
}

/// Send signs of life from a thread of its own: a job that blocks its runtime does not hold them
/// back.
pub(super) fn tell(told: Told, limit: Duration, attempt: Arc<CancelToken>) -> Result<()> {
    let pause = (limit / SIGNS).clamp(Duration::from_millis(1), Duration::from_secs(1));
    thread("superduper-life", move || {
        let mut seen = None;
        loop {
            let beats = attempt.beats();
            if (!attempt.is_in_call() || seen != Some(beats))
                && let Err(error) = told.lock().unwrap_or_else(PoisonError::into_inner).write(&[0])
                && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
            {
                return;
            }
            seen = Some(beats);
            std::thread::sleep(pause);
        }
    })
}
