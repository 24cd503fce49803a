//! What a module has to have, and must not have; looked at before it is compiled.

use crate::{
    declared::{Declared, SECTION},
    limits::Limits,
};
use superduper::{Error, Result};
use wasmparser::{
    CompositeInnerType, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef, ValType,
    Validator, WasmFeatures,
};

/// What a function takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    takes: Vec<ValType>,
    gives: Vec<ValType>,
}

use ValType::{F32, I32, I64};

/// The functions that the host calls, by what the module declares.
const OF_CALLABLES: &[(&str, &[ValType], &[ValType])] =
    &[("alloc", &[I32], &[I32]), ("call", &[I32, I32], &[I64])];
const OF_MODELS: &[(&str, &[ValType], &[ValType])] = &[
    ("alloc", &[I32], &[I32]),
    ("initial", &[I64, I32], &[]),
    ("step", &[I32, I32, I32, I32, I32], &[F32]),
    ("forward", &[I32, I32, I32, I32], &[]),
];
/// A function that a model may have.
const CONFIGURE: (&str, &[ValType], &[ValType]) = ("configure", &[I32, I32], &[]);

/// The features of WebAssembly that guests may use: those of version 2, without threads.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
}

/// So many imports are named that are not there.
const MOST_FAULTS: usize = 20;

/// What was seen of a module.
#[derive(Default)]
struct Seen {
    types: Vec<Option<Signature>>,
    /// The type of each function.
    functions: Vec<u32>,
    exports: Vec<(String, u32)>,
    has_memory: bool,
    declared: Option<Result<Declared>>,
    faults: Vec<String>,
}

/// Check a module: its size, that it is valid, what it imports, exports and declares.
///
/// # Errors
/// `InvalidInput` with all that is missing or not allowed.
pub(crate) fn check(module: &[u8], limits: &Limits) -> Result<Declared> {
    if module.len() > limits.module {
        return Err(Error::invalid(format!(
            "the module has {} bytes; the limit is {}",
            module.len(),
            limits.module
        )));
    }
    let mut seen = Seen::default();
    let mut validator = Validator::new_with_features(features());
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    let invalid = |error: wasmparser::BinaryReaderError| {
        Error::invalid(format!("this is no valid WebAssembly module: {error}"))
    };
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(invalid)?;
        // First the validator: it bounds how many there are of everything.
        let valid = validator.payload(&payload).map_err(invalid)?;
        seen.look(&payload, limits).map_err(invalid)?;
        if seen.functions.len().max(seen.types.len()) > limits.functions {
            return Err(Error::invalid(format!(
                "the module has more than {} functions or types",
                limits.functions
            )));
        }
        if let wasmparser::ValidPayload::Func(function, body) = valid {
            check_nesting(&body, limits)?;
            let mut function = function.into_validator(std::mem::take(&mut allocations));
            function.validate(&body).map_err(invalid)?;
            allocations = function.into_allocations();
        }
    }
    seen.done()
}

/// Refuse a function whose blocks are nested too deep: compilers are slow at those.
fn check_nesting(body: &FunctionBody<'_>, limits: &Limits) -> Result<()> {
    let invalid = |error| Error::invalid(format!("this is no valid WebAssembly module: {error}"));
    let mut depth = 0_usize;
    let mut operators = body.get_operators_reader().map_err(invalid)?;
    while !operators.eof() {
        match operators.read().map_err(invalid)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits.nesting {
            return Err(Error::invalid(format!(
                "blocks are nested deeper than {} in a function",
                limits.nesting
            )));
        }
    }
    Ok(())
}

