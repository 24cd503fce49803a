//! The tests of a metadata store, in the order in which they run.

use super::{
    attempts, audits, blobs, checkpoints, components, decisions, deletion, expects, forgetting,
    jobs, lines, names, once, owners, places, reads, removals, spawned, telemetry, waiting,
};
use std::sync::Arc;
use superduper_core::store::MetadataStore;

macro_rules! run {
    ($factory:ident: $($module:ident { $($test:ident),* $(,)? })*) => {
        $($({
            let store = $factory().await;
            $module::$test(&*store).await;
        })*)*
    };
}

/// Run everything, each part on a fresh store.
///
/// # Panics
/// With the first rule that is broken.
pub async fn run_all(factory: impl AsyncFn() -> Arc<dyn MetadataStore>) {
    components_and_names(&factory).await;
    jobs_and_attempts(&factory).await;
    workers_and_blobs(&factory).await;
    commits_and_reads(&factory).await;
}

/// Components: their versions, what refers to them, their names, their end.
async fn components_and_names(factory: &impl AsyncFn() -> Arc<dyn MetadataStore>) {
    run!(factory:
        components {
            create_version_and_revision_are_numbered,
            numbers_out_of_order_are_refused,
            version_numbers_are_not_reused,
            superseded_revisions_keep_their_document,
            owing_jobs_is_kept_per_version,
            trees_hold_each_version_once,
            edges_belong_to_a_revision,
            edges_need_a_child,
            outputs_belong_to_the_version,
            setters_of_outputs_are_kept,
            values_round_trip,
        }
        expects {
            a_failed_condition_writes_nothing,
            a_failed_operation_writes_nothing,
            newest_is_checked,
            unreferenced_is_checked,
            unfinished_runs_are_checked,
            commits_are_serialized,
        }
        deletion {
            a_removed_component_is_gone_and_starts_anew,
            deleting_a_version_keeps_the_others,
            current_references_keep_a_version,
            superseded_references_go_along,
            trees_are_deleted_in_any_order,
            history_outlives_its_component,
            removing_is_marked,
        }
        forgetting {
            forgotten_jobs_leave_nothing,
            what_is_needed_is_not_forgotten,
            numbers_are_not_used_twice,
            logs_go_alone,
        }
        names {
            labels_move,
            labels_are_checked,
            labels_keep_their_version,
            renaming_keeps_everything,
        }
        removals {
            a_version_is_marked_until_it_is_deleted,
            nothing_gets_hold_of_a_marked_version,
            spawned_jobs_of_a_marked_version_are_cancelled,
            unfinished_removals_are_checked,
            labels_of_a_version_are_checked,
            health_is_of_the_component_and_what_it_holds,
            details_of_events_stay_short,
        }
    );
}

/// Jobs, from their record to their end.
async fn jobs_and_attempts(factory: &impl AsyncFn() -> Arc<dyn MetadataStore>) {
    run!(factory:
        jobs {
            jobs_are_recorded_in_order,
            jobs_need_what_they_name,
            claims_are_exclusive,
            concurrent_claims_give_a_job_once,
            jobs_can_be_born_taken,
            starting_is_fenced,
            settling_spares_taken_and_final_jobs,
            blocking_and_releasing,
            cancel_requests_stay_until_the_end,
            runs_end_once,
            events_are_in_order,
        }
        attempts {
            success_is_recorded_once,
            stale_attempts_are_fenced,
            what_follows_a_fenced_end_is_left_out,
            failures_are_recorded,
            retries_are_queued_again,
            given_back_attempts_are_no_tries,
            jobs_may_end_blocked,
            a_pause_that_was_taken_back_blocks_nothing,
            lost_attempts_are_counted,
            final_jobs_never_change,
        }
        decisions {
            what_follows_an_ignored_settlement_is_left_out,
            a_settlement_that_holds_already_is_fulfilled,
            ignored_operations_are_listed,
            claims_tell_tries_losses_and_signals,
            known_spawned_jobs_are_told,
            changes_begin_with_everything,
            every_change_of_a_job_is_told,
            the_end_of_a_run_hides_no_change,
        }
        spawned {
            spawned_jobs_come_with_success,
            spawned_jobs_inherit_the_wish_to_cancel,
            keys_are_unique_in_a_run,
            messages_wait_until_delivered,
            outputs_come_with_success,
        }
        waiting {
            blocked_jobs_are_completed_once,
            blocks_may_have_a_time,
            a_release_is_of_one_block,
            a_job_is_queued_again_if_a_component_that_it_read_has_changed,
            spawned_jobs_have_inputs_and_edges,
            tolerated_jobs_are_not_unhealthy,
        }
    );
}

/// What workers leave: checkpoints and telemetry, places in pools, blobs.
async fn workers_and_blobs(factory: &impl AsyncFn() -> Arc<dyn MetadataStore>) {
    run!(factory:
        checkpoints {
            metrics_are_kept_by_name_and_step,
            checkpoints_are_numbered_and_dropped,
            checkpoints_are_fenced,
            checkpoints_hold_their_blobs,
            values_of_any_depth_come_back,
            wishes_stay_until_they_are_fulfilled,
        }
        owners {
            owners_live_until_they_retire,
            leases_hold_while_their_owner_goes_on,
            notes_are_kept,
        }
        telemetry {
            logs_are_read_in_parts,
            metrics_are_gathered_in_points,
            added_and_signalled_jobs_are_told_together,
            progress_is_told_once_in_a_second,
        }
        places {
            pools_limit_claims_of_all_owners,
            late_attempts_keep_their_place,
            jobs_recorded_with_a_claim_count,
            workers_are_told_with_their_kinds,
        }
        blobs {
            references_follow_versions_outputs_and_results,
            marked_blobs_are_not_named,
            ends_that_name_swept_blobs_are_left_out,
            sweeps_are_counted,
            the_sweep_lock_is_exclusive,
            a_lost_sweep_lock_counts_no_more,
        }
    );
}

/// What holds for any commit, and the listings.
async fn commits_and_reads(factory: &impl AsyncFn() -> Arc<dyn MetadataStore>) {
    run!(factory:
        once {
            a_batch_with_a_token_is_written_once,
            logs_are_chained,
        }
        audits {
            outputs_can_be_set,
            audits_tell_every_revision,
            references_can_be_written_anew,
            referenced_blobs_come_in_shards,
        }
        lines {
            components_are_listed_in_pages,
            components_are_listed_with_their_health,
            health_is_told_of_many_components,
            jobs_are_listed_in_pages,
            jobs_are_found_by_what_they_are,
            blocks_have_a_time,
            runs_are_listed_in_pages,
            places_of_pools_are_listed,
        }
        reads {
            snapshots_hold_the_newest,
            snapshots_take_many_addresses,
            unhealthy_is_the_newest_job_that_did_not_succeed,
            jobs_are_filtered,
            runs_are_filtered,
            listings_are_sorted,
            references_are_listed,
        }
    );
}
