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
ALTER TABLE artifact_ref ADD COLUMN checkpoint INTEGER;
