//! A folder as a blob: model folders, whose name and whose files' names programs look at.

mod blob;
mod listing;
mod packed;
mod value;

use packed::Place;
pub(crate) use value::FOLDER_KEY;
pub use value::Folder;
use value::{Origin, check_part};
