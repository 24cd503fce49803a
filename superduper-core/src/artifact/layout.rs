//! The header of a safetensors file: which tensor lies where.
//!
//! Invariant: the tensors of a layout lie one after the other, without gaps or overlaps, from the
//! end of the header to the end of the file, each as long as its type and shape say. Nothing is
//! believed before that was checked.

use super::{Dtype, dtype::TensorInfo};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, ops::Range};

/// The longest header that the safetensors packages accept.
pub(super) const LONGEST_HEADER: u64 = 100_000_000;
/// The length of the number in front of the header.
pub(super) const PREFIX: u64 = 8;
const METADATA: &str = "__metadata__";

/// One tensor and its place in the file.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) info: TensorInfo,
    pub(super) range: Range<u64>,
}

impl Place {
    /// Read the entry of a tensor; the header of the file has `header` bytes, and `data` bytes come
    /// after it.
    fn read(name: String, entry: Value, header: u64, data: u64) -> Result<Self, String> {
        let entry: Entry = serde_json::from_value(entry)
            .map_err(|error| format!("tensor `{name}` is not described well: {error}"))?;
        let (start, end) = entry.data_offsets;
        let info = TensorInfo { dtype: entry.dtype, shape: entry.shape };
        if start > end || end > data {
            return Err(format!("tensor `{name}` lies at {start}..{end} of {data} bytes of data"));
        }
        match info.size() {
            Some(expected) if expected as u64 == end - start => {}
            Some(expected) => {
                return Err(format!(
                    "tensor `{name}` is {info}, {expected} bytes, but has {}",
                    end - start
                ));
            }
            None => {
                return Err(format!("the size of tensor `{name}`, {info}, is no number of bytes"));
            }
        }
        Ok(Place { name, info, range: start + header..end + header })
    }
}

/// The places of all tensors, in file order.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    pub(super) metadata: BTreeMap<String, String>,
    /// The length of the header with its prefix.
    pub(super) header: u64,
    /// The length of the file.
    pub(super) size: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The members of a header as they are read: as the safetensors packages do, texts that are there
/// twice are refused, and of a tensor that is there twice the last one counts.
struct Members(Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Map<String, Value>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, entry)) = access.next_entry::<String, Value>()? {
                    if name == METADATA && members.contains_key(METADATA) {
                        return Err(A::Error::custom(format!("`{METADATA}` is there twice")));
                    }
                    members.insert(name, entry);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Self)
    }
}

/// The places lie one after the other, from the end of the header to the end of the file.
fn check_gapless(places: &[Place], header: u64, size: u64) -> Result<(), String> {
    let mut at = header;
    for place in places {
        if place.range.start != at {
            let what = if place.range.start < at {
                "overlaps the one before it"
            } else {
                "has a gap before it"
            };
            return Err(format!("tensor `{}` {what}", place.name));
        }
        at = place.range.end;
    }
    if at != size {
        return Err(format!("{} bytes at its end belong to no tensor", size - at));
    }
    Ok(())
}

