//! Stores by URL.

use crate::ObjectStore;
use superduper_core::{Error, ErrorKind, Result};
use url::Url;

pub(crate) fn open(text: &str) -> Result<ObjectStore> {
    let url = Url::parse(text).map_err(|error| {
        Error::invalid(format!("`{text}` is no URL of an artifact store"))
            .with_source(error)
            .with_hint("write `file:///folder`, `memory://` or `s3://bucket/prefix`; `ObjectStore::folder` takes a plain path")
    })?;
    match url.scheme() {
        "file" => match url.to_file_path() {
            Ok(path) => ObjectStore::folder(path),
            Err(()) => Err(Error::invalid(format!("`{text}` names no folder of this machine")).with_hint("write `file:///folder`")),
        },
        "memory" => Ok(ObjectStore::memory()),
        "s3" | "s3a" => aws(&url),
        "gs" => gcp(&url),
        "az" | "azure" | "abfs" | "abfss" => azure(&url),
        other => Err(Error::new(ErrorKind::Unsupported, format!("artifacts cannot be stored under the scheme `{other}`"))
            .with_hint("the schemes are file, memory, s3, gs and az")),
    }
}

#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
fn lacking(url: &Url, feature: &str) -> Result<ObjectStore> {
    Err(Error::new(ErrorKind::Unsupported, format!("this build cannot open `{}://` artifact stores", url.scheme())).with_hint(format!(
        "build with the feature `{feature}` of `superduper` (or of `superduper-object`, where you use that crate itself)"
    )))
}

#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn cloud<S: object_store::ObjectStore>(url: &Url, store: object_store::Result<S>) -> Result<ObjectStore> {
    // Without user, password and query: those can hold secrets.
    let location = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
    let failed = |error| Error::store(format!("artifact store `{location}` cannot be opened")).with_source(error);
    let store = store.map_err(failed)?;
    let (_, prefix) = object_store::ObjectStoreScheme::parse(url).map_err(|error| failed(error.into()))?;
    let remote = crate::remote::Remote::cloud(std::sync::Arc::new(store), prefix, location.clone(), shared(url));
    Ok(ObjectStore(crate::Backend::Remote(remote)))
}

/// What another process opens the same place with, given the same environment; `None` for a URL with parts that may be secret.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn shared(url: &Url) -> Option<std::path::PathBuf> {
    // `abfss://container@account…`: what elsewhere is a user is a part of the place.
    let names_container = matches!(url.scheme(), "abfs" | "abfss");
    let is_plain = url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (is_plain && (url.username().is_empty() || names_container)).then(|| url.as_str().into())
}

#[cfg(feature = "aws")]
fn aws(url: &Url) -> Result<ObjectStore> {
    cloud(url, object_store::aws::AmazonS3Builder::from_env().with_url(url.as_str()).build())
}
#[cfg(not(feature = "aws"))]
fn aws(url: &Url) -> Result<ObjectStore> {
    lacking(url, "aws")
}

#[cfg(feature = "gcp")]
fn gcp(url: &Url) -> Result<ObjectStore> {
    cloud(url, object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).build())
}
#[cfg(not(feature = "gcp"))]
fn gcp(url: &Url) -> Result<ObjectStore> {
    lacking(url, "gcp")
}

#[cfg(feature = "azure")]
fn azure(url: &Url) -> Result<ObjectStore> {
    cloud(url, object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url.as_str()).build())
}
#[cfg(not(feature = "azure"))]
fn azure(url: &Url) -> Result<ObjectStore> {
    lacking(url, "azure")
}
