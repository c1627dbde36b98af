//! A component that was read, compiled and checked: ready to be instantiated any number of times.

use super::aggregate::WasmAggregate;
use super::bindings::aggregate_world::AggregatePluginPre;
use super::bindings::generator_world::GeneratorPluginPre;
use super::bindings::parser_world::ParserPluginPre;
use super::bindings::wit_log;
use super::compile::compile;
use super::generator::{Generator, WasmGenerator};
use super::inspect::{Contents, Wrong, inspect};
use super::instance::Context;
use super::limits::Account;
use super::parser::WasmParser;
use super::{Description, Error, Permit, Runtime};
use crate::files;
use crate::parts::caught;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wasmill_pipeline::plugin::{Aggregate, Fault, FaultKind, Parser};
use wasmtime::component::{Component as Compiled, HasSelf, InstancePre, Linker};

/// What a plugin may import, and get. `wasi:*` it may import, but every call of it traps.
pub(super) const ALLOWED_IMPORTS: [&str; 2] = ["wasmill:plugin/log@0.1.0", "wasmill:plugin/types@0.1.0"];
/// What every interface of the contract starts with, whatever its version.
const CONTRACT: &str = "wasmill:plugin/";
/// What is denied rather than refused: standard libraries drag it in, and mostly never call it.
const DENIED: &str = "wasi:";
/// The largest file: a thousand times the size of a typical plugin.
const MAX_FILE_BYTES: u64 = 128 << 20;
/// How every WebAssembly file starts.
const WASM_MAGIC: &[u8] = b"\0asm";
/// The four bytes after the magic in a core module; a component has others.
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];

/// The worlds of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Records in, rows out.
    Parser,
    /// Rows in, groups out.
    Aggregate,
    /// Nothing in, records out.
    Generator,
}

impl World {
    /// The interface that a component of this world exports, with its version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Parser => "wasmill:plugin/parser@0.1.0",
            Self::Aggregate => "wasmill:plugin/aggregate@0.1.0",
            Self::Generator => "wasmill:plugin/generator@0.1.0",
        }
    }

    /// The same without its version, with the `@`.
    fn unversioned(self) -> &'static str {
        let interface = self.interface();
        interface.find('@').map_or(interface, |at| &interface[..=at])
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Parser => "a parser",
            Self::Aggregate => "an aggregate",
            Self::Generator => "a generator",
        })
    }
}

/// A SHA-256, of a component's file above all; shown as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The SHA-256 of these bytes, 64 hexadecimal digits: a component's name for all time.
pub fn digest(bytes: &[u8]) -> String {
    Digest::of(Sha256::new_with_prefix(bytes)).to_string()
}

/// The digest of the file at a path that a plugin may be at.
///
/// # Errors
/// When it cannot be read, or is no file or too large.
pub fn file_digest(path: &Path) -> Result<String, Error> {
    Ok(digest(&read(path)?))
}

/// A checked component. Clones share the compiled code.
#[derive(Clone)]
pub struct Component(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    name: Arc<str>,
    path: PathBuf,
    world: World,
    digest: String,
    bytes: Vec<u8>,
    imports: Vec<String>,
    stubbed_imports: Vec<String>,
    from_cache: bool,
    load_time: Duration,
    exports: Exports,
    permit: OnceLock<Arc<Permit>>,
    compiled: Compiled,
    /// What it and its instances take.
    account: Arc<Account>,
    /// What an instance takes besides its memories and tables.
    instance_bytes: usize,
}

/// The component linked against its few imports, as the world it was checked for.
pub(super) enum Exports {
    Parser(ParserPluginPre<Context>),
    Aggregate(AggregatePluginPre<Context>),
    Generator(GeneratorPluginPre<Context>),
}

impl Component {
    /// Whatever the file makes a library do, it is an error: a panic, too.
    pub(super) fn load(runtime: &Arc<Runtime>, name: &str, path: &Path, world: World) -> Result<Self, Error> {
        let component = Self::of_bytes(runtime, name, read(path)?, path, world)?;
        component.cache();
        Ok(component)
    }

    /// Keeps its compiled code in the cache, if there is one, for the next time that it is loaded.
    pub fn cache(&self) {
        if let Some(cache) = self.0.runtime.cache()
            && !self.0.from_cache
        {
            cache.put(&Digest::of(Sha256::new_with_prefix(&self.0.bytes)), &self.0.compiled);
        }
    }

    fn of_bytes(runtime: &Arc<Runtime>, name: &str, bytes: Vec<u8>, path: &Path, world: World) -> Result<Self, Error> {
        caught(|| Self::checked(runtime, name, bytes, path, world)).unwrap_or_else(|message| {
            Err(Error::Panicked { path: path.to_owned(), message: super::log::printable(&message) })
        })
    }

