//! Every rule for a component that can be checked on its tokens, and every message.

use super::ast::{Component, DefaultValue, Field, Role};
use crate::shared::{Errors, crate_name, name_of, plain_text};
use syn::{LitStr, Path, Type};

/// Check all rules; gives the field that is the identifier.
pub(super) fn check<'a>(component: &'a Component<'_>, errors: &mut Errors) -> Option<&'a Field> {
    check_struct(component, errors);
    check_generics(component, errors);
    for field in &component.fields {
        check_field(field, errors);
    }
    check_setters(&component.fields, errors);
    check_flattened(component, errors);
    find_identifier(component, errors)
}

fn check_struct(component: &Component<'_>, errors: &mut Errors) {
    let options = component.options;
    if let Some((0, span)) = options.version {
        errors.at(span, "type versions count from 1");
    }
    for kind in options.kind.iter().chain(&options.aliases) {
        check_kind(kind, errors);
    }
    if options.kind.is_none() && !component.is_generic() && crate_name().is_none() {
        errors.on(
            component.ident,
            format!(
                "nothing tells the name of this crate, as Cargo does, with which the kind begins; write it: `#[component(kind = \"my_crate.{}\")]`",
                name_of(component.ident)
            ),
        );
    }
    for name in &component.serde.refused {
        let why = match name.to_string().as_str() {
            "crate" => {
                "a component brings its own serde; use `#[component(crate = \"…\")]` to name superduper"
            }
            "remote" => "a component cannot stand for another type",
            _ => {
                "the document of a component is an object of its fields; put this on a plain struct in a field of it"
            }
        };
        errors.at(name.span(), format!("`#[serde({name})]` is not possible here: {why}"));
    }
    if let Some(span) = component.serde.split_rename {
        errors.at(
            span,
            "a component is read by the names it is written with; give one rule for both",
        );
    }
}

fn check_kind(kind: &LitStr, errors: &mut Errors) {
    let text = kind.value();
    if text.is_empty() {
        errors.on(kind, "a kind cannot be empty; write it like `acme.Notify`");
    } else if let Some(bad) = text.chars().find(|letter| {
        matches!(letter, '/' | '@' | ':') || letter.is_whitespace() || letter.is_control()
    }) {
        errors.on(
            kind,
            format!("a kind cannot contain `{}`: it stands before `/` in addresses; write it like `acme.Notify`", bad.escape_debug()),
        );
    }
}

fn check_generics(component: &Component<'_>, errors: &mut Errors) {
    for lifetime in component.generics.lifetimes() {
        errors.on(
            lifetime,
            "a component owns its fields, as jobs run on copies of it elsewhere; write `String` for `&'a str`, `Arc<T>` for `&'a T`",
        );
    }
    if !component.is_generic() {
        return;
    }
    let options = component.options;
    if let Some(kind) = &options.kind {
        errors.on(kind, "each use of a generic component has a kind of its own: `superduper::register!(Type<f32> as \"acme.TypeF32\");`");
    }
    let missing: Vec<&str> = [("lifecycle", options.lifecycle), ("triggers", options.triggers)]
        .into_iter()
        .filter(|(_, said)| said.is_none())
        .map(|(name, _)| name)
        .collect();
    if !missing.is_empty() {
        let needed: Vec<String> = missing.iter().map(|name| format!("{name} = yes|no")).collect();
        errors.on(
            component.ident,
            format!(
                "a generic component says whether it has an `impl Lifecycle` and a `#[triggers]` block, because one with further bounds \
                 would be lost silently; add `#[component({})]`",
                needed.join(", ")
            ),
        );
    }
}

