//! Deleting the past: jobs, runs and logs.

use super::Commit;
use crate::codec::number_list;
use superduper_core::{
    Error, Result,
    store::{JobId, RunId},
};

/// Jobs of the list `?1` that something needs.
const NEEDED_JOB: &str = "SELECT j.id FROM json_each(?1) l JOIN job j ON j.id = l.value JOIN run r ON r.id = j.run \
    WHERE r.state = 0 OR j.state < 3 OR j.id = (SELECT max(id) FROM job) \
    OR EXISTS (SELECT 1 FROM job_dependency d WHERE d.needs = j.id AND d.job NOT IN (SELECT value FROM json_each(?1))) \
    OR EXISTS (SELECT 1 FROM job n WHERE n.retry_of = j.id AND n.id NOT IN (SELECT value FROM json_each(?1))) \
    OR j.id IN (SELECT job FROM message) LIMIT 1";
const NEEDED_RUN: &str = "SELECT r.id FROM json_each(?1) l JOIN run r ON r.id = l.value \
    WHERE r.state = 0 OR r.id = (SELECT max(id) FROM run) OR EXISTS (SELECT 1 FROM job j WHERE j.run = r.id) LIMIT 1";

/// What goes with the jobs of the list `?1`. Events have an index by run alone.
const OF_JOBS: [&str; 8] = [
    "DELETE FROM event WHERE run IN (SELECT run FROM job WHERE id IN (SELECT value FROM json_each(?1))) \
        AND job IN (SELECT value FROM json_each(?1)) AND seq < (SELECT max(seq) FROM event)",
    "DELETE FROM job_dependency WHERE job IN (SELECT value FROM json_each(?1))",
    "DELETE FROM attempt WHERE job IN (SELECT value FROM json_each(?1))",
    "DELETE FROM metric WHERE job IN (SELECT value FROM json_each(?1))",
    "DELETE FROM checkpoint WHERE job IN (SELECT value FROM json_each(?1))",
    "DELETE FROM artifact_ref WHERE (component, version) IN (SELECT component, version FROM job \
     WHERE id IN (SELECT value FROM json_each(?1))) AND job IN (SELECT value FROM json_each(?1))",
    "DELETE FROM pool_place WHERE job IN (SELECT value FROM json_each(?1))",
    "DELETE FROM job WHERE id IN (SELECT value FROM json_each(?1))",
];
const OF_RUNS: [&str; 2] = [
    "DELETE FROM event WHERE run IN (SELECT value FROM json_each(?1)) AND seq < (SELECT max(seq) FROM event)",
    "DELETE FROM run WHERE id IN (SELECT value FROM json_each(?1))",
];

impl Commit<'_, '_> {
    pub(super) fn forget_past(
        &mut self,
        runs: &[RunId],
        jobs: &[JobId],
        logs: &[JobId],
    ) -> Result<()> {
        let alone = number_list(logs.iter().map(|job| job.0));
        let jobs = number_list(jobs.iter().map(|job| job.0));
        let runs = number_list(runs.iter().map(|run| run.0));
        self.refuse_needed("job", NEEDED_JOB, &jobs)?;
        for list in [&alone, &jobs] {
            let delete = "DELETE FROM log WHERE job IN (SELECT value FROM json_each(?1))";
            self.done.forgotten_logs += self.sql.execute("forget logs", delete, [list])? as u64;
        }
        for delete in OF_JOBS {
            self.sql.execute("forget jobs", delete, [&jobs])?;
        }
        self.refuse_needed("run", NEEDED_RUN, &runs)?;
        for delete in OF_RUNS {
            self.sql.execute("forget runs", delete, [&runs])?;
        }
        Ok(())
    }

    fn refuse_needed(&self, what: &str, text: &str, list: &str) -> Result<()> {
        let needed =
            self.sql.query_first("look for what is needed", text, [list], |row| row.get(0))?;
        needed.map_or(Ok(()), |id: i64| {
            Err(Error::conflict(format!("{what} {id} cannot be forgotten: it is still needed")))
        })
    }
}
