//! Bundles as tar files: read with everything refused that a bundle does not need.
//!
//! A reader that accepts less is safer than a general one that is told what to refuse: no links, no
//! devices, no extended headers, no name but those of a bundle.

use super::{is_file_name, is_folder_name};
use crate::{
    artifact::tar::Header,
    error::{Error, ErrorKind, Result},
};
use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

pub(super) use crate::artifact::tar::{BLOCK, padding};

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The header of a file of a bundle.
pub(super) fn header(name: &str, size: u64) -> Result<[u8; BLOCK as usize]> {
    crate::artifact::tar::header(crate::artifact::tar::FILE, name, size)
        .ok_or_else(|| Error::internal("the name of a file of a bundle is too long"))
}

/// How compressed files begin, and what they are called.
const COMPRESSED: [(&[u8], &str); 6] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (b"PK\x03\x04", "zip"),
];

/// What a file is that does not begin as a bundle does; `head` are its first bytes, at most a block
/// of them.
fn refuse_other(head: &[u8]) -> Result<()> {
    if let Some((_, name)) = COMPRESSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Error::new(
            ErrorKind::Format,
            format!("it is compressed with {name}, but a bundle is a plain tar file or a folder"),
        )
        .with_hint("unpack it first"));
    }
    let begins =
        |name: &str| head.starts_with(name.as_bytes()) || name.as_bytes().starts_with(head);
    if ["./", super::MANIFEST, "components/", "blobs/"].into_iter().any(begins)
        || head.len() as u64 == BLOCK
    {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Format, "it is neither a folder nor a plain tar file"))
}

/// Find the files of a tar file of `length` bytes; their bytes are not read.
pub(super) fn index(mut file: impl Read + Seek, length: u64) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    let unreadable = |error: std::io::Error| truncated("it cannot be read").with_source(error);
    let mut head = Vec::new();
    file.by_ref().take(BLOCK).read_to_end(&mut head).map_err(unreadable)?;
    refuse_other(&head)?;
    let mut at = 0;
    loop {
        if at + BLOCK > length {
            return Err(truncated(if at == 0 {
                "it is too short for a tar file"
            } else {
                "the end mark is missing"
            }));
        }
        let mut block = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut block))
            .map_err(unreadable)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        let Some(header) = Header::of(&block) else {
            let why = if at == 0 {
                "it is neither a folder nor a plain tar file"
            } else {
                "a header of the tar file is damaged"
            };
            return Err(Error::new(ErrorKind::Format, why));
        };
        let name = name(&header)?;
        let size = header.size.ok_or_else(|| refused(&name, "its size is not a number"))?;
        let offset = at + BLOCK;
        if size > length - offset {
            return Err(truncated(format!(
                "`{name}` claims {size} bytes where {} are left",
                length - offset
            )));
        }
        match header.kind {
            b'0' | 0 => {
                if !is_file_name(&name) {
                    return Err(refused(&name, "a bundle has no file of that name"));
                }
                if entries.insert(name.clone(), Entry { offset, size }).is_some() {
                    return Err(refused(&name, "it is there twice"));
                }
            }
            b'5' if size == 0 && is_folder_name(name.trim_end_matches('/')) => {}
            kind => return Err(refused(&name, describe(kind))),
        }
        at = offset.saturating_add(size).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        if at > length {
            return Err(truncated(format!("`{name}` is cut off")));
        }
    }
}

fn describe(kind: u8) -> &'static str {
    match kind {
        b'1' | b'2' => "it is a link",
        b'3' | b'4' | b'6' => "it is a device",
        b'5' => "a bundle has no folder of that name",
        b'x' | b'g' | b'L' | b'K' => {
            "extended headers are not part of the format; pack it with `tar --format=ustar`"
        }
        _ => "it is no plain file",
    }
}

fn name(header: &Header) -> Result<String> {
    let name = header
        .name
        .as_deref()
        .ok_or_else(|| Error::new(ErrorKind::Format, "the tar file has a name that is no text"))?;
    // What `tar -C folder .` writes.
    let name = name.strip_prefix("./").unwrap_or(name).to_owned();
    check_name(&name)?;
    Ok(name)
}

/// Refuse names that lead out of the bundle, and say so.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.starts_with('/') || name.contains('\\') {
        return Err(refused(name, "it is an absolute path or none of this format"));
    }
    if name.split('/').any(|part| part == "..") {
        return Err(refused(name, "it leads out of the bundle"));
    }
    Ok(())
}

/// The error for an entry that no bundle has.
pub(super) fn refused(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Format, format!("entry `{}` is refused: {why}", name.escape_debug()))
        .with_hint("this is not a bundle that superduper wrote; nothing was imported")
}

pub(super) fn truncated(what: impl std::fmt::Display) -> Error {
    Error::integrity(format!("the bundle is incomplete: {what}"))
        .with_hint("copy it again, or export it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn fault_23_a_file_that_is_no_bundle_is_told_as_what_it_is() {
        let of =
            |bytes: &[u8]| index(Cursor::new(bytes), bytes.len() as u64).expect_err("no bundle");
        for (magic, name) in COMPRESSED {
            for length in [40, 4096] {
                let mut file = magic.to_vec();
                file.resize(length, 7);
                let error = of(&file);
                assert_eq!(error.kind(), ErrorKind::Format);
                assert!(
                    error.to_string().contains(&format!("compressed with {name},"))
                        && error.hint() == Some("unpack it first"),
                    "{error}"
                );
            }
        }
        for other in [&b"{}"[..], b"hello", &[0x1f], &[7; 600]] {
            let error = of(other);
            assert!(error.to_string().contains("neither a folder nor a plain tar file"), "{error}");
        }
        let header = header("bundle.json", 3).expect("a short name");
        for length in [0, 1, 5, 11, 40, 511] {
            assert_eq!(
                of(&header[..length]).kind(),
                ErrorKind::Integrity,
                "{length} bytes of a bundle are an incomplete one"
            );
        }
    }

    #[test]
    fn files_are_found_behind_their_headers() {
        let mut file = header("bundle.json", 3).expect("a short name").to_vec();
        file.extend_from_slice(b"{}\n");
        file.resize(2048, 0);
        let found = index(Cursor::new(&file), 2048).expect("a tar file");
        assert_eq!(found["bundle.json"], Entry { offset: 512, size: 3 });
    }
}
