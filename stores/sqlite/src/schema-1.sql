CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('format', 1), ('sweep_epoch', 0);

-- `removed` is 0, or the own id once the component is gone: the row then only names the target of old jobs.
CREATE TABLE component (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    identifier TEXT NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0,
    removing INTEGER NOT NULL DEFAULT 0,
    newest INTEGER NOT NULL DEFAULT 0,
    next_version INTEGER NOT NULL DEFAULT 1,
    UNIQUE (kind, identifier, removed)
) STRICT;

-- A version holds its newest revision; `revision` holds the superseded ones.
CREATE TABLE version (
    component INTEGER NOT NULL REFERENCES component (id),
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    owes_jobs INTEGER NOT NULL,
    content_of INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    type_version INTEGER NOT NULL,
    uuid BLOB NOT NULL,
    content_hash BLOB NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (component, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE revision (
    component INTEGER NOT NULL,
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    type_version INTEGER NOT NULL,
    uuid BLOB NOT NULL,
    content_hash BLOB NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (component, version, number),
    FOREIGN KEY (component, version) REFERENCES version (component, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- References of every stored revision, superseded or not.
CREATE TABLE edge (
    component INTEGER NOT NULL,
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    path TEXT NOT NULL,
    child INTEGER NOT NULL,
    child_version INTEGER NOT NULL,
    PRIMARY KEY (component, version, revision, path),
    FOREIGN KEY (component, version) REFERENCES version (component, number) ON DELETE CASCADE,
    FOREIGN KEY (child, child_version) REFERENCES version (component, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child, child_version);

CREATE TABLE output (
    component INTEGER NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (component, version, name),
    FOREIGN KEY (component, version) REFERENCES version (component, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    doomed INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_doomed ON artifact (digest) WHERE doomed = 1;

-- One of `revision`, `output` and `job` says what refers to the blob; all belong to a version and go with it.
CREATE TABLE artifact_ref (
    component INTEGER NOT NULL,
    version INTEGER NOT NULL,
    revision INTEGER,
    output TEXT,
    job INTEGER,
    path TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES artifact (digest),
    FOREIGN KEY (component, version) REFERENCES version (component, number) ON DELETE CASCADE
) STRICT;
CREATE INDEX artifact_ref_version ON artifact_ref (component, version);
CREATE INDEX artifact_ref_digest ON artifact_ref (digest);

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    state INTEGER NOT NULL DEFAULT 0,
    purpose INTEGER NOT NULL,
    root INTEGER NOT NULL REFERENCES component (id),
    root_version INTEGER,
    root_revision INTEGER,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX run_unfinished ON run (id) WHERE state = 0;

-- `owner` is set while the job is taken. `phase`: 1 while the current attempt is on record as started, else 0;
-- plus 2 when the attempt ended the job, plus 4 when the job went back to wait.
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES run (id),
    component INTEGER NOT NULL REFERENCES component (id),
    version INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    role INTEGER NOT NULL,
    method TEXT NOT NULL,
    state INTEGER NOT NULL,
    succeeded INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    phase INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    owner INTEGER,
    retries INTEGER NOT NULL,
    backoff_ms INTEGER NOT NULL,
    timeout_ms INTEGER,
    not_before INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    progress_done INTEGER,
    progress_total INTEGER,
    retry_of INTEGER REFERENCES job (id),
    key TEXT,
    executor TEXT,
    blocked TEXT,
    result TEXT,
    failure TEXT
) STRICT;
CREATE INDEX job_run ON job (run);
-- Spawned jobs may be many; they must not stand between a component and its few others.
CREATE INDEX job_target ON job (component, version, role, method) WHERE key IS NULL;
CREATE INDEX job_spawned ON job (component, version) WHERE key IS NOT NULL;
CREATE INDEX job_retried ON job (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX job_unsucceeded ON job (component, version) WHERE succeeded = 0;
CREATE UNIQUE INDEX job_key ON job (run, key) WHERE key IS NOT NULL;

CREATE TABLE job_dependency (
    job INTEGER NOT NULL REFERENCES job (id),
    needs INTEGER NOT NULL REFERENCES job (id),
    parameter TEXT,
    PRIMARY KEY (job, needs)
) STRICT, WITHOUT ROWID;

-- Attempts that did not end their job; the last one is in `job`.
CREATE TABLE attempt (
    job INTEGER NOT NULL REFERENCES job (id),
    number INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER NOT NULL,
    failure TEXT,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    run INTEGER,
    job INTEGER,
    kind INTEGER NOT NULL,
    detail TEXT
) STRICT;
CREATE INDEX event_run ON event (run);

CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES job (id),
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level INTEGER NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX log_job ON log (job);

-- AUTOINCREMENT: the ids of delivered messages and of owners that are gone must not come back.
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES job (id),
    topic TEXT NOT NULL,
    payload TEXT NOT NULL
) STRICT;

CREATE TABLE lease (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    process INTEGER NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;
