//! The program that is started as a worker.
//!
//! Invariant: a worker runs the build that its parent runs, whatever has become of the program's
//! file since the parent started. Linux keeps that build under `/proc/self/exe`, also where the
//! file was replaced or deleted; elsewhere a file that is another one than at the start is refused.

use crate::error::{Error, ErrorKind, Result};
use std::{fmt, os::unix::process::CommandExt, path::PathBuf, process::Command};

/// What a worker is started from.
#[derive(Debug, Clone)]
pub(super) enum Program {
    /// A file that the builder names.
    At(PathBuf),
    /// What this process runs, under a path that leads to it.
    Itself(PathBuf),
}

impl Program {
    /// What this process runs.
    pub(super) fn itself() -> Result<Self> {
        path_to_itself().map(Program::Itself)
    }

    pub(super) fn command(&self) -> Command {
        match self {
            Program::At(path) => Command::new(path),
            Program::Itself(path) => {
                let mut command = Command::new(path);
                if let Some(name) = std::env::args_os().next() {
                    command.arg0(name);
                }
                command
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::At(path) => path.display().fmt(f),
            Program::Itself(path) => {
                std::env::current_exe().unwrap_or_else(|_| path.clone()).display().fmt(f)
            }
        }
    }
}

fn unknown(text: &str) -> Error {
    Error::new(ErrorKind::Unsupported, text).with_hint("name the program with `.program(path)`")
}

#[cfg(target_os = "linux")]
fn path_to_itself() -> Result<PathBuf> {
    // The process that is about to run it looks it up, and it is still a copy of this one then.
    const ITSELF: &str = "/proc/self/exe";
    match std::fs::metadata(ITSELF) {
        Ok(_) => Ok(PathBuf::from(ITSELF)),
        Err(error) => {
            Err(unknown("the program of this process cannot be found: `/proc` is not mounted")
                .with_source(error))
        }
    }
}

/// The file as it was when this program began.
#[cfg(not(target_os = "linux"))]
static AT_START: std::sync::OnceLock<Option<(PathBuf, u64, u64)>> = std::sync::OnceLock::new();

#[cfg(not(target_os = "linux"))]
fn path_to_itself() -> Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let start = AT_START
        .get()
        .and_then(Option::as_ref)
        .ok_or_else(|| unknown("the path of this program is unknown"))?;
    let (path, device, inode) = start;
    if std::fs::metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == (*device, *inode)) {
        return Ok(path.clone());
    }
    let text = format!(
        "the program `{}` was replaced or deleted since this process started",
        path.display()
    );
    Err(Error::new(ErrorKind::Unsupported, text)
        .with_hint("start this program again; its jobs go on"))
}

/// Take down what this process runs, as early as possible.
pub(super) fn remember() {
    #[cfg(not(target_os = "linux"))]
    AT_START.get_or_init(|| {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::current_exe().ok()?;
        let file = std::fs::metadata(&path).ok()?;
        Some((path, file.dev(), file.ino()))
    });
}

/// Let `ps` and `top` show the program's name; after a start from `/proc/self/exe` it is `exe`.
pub(super) fn show_name() {
    #[cfg(target_os = "linux")]
    if let Some(name) = std::env::args_os()
        .next()
        .as_deref()
        .and_then(|path| std::path::Path::new(path).file_name())
    {
        use crate::unreturned::Unreturned;
        std::fs::write("/proc/self/comm", name.as_encoded_bytes())
            .ignored("a name is only for people who look");
    }
}
