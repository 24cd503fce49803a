//! From components to documents and back.
//!
//! Encoding walks a component with serde inside a thread-local *session*: each component met on the
//! way registers itself and leaves a reference, each artifact registers its blob. No session is
//! ever held over an await, nested sessions are saved and restored, and a panic in user code ends
//! one cleanly.

mod decode;
mod encoded;
mod flatten;
mod floats;
mod marks;
mod numbers;
mod round_trip;
mod save;
mod serializer;
mod session;
mod shape;
mod shown;
pub mod sorted;
mod stored;
mod track;
mod tree;

pub(crate) use decode::decode_body;
pub use decode::{DecodeEnv, Document, deserialize_typed};
pub(crate) use decode::{
    current_env, decode_boxed, decode_inline_boxed, decode_strict, in_decode_session, reader,
};
pub use encoded::{Encoded, MAX_DEPTH};
pub(crate) use encoded::{OUTPUT_MARK, RUNTIME_MARK, decode_some, decode_value, sort_key};
pub use flatten::{Spread, SpreadFields};
pub(crate) use marks::{Mark, visit_marks};
pub(crate) use round_trip::{
    check_copy, check_stable, encode_checked, encode_result, first_difference,
};
pub(crate) use save::{hash_all, save_encoded};
pub use session::{Inline, serialize_component};
pub(crate) use session::{RawKey, encode_tree, note_blob, without_shape};
pub(crate) use shape::{ROOT, Singles, item, member};
pub(crate) use shown::{reference, shown, shown_at, shown_fields};
#[doc(hidden)]
pub use stored::Stored;
pub(crate) use track::{Documents, Found, escape, tracked};
pub use tree::{BlobUse, ChildUse, Record, Tree};
pub(crate) use tree::{
    hash_body, hashes, in_key_order, in_order, is_marked, mark_of, patch_pending, secrets,
};
