//! Reading an `impl` block: its `#[trigger]` methods, with the places where they say what they say.
//!
//! Invariant: the attributes read here are taken away; everything else of the block stays as it is.

use super::duration;
use crate::shared::{
    Errors, OptionList, default_root, last_segment, name_of, one_or_many, path, suggestion, text,
    whole_number,
};
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, LitStr, Pat, Path, ReturnType, Token,
    Type, parse::ParseStream, spanned::Spanned,
};

/// The events that run triggers.
pub(super) const EVENTS: [&str; 2] = ["apply", "call"];

/// A method that runs as a job.
pub(super) struct Trigger {
    pub(super) ident: Ident,
    pub(super) name: String,
    /// Its place in the block.
    pub(super) index: usize,
    pub(super) event: Option<LitStr>,
    pub(super) depends_on: Vec<LitStr>,
    pub(super) requires: Vec<LitStr>,
    pub(super) watch: Vec<LitStr>,
    pub(super) retries: u32,
    pub(super) backoff_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) executor: Option<LitStr>,
    pub(super) policy: Option<LitStr>,
    pub(super) parameters: Vec<Parameter>,
    /// The fields that the body names in `.set(&self.field, …)`.
    pub(super) sets: Vec<String>,
    pub(super) is_async: bool,
    pub(super) output: Option<Type>,
    pub(super) cfg: Vec<Attribute>,
}

/// What a method takes beside `&self`.
pub(super) enum Parameter {
    Context,
    Result(Box<ResultParameter>),
}

/// A parameter that takes the result of the trigger it is named after.
pub(super) struct ResultParameter {
    pub(super) ident: Ident,
    /// The trigger, once `valid` has found it.
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) optional: bool,
}

impl Trigger {
    /// The parameters that take results.
    pub(super) fn results(&self) -> impl Iterator<Item = &ResultParameter> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Result(result) => Some(&**result),
            Parameter::Context => None,
        })
    }

    /// All triggers waited for, each with the place that says so.
    pub(super) fn waits_for(&self) -> impl Iterator<Item = (String, Span)> + '_ {
        let listed = self.depends_on.iter().map(|name| (name.value(), name.span()));
        listed.chain(self.results().map(|result| (result.name.clone(), result.ident.span())))
    }
}

const TRIGGER: OptionList = OptionList {
    known: &[
        "depends_on",
        "requires",
        "watch",
        "retries",
        "backoff",
        "timeout",
        "executor",
        "policy",
    ],
    repeatable: &[],
    aliases: &[("depends", "depends_on")],
};
const BLOCK: OptionList = OptionList { known: &["crate"], repeatable: &[], aliases: &[] };

/// Read the arguments of `#[triggers(…)]`: none, or where superduper is.
pub(super) fn read_root(input: ParseStream<'_>) -> syn::Result<Option<Path>> {
    let mut errors = Errors::default();
    let mut root = None;
    BLOCK.read(input, &mut errors, |_, ident, value| {
        root = Some(path(ident, value, "crate = \"::superduper\"")?);
        Ok(())
    })?;
    errors.into_result().map(|()| root)
}

/// The path of the crate that generated code refers to.
pub(super) fn root_or_default(root: Option<Path>) -> Path {
    root.unwrap_or_else(default_root)
}

/// Read the methods and take their `#[trigger]` attributes away.
pub(super) fn read(block: &mut ItemImpl, errors: &mut Errors) -> Vec<Trigger> {
    let mut triggers = Vec::new();
    for (index, item) in block.items.iter_mut().enumerate() {
        match item {
            ImplItem::Fn(method) => {
                let attrs = take_attrs(&mut method.attrs, errors);
                let mut attrs = attrs.into_iter();
                if let Some(attr) = attrs.next() {
                    triggers.push(read_trigger(&attr, method, index, errors));
                }
                for further in attrs {
                    errors.on(&further, "a method is one trigger; give it one `#[trigger(…)]`");
                }
            }
            ImplItem::Const(item) => refuse(&mut item.attrs, errors),
            ImplItem::Type(item) => refuse(&mut item.attrs, errors),
            _ => {}
        }
    }
    triggers
}

