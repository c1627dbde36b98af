//! What a component holds, read before anything of it is compiled: who it says it is, what its instances take, and
//! whether it keeps within bounds that no plugin meets.
//!
//! Compiling is to be afraid of: a file of 400 KB can make it take 7 GB, and another one a thousand instances of each
//! other. Reading is not: it is linear in the file, takes next to no memory, and runs nothing.

use super::limits::MAX_INSTANCES;
use std::fmt::Display;
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, ElementItems, Encoding, FunctionBody, Instance, Operator, Parser, Payload,
};

/// Components in components, and modules in these: what `wit-component` makes is 2 deep, and composing adds 1 each time.
const MAX_DEPTH: u64 = 16;
/// Modules and components in the file: one with the adapter for WASI has about 10.
const MAX_PARTS: u64 = 256;
/// Functions in all modules together: a whole Python interpreter has some 15,000.
const MAX_FUNCTIONS: u64 = 100_000;
/// Types, imports, exports, globals, segments and tables together, of each kind: a Python interpreter has some 20,000
/// exports. All of them are kept for as long as the component is, some more than once.
const MAX_ITEMS: u64 = 100_000;
/// Entries of tables that the file brings: function pointers, of which large programs have some ten thousand.
const MAX_ELEMENTS: u64 = 1 << 20;
/// The body of one function: the largest ones that compilers make, main loops of interpreters, have some 200 KB.
const MAX_BODY_BYTES: u64 = 1 << 20;
/// Locals of one function: these main loops have about a thousand.
const MAX_LOCALS: u64 = 10_000;
/// Blocks in blocks: a `switch` of so many cases is compiled to as many.
const MAX_NESTING: u64 = 10_000;
/// Locals of a function times its branches: the compiler has a table of both, 4 bytes each. A main loop of an interpreter
/// has 10 million.
const MAX_LOCALS_TIMES_BRANCHES: u64 = 64_000_000;
/// Definitions that are gone through to link the component, those of a component again for each instance of it.
const MAX_STEPS: u64 = 200_000;

/// What an instance of a module takes at the host, rounded up: itself, and for each function, global, table and memory of
/// it. A function may have an entry of 32 bytes among the imports, and another one where it is referred to.
const INSTANCE_BYTES: u64 = 4096;
const FUNCTION_BYTES: u64 = 64;
const GLOBAL_BYTES: u64 = 32;
const TABLE_BYTES: u64 = 256;
/// For each definition of a component, in an instance of it: pointers to functions and to memories.
const STEP_BYTES: u64 = 64;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The names of what it exports.
    pub(super) exports: Vec<String>,
    /// The names of what it imports.
    pub(super) imports: Vec<String>,
    /// What an instance takes at the host, besides its memories and tables.
    pub(super) instance_bytes: u64,
    /// Its data segments, of which the host keeps another copy beside the compiled code.
    pub(super) data_bytes: u64,
}

/// Why a file is not compiled.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It is no component.
    Invalid(BinaryReaderError),
    /// It has more of something than a plugin may have.
    Excess(String),
}

impl From<BinaryReaderError> for Wrong {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid(error)
    }
}

/// Reads a component.
///
/// Whether it is valid is for the compiler to say: this only counts, in a way that a valid one cannot deceive.
pub(super) fn inspect(bytes: &[u8]) -> Result<Contents, Wrong> {
    let mut reading = Reading::default();
    for payload in Parser::new(0).parse_all(bytes) {
        reading.payload(payload?)?;
    }
    let Contents { exports, imports, data_bytes, .. } = reading.found;
    Ok(Contents { exports, imports, data_bytes, instance_bytes: reading.whole.bytes })
}

/// What it costs to make an instance.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Instances of modules.
    instances: u64,
    /// Bytes at the host.
    bytes: u64,
    /// Definitions gone through.
    steps: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.steps = self.steps.saturating_add(other.steps);
    }

    fn step(&mut self, steps: u64) {
        self.add(Self { steps, bytes: steps.saturating_mul(STEP_BYTES), instances: 0 });
    }
}

/// A module or component that is being read.
struct Part {
    encoding: Encoding,
    /// What an instance of it costs, as far as it is read.
    cost: Cost,
    /// What one costs of each module, of each component, by its index.
    modules: Vec<Cost>,
    components: Vec<Cost>,
}

