//! The worker program of the tests of the executor `process` and of those of several processes on
//! one database. `worker apply FOLDER WHAT` makes it a parent; `worker peak FOLDER WHAT` also
//! prints how many KiB it took at most; `worker share FOLDER WHAT NUMBER EXECUTOR` does what
//! `shared.rs` says; `worker replaced FOLDER HOW` runs jobs in processes before and after its own
//! file became another one; `worker identities COUNT` prints what `declared.rs` says;
//! `worker end KIND` ends with an error of a kind.

mod components;
mod confidant;
mod declared;
mod shared;

use superduper::prelude::*;
use superduper_conformance as _;

#[superduper::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [command @ ("apply" | "peak"), folder, what] => {
            let db = Db::builder().at(*folder)?.executor("process").build().await?;
            db.apply(components::Task {
                identifier: "p08".into(),
                what: (*what).to_owned(),
                made: Output::empty(),
            })
            .await?;
            if *command == "peak" {
                let status = std::fs::read_to_string("/proc/self/status")?;
                let peak = status
                    .lines()
                    .find_map(|line| line.strip_prefix("VmHWM:"))
                    .map(|peak| peak.replace("kB", ""));
                std::fs::write(
                    std::path::Path::new(folder).with_file_name("peak"),
                    peak.unwrap_or_default().trim(),
                )?;
            }
            Ok(())
        }
        ["replaced", folder, how] => replaced(folder, how).await,
        ["share", folder, what, number, executor] => {
            let number = number.parse().map_err(|_| Error::msg("a number is needed"))?;
            let (what, executor) = ((*what).to_owned(), (*executor).to_owned());
            shared::obey(shared::Request { folder: folder.into(), what, number, executor }).await
        }
        ["identities", count] => {
            for n in 0..count.parse().map_err(|_| Error::msg("a number is needed"))? {
                let line = declared::identities(n)?.join(" ");
                std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes())?;
            }
            Ok(())
        }
        ["end", kind] => {
            let kind = ErrorKind::from_name(kind).ok_or_else(|| Error::msg("a kind is needed"))?;
            Err(Error::new(kind, "the end").context("as asked"))
        }
        _ => Ok(()),
    }
}

/// Run a job in a process, let this program's file become another one or none, and run a job again.
async fn replaced(folder: &str, how: &str) -> Result<()> {
    let db = Db::builder().at(folder)?.executor("process").build().await?;
    let work = async |identifier: &str| -> Result<u32> {
        let task = components::Task {
            identifier: identifier.into(),
            what: "fine".into(),
            made: Output::empty(),
        };
        db.apply(task).await?.result("work")
    };
    let before = work("before").await?;
    let (program, new) =
        (std::env::current_exe()?, std::path::Path::new(folder).with_file_name("new"));
    match how {
        "same build" => std::fs::copy(&program, &new).map(drop)?,
        "other build" => std::fs::write(&new, "#!/bin/sh\nexit 9\n")?,
        _ => std::fs::remove_file(&program)?,
    }
    if new.exists() {
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        std::fs::rename(&new, &program)?;
    }
    let after = work("after").await?;
    std::io::Write::write_all(&mut std::io::stdout(), format!("{before} {after}").as_bytes())?;
    Ok(())
}
