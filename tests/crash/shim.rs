//! Faults by their names, and processes that meet one.
//!
//! Invariant: a process that is started without a fault sees the system's own calls.

use crate::{components, scenario::Place};
use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// So long may a process of the scenario take.
const LIMIT: Duration = Duration::from_secs(60);

/// The injected faults; see `shim.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL before the write point.
    Kill,
    /// SIGKILL after half of a write, or after another call.
    Torn,
    /// A loss of power: all that was not synchronized is gone.
    Power,
    /// A loss of power: a random part of what was not synchronized is gone.
    PowerPart,
    /// SIGKILL at the write point, and again at one during the recovery.
    Twice,
    /// SIGKILL at the write point, and a loss of power during the recovery or after it.
    KillPower,
    /// SIGKILL inside a hook or trigger.
    Inside,
    /// From the write point on the disk is full.
    Full,
    /// One call fails.
    Io,
    /// From the write point on all calls fail.
    Broken,
    /// From the write point on no name can be made, moved or removed.
    Denied,
}

impl Kind {
    pub(crate) const ALL: [Kind; 11] = [
        Kind::Kill,
        Kind::Torn,
        Kind::Power,
        Kind::PowerPart,
        Kind::Twice,
        Kind::KillPower,
        Kind::Inside,
        Kind::Full,
        Kind::Io,
        Kind::Broken,
        Kind::Denied,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Torn => "torn",
            Kind::Power => "power",
            Kind::PowerPart => "power-part",
            Kind::Twice => "twice",
            Kind::KillPower => "kill-power",
            Kind::Inside => "inside",
            Kind::Full => "full",
            Kind::Io => "io",
            Kind::Broken => "broken",
            Kind::Denied => "denied",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the process dies of it; else calls fail, and the process goes on.
    pub(crate) fn kills(self) -> bool {
        self < Kind::Full
    }

    fn mode(self) -> &'static str {
        match self {
            Kind::PowerPart => "power",
            Kind::Twice | Kind::KillPower => "kill",
            Kind::Inside => "count",
            other => other.name(),
        }
    }
}

/// A fault at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The write point; for [`Kind::Inside`] the place in [`INSIDE`].
    pub(crate) at: usize,
    /// For [`Kind::Twice`] and [`Kind::KillPower`] the write point during the recovery; for
    /// [`Kind::PowerPart`] what is lost.
    pub(crate) seed: u64,
}

/// Where processes kill themselves.
pub(crate) const INSIDE: [&str; 20] = [
    "setup:before",
    "setup:after",
    "on_create:before",
    "on_create:after",
    "cleanup:before",
    "cleanup:after",
    "start:before",
    "start:after",
    "part:before",
    "part:after",
    "notice:before",
    "notice:after",
    "report:before",
    "report:after",
    "train:before",
    "train:after",
    "check:before",
    "check:after",
    "fails:before",
    "fails:after",
];

/// The library of `shim.c`.
pub(crate) struct Shim(PathBuf);

impl Shim {
    /// Build it; the text says why it cannot be built here.
    pub(crate) fn build(folder: &Path) -> Result<Shim, String> {
        if !cfg!(target_os = "linux") {
            return Err("faults are injected with LD_PRELOAD, which is there on Linux".to_owned());
        }
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        std::fs::write(&source, include_str!("shim.c"))
            .map_err(|error| format!("`{}`: {error}", source.display()))?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
            .arg(&library)
            .arg(&source)
            .output();
        match built {
            Ok(output) if output.status.success() => Ok(Shim(library)),
            Ok(output) => Err(format!(
                "`cc` cannot build the shim: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
            Err(error) => Err(format!("there is no C compiler `cc`: {error}")),
        }
    }

    /// Take the scenario's steps in a process that meets a fault.
    pub(crate) fn run(&self, place: &Place, fault: Option<&Fault>) -> io::Result<Ended> {
        let mut command = child(place)?;
        if let Some(fault) = fault {
            let report = place.root().join("report");
            command
                .env("LD_PRELOAD", &self.0)
                .env("CRASH_FOLDER", place.data())
                .env("CRASH_MODE", fault.kind.mode());
            command
                .env("CRASH_REPORT", &report)
                .env("CRASH_TRASH", place.root().join("trash"))
                .env("CRASH_LIFT", place.lift());
            match fault.kind {
                Kind::Inside => command.env(components::INSIDE, INSIDE[fault.at % INSIDE.len()]),
                _ => command.env("CRASH_AT", fault.at.to_string()),
            };
            // The second process of such a case has the fault `power`.
            let pending = place.root().join("pending");
            if fault.kind == Kind::KillPower || pending.exists() {
                command.env("CRASH_PENDING", pending);
            }
            if fault.kind == Kind::PowerPart {
                command.env("CRASH_SEED", fault.seed.to_string());
            }
        }
        wait(&mut command, place)
    }

    /// Take all steps without a fault and count the write points.
    pub(crate) fn count(&self, place: &Place) -> io::Result<Ended> {
        self.run(place, Some(&Fault { kind: Kind::Kill, at: 0, seed: 0 }))
    }

    /// Take the steps up to this one without a fault.
    pub(crate) fn steps(&self, place: &Place, number: usize) -> io::Result<Ended> {
        wait(child(place)?.arg(number.to_string()), place)
    }
}

/// How a process of the scenario ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// It did not end by itself.
    late: bool,
    /// What it said, if it failed.
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn was_killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        !self.late && self.status.signal() == Some(9)
    }
}

/// What the shim wrote: the number of write points after a regular end, and the call that met the
/// fault.
pub(crate) fn report(place: &Place) -> (usize, Option<String>) {
    let text = std::fs::read_to_string(place.root().join("report")).unwrap_or_default();
    let points =
        text.lines().rev().find_map(|line| line.strip_prefix("points ")?.parse().ok()).unwrap_or(0);
    (points, text.lines().find_map(|line| line.strip_prefix("fault ")).map(str::to_owned))
}

fn child(place: &Place) -> io::Result<Command> {
    std::fs::create_dir_all(place.data())?;
    std::fs::create_dir_all(place.root().join("trash"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").arg(place.root()).env(components::EFFECTS, place.effects());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

fn wait(command: &mut Command, place: &Place) -> io::Result<Ended> {
    let path = place.root().join("said");
    let mut child = command.stderr(std::fs::File::create(&path)?).spawn()?;
    let begun = Instant::now();
    let mut late = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            late = true;
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = if late {
        format!("it did not end by itself within {LIMIT:?}")
    } else {
        std::fs::read_to_string(&path)?
    };
    Ok(Ended { status, late, said })
}
