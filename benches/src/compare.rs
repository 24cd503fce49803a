//! The same cases here and with the peer, in turn, as one table.
//!
//! Measurements are matched by case and parameters. Both sides print the same lines, so the peer
//! may be any script that does.

use crate::{
    cases::Case,
    driver::{Driver, Options},
    measure::Figures,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use superduper::{Error, Result, ResultExt};

/// What tells measurements of a case apart.
const PARAMETERS: [&str; 13] = [
    "what",
    "isolation",
    "components_in_db",
    "n",
    "triggers",
    "shape",
    "mib",
    "source",
    "kind",
    "point",
    "rounds",
    "processes",
    "case",
];

/// Figures of which a smaller one is better by a factor.
const RATIOS: [&str; 9] = [
    "cpu_ms",
    "wall_ms",
    "gone_wall_ms",
    "children_rss_mib",
    "rss_mib",
    "statements",
    "transactions",
    "cpu_ms_per_component",
    "cpu_ms_per_job",
];

/// Run the cases on both sides, print a table.
pub(crate) fn compare(cases: &[&Case], options: Options) -> Result<()> {
    check_python()?;
    let script = |case: &Case| options.peer.clone().unwrap_or_else(|| default_script(case));
    let scripts: BTreeSet<PathBuf> = cases.iter().map(|case| script(case)).collect();
    for script in scripts {
        eprintln!("# preparing `{}`; the first time this installs it", script.display());
        peer(&script, &["prepare"])?;
    }
    let driver = Driver::keeping(options.clone())?;
    let mut rows = Vec::new();
    for case in cases {
        (case.run)(&driver)?;
        let ours = parse(driver.take_lines().iter().map(String::as_str));
        eprintln!("# {}: measured here, now the peer", case.name);
        let text = peer(&script(case), &arguments(case.name, &options))?;
        let theirs = parse(text.lines());
        for (side, lines) in [("superduper", &ours), ("peer", &theirs)] {
            lines.iter().for_each(|line| eprintln!("# {side} {}", Value::from(line.clone())));
        }
        rows.extend(table(&ours, &theirs));
    }
    println!(
        "| case | parameters | figure | superduper | peer | peer / superduper |\n|---|---|---|--:|--:|--:|"
    );
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

fn default_script(case: &Case) -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("peers").join(case.peer)
}

fn check_python() -> Result<()> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python)
        .args(["-c", "import venv, ensurepip"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let text = format!(
        "`compare` needs Python 3 with `venv` and `pip`, and `{}` has not",
        python.display()
    );
    Err(Error::invalid(text)
        .with_hint("install python3, python3-venv and python3-pip, or name another Python in `PYTHON`; `run` needs neither"))
}

fn arguments(case: &str, options: &Options) -> Vec<String> {
    let mut arguments = vec!["run".to_owned(), case.to_owned()];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            arguments.extend([name.to_owned(), value]);
        }
    };
    add("--n", options.n.map(|n| n.to_string()));
    add(
        "--mib",
        options
            .mib
            .as_ref()
            .map(|sizes| sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(",")),
    );
    add("--reps", options.reps.map(|reps| reps.to_string()));
    add("--limit", options.limit.map(|limit| limit.to_string()));
    add("--work", options.work.as_ref().map(|work| work.display().to_string()));
    arguments
}

fn peer(script: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<String> {
    let output = Command::new("sh")
        .arg(script)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.context(format_args!("`sh {}` could not be started", script.display()))?;
    if !output.status.success() {
        return Err(Error::msg(format!("`sh {}` ended with {}", script.display(), output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Figures> {
    lines.filter_map(|line| serde_json::from_str::<Figures>(line).ok()).collect()
}

fn parameters(line: &Figures) -> Vec<(&'static str, &Value)> {
    PARAMETERS.iter().filter_map(|name| Some((*name, line.get(*name)?))).collect()
}

fn table(ours: &[Figures], theirs: &[Figures]) -> Vec<String> {
    let mut rows = Vec::new();
    for line in ours {
        let key = parameters(line);
        for peer in theirs.iter().filter(|peer| parameters(peer) == key) {
            add_rows(&mut rows, line, &key, peer);
        }
    }
    rows
}

/// The rows of one measurement beside that of a peer; a script that has several peers names them.
fn add_rows(
    rows: &mut Vec<String>,
    line: &Figures,
    key: &[(&'static str, &Value)],
    peer: &Figures,
) {
    let shown = key.iter().filter(|(name, _)| *name != "case").map(|(name, value)| match *name {
        "what" | "point" | "isolation" => plain(value),
        _ => format!("{name} {}", plain(value)),
    });
    let shown = shown.chain(peer.get("peer").map(|name| format!("beside {}", plain(name))));
    let head = format!("| {} | {} |", plain(&line["case"]), shown.collect::<Vec<_>>().join(", "));
    if let Some(error) = peer.get("error") {
        let cpu = line.get("cpu_ms").map(plain).unwrap_or_default();
        rows.push(format!("{head} cpu_ms | {cpu} | {} | |", plain(error).replace('|', "/")));
        return;
    }
    let first = RATIOS.iter().filter_map(|name| line.get_key_value(*name));
    let rest = line.iter().filter(|(name, _)| {
        !RATIOS.contains(&name.as_str()) && !PARAMETERS.contains(&name.as_str())
    });
    for (name, here) in first.chain(rest) {
        let Some(there) = peer.get(name) else { continue };
        let ratio = match (here.as_f64(), there.as_f64()) {
            (Some(here), Some(there)) if RATIOS.contains(&name.as_str()) && here > 0.0 => {
                format!("{:.3}", there / here)
            }
            _ => String::new(),
        };
        rows.push(format!(
            "{head} {name} | {} | {} | {} |",
            plain(here),
            plain(there),
            shorten(&ratio)
        ));
    }
}

/// Three significant digits.
fn shorten(ratio: &str) -> String {
    match ratio.parse::<f64>() {
        Ok(number) if number >= 100.0 => format!("{number:.0}"),
        Ok(number) if number >= 10.0 => format!("{number:.1}"),
        Ok(number) => format!("{number:.2}"),
        Err(_) => String::new(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
