//! Every rule for triggers that can be checked on their tokens, and every message.

use super::{
    ast::{Parameter, Trigger},
    cycle,
};
use crate::shared::{Errors, last_segment, mentions_impl_trait, name_of, plain_text, suggestion};
use proc_macro2::Span;
use syn::{
    FnArg, Ident, ImplItem, ItemImpl, LitStr, ReceiverKind, ReturnType, Safety, Signature, Type,
};

/// Whether the block can carry the table of triggers.
pub(super) fn can_have_table(block: &ItemImpl) -> bool {
    block.trait_.is_none() && block.generics.lifetimes().next().is_none()
}

/// Check all rules; gives parameters the names of their triggers.
pub(super) fn check(block: &mut ItemImpl, triggers: &mut [Trigger], errors: &mut Errors) {
    if let Some((path, _)) = &block.trait_ {
        errors.on(path, "`#[triggers]` stands on an inherent block, `impl Type { … }`, not on the implementation of a trait");
    }
    for lifetime in block.generics.lifetimes() {
        errors.on(lifetime, "a component has no lifetimes, so its triggers have none");
    }
    for trigger in triggers.iter() {
        if let ImplItem::Fn(method) = &block.items[trigger.index] {
            check_signature(&method.sig, trigger, errors);
        }
        check_fields(trigger, errors);
    }
    check_duplicates(block, triggers, errors);
    let names: Vec<String> = triggers.iter().map(|trigger| trigger.name.clone()).collect();
    for trigger in triggers.iter_mut() {
        check_result_parameters(trigger, &names, errors);
    }
    for trigger in triggers.iter() {
        check_dependencies(trigger, triggers, errors);
    }
    cycle::check(triggers, errors);
}

fn check_signature(signature: &Signature, trigger: &Trigger, errors: &mut Errors) {
    let receiver = "a trigger takes `&self`";
    match signature.inputs.first() {
        Some(FnArg::Receiver(argument)) => match &argument.kind {
            ReceiverKind::Reference(_, None, None) => {}
            ReceiverKind::Reference(_, _, Some(_)) => errors.on(
                argument,
                format!("{receiver}: the jobs of a run share the component; keep what changes in an `Output`, a `Runtime` or a mutex, or return it"),
            ),
            ReceiverKind::Reference(_, Some(lifetime), None) => errors.on(lifetime, format!("{receiver}, without a lifetime")),
            ReceiverKind::Value => errors.on(argument, format!("{receiver}: the component outlives the job")),
            _ => errors.on(argument, receiver),
        },
        Some(other) => errors.on(other, format!("{receiver} first")),
        None => errors.on(&signature.ident, receiver),
    }
    if !signature.generics.params.is_empty() {
        errors.on(
            &signature.generics.params,
            "a trigger has no generic parameters: nobody could choose them when it runs as a job",
        );
    }
    if let Safety::Unsafe(token) = &signature.safety {
        errors.on(token, "a trigger is a safe function");
    }
    if let Some(abi) = &signature.abi {
        errors.on(abi, "a trigger is a plain method");
    }
    if let Some(output) = trigger.output.as_ref().filter(|output| mentions_impl_trait(output)) {
        errors.on(output, "name the type that a trigger returns: its result is stored, and typed on the way to other triggers");
    }
}

fn check_fields(trigger: &Trigger, errors: &mut Errors) {
    let any = trigger.watch.iter().find(|name| name.value() == "*");
    if let Some(any) = any.filter(|_| trigger.watch.len() > 1) {
        errors.on(any, "`*` is any field, so it stands alone: `watch = \"*\"`");
    }
    for name in
        trigger.requires.iter().chain(trigger.watch.iter().filter(|name| name.value() != "*"))
    {
        if field_path(name).is_none() {
            errors
                .on(name, format!("`{}` is not the name of a field", name.value().escape_debug()));
        }
    }
    for list in [&trigger.requires, &trigger.watch, &trigger.depends_on] {
        for (index, name) in list.iter().enumerate() {
            if list[..index].iter().any(|other| other.value() == name.value()) {
                errors.on(name, format!("`{}` is listed twice", name.value()));
            }
        }
    }
}

/// The field that a text names, with the one that holds it where it is one of flattened settings:
/// `data`, `fit.data`.
pub(super) fn field_path(name: &LitStr) -> Option<Vec<Ident>> {
    let text = name.value();
    let names: Vec<&str> = text.split('.').collect();
    if names.len() > 2 {
        return None;
    }
    names.into_iter().map(|part| field_ident(&LitStr::new(part, name.span()))).collect()
}