#[derive(Default)]
struct Reading {
    /// The parts that are not read to their end, outermost first.
    open: Vec<Part>,
    whole: Cost,
    found: Contents,
    parts: u64,
    functions: u64,
    types: u64,
    items: u64,
    elements: u64,
}

impl Reading {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), Wrong> {
        match payload {
            Payload::Version { encoding, .. } => return self.begin(encoding),
            Payload::End(_) => return self.end(),
            // In modules.
            Payload::TypeSection(types) => within("types", &mut self.types, types.count(), MAX_ITEMS)?,
            Payload::ImportSection(imports) => self.items(imports.count(), FUNCTION_BYTES)?,
            Payload::FunctionSection(functions) => {
                within("functions", &mut self.functions, functions.count(), MAX_FUNCTIONS)?;
                self.takes(functions.count(), FUNCTION_BYTES);
            }
            Payload::TableSection(tables) => self.items(tables.count(), TABLE_BYTES)?,
            Payload::MemorySection(memories) => self.items(memories.count(), TABLE_BYTES)?,
            Payload::TagSection(tags) => self.items(tags.count(), GLOBAL_BYTES)?,
            Payload::GlobalSection(globals) => self.items(globals.count(), GLOBAL_BYTES)?,
            Payload::ExportSection(exports) => self.items(exports.count(), 0)?,
            Payload::ElementSection(segments) => {
                self.items(segments.count(), 0)?;
                for segment in segments {
                    let count = match segment?.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    };
                    within("entries of tables", &mut self.elements, count, MAX_ELEMENTS)?;
                }
            }
            Payload::DataSection(data) => {
                self.items(data.count(), 0)?;
                self.found.data_bytes += data.range().len() as u64;
            }
            Payload::CodeSectionEntry(body) => function(&body)?,
            // In components.
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    match instance? {
                        Instance::Instantiate { module_index, args } => {
                            self.step(1 + args.len());
                            let module = self.module(0, module_index)?;
                            self.part()?.cost.add(module);
                        }
                        Instance::FromExports(exports) => self.step(1 + exports.len()),
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    match instance? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            self.step(1 + args.len());
                            let component = self.component(0, component_index)?;
                            self.part()?.cost.add(component);
                        }
                        ComponentInstance::FromExports(exports) => self.step(1 + exports.len()),
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    self.step(1);
                    self.alias(&alias?)?;
                }
            }
            Payload::CoreTypeSection(types) => within("types", &mut self.types, types.count(), MAX_ITEMS)?,
            Payload::ComponentTypeSection(types) => {
                within("types", &mut self.types, types.count(), MAX_ITEMS)?;
                self.step(types.count() as usize);
            }
            Payload::ComponentCanonicalSection(functions) => self.step(functions.count() as usize),
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.step(1);
                    let import = import?;
                    if matches!(import.ty, ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_)) {
                        return Err(uncounted());
                    }
                    if self.open.len() == 1 {
                        self.found.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    self.step(1);
                    let export = export?;
                    self.again(export.kind, 0, export.index)?;
                    if self.open.len() == 1 {
                        self.found.exports.push(export.name.name.to_owned());
                    }
                }
            }
            // The rest is small, read elsewhere, or refused by the compiler.
            _ => {}
        }
        self.bounded()
    }

    fn begin(&mut self, encoding: Encoding) -> Result<(), Wrong> {
        within("modules and components", &mut self.parts, 1_u32, MAX_PARTS)?;
        let depth = self.open.len() as u64 + 1;
        most("components in components", depth, MAX_DEPTH)?;
        let cost = match encoding {
            Encoding::Module => Cost { instances: 1, bytes: INSTANCE_BYTES, steps: 1 },
            Encoding::Component => Cost::default(),
        };
        self.open.push(Part { encoding, cost, modules: Vec::new(), components: Vec::new() });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Wrong> {
        let Part { encoding, cost, .. } = self.open.pop().ok_or_else(misplaced)?;
        match (self.open.last_mut(), encoding) {
            (None, _) => self.whole = cost,
            (Some(around), Encoding::Module) => around.modules.push(cost),
            (Some(around), Encoding::Component) => around.components.push(cost),
        }
        Ok(())
    }

    /// That the part that is being read can be instantiated at all.
    fn bounded(&self) -> Result<(), Wrong> {
        let Some(Part { cost, .. }) = self.open.last() else { return Ok(()) };
        most("instances of modules", cost.instances, MAX_INSTANCES as u64)?;
        most("definitions to link", cost.steps, MAX_STEPS)
    }

    fn part(&mut self) -> Result<&mut Part, Wrong> {
        self.open.last_mut().ok_or_else(misplaced)
    }

    /// The part that is `count` around the one that is being read.
    fn around(&self, count: u32) -> Option<&Part> {
        self.open.iter().rev().nth(count as usize)
    }

    fn module(&self, count: u32, index: u32) -> Result<Cost, Wrong> {
        let part = self.around(count).ok_or_else(misplaced)?;
        part.modules.get(index as usize).copied().ok_or_else(misplaced)
    }

    fn component(&self, count: u32, index: u32) -> Result<Cost, Wrong> {
        let part = self.around(count).ok_or_else(misplaced)?;
        part.components.get(index as usize).copied().ok_or_else(misplaced)
    }

    /// A module or component that was there before gets another index.
    fn again(&mut self, kind: ComponentExternalKind, count: u32, index: u32) -> Result<(), Wrong> {
        match kind {
            ComponentExternalKind::Module => {
                let module = self.module(count, index)?;
                self.part()?.modules.push(module);
            }
            ComponentExternalKind::Component => {
                let component = self.component(count, index)?;
                self.part()?.components.push(component);
            }
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), Wrong> {
        match *alias {
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => {
                self.again(ComponentExternalKind::Module, count, index)
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                self.again(ComponentExternalKind::Component, count, index)
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Module | ComponentExternalKind::Component,
                ..
            } => Err(uncounted()),
            _ => Ok(()),
        }
    }

    fn step(&mut self, steps: usize) {
        if let Some(part) = self.open.last_mut() {
            part.cost.step(steps as u64);
        }
    }

    /// Items of a module, each of which takes so many bytes in an instance.
    fn items(&mut self, count: u32, bytes: u64) -> Result<(), Wrong> {
        self.takes(count, bytes);
        within("imports, exports, globals, tables and segments", &mut self.items, count, MAX_ITEMS)
    }

    fn takes(&mut self, count: u32, bytes: u64) {
        if let Some(part) = self.open.last_mut() {
            part.cost.add(Cost { bytes: u64::from(count) * bytes, ..Cost::default() });
        }
    }
}

/// A function that can be compiled with little memory and in little time.
fn function(body: &FunctionBody<'_>) -> Result<(), Wrong> {
    most("bytes in a function", body.range().len() as u64, MAX_BODY_BYTES)?;
    let mut locals = 0;
    for group in body.get_locals_reader()? {
        locals += u64::from(group?.0);
    }
    most("locals in a function", locals, MAX_LOCALS)?;
    let (mut branches, mut depth) = (1, 0u64);
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                depth += 1;
                branches += 1;
                most("blocks in blocks", depth, MAX_NESTING)?;
            }
            Operator::End => depth = depth.saturating_sub(1),
            Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } | Operator::Return => branches += 1,
            Operator::BrTable { targets } => branches += u64::from(targets.len()) + 1,
            _ => {}
        }
    }
    most("locals times branches in a function", locals * branches, MAX_LOCALS_TIMES_BRANCHES)
}

/// Counts `more`, up to `limit`.
fn within(what: &str, sum: &mut u64, more: impl Into<u64>, limit: u64) -> Result<(), Wrong> {
    *sum = sum.saturating_add(more.into());
    most(what, *sum, limit)
}

fn most(what: impl Display, found: u64, limit: u64) -> Result<(), Wrong> {
    if found <= limit {
        return Ok(());
    }
    Err(Wrong::Excess(format!("it has {found} or more {what}, and at most {limit} are taken")))
}

fn uncounted() -> Wrong {
    Wrong::Excess("it hands modules or components around, so that what its instances take cannot be said".to_owned())
}

/// An index or a section where none can be.
fn misplaced() -> Wrong {
    Wrong::Excess("it refers to a module or component that is not there".to_owned())
}