fn take_attrs(attrs: &mut Vec<Attribute>, errors: &mut Errors) -> Vec<Attribute> {
    let is_trigger = |attr: &Attribute| {
        attr.path().segments.last().is_some_and(|segment| segment.ident == "trigger")
    };
    let (taken, mut kept): (Vec<_>, Vec<_>) =
        std::mem::take(attrs).into_iter().partition(is_trigger);
    kept.retain(|attr| {
        let hidden = attr.path().is_ident("cfg_attr") && mentions_trigger(attr.to_token_stream());
        if hidden {
            errors.on(attr, "a `#[trigger]` inside of `cfg_attr` is not seen by `#[triggers]`; put `#[cfg(…)]` on the method instead");
        }
        !hidden
    });
    *attrs = kept;
    taken
}

fn mentions_trigger(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "trigger",
        TokenTree::Group(group) => mentions_trigger(group.stream()),
        _ => false,
    })
}

fn refuse(attrs: &mut Vec<Attribute>, errors: &mut Errors) {
    for attr in take_attrs(attrs, errors) {
        errors.on(&attr, "a trigger is a method");
    }
}

fn read_trigger(
    attr: &Attribute,
    method: &ImplItemFn,
    index: usize,
    errors: &mut Errors,
) -> Trigger {
    let mut trigger = Trigger {
        ident: method.sig.ident.clone(),
        name: name_of(&method.sig.ident),
        index,
        event: None,
        depends_on: Vec::new(),
        requires: Vec::new(),
        watch: Vec::new(),
        retries: 0,
        backoff_ms: None,
        timeout_ms: None,
        executor: None,
        policy: None,
        parameters: Vec::new(),
        sets: outputs_set(method.block.to_token_stream()),
        is_async: method.sig.asyncness.is_some(),
        output: match &method.sig.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => Some((**ty).clone()),
        },
        cfg: method.attrs.iter().filter(|attr| attr.path().is_ident("cfg")).cloned().collect(),
    };
    let list = match attr.meta.require_list() {
        Ok(list) => list.parse_args_with(|input: ParseStream<'_>| {
            read_attr(&mut trigger, list.delimiter.span().join(), input, errors)
        }),
        Err(_) => {
            Err(syn::Error::new_spanned(attr, "a trigger names its event: `#[trigger(\"apply\")]`"))
        }
    };
    errors.keep(list);
    for argument in &method.sig.inputs {
        if let FnArg::Typed(argument) = argument {
            trigger.parameters.extend(read_parameter(argument, errors));
        }
    }
    trigger
}

/// The fields in `.set(&self.field, …)`, anywhere in a method's body.
fn outputs_set(body: TokenStream) -> Vec<String> {
    fn walk(tokens: TokenStream, found: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let TokenTree::Group(group) = token else { continue };
            let is_call = index >= 2
                && is_punct(&tokens[index - 2], '.')
                && is_ident(&tokens[index - 1], "set");
            let arguments: Vec<TokenTree> = group.stream().into_iter().take(4).collect();
            if is_call
                && let [and, this, dot, TokenTree::Ident(field)] = &arguments[..]
                && is_punct(and, '&')
                && is_ident(this, "self")
                && is_punct(dot, '.')
            {
                found.push(name_of(field));
            }
            walk(group.stream(), found);
        }
    }
    let mut found = Vec::new();
    walk(body, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_ident(token: &TokenTree, wanted: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == wanted)
}

fn read_attr(
    trigger: &mut Trigger,
    whole: Span,
    input: ParseStream<'_>,
    errors: &mut Errors,
) -> syn::Result<()> {
    read_event(trigger, whole, input, errors)?;
    TRIGGER.read(input, errors, |name, ident, value| read_option(trigger, name, ident, value))
}

