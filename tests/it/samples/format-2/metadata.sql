PRAGMA application_id = 1399092592;
PRAGMA user_version = 2;
PRAGMA foreign_keys = OFF;
BEGIN;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
CREATE TABLE artifact_ref (
    component INTEGER NOT NULL,
    version INTEGER NOT NULL,
    revision INTEGER,
    output TEXT,
    job INTEGER,
    path TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES artifact (digest), checkpoint INTEGER,
    FOREIGN KEY (component, version) REFERENCES version (component, number) ON DELETE CASCADE
) STRICT;
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
CREATE TABLE job_dependency (
    job INTEGER NOT NULL REFERENCES job (id),
    needs INTEGER NOT NULL REFERENCES job (id),
    parameter TEXT,
    PRIMARY KEY (job, needs)
) STRICT, WITHOUT ROWID;
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
CREATE TABLE log (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES job (id),
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level INTEGER NOT NULL,
    message TEXT NOT NULL
) STRICT;
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
CREATE TABLE label (
    component INTEGER NOT NULL REFERENCES component (id),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (component, name),
    FOREIGN KEY (component, version) REFERENCES version (component, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TABLE metric (
    job INTEGER NOT NULL REFERENCES job (id),
    name TEXT NOT NULL,
    step INTEGER NOT NULL,
    value REAL NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (job, name, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint (
    job INTEGER NOT NULL REFERENCES job (id),
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step INTEGER NOT NULL,
    score REAL,
    at INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child, child_version);
CREATE INDEX artifact_doomed ON artifact (digest) WHERE doomed = 1;
CREATE INDEX artifact_ref_version ON artifact_ref (component, version);
CREATE INDEX artifact_ref_digest ON artifact_ref (digest);
CREATE INDEX run_unfinished ON run (id) WHERE state = 0;
CREATE INDEX job_run ON job (run);
CREATE INDEX job_target ON job (component, version, role, method) WHERE key IS NULL;
CREATE INDEX job_spawned ON job (component, version) WHERE key IS NOT NULL;
CREATE INDEX job_retried ON job (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX job_unsucceeded ON job (component, version) WHERE succeeded = 0;
CREATE UNIQUE INDEX job_key ON job (run, key) WHERE key IS NOT NULL;
CREATE INDEX event_run ON event (run);
CREATE INDEX log_job ON log (job);
INSERT INTO meta VALUES ('format', 1);
INSERT INTO meta VALUES ('sweep_epoch', 0);
INSERT INTO component VALUES (1, 'sample.Layer', 'l1', 0, 0, 0, 1);
INSERT INTO component VALUES (2, 'sample.Layer', 'l2', 0, 0, 0, 1);
INSERT INTO component VALUES (3, 'sample.Model', 'm', 0, 0, 1, 2);
INSERT INTO component VALUES (4, 'sample.Layer', 'gone', 4, 0, 0, 1);
INSERT INTO component VALUES (5, 'sample.Study', 's', 0, 0, 0, 1);
INSERT INTO version VALUES (1, 0, 0, 0, NULL, 1795902771675, 1795902771675, 1, x'1b6f6148a40f68886e483226ffbfd4d080764f7cb3452edb2c595ade42ad914f', x'2a4f8d89a5b802e3a0d9a75638af47b4fcdb07b54054fed790c542b4052b5294', '{"identifier":"l1","width":3}');
INSERT INTO version VALUES (2, 0, 0, 0, NULL, 1795902771675, 1795902771675, 1, x'f17385ddba17fe9440b18c0ab0c231043ecb4c56cb3f6501185372342c436537', x'08e97bd47070747e94dc79e0edc54f69b03da32b92e4a45abdb55d8a8e186a1d', '{"identifier":"l2","width":4}');
INSERT INTO version VALUES (3, 0, 1, 0, NULL, 1795902771675, 1795902771682, 1, x'b36d54f510d10afffbbc7a40a6e4d78189f2e32bc414c61feabcb7dd12430911', x'3e6271b1a96705fb2a3f46fa20ecb81c64c756cc1636cc9358fdc0176d9c243a', '{"data":{"$blob":"blake3:6952aa861ec86ef3b84edea5ff0432d52cceeae41f7da5e9ab5d70ed453d489c","size":14},"empty":"","identifier":"m","key":{"$secret":"env:PATH"},"layers":[{"$ref":"sample.Layer/l1@0"},{"$ref":"sample.Layer/l2@0"}],"note":"second","nothing":null,"off":false,"seed":1,"zero":0}');
INSERT INTO version VALUES (3, 1, 0, 0, NULL, 1795902771684, 1795902771684, 1, x'a21ac1252c095277ed2f6362061b4d54548b14d9e289038b629d22c004e9392c', x'1339a3eabe0eb56fd8c31e25f2dd610a3690904e7010f9023c33e2d56c78dab6', '{"data":{"$blob":"blake3:42dc59cda8f643e9de15f8bd7e679158b0276a27be711e812ba6b86c6acd1ac9","size":14},"empty":"","identifier":"m","key":{"$secret":"env:PATH"},"layers":[{"$ref":"sample.Layer/l1@0"},{"$ref":"sample.Layer/l2@0"}],"note":"bad","nothing":null,"off":false,"seed":2,"zero":0}');
INSERT INTO version VALUES (5, 0, 0, 0, NULL, 1795902772700, 1795902772700, 1, x'9fe5a2b3f93426b47b38fee8556498129529f8b9440eb3fdba53022b1196b0b2', x'f20b00545beb80d5cb928e3abef5f6c6481c91b23bb4f6b3402d17d5482e974f', '{"identifier":"s"}');
INSERT INTO revision VALUES (3, 0, 0, 1795902771675, 1, x'b36d54f510d10afffbbc7a40a6e4d78189f2e32bc414c61feabcb7dd12430911', x'1119aa56d430a79444ecdfead81bce9e92c57fc96e94a43460f7104e38924a1f', '{"data":{"$blob":"blake3:6952aa861ec86ef3b84edea5ff0432d52cceeae41f7da5e9ab5d70ed453d489c","size":14},"empty":"","identifier":"m","key":{"$secret":"env:PATH"},"layers":[{"$ref":"sample.Layer/l1@0"},{"$ref":"sample.Layer/l2@0"}],"note":"first","nothing":null,"off":false,"seed":1,"zero":0}');
INSERT INTO edge VALUES (3, 0, 0, 'layers[0]', 1, 0);
INSERT INTO edge VALUES (3, 0, 1, 'layers[0]', 1, 0);
INSERT INTO edge VALUES (3, 1, 0, 'layers[0]', 1, 0);
INSERT INTO edge VALUES (3, 0, 0, 'layers[1]', 2, 0);
INSERT INTO edge VALUES (3, 0, 1, 'layers[1]', 2, 0);
INSERT INTO edge VALUES (3, 1, 0, 'layers[1]', 2, 0);
INSERT INTO output VALUES (3, 0, 'weights', '{"$blob":"blake3:9acaeedd5e472a56e5e34dde2e307371cf7366a1bce70df9c994219814dfcf68","size":17}');
INSERT INTO output VALUES (3, 1, 'weights', '{"$blob":"blake3:24fa47b111d0ee00be44b3ffcfa98a3189c5e6cfb9cc3fa39747929c3b692688","size":17}');
INSERT INTO artifact VALUES (x'24fa47b111d0ee00be44b3ffcfa98a3189c5e6cfb9cc3fa39747929c3b692688', 17, 0);
INSERT INTO artifact VALUES (x'42dc59cda8f643e9de15f8bd7e679158b0276a27be711e812ba6b86c6acd1ac9', 14, 0);
INSERT INTO artifact VALUES (x'4986eddf9b42aa1ffe0bcc93274ceb96807e41da278240c9fae40fb24076b5b1', 15, 0);
INSERT INTO artifact VALUES (x'6952aa861ec86ef3b84edea5ff0432d52cceeae41f7da5e9ab5d70ed453d489c', 14, 0);
INSERT INTO artifact VALUES (x'9acaeedd5e472a56e5e34dde2e307371cf7366a1bce70df9c994219814dfcf68', 17, 0);
INSERT INTO artifact_ref VALUES (3, 0, 0, NULL, NULL, 'data', x'6952aa861ec86ef3b84edea5ff0432d52cceeae41f7da5e9ab5d70ed453d489c', NULL);
INSERT INTO artifact_ref VALUES (3, 0, NULL, 'weights', NULL, 'weights[0]', x'9acaeedd5e472a56e5e34dde2e307371cf7366a1bce70df9c994219814dfcf68', NULL);
INSERT INTO artifact_ref VALUES (3, 0, 1, NULL, NULL, 'data', x'6952aa861ec86ef3b84edea5ff0432d52cceeae41f7da5e9ab5d70ed453d489c', NULL);
INSERT INTO artifact_ref VALUES (3, 1, 0, NULL, NULL, 'data', x'42dc59cda8f643e9de15f8bd7e679158b0276a27be711e812ba6b86c6acd1ac9', NULL);
INSERT INTO artifact_ref VALUES (3, 1, NULL, 'weights', NULL, 'weights[0]', x'24fa47b111d0ee00be44b3ffcfa98a3189c5e6cfb9cc3fa39747929c3b692688', NULL);
INSERT INTO artifact_ref VALUES (5, 0, NULL, NULL, 7, 'checkpoint[0]', x'4986eddf9b42aa1ffe0bcc93274ceb96807e41da278240c9fae40fb24076b5b1', 1);
INSERT INTO run VALUES (1, 1, 0, 3, 0, 0, 1795902771675, 1795902771681, 'null');
INSERT INTO run VALUES (2, 2, 0, 3, 1, 0, 1795902771684, 1795902772692, 'null');
INSERT INTO run VALUES (3, 0, 0, 5, 0, 0, 1795902772700, NULL, 'null');
INSERT INTO job VALUES (1, 1, 3, 0, 0, 1, 'on_create', 3, 1, 1, 3, 0, 0, 0, NULL, 0, 0, NULL, NULL, 1795902771675, 1795902771678, 1795902771678, NULL, NULL, NULL, NULL, NULL, NULL, 'null', NULL);
INSERT INTO job VALUES (2, 1, 3, 0, 0, 0, 'train', 3, 1, 1, 3, 0, 0, 0, NULL, 0, 1000, NULL, NULL, 1795902771675, 1795902771679, 1795902771680, NULL, NULL, NULL, NULL, NULL, NULL, '1', NULL);
INSERT INTO job VALUES (3, 1, 3, 0, 0, 0, 'check', 3, 1, 1, 3, 0, 0, 0, NULL, 1, 1000, NULL, NULL, 1795902771675, 1795902771680, 1795902771681, NULL, NULL, NULL, NULL, NULL, NULL, '"first 1"', NULL);
INSERT INTO job VALUES (4, 2, 3, 1, 0, 1, 'on_create', 3, 1, 1, 3, 0, 0, 0, NULL, 0, 0, NULL, NULL, 1795902771684, 1795902771686, 1795902771686, NULL, NULL, NULL, NULL, NULL, NULL, 'null', NULL);
INSERT INTO job VALUES (5, 2, 3, 1, 0, 0, 'train', 3, 1, 1, 3, 0, 0, 0, NULL, 0, 1000, NULL, NULL, 1795902771684, 1795902771687, 1795902771687, NULL, NULL, NULL, NULL, NULL, NULL, '2', NULL);
INSERT INTO job VALUES (6, 2, 3, 1, 0, 0, 'check', 4, 0, 2, 3, 2, 0, 0, NULL, 1, 1000, NULL, 1795902772688, 1795902771684, 1795902772691, 1795902772692, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"kind":"error","message":"this note is bad","retryable":true}');
INSERT INTO job VALUES (7, 3, 5, 0, 0, 0, 'learn', 1, 0, 1, 5, 0, 0, 0, NULL, 2, 1000, NULL, NULL, 1795902772700, 1795902772700, NULL, NULL, NULL, NULL, NULL, NULL, 'a grant', NULL, NULL);
INSERT INTO job VALUES (8, 3, 5, 0, 0, 0, 'report', 0, 0, 0, 0, 0, 0, 0, NULL, 0, 1000, NULL, NULL, 1795902772700, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO job_dependency VALUES (2, 1, NULL);
INSERT INTO job_dependency VALUES (3, 1, NULL);
INSERT INTO job_dependency VALUES (3, 2, 'train');
INSERT INTO job_dependency VALUES (5, 4, NULL);
INSERT INTO job_dependency VALUES (6, 4, NULL);
INSERT INTO job_dependency VALUES (6, 5, 'train');
INSERT INTO job_dependency VALUES (8, 7, NULL);
INSERT INTO attempt VALUES (6, 1, 1795902771688, 1795902771688, '{"kind":"error","message":"this note is bad","retryable":true}');
INSERT INTO event VALUES (1, 1795902771675, 1, NULL, 12, 'sample.Layer/l1@0.0');
INSERT INTO event VALUES (2, 1795902771675, 1, NULL, 12, 'sample.Layer/l2@0.0');
INSERT INTO event VALUES (3, 1795902771675, 1, NULL, 12, 'sample.Model/m@0.0');
INSERT INTO event VALUES (4, 1795902771675, 1, NULL, 0, 'sample.Model/m@0.0');
INSERT INTO event VALUES (5, 1795902771675, 1, 1, 2, NULL);
INSERT INTO event VALUES (6, 1795902771678, 1, 1, 3, NULL);
INSERT INTO event VALUES (7, 1795902771678, 1, 2, 2, NULL);
INSERT INTO event VALUES (8, 1795902771680, 1, 2, 3, NULL);
INSERT INTO event VALUES (9, 1795902771680, 1, 3, 2, NULL);
INSERT INTO event VALUES (10, 1795902771681, 1, 3, 3, NULL);
INSERT INTO event VALUES (11, 1795902771681, 1, NULL, 1, 'succeeded');
INSERT INTO event VALUES (12, 1795902771682, NULL, NULL, 12, 'sample.Model/m@0.1');
INSERT INTO event VALUES (13, 1795902771684, 2, NULL, 12, 'sample.Model/m@1.0');
INSERT INTO event VALUES (14, 1795902771684, 2, NULL, 0, 'sample.Model/m@1.0');
INSERT INTO event VALUES (15, 1795902771684, 2, 4, 2, NULL);
INSERT INTO event VALUES (16, 1795902771686, 2, 4, 3, NULL);
INSERT INTO event VALUES (17, 1795902771686, 2, 5, 2, NULL);
INSERT INTO event VALUES (18, 1795902771687, 2, 5, 3, NULL);
INSERT INTO event VALUES (19, 1795902771687, 2, 6, 2, NULL);
INSERT INTO event VALUES (20, 1795902771688, 2, 6, 7, 'this note is bad');
INSERT INTO event VALUES (21, 1795902772690, 2, 6, 2, 'attempt 2');
INSERT INTO event VALUES (22, 1795902772692, 2, 6, 4, 'this note is bad');
INSERT INTO event VALUES (23, 1795902772692, 2, NULL, 1, 'failed');
INSERT INTO event VALUES (24, 1795902772694, NULL, NULL, 12, 'sample.Layer/gone@0.0');
INSERT INTO event VALUES (25, 1795902772699, NULL, NULL, 15, 'sample.Layer/gone');
INSERT INTO event VALUES (26, 1795902772700, 3, NULL, 12, 'sample.Study/s@0.0');
INSERT INTO event VALUES (27, 1795902772700, 3, NULL, 0, 'sample.Study/s@0.0');
INSERT INTO event VALUES (28, 1795902772700, 3, 7, 2, NULL);
INSERT INTO event VALUES (29, 1795902772705, 3, 7, 10, 'a grant');
INSERT INTO event VALUES (30, 1795902772725, NULL, NULL, 16, 'sample.Study/s@prod -> sample.Study/s@0');
INSERT INTO log VALUES (1, 1, 1, 1795902771678, 2, 'created version 0');
INSERT INTO log VALUES (2, 4, 1, 1795902771686, 2, 'created version 1');
INSERT INTO message VALUES (1, 2, 'trained', '{"seed":1}');
INSERT INTO message VALUES (2, 5, 'trained', '{"seed":2}');
INSERT INTO lease VALUES (1, 21686, 0, 1795902771676);
INSERT INTO label VALUES (5, 'prod', 0, 1795902772725);
INSERT INTO metric VALUES (7, 'loss', 1, 0.5, 1795902772703);
INSERT INTO checkpoint VALUES (7, 1, 1, 1, 0.25, 1795902772704, '{"$blob":"blake3:4986eddf9b42aa1ffe0bcc93274ceb96807e41da278240c9fae40fb24076b5b1","size":15}');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES ('lease', 1);
INSERT INTO sqlite_sequence VALUES ('message', 2);
COMMIT;