/// The field or method that a text names.
pub(super) fn field_ident(name: &LitStr) -> Option<Ident> {
    let text = name.value();
    let mut ident = syn::parse_str::<Ident>(&text)
        .or_else(|_| syn::parse_str::<Ident>(&format!("r#{text}")))
        .ok()?;
    // With the place of the text and the context of generated code: the compiler suggests no text
    // in place of it, which would be written without the quotes.
    ident.set_span(Span::call_site().located_at(name.span()));
    Some(ident)
}

/// What to say where the type has no method of the name of a policy; nothing where this block has
/// it.
pub(super) fn unknown_policy(name: &LitStr, block: &ItemImpl) -> Option<String> {
    let name = name_of(&field_ident(name)?);
    let methods = || {
        block.items.iter().filter_map(|item| match item {
            ImplItem::Fn(method) => Some((name_of(&method.sig.ident), &method.sig.output)),
            _ => None,
        })
    };
    if methods().any(|(other, _)| other == name) {
        return None;
    }
    let is_policy = |output: &ReturnType| match output {
        ReturnType::Type(_, ty) => {
            last_segment(ty).is_some_and(|segment| segment.ident == "JobPolicy")
        }
        ReturnType::Default => false,
    };
    let policies: Vec<String> =
        methods().filter(|(_, output)| is_policy(output)).map(|(other, _)| other).collect();
    let known: Vec<&str> = policies.iter().map(String::as_str).collect();
    let hint = match known[..] {
        [] => format!("; write `fn {name}(&self) -> JobPolicy`"),
        _ => suggestion(&name, &known, "policies of this block"),
    };
    Some(format!(
        "`{}` has no method `{name}` that gives a policy{hint}",
        plain_text(&block.self_ty)
    ))
}

/// The second method of one name would be an error of the compiler too, so it leaves the block.
fn check_duplicates(block: &mut ItemImpl, triggers: &[Trigger], errors: &mut Errors) {
    let mut doubled = Vec::new();
    for (index, trigger) in triggers.iter().enumerate() {
        let earlier = triggers[..index].iter().find(|other| other.name == trigger.name);
        if earlier.is_some_and(|earlier| earlier.cfg.is_empty() || trigger.cfg.is_empty()) {
            errors.on(
                &trigger.ident,
                format!("there is already a trigger `{}` in this block", trigger.name),
            );
            doubled.push(trigger.index);
        }
    }
    for index in doubled.into_iter().rev() {
        block.items.remove(index);
    }
}

fn check_result_parameters(trigger: &mut Trigger, names: &[String], errors: &mut Errors) {
    let others: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| *name != trigger.name).collect();
    let own = trigger.name.clone();
    for parameter in &mut trigger.parameters {
        let Parameter::Result(result) = parameter else { continue };
        // `_start` takes the result of `start` without a warning when it is unused.
        if let Some(name) = result
            .name
            .strip_prefix('_')
            .filter(|name| !names.contains(&result.name) && names.iter().any(|known| known == name))
        {
            result.name = name.to_owned();
        }
        if result.name == own {
            errors.on(&result.ident, format!("`{own}` cannot take its own result"));
        } else if !names.contains(&result.name) {
            errors.on(
                &result.ident,
                format!(
                    "parameter `{0}` is named after no trigger of this block, so it has no value (a field is `self.{0}`){1}",
                    result.name,
                    suggestion(&result.name, &others, "other triggers")
                ),
            );
        } else if matches!(result.ty, Type::Reference(_)) {
            errors.on(&result.ty, "a parameter owns the result it takes; write `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`");
        } else if mentions_impl_trait(&result.ty) {
            errors.on(&result.ty, "name the type of the result that this parameter takes");
        }
    }
}

fn check_dependencies(trigger: &Trigger, triggers: &[Trigger], errors: &mut Errors) {
    let others: Vec<&str> = triggers
        .iter()
        .map(|other| other.name.as_str())
        .filter(|name| *name != trigger.name)
        .collect();
    for name in &trigger.depends_on {
        if name.value() == trigger.name {
            errors.on(name, format!("`{}` depends on itself", trigger.name));
        } else if !others.contains(&name.value().as_str()) {
            let hint = suggestion(&name.value(), &others, "other triggers");
            errors.on(name, format!("there is no trigger `{}` in this block{hint}", name.value()));
        }
    }
    for (name, span) in trigger.waits_for() {
        let Some(other) = triggers.iter().find(|other| other.name == name) else { continue };
        let (Some(event), Some(other_event)) = (&trigger.event, &other.event) else { continue };
        if event.value() != other_event.value() {
            errors.at(
                span,
                format!(
                    "`{}` runs on \"{}\" but waits for `{name}`, which runs on \"{}\"; a trigger waits only for triggers of its own event",
                    trigger.name,
                    event.value(),
                    other_event.value()
                ),
            );
        }
    }
}
