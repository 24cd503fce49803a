//! Blocks of tar files of the plainest kind (POSIX ustar): headers that hold nothing but names and
//! sizes.
//!
//! Invariant: a header is a function of kind, name and size. It holds no time, no owner and no
//! permissions of the file that it stands for. Bundles and folders are both written with it.

/// The size of a header, and what the bytes of a file are padded to.
pub(crate) const BLOCK: u64 = 512;

/// Sizes of 8 GiB and more do not fit into eleven octal digits; GNU's binary form is understood
/// everywhere.
const MOST_OCTAL: u64 = 0o77_777_777_777;

/// How many bytes a name has room for, and what is in front of it.
const NAME: usize = 100;
const PREFIX: usize = 155;

/// What a header stands for.
pub(crate) const FILE: u8 = b'0';
pub(crate) const FOLDER: u8 = b'5';

/// A block of bytes.
pub(crate) type Block = [u8; BLOCK as usize];

/// The header of a file or folder; `None` for a name that has no room in it. A name of more than
/// 100 bytes needs a `/` that leaves at most 155 in front and at most 100 behind.
pub(crate) fn header(kind: u8, name: &str, size: u64) -> Option<Block> {
    let (prefix, own) = split(name)?;
    let mut block = [0; BLOCK as usize];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, own.as_bytes());
    put(100, if kind == FOLDER { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size <= MOST_OCTAL {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME {
        return Some(("", name));
    }
    // A folder's own `/` at the end is part of the name.
    name.match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, own)| prefix.len() <= PREFIX && !own.is_empty() && own.len() <= NAME)
}

/// A header that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The name; `None` where it is not UTF-8.
    pub(crate) name: Option<String>,
    /// The size; `None` where it is not a number.
    pub(crate) size: Option<u64>,
    /// What it stands for.
    pub(crate) kind: u8,
}

impl Header {
    /// Read a header; `None` for a block that is none, or that is damaged.
    pub(crate) fn of(block: &Block) -> Option<Self> {
        if octal(&block[148..156]) != Some(checksum(block)) || &block[257..262] != b"ustar" {
            return None;
        }
        Some(Header { name: name(block), size: size(&block[124..136]), kind: block[156] })
    }
}

/// How many zeros follow the bytes of a file.
pub(crate) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// The sum of a header's bytes, its own field taken as blanks.
fn checksum(block: &[u8]) -> u64 {
    block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum()
}

fn name(block: &[u8]) -> Option<String> {
    let field = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).ok()
    };
    let (name, prefix) = (field(&block[0..NAME])?, field(&block[345..345 + PREFIX])?);
    Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c| c == ' ' || c == '\0');
    u64::from_str_radix(text, 8).ok()
}

fn size(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, 0, 0, 0, rest @ ..] => rest.try_into().ok().map(u64::from_be_bytes),
        _ => octal(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_whatever_the_size() {
        for bytes in [0, 1, 511, 512, MOST_OCTAL, MOST_OCTAL + 1, u64::MAX / 2] {
            let block = header(FILE, "bundle.json", bytes).expect("a short name");
            let name = Some("bundle.json".to_owned());
            let expected = Header { name, size: Some(bytes), kind: FILE };
            assert_eq!(Header::of(&block), Some(expected));
        }
        assert_eq!((padding(0), padding(3), padding(512)), (0, 509, 0));
        assert_eq!(Header::of(&[0; BLOCK as usize]), None);
    }

    #[test]
    fn long_names_are_cut_at_a_slash() {
        let long = |length: usize| "x".repeat(length);
        let fits = [
            long(100),
            format!("{}/{}", long(155), long(100)),
            format!("{}/{}/b", long(90), long(60)),
            format!("{}/{}/", long(80), long(90)),
        ];
        for name in fits {
            let block = header(FOLDER, &name, 0).expect("it fits");
            assert_eq!(Header::of(&block).expect("a header").name, Some(name));
        }
        for name in [long(101), format!("{}/a", long(156)), format!("a/{}", long(101))] {
            assert!(header(FILE, &name, 0).is_none(), "{name}");
        }
    }
}
