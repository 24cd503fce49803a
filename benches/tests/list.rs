//! The program as a user starts it.

use std::process::Command;

fn bench(arguments: &[&str]) -> std::process::Output {
    let program = env!("CARGO_BIN_EXE_superduper-bench");
    Command::new(program).args(arguments).output().expect("the program starts")
}

#[test]
fn the_cases_are_listed_and_an_unknown_one_is_refused() {
    let listed = bench(&["list"]);
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8_lossy(&listed.stdout);
    for case in ["b_apply", "m_federated", "n_access"] {
        assert!(text.contains(case), "{text}");
    }
    let refused = bench(&["run", "no_such_case"]);
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("unknown case `no_such_case`"), "{text}");
}
