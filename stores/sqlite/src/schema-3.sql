-- Jobs of unfinished runs that changed in ways that no event tells: claimed ahead of their start, given back before it, asked for
-- something, made to wait for one more. `jobs` is a JSON list of ids. The end of a run deletes its rows.
-- AUTOINCREMENT: who has read up to a row must not miss a later one because its number came back.
CREATE TABLE job_change (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    jobs TEXT NOT NULL
) STRICT;
CREATE INDEX job_change_run ON job_change (run);

-- Databases of older formats have these two already where a program opened them that knew them.
-- Versions without their documents. A lookup in `version` itself reads the documents of rows that it only compares, as a
-- whole where they do not fit into a page: megabytes of a component that has nothing to do with what is looked for.
CREATE INDEX IF NOT EXISTS version_key ON version (component, number, revision);
-- The versions that are being removed alone.
CREATE INDEX IF NOT EXISTS run_removal ON run (root, root_version) WHERE purpose = 1;

-- The kinds of components that a worker's program has, as a JSON list, empty where it was not told; and where it keeps blobs.
ALTER TABLE lease ADD COLUMN kinds TEXT NOT NULL DEFAULT '[]';
ALTER TABLE lease ADD COLUMN artifacts TEXT;

-- Who has a place of a pool, a limit on how many jobs of a name run at once. Few rows: as many as the pools have places.
CREATE TABLE pool_place (
    pool TEXT NOT NULL,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    PRIMARY KEY (pool, job, attempt, owner)
) STRICT, WITHOUT ROWID;
CREATE INDEX pool_place_job ON pool_place (job, owner);

-- What the job that spawned a job passed to it; whether the end of the job counts for nothing.
ALTER TABLE job ADD COLUMN input TEXT;
ALTER TABLE job ADD COLUMN tolerated INTEGER NOT NULL DEFAULT 0;
-- When a blocked job was blocked, and when it is queued again by itself.
ALTER TABLE job ADD COLUMN blocked_since INTEGER;
ALTER TABLE job ADD COLUMN blocked_until INTEGER;
-- Whether any end of the other job will do.
ALTER TABLE job_dependency ADD COLUMN any_end INTEGER NOT NULL DEFAULT 0;
-- Which jobs wait for a job.
CREATE INDEX job_dependency_needs ON job_dependency (needs);

-- Answers to commits that carry a token, so that one whose answer was lost can be written again. Rows go after a day.
CREATE TABLE commit_token (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token BLOB NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    answer TEXT NOT NULL
) STRICT;

-- Append-only logs. `hash` covers the entry and the hash before it.
CREATE TABLE log_entry (
    log TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    run INTEGER,
    payload TEXT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (log, seq)
) STRICT, WITHOUT ROWID;

-- The number of the sweep lock that was taken last.
INSERT INTO meta VALUES ('sweep_lock', 0);

-- Who recorded a run; how many of its jobs ended in each state, as a JSON list, once it has ended.
ALTER TABLE run ADD COLUMN actor TEXT;
ALTER TABLE run ADD COLUMN origin TEXT;
ALTER TABLE run ADD COLUMN note TEXT;
ALTER TABLE run ADD COLUMN jobs TEXT;
-- What a worker says of its process.
ALTER TABLE lease ADD COLUMN host TEXT;
ALTER TABLE lease ADD COLUMN program TEXT;
ALTER TABLE lease ADD COLUMN executors TEXT NOT NULL DEFAULT '[]';
-- Lists of one component: its jobs by id, and its runs, each found by one look whatever the number of its jobs.
CREATE INDEX job_component ON job (component);
CREATE INDEX job_component_run ON job (component, run);
CREATE INDEX run_root ON run (root);
-- A job that is forgotten is looked for among the messages.
CREATE INDEX message_job ON message (job);
-- When an event last told the progress of a job.
ALTER TABLE job ADD COLUMN progressed_at INTEGER;
