//! Reading a struct: what its attributes and fields say, with the places where they say it.
//!
//! Invariant: this file reports only what cannot be read; rules about what is read are in `valid`.

use super::{rename::RenameRule, schema};
use crate::shared::{
    Errors, OptionList, default_root, last_segment, name_of, path, text, whole_number, yes_or_no,
};
use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, Data, DataStruct, DeriveInput, Expr, ExprLit, Fields, Generics, Ident, Lit, LitStr,
    Path, Token, Type, Visibility, meta::ParseNestedMeta, token,
};

/// What `#[component(…)]` on the struct says.
pub(super) struct Options {
    pub(super) root: Path,
    pub(super) kind: Option<LitStr>,
    pub(super) version: Option<(u32, Span)>,
    pub(super) migrate: bool,
    pub(super) aliases: Vec<LitStr>,
    pub(super) lifecycle: Option<(bool, Span)>,
    pub(super) triggers: Option<(bool, Span)>,
    /// Whether the type registers itself at link time.
    pub(super) register: bool,
    /// Whether its source is captured.
    pub(super) source: bool,
}

/// A struct to be made a component.
pub(super) struct Component<'a> {
    pub(super) input: &'a DeriveInput,
    pub(super) options: &'a Options,
    pub(super) ident: &'a Ident,
    pub(super) vis: &'a Visibility,
    pub(super) generics: &'a Generics,
    /// The doc comment, by lines.
    pub(super) docs: Vec<Expr>,
    pub(super) serde: SerdeOptions,
    pub(super) fields: Vec<Field>,
}

/// One field of it.
pub(super) struct Field {
    pub(super) ident: Ident,
    pub(super) name: String,
    pub(super) ty: Type,
    /// The doc comment, by lines.
    pub(super) docs: Vec<Expr>,
    pub(super) role: Role,
    pub(super) breaking: Option<Span>,
    pub(super) skip: Option<Span>,
    pub(super) default: Option<DefaultValue>,
    pub(super) identifier: Option<Span>,
    /// The settings in the field stand in the document in its place.
    pub(super) flatten: Option<Span>,
    pub(super) serde: SerdeOptions,
}

/// What the type of a field says about its part in the component.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    Optional,
    Runtime,
    Output,
}

/// Where a value that is not given comes from.
#[derive(Clone)]
pub(super) enum DefaultValue {
    Trait,
    Function(Path),
    /// `default = 30`, and each other expression.
    Value(Box<Expr>),
    /// `default = "text"`.
    Text(LitStr),
}

/// What the `#[serde(…)]` attributes of a struct or field say, as far as it matters here.
#[derive(Default)]
pub(super) struct SerdeOptions {
    pub(super) attrs: Vec<Attribute>,
    pub(super) rename: Option<LitStr>,
    /// Names for writing and reading that differ.
    pub(super) split_rename: Option<Span>,
    pub(super) rename_all: RenameRule,
    pub(super) default: Option<DefaultValue>,
    pub(super) default_at: Option<Span>,
    pub(super) flatten: Option<Span>,
    pub(super) skip: Option<Span>,
    /// Further names that a field is read by.
    pub(super) aliases: Vec<LitStr>,
    /// Whether functions of the user's own write and read the field.
    pub(super) custom: bool,
    /// The function of the user's own that reads the field.
    pub(super) reader: Option<Path>,
    /// Options that a component cannot have, by name.
    pub(super) refused: Vec<Ident>,
}

impl Field {
    /// Whether the field has a value in the document.
    pub(super) fn is_stored(&self) -> bool {
        self.skip.is_none() && matches!(self.role, Role::Plain | Role::Optional)
    }

    /// Whether the field has a place of its own in the document.
    pub(super) fn is_plainly_stored(&self) -> bool {
        self.is_stored() && self.flatten.is_none()
    }

    /// The name in the document.
    pub(super) fn key(&self, rule: RenameRule) -> String {
        match &self.serde.rename {
            Some(name) => name.value(),
            None => rule.apply(&self.name),
        }
    }
}

impl Component<'_> {
    /// Whether each use of the type is a type of its own.
    pub(super) fn is_generic(&self) -> bool {
        self.generics.type_params().next().is_some()
            || self.generics.const_params().next().is_some()
    }
}

