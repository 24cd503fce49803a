//! Rules, policies and roles.

use std::collections::BTreeSet;
use superduper::ErrorKind;
use superduper_access::{
    DATA_READER, GENERAL_MODELLER, GovernedSite, ModelReference, OWNER, Principal, Right, Role,
    Roles, Rule, SUPER_MODELLER, SitePolicy,
};

fn of_acme() -> Principal {
    Principal::user("alice").of("acme")
}

#[test]
fn p10_an_absent_rule_denies_and_an_unknown_right_is_an_error() {
    let policy = SitePolicy::closed();
    for right in Right::ALL {
        assert_eq!(policy.verdict(right, &of_acme()), Err(format!("no rule permits `{right}`")));
    }
    let error = "run_everything".parse::<Right>().unwrap_err().to_string();
    assert!(
        error.contains("there is no right `run_everything`") && error.contains("run_any"),
        "{error}"
    );
    let error = serde_json::from_str::<SitePolicy>("{\"run_everything\": [\"any\"]}").unwrap_err();
    assert!(error.to_string().contains("unknown variant `run_everything`"), "{error}");
}

#[test]
fn p28_block_beats_allow_and_many_rules_are_looked_at() {
    let mut rules: Vec<String> = (0..10_000).map(|number| format!("n:user{number}")).collect();
    rules.push("any".into());
    rules.push("not o:acme".into());
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let policy = SitePolicy::closed().rules(Right::RunModel, rules).unwrap();
    assert_eq!(policy.verdict(Right::RunModel, &of_acme()), Err("not o:acme".into()));
    let rule = policy.verdict(Right::RunModel, &Principal::user("bob")).unwrap();
    assert_eq!(rule.to_string(), "any");
    assert!(policy.verdict(Right::View, &Principal::user("bob")).is_err());
    let none = SitePolicy::open().rules(Right::View, ["none"]).unwrap();
    assert!(none.verdict(Right::View, &of_acme()).is_err());
    let blocked = SitePolicy::open().rules(Right::View, ["not any"]).unwrap();
    assert_eq!(blocked.verdict(Right::View, &of_acme()), Err("not any".into()));
}

#[test]
fn p28_roles_that_include_each_other_are_named() {
    let role = |includes: &[&str]| Role {
        rights: BTreeSet::from([Right::View]),
        includes: includes.iter().map(ToString::to_string).collect(),
    };
    let roles = Roles::default().with("a", role(&["b"])).unwrap().with("b", role(&["a"])).unwrap();
    assert_eq!(roles.rights("a").unwrap(), BTreeSet::from([Right::View]), "it ends");
    let mut site = GovernedSite::new("b", of_acme());
    site.roles = roles.with("c", role(&["a"])).unwrap();
    let error = superduper::Lifecycle::postinit(&mut site).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("roles include each other: "), "{error}");
    // Forty roles that each include the next one twice.
    let mut many = Roles::default();
    for number in 0..40 {
        let next = format!("r{}", number + 1);
        many = many.with(format!("r{number}"), role(&[&next, &next])).unwrap();
    }
    many = many.with("r40", role(&[DATA_READER])).unwrap();
    assert!(many.rights("r0").unwrap().contains(&Right::ReadMetrics));
    let roles = Roles::default().with("reader", role(&[DATA_READER])).unwrap();
    let rights = roles.rights("reader").unwrap();
    assert_eq!(rights, BTreeSet::from([Right::View, Right::ReadMetrics]));
    let error = roles.rights("writer").unwrap_err().to_string();
    assert!(error.contains("there is no role `writer`") && error.contains("reader"), "{error}");
    let error = Roles::default().with(OWNER, role(&[])).unwrap_err().to_string();
    assert!(error.contains("is built in"), "{error}");
    assert!(roles.rights(SUPER_MODELLER).unwrap().contains(&Right::RunAny));
    assert!(!roles.rights(GENERAL_MODELLER).unwrap().contains(&Right::RunAny));
}

#[test]
fn rules_and_references_are_read_or_refused_whatever_the_text_is() {
    for text in ["any", "none", "o:acme", "n:alice", "not any", "not o:acme"] {
        assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
    }
    for text in ["", "o:", "n:a/b", "ANY", "not", "not not any", "o:acme n:alice", "x:y", "o :a"] {
        assert!(text.parse::<Rule>().is_err(), "{text}");
    }
    for text in ["", "/", "a/", "/b", "a/b/c", "a:b", "a/b:-1", "a/b:99999999999", "a b", "a/b@1"] {
        assert!(text.parse::<ModelReference>().is_err(), "{text}");
    }
    // Pieces of the grammars in any order never panic, and what is read prints as it was.
    let pieces = ["not ", "any", "none", "o:", "n:", "acme", "/", ":", "1", " ", "é", "\0", "@"];
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        if let Ok(rule) = text.parse::<Rule>() {
            assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
        }
        if let Ok(reference) = text.parse::<ModelReference>() {
            assert_eq!(reference.to_string().parse::<ModelReference>().unwrap(), reference);
        }
    }
}
