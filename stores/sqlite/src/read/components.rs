//! Components, versions and references.

use super::jobs::newest_jobs;
use crate::{
    codec::{address, address_list, digest, json_or_mark, number, optional_number, text},
    sql::Sql,
};
use rusqlite::{Row, types::Type};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::HashSet};
use superduper_core::{
    Address, Result,
    store::{
        ComponentId, LabelRow, ListedComponent, Reference, Snapshot, StoredVersion, Timestamp,
        read_or_mark, unreadable,
    },
};

/// The columns of a stored version at its newest revision, for [`stored`].
const STORED: &str = "c.id, c.kind, c.identifier, v.number, v.revision, c.newest = v.number, \
    c.removing OR EXISTS (SELECT 1 FROM run r WHERE r.root = c.id AND r.root_version = v.number AND r.purpose = 1), c.next_version, v.uuid, \
    v.content_hash, v.type_version, v.owes_jobs, v.content_of, v.created_at, v.updated_at, v.document, \
    (SELECT json_group_array(json_array(o.name, o.value)) FROM output o WHERE o.component = v.component AND o.version = v.number)";

/// A version from the columns of [`STORED`].
fn stored(row: &Row<'_>) -> rusqlite::Result<StoredVersion> {
    Ok(StoredVersion {
        component: ComponentId(row.get(0)?),
        address: address(row, 1)?,
        newest: row.get(5)?,
        removing: row.get(6)?,
        next_version: number(row, 7)?,
        uuid: digest(row, 8)?,
        content_hash: digest(row, 9)?,
        type_version: number(row, 10)?,
        document: json_or_mark(row, 15)?,
        outputs: outputs(row, 16)?,
        owes_jobs: row.get(11)?,
        content_of: optional_number(row, 12)?,
        created_at: Timestamp(row.get(13)?),
        updated_at: Timestamp(row.get(14)?),
    })
}

/// Outputs from a JSON list of names and JSON texts.
fn outputs(row: &Row<'_>, column: usize) -> rusqlite::Result<Map<String, Value>> {
    // SQLite wrote the list: only the texts in it can be damaged, and what is not UTF-8 it copies.
    let bytes = row.get_ref(column)?.as_bytes()?;
    let list = String::from_utf8_lossy(bytes);
    let is_damaged = matches!(list, Cow::Owned(_));
    let value = |text: &str| match is_damaged && text.contains(char::REPLACEMENT_CHARACTER) {
        true => unreadable("it is not UTF-8"),
        false => read_or_mark(text.as_bytes()),
    };
    let pairs: Vec<(String, String)> = serde_json::from_str(&list).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })?;
    Ok(pairs.into_iter().map(|(name, text)| (name, value(&text))).collect())
}

pub(crate) fn snapshot(sql: Sql<'_>, addresses: &[Address]) -> Result<Snapshot> {
    let mut seen = HashSet::new();
    let addresses =
        addresses.iter().filter(|address| seen.insert((&address.kind, &address.identifier)));
    let query = format!(
        "SELECT {STORED}, m.value FROM meta m LEFT JOIN json_each(?1) j \
        LEFT JOIN component c ON c.kind = j.value ->> 0 AND c.identifier = j.value ->> 1 AND c.removed = 0 \
        LEFT JOIN version v ON v.component = c.id AND v.number = c.newest WHERE m.name = 'sweep_epoch'"
    );
    let mut snapshot = Snapshot::default();
    let rows = sql.query("read components", &query, [address_list(addresses)], |row| {
        snapshot.sweep_epoch = u64::try_from(row.get::<_, i64>(17)?).unwrap_or(0);
        match row.get::<_, Option<i64>>(3)? {
            Some(_) => Ok(Some(stored(row)?)),
            None => Ok(None),
        }
    })?;
    let found: Vec<StoredVersion> = rows.into_iter().flatten().collect();
    if !found.is_empty() {
        snapshot.jobs = newest_jobs(sql, &found)?;
    }
    snapshot.components =
        found.into_iter().map(|version| (version.address.path(), version)).collect();
    Ok(snapshot)
}

