//! Which blobs are referred to, and which are doomed.

use crate::{codec::digest, sql::Sql};
use superduper_core::{Address, Digest, Error, Result};

pub(crate) fn referenced_blobs(sql: Sql<'_>, first: Option<u8>) -> Result<Vec<(Digest, u64)>> {
    // Blobs compare byte by byte, and a longer one is greater: the bounds are a byte and
    // thirty-three bytes.
    let (least, most) = (
        first.map_or(Vec::new(), |byte| vec![byte]),
        [&[first.unwrap_or(0xff)][..], &[0xff; 32]].concat(),
    );
    let query = "SELECT digest, size FROM artifact a WHERE digest BETWEEN ?1 AND ?2 \
        AND EXISTS (SELECT 1 FROM artifact_ref r WHERE r.digest = a.digest) ORDER BY digest";
    sql.query("read referenced blobs", query, (least, most), |row| {
        Ok((digest(row, 0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
    })
}

pub(crate) fn marked_blobs(sql: Sql<'_>) -> Result<Vec<Digest>> {
    sql.query(
        "read marked blobs",
        "SELECT digest FROM artifact WHERE doomed = 1 ORDER BY digest",
        [],
        |row| digest(row, 0),
    )
}

pub(crate) fn blobs_of(sql: Sql<'_>, address: &Address, versions: &[u32]) -> Result<Vec<Digest>> {
    let versions = serde_json::to_string(versions)
        .map_err(|error| Error::internal("list versions").with_source(error))?;
    let query = "SELECT DISTINCT r.digest FROM component c JOIN artifact_ref r ON r.component = c.id \
        WHERE c.kind = ?1 AND c.identifier = ?2 AND c.removed = 0 AND r.version IN (SELECT value FROM json_each(?3)) ORDER BY 1";
    sql.query(
        "read the blobs of a component",
        query,
        (&address.kind, &address.identifier, versions),
        |row| digest(row, 0),
    )
}