    fn checked(runtime: &Arc<Runtime>, name: &str, bytes: Vec<u8>, path: &Path, world: World) -> Result<Self, Error> {
        let began = Instant::now();
        check_header(path, &bytes)?;
        let contents = inspect(&bytes).map_err(|wrong| match wrong {
            Wrong::Invalid(error) => Error::Invalid { path: path.to_owned(), source: error.into() },
            Wrong::Excess(what) => Error::Excess { path: path.to_owned(), what },
        })?;
        check_world(&contents, path, world)?;
        let stubbed_imports = check_imports(&contents, path)?;
        let digest = Digest::of(Sha256::new_with_prefix(&bytes));
        let cached = runtime.cache().and_then(|cache| cache.get(runtime.engine(), &digest));
        let from_cache = cached.is_some();
        let compiled = match cached {
            Some(compiled) => compiled,
            None => compile_and_tell(runtime, name, path, &digest, &bytes)?,
        };
        let account = open_account(runtime, path, &contents, &compiled, &bytes)?;
        let exports = link(runtime, &compiled, world).map_err(|source| Error::Shape {
            path: path.to_owned(),
            wanted: world,
            source,
        })?;
        Ok(Self(Arc::new(Inner {
            runtime: runtime.clone(),
            name: name.into(),
            path: path.to_owned(),
            world,
            digest: digest.to_string(),
            bytes,
            imports: contents.imports,
            stubbed_imports,
            from_cache,
            load_time: began.elapsed(),
            exports,
            permit: OnceLock::new(),
            compiled,
            account,
            instance_bytes: usize::try_from(contents.instance_bytes).unwrap_or(usize::MAX),
        })))
    }

    /// The component in another file, of the same name and world.
    ///
    /// # Errors
    /// As for [`Runtime::load`].
    pub fn other(&self, path: &Path) -> Result<Self, Error> {
        Self::load(&self.0.runtime, self.name(), path, self.world())
    }

    /// Its calls fail from when `permit` is over. Only the first permit of a component counts.
    pub fn allow(&self, permit: &Arc<Permit>) {
        let _ = self.0.permit.set(permit.clone());
    }

    /// The failure of its calls where its trial is over.
    pub(super) fn over(&self) -> Option<Fault> {
        let over = self.0.permit.get().is_some_and(|permit| permit.is_over());
        let message = "its trial is over".to_owned();
        over.then(|| Fault { plugin: self.shared_name(), kind: FaultKind::Deadline, message, backtrace: Vec::new() })
    }

