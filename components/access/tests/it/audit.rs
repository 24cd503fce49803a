//! The record of decisions.

use crate::support::*;
use superduper::ErrorKind;
use superduper::store::LogHead;
use superduper_access::{GENERAL_MODELLER, Outcome, Right};

#[tokio::test(flavor = "multi_thread")]
async fn p12_each_decision_leaves_one_record() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    let before = owner.audit("b").await.unwrap().len();
    ended(&db, training("p12", model())).await;
    let entries = owner.audit("b").await.unwrap();
    assert_eq!(entries.len(), before + 1, "one for the one attempt");
    let entry = entries.last().unwrap();
    let digest = training("p12", model()).source_digest().unwrap().to_hex();
    assert_eq!(entry.number as usize, entries.len());
    assert_eq!(entry.record.who, "alice of lab");
    assert_eq!((entry.record.site.as_str(), entry.record.right), ("b", Right::View));
    assert_eq!(entry.record.outcome, Outcome::Deny);
    assert_eq!(entry.record.subject, format!("access-it.Net {digest}"));
    assert_eq!(entry.record.purpose, "study 7");
    assert!(entry.record.task.as_ref().unwrap().ends_with("/r0/train"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_a_record_that_was_cut_off_is_found_by_a_head_that_somebody_kept() {
    let place = Place::new();
    let db = place.open().await;
    let owner = govern(&db).await;
    owner.grant_role("b", "alice", GENERAL_MODELLER).await.unwrap();
    let head = owner.verify_audit("b", None).await.unwrap();
    assert_eq!(head.seq as usize, owner.audit("b").await.unwrap().len());
    owner.grant_role("b", "bob", GENERAL_MODELLER).await.unwrap();
    let later = owner.verify_audit("b", Some(head)).await.unwrap();
    assert!(later.seq > head.seq);
    // As if the last entries were gone.
    let lost = LogHead { seq: later.seq + 3, hash: later.hash };
    let error = owner.verify_audit("b", Some(lost)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("the audit of site `b`"), "{error}");
    let other = LogHead { seq: head.seq, hash: later.hash };
    assert_eq!(
        owner.verify_audit("b", Some(other)).await.unwrap_err().kind(),
        ErrorKind::Integrity
    );
}