pub(crate) fn tree(sql: Sql<'_>, root: &Address) -> Result<Vec<StoredVersion>> {
    // `node` holds each version once, in the order of a search in breadth; only the root can be at
    // a superseded revision.
    let query = format!(
        "WITH RECURSIVE node (component, version, revision) AS ( \
            SELECT c.id, v.number, coalesce(?4, v.revision) FROM component c \
            JOIN version v ON v.component = c.id AND v.number = coalesce(?3, c.newest) \
            WHERE c.kind = ?1 AND c.identifier = ?2 AND c.removed = 0 \
            UNION \
            SELECT e.child, e.child_version, v.revision FROM node n \
            JOIN edge e ON e.component = n.component AND e.version = n.version AND e.revision = n.revision \
            JOIN version v ON v.component = e.child AND v.number = e.child_version) \
        SELECT {STORED}, n.revision, r.updated_at, r.type_version, r.uuid, r.content_hash, r.document \
        FROM node n CROSS JOIN component c ON c.id = n.component \
        CROSS JOIN version v ON v.component = n.component AND v.number = n.version \
        LEFT JOIN revision r ON r.component = n.component AND r.version = n.version AND r.number = n.revision \
        WHERE n.revision = v.revision OR r.number IS NOT NULL"
    );
    let version = root.version.map(|at| at.version);
    let revision = root.version.and_then(|at| at.revision);
    sql.query(
        "read a component with its children",
        &query,
        (&root.kind, &root.identifier, version, revision),
        |row| {
            let mut found = stored(row)?;
            let revision = number(row, 17)?;
            if revision != found.revision() {
                found.newest = false;
                if let Some(at) = &mut found.address.version {
                    at.revision = Some(revision);
                }
                found.updated_at = Timestamp(row.get(18)?);
                found.type_version = number(row, 19)?;
                found.uuid = digest(row, 20)?;
                found.content_hash = digest(row, 21)?;
                found.document = json_or_mark(row, 22)?;
            }
            Ok(found)
        },
    )
}

/// Each version is looked up: the end of a range is found by comparing the row after it, whose
/// document may be long.
pub(crate) fn versions(sql: Sql<'_>, address: &Address) -> Result<Vec<StoredVersion>> {
    let query = format!(
        "SELECT {STORED} FROM component c CROSS JOIN version v ON v.component = c.id \
            AND v.number IN (SELECT number FROM version WHERE component = c.id) \
        WHERE c.kind = ?1 AND c.identifier = ?2 AND c.removed = 0 ORDER BY v.number"
    );
    sql.query(
        "read the versions of a component",
        &query,
        (&address.kind, &address.identifier),
        stored,
    )
}

pub(crate) fn list(sql: Sql<'_>, kind: Option<&str>) -> Result<Vec<ListedComponent>> {
    let of = if kind.is_some() { "c.kind = ?1" } else { "?1 IS NULL" };
    listed(sql, of, kind)
}

/// The lines of the components of a list of addresses.
pub(super) fn list_of(sql: Sql<'_>, addresses: &str) -> Result<Vec<ListedComponent>> {
    let of = "c.id IN (SELECT n.id FROM json_each(?1) k CROSS JOIN component n \
        ON n.kind = k.value ->> 0 AND n.identifier = k.value ->> 1 AND n.removed = 0)";
    listed(sql, of, Some(addresses))
}