/// Check a field of a component, or of settings.
pub(super) fn check_field(field: &Field, errors: &mut Errors) {
    for name in &field.serde.refused {
        errors.at(
            name.span(),
            format!(
                "`#[serde({name})]` would lose the field between apply and load; use `#[component(skip)]` for a field that is not stored"
            ),
        );
    }
    if let Some(span) = field.serde.split_rename {
        errors.at(span, "a field is read by the name it is written with; give one name for both, or add `alias`");
    }
    check_default(field, errors);
    let Some(breaking) = field.breaking else { return };
    if field.flatten.is_some() {
        errors.at(
            breaking,
            "which of the flattened settings are `breaking` is said at their own fields",
        );
    } else if field.serde.flatten.is_some() {
        errors.at(
            breaking,
            "a flattened field has no place of its own in the document, so it cannot be `breaking`; make it a plain field, or mark others",
        );
    } else if field.skip.is_some() {
        errors.at(
            breaking,
            "a field that is not stored cannot be `breaking`: nothing is there to compare",
        );
    } else if matches!(field.role, Role::Runtime | Role::Output) {
        let what = if field.role == Role::Runtime {
            "`Runtime` state is never stored"
        } else {
            "an `Output` is no part of what is declared"
        };
        errors.at(breaking, format!("{what}, so it cannot be `breaking`"));
    }
}

/// A text where no text can be; all other values are the compiler's to check.
fn check_default(field: &Field, errors: &mut Errors) {
    let Some(DefaultValue::Text(text)) = &field.default else { return };
    if is_primitive(&field.ty) {
        let call = match text.parse::<Path>() {
            Ok(_) => text.value(),
            Err(_) => "some_function".to_owned(),
        };
        errors.on(
            text,
            format!(
                "a text is no `{}`; a function that makes the value is called, as in `default = {call}()`",
                plain_text(&field.ty)
            ),
        );
    }
}

/// Fields whose settings stand among those of the component.
fn check_flattened(component: &Component<'_>, errors: &mut Errors) {
    let mut types: Vec<String> = Vec::new();
    for field in &component.fields {
        let Some(span) = field.flatten else { continue };
        if field.role != Role::Plain {
            errors.on(&field.ty, "a flattened field is a struct with `#[derive(Settings)]` itself");
        } else if field.skip.is_some() || field.default.is_some() || field.identifier.is_some() {
            errors.at(
                span,
                "a flattened field has no other options; give them to the fields of its settings",
            );
        } else if let Some(attr) = field.serde.attrs.first() {
            errors.on(attr, "a flattened field has no name and form of its own; give options of serde to the fields of its settings");
        }
        let ty = plain_text(&field.ty);
        if types.contains(&ty) {
            errors.on(&field.ty, format!("there is already a field with the settings of `{ty}`"));
        }
        types.push(ty);
        if component.serde.default.is_some() {
            errors.at(span, "the defaults of a component with flattened settings are those of its fields; use `#[component(default = …)]` on them instead of `#[serde(default)]` on the struct");
        }
        if let Some(other) = component.fields.iter().find_map(|other| other.serde.flatten) {
            errors.at(other, "a component with flattened settings cannot collect further keys: they could be those of the settings");
        }
    }
}

pub(super) fn check_setters(fields: &[Field], errors: &mut Errors) {
    let has_build = fields.iter().any(|field| field.name == "build");
    if let Some(other) =
        fields.iter().find(|field| field.name == "with_build").filter(|_| has_build)
    {
        errors.on(&other.ident, "the setter of the field `build` is called `with_build`; give one of the two fields another name");
    }
}

fn find_identifier<'a>(component: &'a Component<'_>, errors: &mut Errors) -> Option<&'a Field> {
    let mut marked = component.fields.iter().filter(|field| field.identifier.is_some());
    let first = marked.next();
    for further in marked {
        errors.at(further.identifier?, "a component has one identifier");
    }
    let found = first.or_else(|| component.fields.iter().find(|field| field.name == "identifier"));
    let Some(field) = found else {
        errors.on(
            component.ident,
            "a component has a field `identifier: String`, its name within its kind; add one, or mark another with `#[component(identifier)]`",
        );
        return None;
    };
    if let Some(span) = field.skip {
        errors.at(span, "the identifier is always stored");
    }
    if field.role != Role::Plain || is_primitive(&field.ty) {
        errors.on(&field.ty, "the identifier is a `String`");
    }
    if field.default.is_some() {
        errors.on(&field.ident, "the identifier has no default: it names the component");
    }
    Some(field)
}

/// Whether a setter takes exactly this type, so that literals take its type too.
pub(super) fn is_primitive(ty: &Type) -> bool {
    const NAMES: [&str; 16] = [
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16",
        "u32", "u64", "u128", "usize",
    ];
    matches!(ty, Type::Path(path) if NAMES.iter().any(|name| path.path.is_ident(name)))
}
