//! What the builders that the derive writes have in common.

use crate::{Error, Result, address::check_identifier, component::ComponentType};

/// Check the identifier and that all fields are there; a field is `(name, setter, missing)`.
#[doc(hidden)]
pub fn check_builder<T: ComponentType>(identifier: &str, fields: &[(&str, &str, bool)]) -> Result<()> {
    let kind = T::__kind();
    check_identifier(identifier).map_err(|error| error.context(format_args!("component of kind `{kind}`")))?;
    let missing = || fields.iter().filter(|(_, _, missing)| *missing);
    let names: Vec<String> = missing().map(|(name, _, _)| format!("`{name}`")).collect();
    let setters: Vec<String> = missing().map(|(_, setter, _)| format!("`.{setter}(…)`")).collect();
    match names.len() {
        0 => Ok(()),
        1 => Err(Error::invalid(format!("`{kind}/{identifier}`: field {} is missing", names[0]))),
        _ => Err(Error::invalid(format!("`{kind}/{identifier}`: fields {} are missing", names.join(", ")))),
    }
    .map_err(|error| error.with_hint(format!("call {} before `.build()`", setters.join(", "))))
}

/// Run `postinit` on a component that was just put together.
#[doc(hidden)]
pub fn finish_builder<T: ComponentType>(mut component: T) -> Result<T> {
    let postinit = T::__hooks().postinit;
    postinit(&mut component)
        .map_err(|error| error.context(format_args!("`{}/{}`: postinit", T::__kind(), component.__identifier())))?;
    Ok(component)
}