fn listed(sql: Sql<'_>, of: &str, value: Option<&str>) -> Result<Vec<ListedComponent>> {
    let query = format!(
        "SELECT c.kind, c.identifier, v.number, v.revision, c.id, c.removing, v.uuid, v.type_version, v.owes_jobs, \
            v.created_at, v.updated_at \
        FROM component c JOIN version v ON v.component = c.id \
        WHERE c.removed = 0 AND {of} ORDER BY c.kind, c.identifier, v.number"
    );
    let mut lines: Vec<ListedComponent> = Vec::new();
    let rows = sql.query("list components", &query, [value], |row| {
        Ok(ListedComponent {
            component: ComponentId(row.get(4)?),
            address: address(row, 0)?,
            versions: vec![number(row, 2)?],
            uuid: digest(row, 6)?,
            type_version: number(row, 7)?,
            removing: row.get(5)?,
            owes_jobs: row.get(8)?,
            created_at: Timestamp(row.get(9)?),
            updated_at: Timestamp(row.get(10)?),
        })
    })?;
    // One row per version, ascending: the last one of a component is its newest.
    for line in rows {
        match lines.last_mut().filter(|last| last.component == line.component) {
            Some(last) => {
                let mut versions = std::mem::take(&mut last.versions);
                versions.extend(&line.versions);
                *last = ListedComponent { versions, created_at: last.created_at, ..line };
            }
            None => lines.push(line),
        }
    }
    Ok(lines)
}

pub(crate) fn labels(sql: Sql<'_>, asked: Option<&Address>) -> Result<Vec<LabelRow>> {
    let query = "SELECT c.kind, c.identifier, l.version, NULL, l.name, l.at FROM label l JOIN component c ON c.id = l.component \
        WHERE c.removed = 0 AND (?1 IS NULL OR (c.kind = ?1 AND c.identifier = ?2)) ORDER BY c.kind, c.identifier, l.name";
    let name = (asked.map(|address| &address.kind), asked.map(|address| &address.identifier));
    sql.query("read labels", query, name, |row| {
        Ok(LabelRow { address: address(row, 0)?, label: row.get(4)?, at: Timestamp(row.get(5)?) })
    })
}

fn reference(row: &Row<'_>) -> rusqlite::Result<Reference> {
    Ok(Reference {
        parent: address(row, 0)?,
        child: address(row, 4)?,
        path: text(row, 8)?.unwrap_or_default(),
        current: row.get(9)?,
    })
}

const REFERENCE: &str = "p.kind, p.identifier, e.version, e.revision, c.kind, c.identifier, e.child_version, NULL, e.path, \
    e.revision = v.revision";

/// What is being removed may have many referrers in one component: its version, which may be long,
/// is read once.
pub(crate) fn referrers(sql: Sql<'_>, children: &[Address]) -> Result<Vec<Reference>> {
    let query = format!(
        "WITH e AS MATERIALIZED ( \
            SELECT DISTINCT e.* FROM json_each(?1) j \
            CROSS JOIN component c ON c.kind = j.value ->> 0 AND c.identifier = j.value ->> 1 AND c.removed = 0 \
            CROSS JOIN edge e ON e.child = c.id AND (j.value ->> 2 IS NULL OR e.child_version = j.value ->> 2)), \
        parent AS MATERIALIZED (SELECT DISTINCT component, version FROM e), \
        v AS MATERIALIZED ( \
            SELECT v.component, v.number, v.revision FROM parent CROSS JOIN version v \
            ON v.component = parent.component AND v.number = parent.version) \
        SELECT {REFERENCE} FROM e JOIN v ON v.component = e.component AND v.number = e.version \
        JOIN component c ON c.id = e.child JOIN component p ON p.id = e.component \
        ORDER BY e.component, e.version, e.revision, e.path"
    );
    sql.query("read what refers to components", &query, [address_list(children.iter())], reference)
}

pub(crate) fn references(sql: Sql<'_>) -> Result<Vec<Reference>> {
    let query = format!(
        "SELECT {REFERENCE} FROM component p \
        JOIN version v ON v.component = p.id AND v.number = p.newest \
        JOIN edge e ON e.component = v.component AND e.version = v.number AND e.revision = v.revision \
        JOIN component c ON c.id = e.child WHERE p.removed = 0 ORDER BY e.component, e.version, e.revision, e.path"
    );
    sql.query("read references", &query, [], reference)
}
