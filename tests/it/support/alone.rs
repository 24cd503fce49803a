//! Tests of what the whole process has, such as memory: each in a process of its own, where no
//! other test takes any.

const ALONE: &str = "SUPERDUPER_ALONE";

/// Run a test again in a process of its own; whether this is that process.
pub(crate) fn alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("the program of the tests");
    let child = std::process::Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("it starts");
    let output = format!(
        "{}{}",
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(child.status.success() && output.contains("1 passed"), "{}: {output}", child.status);
    false
}