/// Read the event, which comes first, and the comma after it.
fn read_event(
    trigger: &mut Trigger,
    whole: Span,
    input: ParseStream<'_>,
    errors: &mut Errors,
) -> syn::Result<()> {
    match input.parse::<LitStr>() {
        Ok(event) if EVENTS.contains(&event.value().as_str()) => trigger.event = Some(event),
        Ok(event) => {
            errors.on(
                &event,
                format!(
                    "unknown event `{}`{}",
                    event.value(),
                    suggestion(&event.value(), &EVENTS, "events")
                ),
            );
        }
        Err(error) => {
            let span = if input.is_empty() { whole } else { error.span() };
            errors.at(span, "the event comes first, as in `#[trigger(\"apply\")]`");
        }
    }
    if !input.is_empty() && trigger.event.is_some() {
        input
            .parse::<Token![,]>()
            .map_err(|error| syn::Error::new(error.span(), "expected `,`"))?;
    } else if input.peek(Token![,]) {
        input.parse::<Token![,]>()?;
    }
    Ok(())
}

fn read_option(
    trigger: &mut Trigger,
    name: &str,
    ident: &Ident,
    value: ParseStream<'_>,
) -> syn::Result<()> {
    match name {
        "depends_on" => trigger.depends_on = one_or_many(ident, value, "depends_on = \"start\"")?,
        "requires" => trigger.requires = one_or_many(ident, value, "requires = \"field\"")?,
        "watch" => trigger.watch = one_or_many(ident, value, "watch = \"field\"")?,
        "retries" => trigger.retries = whole_number(ident, value, "retries = 3")?,
        "backoff" => {
            trigger.backoff_ms = Some(duration::read(&text(ident, value, "backoff = \"1s\"")?)?)
        }
        "timeout" => {
            let literal = text(ident, value, "timeout = \"10m\"")?;
            let timeout = duration::read(&literal)?;
            if timeout == 0 {
                return Err(syn::Error::new_spanned(
                    literal,
                    "a time limit of zero ends every attempt; leave `timeout` out for none",
                ));
            }
            trigger.timeout_ms = Some(timeout);
        }
        "policy" => trigger.policy = Some(text(ident, value, "policy = \"method\"")?),
        _ => {
            let literal = text(ident, value, "executor = \"process\"")?;
            if literal.value().is_empty() {
                return Err(syn::Error::new_spanned(literal, "the name of an executor is empty"));
            }
            trigger.executor = Some(literal);
        }
    }
    Ok(())
}

fn read_parameter(argument: &syn::PatType, errors: &mut Errors) -> Option<Parameter> {
    let is_context =
        |ty: &Type| last_segment(ty).is_some_and(|segment| segment.ident == "JobContext");
    if let Type::Reference(reference) = &*argument.ty
        && is_context(&reference.elem)
    {
        if reference.mutability.is_some() {
            errors.on(&argument.ty, "the context is shared: write `ctx: &JobContext`");
        }
        return Some(Parameter::Context);
    }
    if is_context(&argument.ty) {
        errors.on(&argument.ty, "the context is lent to a trigger: write `ctx: &JobContext`");
        return Some(Parameter::Context);
    }
    if is_database(&argument.ty) {
        errors.on(&argument.ty, "a trigger has the database from its context: take `ctx: &JobContext` and call `ctx.db()?`");
        return None;
    }
    let Pat::Ident(pattern) = &*argument.pat else {
        errors.on(&argument.pat, "a parameter is named after the trigger whose result it takes");
        return None;
    };
    let optional = last_segment(&argument.ty).is_some_and(|segment| segment.ident == "Option");
    Some(Parameter::Result(Box::new(ResultParameter {
        ident: pattern.ident.clone(),
        name: name_of(&pattern.ident),
        ty: (*argument.ty).clone(),
        optional,
    })))
}

/// Whether a parameter is a `Db`, its own or lent.
fn is_database(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => is_database(&reference.elem),
        other => last_segment(other).is_some_and(|segment| segment.ident == "Db"),
    }
}

/// The place of a method's return type, or of its name where it returns nothing.
pub(super) fn output_span(trigger: &Trigger) -> Span {
    trigger.output.as_ref().map_or_else(|| trigger.ident.span(), Spanned::span)
}