impl Seen {
    fn look(
        &mut self,
        payload: &Payload<'_>,
        limits: &Limits,
    ) -> std::result::Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types.clone().into_iter().take(limits.functions + 1) {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(function) => Some(Signature {
                                takes: function.params().to_vec(),
                                gives: function.results().to_vec(),
                            }),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports().take(limits.functions + 1) {
                    let import = import?;
                    self.import(import.module, import.name, &import.ty);
                }
            }
            Payload::FunctionSection(functions) => {
                // So many are not even read.
                for function in functions.clone().into_iter().take(limits.functions + 1) {
                    self.functions.push(function?);
                }
            }
            Payload::MemorySection(_) | Payload::TableSection(_) => self.sizes(payload, limits)?,
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    match export.kind {
                        ExternalKind::Memory if export.name == "memory" => self.has_memory = true,
                        ExternalKind::Func => {
                            self.exports.push((export.name.to_owned(), export.index));
                        }
                        _ => {}
                    }
                }
            }
            Payload::CustomSection(section) if section.name() == SECTION => {
                self.declared = Some(Declared::parse(section.data()));
            }
            _ => {}
        }
        Ok(())
    }

    /// What memories and tables begin with.
    fn sizes(
        &mut self,
        payload: &Payload<'_>,
        limits: &Limits,
    ) -> std::result::Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    let bytes = memory?.initial.saturating_mul(65_536);
                    if bytes > limits.memory as u64 {
                        self.faults.push(format!(
                            "the memory begins with {bytes} bytes; the limit is {}",
                            limits.memory
                        ));
                    }
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    let elements = table?.ty.initial;
                    if elements > limits.table as u64 {
                        self.faults.push(format!(
                            "a table begins with {elements} elements; the limit is {}",
                            limits.table
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An import: the seeded random numbers, and nothing else.
    fn import(&mut self, module: &str, name: &str, ty: &TypeRef) {
        if let TypeRef::Func(ty) = ty {
            let signature = self.types.get(*ty as usize).cloned().flatten();
            self.functions.push(*ty);
            let random = Signature { takes: Vec::new(), gives: vec![I64] };
            if (module, name) == ("superduper", "random") && signature == Some(random) {
                return;
            }
        }
        if self.faults.len() >= MOST_FAULTS {
            return;
        }
        self.faults.push(format!(
            "the module imports `{module}.{name}`; there is only the function `superduper.random` \
             () -> i64"
        ));
    }

    fn done(self) -> Result<Declared> {
        let mut faults = self.faults;
        if !self.has_memory {
            faults.push("the module exports no memory `memory`".to_owned());
        }
        let declared = match self.declared {
            Some(Ok(declared)) => Some(declared),
            Some(Err(error)) => {
                faults.push(error.to_string());
                None
            }
            None => {
                faults.push(format!("the module has no custom section `{SECTION}`"));
                None
            }
        };
        let is_model = declared.as_ref().is_some_and(|declared| declared.model.is_some());
        let signature_of = |name: &str| {
            let (_, index) = self.exports.iter().find(|(export, _)| export == name)?;
            let ty = self.functions.get(*index as usize)?;
            self.types.get(*ty as usize).cloned().flatten()
        };
        let wanted = if is_model { OF_MODELS } else { OF_CALLABLES };
        for (name, takes, gives) in wanted.iter().copied() {
            let signature = Signature { takes: takes.to_vec(), gives: gives.to_vec() };
            match signature_of(name) {
                Some(found) if found == signature => {}
                Some(_) => faults.push(format!("`{name}` is not {takes:?} -> {gives:?}")),
                None => {
                    faults.push(format!("the module exports no `{name}` {takes:?} -> {gives:?}"))
                }
            }
        }
        let (name, takes, gives) = CONFIGURE;
        let signature = Signature { takes: takes.to_vec(), gives: gives.to_vec() };
        if is_model && signature_of(name).is_some_and(|found| found != signature) {
            faults.push(format!("`{name}` is not {takes:?} -> {gives:?}"));
        }
        match (faults.is_empty(), declared) {
            (true, Some(declared)) => Ok(declared),
            _ => {
                Err(Error::invalid(format!("the module cannot be a guest: {}", faults.join("; ")))
                    .with_hint("`docs/sandbox.md` has the interface"))
            }
        }
    }
}
