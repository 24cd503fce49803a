//! A folder that was stored: the files in its tar file, found and checked.
//!
//! Invariant: a name that is not one below the folder is refused before anything of it is used.

use super::check_part;
use crate::artifact::tar::{BLOCK, Block, FILE, FOLDER, Header};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The name of a stored folder, and its files. Blocks.
///
/// # Errors
/// Why it is not one, as a text.
pub(super) fn index(path: &Path) -> Result<(String, BTreeMap<String, Place>), String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    let file = fs::File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut file = std::io::BufReader::with_capacity(BLOCK as usize, file);
    let mut next = |at: u64| -> Result<Option<Header>, String> {
        let mut block: Block = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        file.read_exact(&mut block).map_err(|_| "it is not a folder: its end is missing")?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        Header::of(&block).map(Some).ok_or_else(|| "it is not a folder".to_owned())
    };
    let head = next(0)?.ok_or("it is not a folder")?;
    let name = head.name.filter(|_| head.kind == FOLDER).ok_or("it is not a folder")?;
    let own = name.strip_suffix('/').unwrap_or(&name).to_owned();
    check_part(&own).map_err(|why| format!("the name of the folder is refused: {why}"))?;
    let mut files = BTreeMap::new();
    let mut at = BLOCK;
    while let Some(header) = next(at)? {
        let name = header.name.ok_or("a name in it is not UTF-8")?;
        let refused = |why: &str| format!("`{}` in it is refused: {why}", name.escape_debug());
        let inside = name.strip_prefix(&own).and_then(|rest| rest.strip_prefix('/'));
        let inside = inside.ok_or_else(|| refused("it is not below the folder"))?;
        for part in inside.split('/') {
            check_part(part).map_err(&refused)?;
        }
        if header.kind != FILE {
            return Err(refused("it is not a plain file"));
        }
        let size = header.size.ok_or_else(|| refused("its size is not a number"))?;
        let offset = at + BLOCK;
        if size > length - offset.min(length) {
            return Err(refused("it is cut off"));
        }
        if files.insert(inside.to_owned(), Place { offset, size }).is_some() {
            return Err(refused("it is there twice"));
        }
        at = (offset + size).next_multiple_of(BLOCK);
    }
    Ok((own, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::tar::{header, padding};
    use std::io::Write;

    /// A tar file of these entries: kind, name, bytes.
    fn tar(entries: &[(u8, &str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, name, content) in entries {
            let size = content.len() as u64;
            bytes.extend(header(*kind, name, size).expect("a short name"));
            bytes.extend(*content);
            bytes.resize(bytes.len() + padding(size) as usize, 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn found(bytes: &[u8]) -> Result<(String, BTreeMap<String, Place>), String> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        index(file.path())
    }

    const ROOT: (u8, &str, &[u8]) = (FOLDER, "model/", b"");

    #[test]
    fn files_are_found_by_name() {
        let bytes = tar(&[ROOT, (FILE, "model/a", b"x"), (FILE, "model/b/c", b"")]);
        let (name, files) = found(&bytes).expect("a folder");
        let sizes: Vec<_> = files.iter().map(|(name, place)| (name.as_str(), place.size)).collect();
        assert_eq!((name.as_str(), sizes), ("model", vec![("a", 1), ("b/c", 0)]));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "model/../x",
            "model/..",
            "model//x",
            "model/./x",
            "model/",
            "model",
            "other/x",
            "models/x",
            "/model/x",
            "../model/x",
            "model/a\\b",
        ] {
            let why = found(&tar(&[ROOT, (FILE, name, b"x")])).expect_err(name);
            assert!(why.contains("is refused"), "{name}: {why}");
        }
        for name in ["../", "./", "/", "a/b/", "", "a\\b/"] {
            let why = found(&tar(&[(FOLDER, name, b"")])).expect_err(name);
            assert!(why.contains("the name of the folder is refused"), "{name}: {why}");
        }
    }

    #[test]
    fn what_is_no_folder_is_told() {
        let file = (FILE, "model/a", &b"x"[..]);
        for (entries, why) in [
            (&[ROOT, file, file][..], "there twice"),
            (&[ROOT, (b'2', "model/l", b"")], "not a plain file"),
            (&[file], "it is not a folder"),
            (&[], "it is not a folder"),
        ] {
            let found = found(&tar(entries)).expect_err(why);
            assert!(found.contains(why), "{found}");
        }
        let whole = tar(&[ROOT, (FILE, "model/a", &[1; 600])]);
        for length in [0, 100, 512, 600, 1024, 1500, 2048] {
            assert!(found(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(found(&[7; 4096]).is_err());
        let mut damaged = whole.clone();
        damaged[512 + 124] = b'7';
        assert!(found(&damaged).is_err());
    }
}
