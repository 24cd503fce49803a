//! What the macros share: collected errors, option lists, the text of types.

mod crate_name;
mod errors;
mod options;
mod result;
mod types;

pub(crate) use crate_name::crate_name;
pub(crate) use errors::{Errors, suggestion};
pub(crate) use options::{
    OptionList, default_root, one_or_many, path, text, whole_number, yes_or_no,
};
pub(crate) use result::encode_result;
pub(crate) use types::{
    dependency_bounds, last_segment, mentions_impl_trait, mentions_trait_object, name_of, path_at,
    plain_text, without_self,
};