    /// The component of these bytes, of the same name and world. `path` is where they will be when it is accepted; until then
    /// nothing of it is on disk.
    ///
    /// # Errors
    /// As for [`Runtime::load`].
    pub fn other_bytes(&self, bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let what = format!("it has {} bytes, and at most {MAX_FILE_BYTES} are taken", bytes.len());
            return Err(Error::Excess { path: path.to_owned(), what });
        }
        Self::of_bytes(&self.0.runtime, self.name(), bytes, path, self.world())
    }

    /// What the pipeline file calls it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The world it was checked for.
    pub fn world(&self) -> World {
        self.0.world
    }

    /// The SHA-256 of its file, 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The bytes of its file as they were loaded.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// How large its file is.
    pub fn size_bytes(&self) -> u64 {
        self.0.bytes.len() as u64
    }

    /// The interfaces it imports, those among them that are denied when called.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// The `wasi:*` interfaces it imports; any call of them traps.
    pub fn stubbed_imports(&self) -> &[String] {
        &self.0.stubbed_imports
    }

    /// Whether its compiled code came from the cache.
    pub fn from_cache(&self) -> bool {
        self.0.from_cache
    }

    /// How long it took to read, to compile or take from the cache, and to check.
    pub fn load_time(&self) -> Duration {
        self.0.load_time
    }

    /// A parser with this configuration (JSON). `topic` is the one whose records it will get. With `wanted`, it makes
    /// only those columns, and its event time if it has one.
    ///
    /// # Errors
    /// When the plugin refuses its configuration, fails, describes itself against the contract, wants an input that
    /// does not exist, or does not make a wanted column; or when the component is of another world.
    pub fn parser(&self, config_json: &str, topic: &str, wanted: Option<&[&str]>) -> Result<Box<dyn Parser>, Error> {
        Ok(Box::new(WasmParser::new(self, config_json, topic, wanted)?))
    }

    /// An aggregate with this configuration (JSON), empty. Once it faults, every later call answers the same fault:
    /// make another one and restore its state.
    ///
    /// # Errors
    /// As for [`Self::parser`].
    pub fn aggregate(&self, config_json: &str) -> Result<Box<dyn Aggregate>, Error> {
        Ok(Box::new(WasmAggregate::new(self, config_json)?))
    }

    /// A generator with this configuration (JSON) and seed.
    ///
    /// # Errors
    /// As for [`Self::parser`].
    pub fn generator(&self, config_json: &str, seed: u64) -> Result<Box<dyn Generator>, Error> {
        Ok(Box::new(WasmGenerator::new(self, config_json, seed)?))
    }

    /// What the plugin says of itself with this configuration, checked, for people to read.
    ///
    /// # Errors
    /// As for [`Self::parser`].
    pub fn describe(&self, config_json: &str) -> Result<Description, Error> {
        match self.0.world {
            World::Parser => WasmParser::describe(self, config_json),
            World::Aggregate => WasmAggregate::describe(self, config_json),
            World::Generator => {
                WasmGenerator::new(self, config_json, 0)?;
                Ok(Description::Generator)
            }
        }
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.0.account
    }

    pub(super) fn instance_bytes(&self) -> usize {
        self.0.instance_bytes
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        self.0.name.clone()
    }

    pub(super) fn exports(&self) -> &Exports {
        &self.0.exports
    }

    pub(super) fn shape_error(&self, source: wasmtime::Error) -> Error {
        Error::Shape { path: self.0.path.clone(), wanted: self.0.world, source }
    }

    pub(super) fn world_error(&self, wanted: World) -> Error {
        Error::World { path: self.0.path.clone(), has: self.0.world.interface().to_owned(), wanted }
    }

    pub(super) fn description_error(&self, message: String) -> Error {
        Error::Description { plugin: self.name().to_owned(), message }
    }

    pub(super) fn refused(&self, message: &str) -> Error {
        Error::Refused { plugin: self.name().to_owned(), message: super::log::printable(message) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    files::read(path, MAX_FILE_BYTES).map_err(unreadable)
}

fn check_header(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    match bytes.strip_prefix(WASM_MAGIC) {
        None => Err(Error::NotWebAssembly { path: path.to_owned(), start: bytes.iter().take(8).copied().collect() }),
        Some(rest) if rest.starts_with(CORE_VERSION) => Err(Error::CoreModule { path: path.to_owned() }),
        Some(_) => Ok(()),
    }
}

fn compile_and_tell(
    runtime: &Runtime,
    name: &str,
    path: &Path,
    digest: &Digest,
    bytes: &[u8],
) -> Result<Compiled, Error> {
    let (plugin, file) = (name, path.display());
    tracing::info!(plugin, %file, %digest, bytes = bytes.len(), "compiling");
    let began = Instant::now();
    let compiled = compile(runtime, path, bytes)?;
    tracing::info!(plugin, %digest, code_bytes = code_bytes(&compiled), "compiled in {:.1?}", began.elapsed());
    Ok(compiled)
}

fn code_bytes(compiled: &Compiled) -> usize {
    let image = compiled.image_range();
    image.end as usize - image.start as usize
}

/// An account for a component, with what it takes itself: its file, its compiled code, and the copy of its data that its
/// instances share.
fn open_account(
    runtime: &Runtime,
    path: &Path,
    contents: &Contents,
    compiled: &Compiled,
    bytes: &[u8],
) -> Result<Arc<Account>, Error> {
    let account = Account::new(runtime.limits().version_bytes);
    let own = (bytes.len() as u64).saturating_add(code_bytes(compiled) as u64).saturating_add(contents.data_bytes);
    if account.take(own) {
        return Ok(account);
    }
    let what = format!(
        "its file, code and data take {own} bytes, and a version with all its instances may take {} \
         (limits.version_memory)",
        account.limit_bytes()
    );
    Err(Error::Excess { path: path.to_owned(), what })
}

fn check_world(contents: &Contents, path: &Path, wanted: World) -> Result<(), Error> {
    let exports: Vec<&str> = contents.exports.iter().map(String::as_str).collect();
    if exports.contains(&wanted.interface()) {
        return Ok(());
    }
    let path = path.to_owned();
    if let Some(has) = exports.iter().find(|name| name.starts_with(wanted.unversioned())) {
        return Err(Error::Version { path, has: (*has).to_owned(), wanted });
    }
    let ours: Vec<&str> = exports.iter().filter(|name| name.starts_with(CONTRACT)).copied().collect();
    let has = match (ours.is_empty(), exports.is_empty()) {
        (false, _) => ours.join(", "),
        (true, false) => super::log::printable(&exports.join(", ")),
        (true, true) => "nothing".to_owned(),
    };
    Err(Error::World { path, has, wanted })
}

/// The imports that will be denied when called.
fn check_imports(contents: &Contents, path: &Path) -> Result<Vec<String>, Error> {
    let names = contents.imports.iter().map(String::as_str);
    let (denied, others): (Vec<&str>, Vec<&str>) =
        names.filter(|name| !ALLOWED_IMPORTS.contains(name)).partition(|name| name.starts_with(DENIED));
    if others.is_empty() {
        Ok(denied.into_iter().map(str::to_owned).collect())
    } else {
        let imports = others.into_iter().map(super::log::printable).collect();
        Err(Error::Imports { path: path.to_owned(), imports })
    }
}

fn link(runtime: &Runtime, compiled: &Compiled, world: World) -> wasmtime::Result<Exports> {
    let mut linker = Linker::<Context>::new(runtime.engine());
    wit_log::add_to_linker::<_, HasSelf<_>>(&mut linker, |context| context)?;
    linker.define_unknown_imports_as_traps(compiled)?;
    let pre: InstancePre<Context> = linker.instantiate_pre(compiled)?;
    Ok(match world {
        World::Parser => Exports::Parser(ParserPluginPre::new(pre)?),
        World::Aggregate => Exports::Aggregate(AggregatePluginPre::new(pre)?),
        World::Generator => Exports::Generator(GeneratorPluginPre::new(pre)?),
    })
}