impl Layout {
    /// Lay out tensors as the safetensors packages do: wide types first, so that each is aligned,
    /// then by name. Gives the bytes of the header too.
    pub(super) fn of<'a>(
        tensors: impl Iterator<Item = (&'a String, &'a TensorInfo)>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(Self, Vec<u8>), String> {
        let mut tensors: Vec<_> = tensors.collect();
        tensors.sort_by(|(name, info), (other_name, other)| {
            other.dtype.cmp(&info.dtype).then_with(|| name.cmp(other_name))
        });
        let mut text = String::from("{");
        let mut write = |key: &str, value: String| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(key).to_string());
            text.push(':');
            text.push_str(&value);
        };
        if !metadata.is_empty() {
            write(
                METADATA,
                Value::Object(
                    metadata
                        .iter()
                        .map(|(key, value)| (key.clone(), value.clone().into()))
                        .collect(),
                )
                .to_string(),
            );
        }
        let mut places = Vec::with_capacity(tensors.len());
        let mut at = 0_u64;
        for (name, info) in tensors {
            let size = info.size().ok_or_else(|| {
                format!("the size of tensor `{name}`, {info}, is no number of bytes")
            })?;
            let end = at.checked_add(size as u64).ok_or("the tensors together are too large")?;
            let entry =
                Entry { dtype: info.dtype, shape: info.shape.clone(), data_offsets: (at, end) };
            write(name, serde_json::to_string(&entry).map_err(|error| error.to_string())?);
            places.push(Place { name: name.clone(), info: info.clone(), range: at..end });
            at = end;
        }
        text.push('}');
        while !text.len().is_multiple_of(8) {
            text.push(' ');
        }
        if text.len() as u64 > LONGEST_HEADER {
            return Err(format!(
                "the header would have {} bytes; at most {LONGEST_HEADER} are allowed",
                text.len()
            ));
        }
        let header = PREFIX + text.len() as u64;
        for place in &mut places {
            place.range = place.range.start + header..place.range.end + header;
        }
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        Ok((Layout { places, metadata: metadata.clone(), header, size: header + at }, bytes))
    }

    /// The length of the header with its prefix, from the prefix.
    pub(super) fn header_length(prefix: &[u8], size: u64) -> Result<u64, String> {
        let prefix: [u8; PREFIX as usize] =
            prefix.try_into().map_err(|_| "it is too short for a safetensors file".to_owned())?;
        let length = u64::from_le_bytes(prefix);
        if length > LONGEST_HEADER || length > size.saturating_sub(PREFIX) {
            return Err(format!("it says that its header has {length} bytes"));
        }
        Ok(PREFIX + length)
    }

    /// Read a header, without its prefix, of a file of `size` bytes.
    pub(super) fn parse(text: &[u8], size: u64) -> Result<Self, String> {
        let header = PREFIX + text.len() as u64;
        let data = size.checked_sub(header).ok_or("it is shorter than its header")?;
        let Members(entries) = serde_json::from_slice(text)
            .map_err(|error| format!("its header is no JSON object: {error}"))?;
        let mut metadata = BTreeMap::new();
        let mut places = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            if name == METADATA {
                // `null` is what some programs write for no texts; the safetensors packages read it
                // so.
                let texts: Option<_> = serde_json::from_value(entry)
                    .map_err(|error| format!("`{METADATA}` is no map of texts: {error}"))?;
                metadata = texts.unwrap_or_default();
                continue;
            }
            places.push(Place::read(name, entry, header, data)?);
        }
        places.sort_by(|a, b| {
            (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name))
        });
        check_gapless(&places, header, size)?;
        Ok(Layout { places, metadata, header, size })
    }

    /// The header and each tensor, as ranges of the file.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.header)
            .chain(self.places.iter().map(|place| place.range.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tensors = BTreeMap::from([
            ("bias".to_owned(), TensorInfo { dtype: Dtype::U8, shape: vec![3] }),
            ("weight".to_owned(), TensorInfo { dtype: Dtype::F32, shape: vec![2, 3] }),
            ("none".to_owned(), TensorInfo { dtype: Dtype::F32, shape: vec![0, 3] }),
        ]);
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let (layout, bytes) = Layout::of(tensors.iter(), &metadata).expect("a layout");
        assert_eq!(layout.size, bytes.len() as u64 + 27);
        assert_eq!(
            Layout::header_length(&bytes[..8], layout.size).expect("a length"),
            bytes.len() as u64
        );
        assert_eq!(Layout::parse(&bytes[8..], layout.size).expect("a header"), layout);
        assert_eq!(
            layout.places.last().map(|place| place.name.as_str()),
            Some("bias"),
            "narrow types come last"
        );
    }

    #[test]
    fn malformed_headers_are_refused_by_name() {
        let entry = |shape: &str, offsets: &str| {
            format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let two = r#"{"v":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"w":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
        let gap = r#"{"v":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"w":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}}"#;
        for (text, data, expected) in [
            (entry("[2]", "[0,8]"), 4, "`w` lies at 0..8 of 4 bytes"),
            (entry("[2]", "[8,0]"), 8, "`w` lies at"),
            (entry("[3]", "[0,8]"), 8, "`w` is F32[3], 12 bytes, but has 8"),
            (entry("[18446744073709551615,3]", "[0,8]"), 8, "`w`"),
            (entry("[-1]", "[0,8]"), 8, "`w` is not described well"),
            (entry("[2]", "[0,8]"), 9, "1 bytes at its end"),
            (entry("[2]", "[0,8]").replace("F32", "F33"), 8, "`w` is not described well"),
            (two.to_owned(), 6, "`w` overlaps"),
            (gap.to_owned(), 9, "`w` has a gap"),
            ("{".to_owned(), 0, "no JSON object"),
            ("[]".to_owned(), 0, "no JSON object"),
            (r#"{"__metadata__":{"a":1}}"#.to_owned(), 0, "`__metadata__`"),
            (r#"{"__metadata__":{"a":null}}"#.to_owned(), 0, "`__metadata__`"),
            (r#"{"__metadata__":[]}"#.to_owned(), 0, "`__metadata__`"),
            (r#"{"__metadata__":""}"#.to_owned(), 0, "`__metadata__`"),
            (r#"{"__metadata__":false}"#.to_owned(), 0, "`__metadata__`"),
            (
                r#"{"__metadata__":null,"__metadata__":{"a":"b"}}"#.to_owned(),
                0,
                "`__metadata__` is there twice",
            ),
            ("[".repeat(100_000), 0, "no JSON object"),
        ] {
            let error =
                Layout::parse(text.as_bytes(), PREFIX + text.len() as u64 + data).expect_err(&text);
            assert!(error.contains(expected), "{error}: {text:.100}");
        }
        for prefix in [u64::MAX, LONGEST_HEADER + 1, 93] {
            assert!(Layout::header_length(&prefix.to_le_bytes(), 100).is_err());
        }
        assert!(Layout::header_length(&[0; 3], 3).is_err());
    }
}
