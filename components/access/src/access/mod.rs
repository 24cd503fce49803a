//! What a user does: govern a site, give and take rights, ask for them, read the record.

mod handle;
mod requests;
mod roles;

pub use handle::Access;
pub use requests::Review;
pub use roles::GrantRole;
