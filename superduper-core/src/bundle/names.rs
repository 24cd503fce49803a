//! The files of a bundle: their names, sizes and format.

/// The newest format that this program reads, and the one that it writes.
pub(super) const FORMAT: u64 = 1;

/// The longest JSON file of a bundle; documents hold no blobs, and one file is held in memory at a
/// time.
pub(super) const LONGEST: u64 = 64 * 1024 * 1024;

/// The size of the pieces in which blobs are read from bundles.
pub(super) const PIECE: u64 = 1024 * 1024;

pub(super) const MANIFEST: &str = "bundle.json";

pub(super) fn component_name(index: usize) -> String {
    format!("components/{index:06}.json")
}

pub(super) fn blob_name(digest: crate::digest::Digest) -> String {
    let hex = digest.to_hex();
    format!("blobs/blake3/{}/{hex}", &hex[..2])
}

/// Whether a file of this name can be part of a bundle.
pub(super) fn is_file_name(name: &str) -> bool {
    if let Some(number) =
        name.strip_prefix("components/").and_then(|rest| rest.strip_suffix(".json"))
    {
        return number.parse().is_ok_and(|index| component_name(index) == name);
    }
    let blob = name.rsplit('/').next().and_then(|hex| crate::digest::Digest::from_hex(hex).ok());
    name == MANIFEST || blob.is_some_and(|digest| blob_name(digest) == name)
}

/// Whether a folder of this name can be part of a bundle.
pub(super) fn is_folder_name(name: &str) -> bool {
    let is_shard = |rest: &str| {
        rest.len() == 2
            && rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    matches!(name, "" | "components" | "blobs" | "blobs/blake3")
        || name.strip_prefix("blobs/blake3/").is_some_and(is_shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bundles_are_told_from_others() {
        let hex = crate::digest::Digest::of(b"x").to_hex();
        for name in [
            "bundle.json",
            "components/000000.json",
            "components/1234567.json",
            &blob_name(crate::digest::Digest::of(b"x")),
        ] {
            assert!(is_file_name(name), "{name}");
        }
        let shard = format!("blobs/blake3/zz/{hex}");
        for name in [
            "",
            "x",
            "components/0.json",
            "components/+00001.json",
            "components/../000000.json",
            &hex,
            &shard,
            "/bundle.json",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
        assert!(
            is_folder_name("blobs/blake3/0a")
                && !is_folder_name("blobs/blake3/..")
                && !is_folder_name("blobs/blake3/0A")
        );
    }
}
