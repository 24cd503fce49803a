//! Functions that the code written by the macros calls, and bounds that it checks.
//!
//! They are here rather than in the generated code so that errors and messages exist once.

use crate::{
    address::check_identifier,
    component::{
        ComponentType,
        lifecycle::{Hooks, Lifecycle},
        settings::Settings,
        trigger::TakesResult,
    },
    error::{Error, Result},
    panics,
};
use serde::{Serialize, de::DeserializeOwned};

/// Check the identifier and that all fields are there; a field is `(name, setter, missing)`.
pub fn check_builder<T: ComponentType>(
    identifier: &str,
    fields: &[(&str, &str, bool)],
) -> Result<()> {
    let kind = T::__kind();
    check_identifier(identifier)
        .map_err(|error| error.context(format_args!("component of kind `{kind}`")))?;
    let missing = || fields.iter().filter(|(_, _, missing)| *missing);
    let names: Vec<String> = missing().map(|(name, _, _)| format!("`{name}`")).collect();
    let setters: Vec<String> = missing().map(|(_, setter, _)| format!("`.{setter}(…)`")).collect();
    let message = match names.as_slice() {
        [] => return Ok(()),
        [name] => format!("`{kind}/{identifier}`: field {name} is missing"),
        names => format!("`{kind}/{identifier}`: fields {} are missing", names.join(", ")),
    };
    Err(Error::invalid(message).with_hint(format!("call {} before `.build()`", setters.join(", "))))
}

/// Run `postinit` on a component that was just put together.
pub fn finish_builder<T: ComponentType>(mut component: T) -> Result<T> {
    component.__outputs(&mut |name, output| output.name(name));
    let postinit = T::__hooks().postinit;
    let what = format!("`{}/{}`: postinit", T::__kind(), component.__identifier());
    panics::caught(
        || what.clone(),
        || postinit(&mut component).map_err(|error| error.context(&what)),
    )?;
    Ok(component)
}

/// The hooks of a type that says it has some.
pub fn hooks_of<T: Lifecycle + 'static>() -> Hooks<T> {
    Hooks::of()
}

/// What a field of a component must be.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be stored",
    label = "this type is no component and has no serde implementations",
    note = "a client, a connection, a thing that `setup` makes: `Runtime<{Self}>`; it needs no serde and is never stored",
    note = "plain data: `#[derive(serde::Serialize, serde::Deserialize)]` on `{Self}`",
    note = "a component of its own: `#[derive(Component)]` on `{Self}`",
    note = "a trait object, such as `Box<dyn Trait>`: `#[typetag::serde]` on the trait and on its implementations; `Box<dyn Component>` needs none"
)]
// The traits of serde follow from it, so that code which may assume `StoredField` has no further
// errors.
pub trait StoredField: Serialize + DeserializeOwned {}
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> StoredField for T {}

/// What a field must be whose type shows that it is a trait object.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be stored",
    label = "nothing says how this trait object is written and read back",
    note = "a trait of your own: `#[typetag::serde]` on the trait and on its implementations",
    note = "a component of any type: `Box<dyn Component>` or `Arc<dyn Component>`",
    note = "a thing that `setup` makes: `Runtime<{Self}>`; it needs no serde and is never stored"
)]
pub trait StoredObject {}
#[diagnostic::do_not_recommend]
impl<T: StoredField> StoredObject for T {}

/// Checked, never called.
pub fn flattened_field<T: Settings>() {}

/// The default of a field, where it is a text.
#[diagnostic::on_unimplemented(
    message = "a text cannot be the default of a field of type `{Self}`",
    label = "this is a text",
    note = "any expression can be the default: `default = vec![1]`, `default = some_function()`"
)]
pub trait TextDefault {
    /// The value of the text.
    fn of_text(text: &'static str) -> Self;
}
#[diagnostic::do_not_recommend]
impl<T: From<&'static str>> TextDefault for T {
    fn of_text(text: &'static str) -> Self {
        text.into()
    }
}

/// The value of a text.
pub fn text_default<T: TextDefault>(text: &'static str) -> T {
    T::of_text(text)
}

/// Checked, never called.
pub fn stored_object<T: StoredObject>() {}

/// Checked, never called.
pub fn stored_field<T: StoredField>() {}

/// Checked, never called.
pub fn is_component<T: ComponentType>() {}

/// Checked, never called: the error for a parameter of another type lands on the parameter.
pub fn takes_result<Parameter: TakesResult<Output>, Output>() {}

/// Whether a parameter is an `Option` around the type of the result that it takes, not that type
/// itself.
pub fn in_option<Parameter, Output>() -> bool {
    // `takes_result` leaves `Output` and `Option<Output>`, which never have the same name.
    std::any::type_name::<Parameter>() != std::any::type_name::<Output>()
}
