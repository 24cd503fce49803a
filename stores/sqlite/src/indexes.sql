-- Indexes that came after their tables, in databases of every format. They hold nothing that the tables do not, so older
-- programs read and write a database with them as before.

-- Versions without their documents. A lookup in `version` itself reads the documents of rows that it only compares, as a
-- whole where they do not fit into a page: megabytes of a component that has nothing to do with what is looked for.
CREATE INDEX IF NOT EXISTS version_key ON version (component, number, revision);
-- The versions that are being removed alone.
CREATE INDEX IF NOT EXISTS run_removal ON run (root, root_version) WHERE purpose = 1;
