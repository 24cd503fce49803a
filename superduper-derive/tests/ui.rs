//! What the compiler says: a case in `ui/fail` for each rule of the macros, one in `ui/pass` for
//! each liberty.

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
