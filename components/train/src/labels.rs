//! Labels that retention gives to versions of jobs.

/// The label by which a version is pinned: a version with a label is not removed.
pub(crate) fn pin_label(version: u32) -> String {
    format!("pinned-{version}")
}

/// The label of a version that is being purged.
pub(crate) fn purge_label(version: u32) -> String {
    format!("purging-{version}")
}
