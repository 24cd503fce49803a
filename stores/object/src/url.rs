//! Stores by URL.

use crate::ObjectStore;
use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};
use superduper_core::{Error, ErrorKind, Result};
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
use url::Url;

/// The folder that a URL such as `file:///data/my%20models` names, with escapes such as `%20`
/// replaced. `None` for another scheme, a host other than this machine, a relative path, a query or
/// a fragment.
pub fn folder_of_url(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return None;
    }
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

pub(crate) fn open(text: &str) -> Result<ObjectStore> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(no_url(text));
    };
    match scheme {
        "file" => match folder_of_url(text) {
            Some(path) => ObjectStore::folder(path),
            None => Err(Error::invalid(format!("`{text}` names no folder of this machine"))
                .with_hint("write `file:///folder`")),
        },
        "memory" => Ok(ObjectStore::memory()),
        "s3" | "s3a" => aws(text),
        "gs" => gcp(text),
        "az" | "azure" | "abfs" | "abfss" => azure(text),
        other => Err(Error::new(
            ErrorKind::Unsupported,
            format!("artifacts cannot be stored under the scheme `{other}`"),
        )
        .with_hint("the schemes are file, memory, s3, gs and az")),
    }
}

fn no_url(text: &str) -> Error {
    Error::invalid(format!("`{text}` is no URL of an artifact store")).with_hint(
        "write `file:///folder`, `memory://` or `s3://bucket/prefix`; `ObjectStore::folder` takes \
         a plain path",
    )
}

#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
fn lacking(text: &str, feature: &str) -> Result<ObjectStore> {
    let scheme = text.split(':').next().unwrap_or_default();
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("this build cannot open `{scheme}://` artifact stores"),
    )
    .with_hint(format!(
        "build with the feature `{feature}` of `superduper` (or of `superduper-object`, where you \
         use that crate itself)"
    )))
}

#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn parse(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|error| no_url(text).with_source(error))
}

#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn cloud<S: object_store::ObjectStore>(
    url: &Url,
    store: object_store::Result<S>,
) -> Result<ObjectStore> {
    // Without user, password and query: those can hold secrets.
    let location =
        format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
    let failed = |error| {
        Error::store(format!("artifact store `{location}` cannot be opened")).with_source(error)
    };
    let store = store.map_err(failed)?;
    let (_, prefix) =
        object_store::ObjectStoreScheme::parse(url).map_err(|error| failed(error.into()))?;
    let remote = crate::remote::Remote::cloud(
        std::sync::Arc::new(store),
        prefix,
        location.clone(),
        shared(url),
    );
    Ok(ObjectStore(crate::Backend::Remote(remote)))
}

/// What another process opens the same place with, given the same environment; `None` for a URL
/// with parts that may be secret.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn shared(url: &Url) -> Option<std::path::PathBuf> {
    // `abfss://container@account…`: what elsewhere is a user is a part of the place.
    let names_container = matches!(url.scheme(), "abfs" | "abfss");
    let is_plain = url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (is_plain && (url.username().is_empty() || names_container)).then(|| url.as_str().into())
}

#[cfg(feature = "aws")]
fn aws(text: &str) -> Result<ObjectStore> {
    let url = &parse(text)?;
    cloud(url, object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str()).build())
}
#[cfg(not(feature = "aws"))]
fn aws(text: &str) -> Result<ObjectStore> {
    lacking(text, "aws")
}

#[cfg(feature = "gcp")]
fn gcp(text: &str) -> Result<ObjectStore> {
    let url = &parse(text)?;
    cloud(
        url,
        object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).build(),
    )
}
#[cfg(not(feature = "gcp"))]
fn gcp(text: &str) -> Result<ObjectStore> {
    lacking(text, "gcp")
}

#[cfg(feature = "azure")]
fn azure(text: &str) -> Result<ObjectStore> {
    let url = &parse(text)?;
    cloud(
        url,
        object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url.as_str()).build(),
    )
}
#[cfg(not(feature = "azure"))]
fn azure(text: &str) -> Result<ObjectStore> {
    lacking(text, "azure")
}
