//! Stored revisions beside the rows that were derived from them, and SQLite's own view of the file.

use crate::{
    codec::{address, digest, json, number, optional_number, text},
    sql::Sql,
};
use rusqlite::Row;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use superduper_core::{
    Result,
    store::{AuditedOutput, AuditedRevision, BlobRow, ComponentId, EdgeRow},
};

/// Component, version and revision of a row; rows of outputs have no revision.
type Key = (i64, u32, Option<u32>);

pub(crate) fn audit(
    sql: Sql<'_>,
    after: Option<(ComponentId, u32)>,
    versions: usize,
) -> Result<Vec<AuditedRevision>> {
    let (component, version) = after.map_or((-1, 0), |(component, version)| (component.0, version));
    let query = "SELECT c.kind, c.identifier, v.number, v.revision, v.component, v.uuid, v.content_hash, v.type_version, v.document \
        FROM version v JOIN component c ON c.id = v.component WHERE (v.component, v.number) > (?1, ?2) \
        ORDER BY v.component, v.number LIMIT ?3";
    let mut found =
        sql.query("read versions", query, (component, version, versions as i64), revision)?;
    let key =
        |row: &AuditedRevision| (row.component.0, row.address.version.map_or(0, |at| at.version));
    let (Some(first), Some(last)) = (found.first().map(key), found.last().map(key)) else {
        return Ok(found);
    };
    let span = (first.0, first.1, last.0, last.1);
    let query = "SELECT c.kind, c.identifier, r.version, r.number, r.component, r.uuid, r.content_hash, r.type_version, r.document \
        FROM revision r JOIN component c ON c.id = r.component WHERE (r.component, r.version) BETWEEN (?1, ?2) AND (?3, ?4)";
    let newest = found.len();
    found.extend(sql.query("read superseded revisions", query, span, revision)?);
    let (mut edges, mut blobs, mut outputs) =
        (edges(sql, span)?, blobs(sql, span)?, outputs(sql, span)?);
    for (index, row) in found.iter_mut().enumerate() {
        let (component, version) = key(row);
        let of = (component, version, row.address.version.and_then(|at| at.revision));
        row.edges = edges.remove(&of).unwrap_or_default();
        row.blobs = blobs.remove(&(of, None)).unwrap_or_default();
        if index < newest {
            for (name, value) in outputs.remove(&(component, version)).unwrap_or_default() {
                let blobs = blobs
                    .remove(&((component, version, None), Some(name.clone())))
                    .unwrap_or_default();
                row.outputs.push(AuditedOutput { name, value, blobs });
            }
        }
    }
    found.sort_by_key(|row| (row.component, row.address.version));
    Ok(found)
}

fn revision(row: &Row<'_>) -> rusqlite::Result<AuditedRevision> {
    Ok(AuditedRevision {
        component: ComponentId(row.get(4)?),
        address: address(row, 0)?,
        uuid: digest(row, 5)?,
        content_hash: digest(row, 6)?,
        type_version: number(row, 7)?,
        document: json(row, 8)?,
        edges: Vec::new(),
        blobs: Vec::new(),
        outputs: Vec::new(),
    })
}

fn edges(sql: Sql<'_>, span: (i64, u32, i64, u32)) -> Result<HashMap<Key, Vec<EdgeRow>>> {
    // A child that is gone leaves an empty name, which no document has.
    let query = "SELECT c.kind, c.identifier, e.child_version, NULL, e.component, e.version, e.revision, e.path \
        FROM edge e LEFT JOIN component c ON c.id = e.child \
        WHERE (e.component, e.version) BETWEEN (?1, ?2) AND (?3, ?4) ORDER BY e.path";
    let rows = sql.query("read references", query, span, |row| {
        let key = (row.get(4)?, number(row, 5)?, optional_number(row, 6)?);
        Ok((key, EdgeRow { path: text(row, 7)?.unwrap_or_default(), child: address(row, 0)? }))
    })?;
    let mut found: HashMap<Key, Vec<EdgeRow>> = HashMap::new();
    rows.into_iter().for_each(|(key, edge)| found.entry(key).or_default().push(edge));
    Ok(found)
}

type BlobOwner = (Key, Option<String>);

fn blobs(sql: Sql<'_>, span: (i64, u32, i64, u32)) -> Result<HashMap<BlobOwner, Vec<BlobRow>>> {
    let query = "SELECT r.component, r.version, r.revision, r.output, r.path, r.digest, a.size \
        FROM artifact_ref r LEFT JOIN artifact a ON a.digest = r.digest \
        WHERE (r.component, r.version) BETWEEN (?1, ?2) AND (?3, ?4) AND r.job IS NULL ORDER BY r.path";
    let rows = sql.query("read references to blobs", query, span, |row| {
        let key = (row.get(0)?, number(row, 1)?, optional_number(row, 2)?);
        let size = u64::try_from(row.get::<_, Option<i64>>(6)?.unwrap_or(0)).unwrap_or(0);
        Ok((
            (key, text(row, 3)?),
            BlobRow { path: text(row, 4)?.unwrap_or_default(), digest: digest(row, 5)?, size },
        ))
    })?;
    let mut found: HashMap<BlobOwner, Vec<BlobRow>> = HashMap::new();
    rows.into_iter().for_each(|(key, blob)| found.entry(key).or_default().push(blob));
    Ok(found)
}