const STRUCT: OptionList = OptionList {
    known: &[
        "kind",
        "version",
        "migrate",
        "alias",
        "lifecycle",
        "triggers",
        "register",
        "source",
        "crate",
    ],
    repeatable: &["alias"],
    aliases: &[],
};
const FIELD: OptionList = OptionList {
    known: &["breaking", "skip", "default", "identifier", "flatten"],
    repeatable: &[],
    aliases: &[],
};
/// The options of a field of settings.
pub(super) const SETTING: OptionList =
    OptionList { known: &["breaking", "skip", "default"], repeatable: &[], aliases: &[] };

/// Read `#[component(…)]` on the struct.
pub(super) fn read_options(input: &DeriveInput, errors: &mut Errors) -> Options {
    let mut options = Options {
        root: default_root(),
        kind: None,
        version: None,
        migrate: false,
        aliases: Vec::new(),
        lifecycle: None,
        triggers: None,
        register: true,
        source: false,
    };
    for attr in input.attrs.iter().filter(|attr| attr.path().is_ident("component")) {
        let read = attr.parse_args_with(|list: syn::parse::ParseStream<'_>| {
            STRUCT.read(list, errors, |name, ident, value| {
                match name {
                    "kind" => options.kind = Some(text(ident, value, "kind = \"acme.Notify\"")?),
                    "version" => {
                        let span = ident.span();
                        options.version = Some((whole_number(ident, value, "version = 2")?, span));
                    }
                    "migrate" => options.migrate = true,
                    "alias" => options.aliases.push(text(ident, value, "alias = \"OldName\"")?),
                    "lifecycle" => {
                        options.lifecycle = Some((yes_or_no(ident, value)?, ident.span()))
                    }
                    "triggers" => options.triggers = Some((yes_or_no(ident, value)?, ident.span())),
                    "source" => options.source = true,
                    "register" => options.register = yes_or_no(ident, value)?,
                    _ => options.root = path(ident, value, "crate = \"::superduper\"")?,
                }
                Ok(())
            })
        });
        errors.keep(read);
    }
    options
}

/// Read the struct and its fields.
pub(super) fn read<'a>(
    input: &'a DeriveInput,
    options: &'a Options,
    errors: &mut Errors,
) -> Option<Component<'a>> {
    let fields = match &input.data {
        Data::Struct(DataStruct { fields: Fields::Named(fields), .. }) => &fields.named,
        Data::Struct(_) => {
            errors
                .on(&input.ident, "a component has named fields, one of them `identifier: String`");
            return None;
        }
        Data::Enum(data) => {
            errors.on(
                &data.enum_token,
                "a component is a struct with named fields; put the enum into a field of one",
            );
            return None;
        }
        Data::Union(data) => {
            errors.on(&data.union_token, "a component is a struct with named fields");
            return None;
        }
    };
    Some(Component {
        input,
        options,
        ident: &input.ident,
        vis: &input.vis,
        generics: &input.generics,
        docs: schema::docs(&input.attrs),
        serde: read_serde(&input.attrs, true),
        fields: fields.iter().filter_map(|field| read_field(field, &FIELD, errors)).collect(),
    })
}

