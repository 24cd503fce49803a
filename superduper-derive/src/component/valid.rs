//! Every rule for a component that can be checked on its tokens, and every message.

use super::ast::{Component, Field, Role};
use crate::shared::Errors;
use syn::{LitStr, Type};

/// Check all rules; gives the field that is the identifier.
pub(super) fn check<'a>(component: &'a Component<'_>, errors: &mut Errors) -> Option<&'a Field> {
    check_struct(component, errors);
    check_generics(component, errors);
    for field in &component.fields {
        check_field(field, errors);
    }
    check_setters(&component.fields, errors);
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
    for name in &component.serde.refused {
        let why = match name.to_string().as_str() {
            "crate" => "a component brings its own serde; use `#[component(crate = \"…\")]` to name superduper",
            "remote" => "a component cannot stand for another type",
            _ => "the document of a component is an object of its fields; put this on a plain struct in a field of it",
        };
        errors.at(name.span(), format!("`#[serde({name})]` is not possible here: {why}"));
    }
    if let Some(span) = component.serde.split_rename {
        errors.at(span, "a component is read by the names it is written with; give one rule for both");
    }
}

fn check_kind(kind: &LitStr, errors: &mut Errors) {
    let text = kind.value();
    if text.is_empty() {
        errors.on(kind, "a kind cannot be empty; write it like `acme.Notify`");
    } else if let Some(bad) = text.chars().find(|letter| matches!(letter, '/' | '@' | ':') || letter.is_whitespace() || letter.is_control())
    {
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

fn check_field(field: &Field, errors: &mut Errors) {
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
    let Some(breaking) = field.breaking else { return };
    if field.serde.flatten.is_some() {
        errors.at(
            breaking,
            "a flattened field has no place of its own in the document, so it cannot be `breaking`; make it a plain field, or mark others",
        );
    } else if field.skip.is_some() {
        errors.at(breaking, "a field that is not stored cannot be `breaking`: nothing is there to compare");
    } else if matches!(field.role, Role::Runtime | Role::Output) {
        let what =
            if field.role == Role::Runtime { "`Runtime` state is never stored" } else { "an `Output` is no part of what is declared" };
        errors.at(breaking, format!("{what}, so it cannot be `breaking`"));
    }
}

fn check_setters(fields: &[Field], errors: &mut Errors) {
    let has_build = fields.iter().any(|field| field.name == "build");
    if let Some(other) = fields.iter().find(|field| field.name == "with_build").filter(|_| has_build) {
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
    const NAMES: [&str; 16] =
        ["bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize"];
    matches!(ty, Type::Path(path) if NAMES.iter().any(|name| path.path.is_ident(name)))
}
