-- Names that point at versions and move; a label goes with its component, and a labelled version is not deleted alone.
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

-- What an unfinished job can go on from; its blobs are in `artifact_ref`.
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
ALTER TABLE artifact_ref ADD COLUMN checkpoint INTEGER;