/// Read a field, with the options that it may have.
pub(super) fn read_field(
    field: &syn::Field,
    options: &OptionList,
    errors: &mut Errors,
) -> Option<Field> {
    let ident = field.ident.clone()?;
    let role = match last_segment(&field.ty).map(|segment| segment.ident.to_string()).as_deref() {
        Some("Option") => Role::Optional,
        Some("Runtime") => Role::Runtime,
        Some("Output") => Role::Output,
        _ => Role::Plain,
    };
    let serde = read_serde(&field.attrs, false);
    let mut read = Field {
        name: name_of(&ident),
        ident,
        ty: field.ty.clone(),
        docs: schema::docs(&field.attrs),
        role,
        breaking: None,
        skip: serde.skip,
        default: serde.default.clone(),
        identifier: None,
        flatten: None,
        serde,
    };
    for attr in field.attrs.iter().filter(|attr| attr.path().is_ident("component")) {
        let list = attr.parse_args_with(|list: syn::parse::ParseStream<'_>| {
            options.read(list, errors, |name, ident, value| {
                match name {
                    "flatten" => read.flatten = Some(ident.span()),
                    "breaking" => read.breaking = Some(ident.span()),
                    "skip" => {
                        read.skip = Some(ident.span());
                        read.serde.attrs.push(syn::parse_quote!(#[serde(skip)]));
                    }
                    "identifier" => read.identifier = Some(ident.span()),
                    _ if value.peek(Token![=]) => read.default = Some(read_default(value)?),
                    _ => {
                        read.serde.attrs.push(syn::parse_quote!(#[serde(default)]));
                        read.default = Some(DefaultValue::Trait);
                    }
                }
                Ok(())
            })
        });
        errors.keep(list);
    }
    Some(read)
}

/// Read `= 30`, `= "text"`, `= some::function()`.
fn read_default(input: syn::parse::ParseStream<'_>) -> syn::Result<DefaultValue> {
    input.parse::<Token![=]>()?;
    let value: Expr = input
        .parse()
        .map_err(|error| syn::Error::new(error.span(), "expected a value, as in `default = 30`"))?;
    Ok(match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => DefaultValue::Text(text),
        value => DefaultValue::Value(Box::new(value)),
    })
}

/// Read the serde attributes; what is malformed in them is serde's to report.
pub(super) fn read_serde(attrs: &[Attribute], of_struct: bool) -> SerdeOptions {
    let mut options = SerdeOptions::default();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("serde")) {
        options.attrs.push(attr.clone());
        let _ = attr.parse_nested_meta(|meta| options.read(&meta, of_struct));
    }
    options
}

impl SerdeOptions {
    fn read(&mut self, meta: &ParseNestedMeta<'_>, of_struct: bool) -> syn::Result<()> {
        let Some(name) = meta.path.get_ident().cloned() else { return skip_value(meta.input) };
        match name.to_string().as_str() {
            "rename" | "rename_all" => self.read_names(&name, meta)?,
            "default" if meta.input.peek(Token![=]) => {
                self.default_at = Some(name.span());
                self.default =
                    Some(DefaultValue::Function(meta.value()?.parse::<LitStr>()?.parse()?));
            }
            "default" => {
                self.default_at = Some(name.span());
                self.default = Some(DefaultValue::Trait);
            }
            "flatten" => self.flatten = Some(name.span()),
            "skip" => self.skip = Some(name.span()),
            "remote" | "transparent" | "from" | "try_from" | "into" | "untagged" | "crate"
                if of_struct =>
            {
                self.refused.push(name);
                skip_value(meta.input)?;
            }
            "skip_serializing" | "skip_deserializing" if !of_struct => self.refused.push(name),
            "with" | "deserialize_with" if meta.input.peek(Token![=]) => {
                self.custom = true;
                let mut reader: Path = meta.value()?.parse::<LitStr>()?.parse()?;
                if name == "with" {
                    reader.segments.push(Ident::new("deserialize", name.span()).into());
                }
                self.reader = Some(reader);
            }
            "serialize_with" => {
                self.custom = true;
                skip_value(meta.input)?;
            }
            "alias" if meta.input.peek(Token![=]) => self.aliases.push(meta.value()?.parse()?),
            _ => skip_value(meta.input)?,
        }
        Ok(())
    }

    fn read_names(&mut self, name: &Ident, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let (written, read) = names_of(meta.input)?;
        if written.as_ref().map(LitStr::value) != read.as_ref().map(LitStr::value) {
            self.split_rename = Some(name.span());
        }
        if name == "rename" {
            self.rename = written;
        } else {
            self.rename_all =
                written.map(|rule| RenameRule::named(&rule.value())).unwrap_or_default();
        }
        Ok(())
    }
}

/// The names for writing and reading: of `= "x"`, or of `(serialize = "x", deserialize = "y")`.
fn names_of(input: syn::parse::ParseStream<'_>) -> syn::Result<(Option<LitStr>, Option<LitStr>)> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        let name: LitStr = input.parse()?;
        return Ok((Some(name.clone()), Some(name)));
    }
    let content;
    syn::parenthesized!(content in input);
    let (mut written, mut read) = (None, None);
    while !content.is_empty() {
        let which: Ident = content.parse()?;
        content.parse::<Token![=]>()?;
        let name = Some(content.parse()?);
        if which == "serialize" {
            written = name;
        } else {
            read = name;
        }
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok((written, read))
}

fn skip_value(input: syn::parse::ParseStream<'_>) -> syn::Result<()> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        input.parse::<Expr>()?;
    } else if input.peek(token::Paren) {
        let content;
        syn::parenthesized!(content in input);
        content.parse::<TokenStream>()?;
    }
    Ok(())
}