type NamedValue = (String, Result<Value, String>);

fn outputs(
    sql: Sql<'_>,
    span: (i64, u32, i64, u32),
) -> Result<HashMap<(i64, u32), Vec<NamedValue>>> {
    let query = "SELECT component, version, name, value FROM output \
        WHERE (component, version) BETWEEN (?1, ?2) AND (?3, ?4) ORDER BY component, version, name";
    let rows = sql.query("read outputs", query, span, |row| {
        Ok(((row.get(0)?, number(row, 1)?), (text(row, 2)?.unwrap_or_default(), json(row, 3)?)))
    })?;
    let mut found: HashMap<(i64, u32), Vec<NamedValue>> = HashMap::new();
    rows.into_iter().for_each(|(key, output)| found.entry(key).or_default().push(output));
    Ok(found)
}

/// What SQLite finds wrong with the file, and rows that refer to rows that are not there.
pub(crate) fn check(sql: Sql<'_>) -> Result<Vec<String>> {
    let mut found = sql.query("check the database", "PRAGMA integrity_check(100)", [], |row| {
        Ok(text(row, 0)?.unwrap_or_default())
    })?;
    found.retain(|line| line != "ok");
    for ((table, parent), count) in broken_references(sql)? {
        found.push(format!(
            "{count} rows of `{table}` refer to rows of `{parent}` that do not exist"
        ));
    }
    found.extend(unreadable_values(sql)?);
    Ok(found)
}

/// Values of jobs that cannot be read. Documents and outputs are told by [`audit`].
fn unreadable_values(sql: Sql<'_>) -> Result<Vec<String>> {
    // What SQLite takes for no JSON is looked at again: its own limit of depth is another one.
    let values = [
        (
            "the result of job",
            "SELECT id, NULL, result FROM job WHERE state = 3 AND coalesce(json_valid(result), 0) = 0",
        ),
        ("message", "SELECT id, NULL, payload FROM message WHERE json_valid(payload) = 0"),
        (
            "checkpoint",
            "SELECT number, ' of job ' || job, data FROM checkpoint WHERE json_valid(data) = 0",
        ),
        ("what is recorded of run", "SELECT id, NULL, data FROM run WHERE json_valid(data) = 0"),
    ];
    let mut found = Vec::new();
    for (what, query) in values {
        let rows = sql.query("check the values of jobs", query, [], |row| {
            Ok((row.get::<_, i64>(0)?, text(row, 1)?.unwrap_or_default(), json(row, 2)?))
        })?;
        let told = rows.into_iter().filter_map(|(id, of, value)| {
            Some(format!("{what} {id}{of} cannot be read: {}", value.err()?))
        });
        found.extend(told);
    }
    Ok(found)
}

/// How many rows of a table refer to rows of another that are not there, by the names of both.
fn broken_references(sql: Sql<'_>) -> Result<BTreeMap<(String, String), i64>> {
    let what = "check what rows refer to";
    // Looking for a version reads documents on the way, so `PRAGMA foreign_key_check`, which looks
    // once for each row, takes time in proportion to rows and length of documents. What refers to
    // versions is looked up once for each version.
    let names =
        |row: &Row<'_>| -> rusqlite::Result<(String, String)> { Ok((row.get(0)?, row.get(1)?)) };
    let to_versions = "SELECT DISTINCT s.name FROM sqlite_schema s, pragma_foreign_key_list(s.name) f WHERE s.type = 'table' AND f.\"table\" = 'version'";
    let text = format!(
        "SELECT f.\"table\", f.parent, count(*) FROM sqlite_schema s, pragma_foreign_key_check(s.name) f \
        WHERE s.type = 'table' AND s.name NOT IN ({to_versions}) GROUP BY 1, 2"
    );
    let mut broken: BTreeMap<_, i64> =
        sql.query(what, &text, [], |row| Ok((names(row)?, row.get(2)?)))?.into_iter().collect();
    let text = format!(
        "SELECT s.name, f.\"table\", group_concat(f.\"from\"), group_concat(f.\"to\") FROM sqlite_schema s, pragma_foreign_key_list(s.name) f \
        WHERE s.type = 'table' AND s.name IN ({to_versions}) GROUP BY s.name, f.id"
    );
    let keys = sql.query(what, &text, [], |row| {
        Ok((names(row)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
    })?;
    for ((table, parent), from, to) in keys {
        let pairs = from.split(',').zip(to.split(','));
        let equal: Vec<String> =
            pairs.clone().map(|(from, to)| format!("p.{to} = c.{from}")).collect();
        let set: Vec<String> = pairs.map(|(from, _)| format!("{from} IS NOT NULL")).collect();
        let text = format!(
            "SELECT coalesce(sum(n), 0) FROM (SELECT {from}, count(*) AS n FROM {table} WHERE {set} GROUP BY {from}) c \
            WHERE NOT EXISTS (SELECT 1 FROM {parent} p WHERE {equal})",
            set = set.join(" AND "),
            equal = equal.join(" AND "),
        );
        let count = sql.query_first(what, &text, [], |row| row.get::<_, i64>(0))?.unwrap_or(0);
        if count > 0 {
            *broken.entry((table, parent)).or_default() += count;
        }
    }
    Ok(broken)
}
