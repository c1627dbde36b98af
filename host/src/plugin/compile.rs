//! Compiling, which is done in a child of this process where the program has one: what a hostile file makes the compiler
//! take is the child's, and ends with it.
//!
//! The child is the same program. It gets the component on its standard input and gives the code on its standard output;
//! whoever started it keeps the code in the cache, as if it had made it itself. So nothing depends on a disk.

use super::runtime::compiler;
use super::{Error, Limits, Runtime, cache, log};
use crossbeam_channel::{RecvTimeoutError, bounded};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::Builder;
use std::time::Duration;
use wasmtime::component::Component;

/// The hidden subcommand that compiles: the program's `main` hands it to [`compile_here`].
pub const COMPILE_COMMAND: &str = "compile-component";

/// A child is given up after so many times the processor time that it may take: others may be using the machine.
const PATIENCE: u32 = 5;
/// What is read of what a child has to say.
const MAX_WORDS_BYTES: u64 = 8 << 10;
/// How the child ends when the component is at fault, and not it.
const REFUSED: u8 = 2;

/// How it ends where memory runs out, and the library says so rather than the allocator.
const NO_MEMORY: u8 = 3;

/// The program that children run.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What a child may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Its address space.
    pub memory_bytes: u64,
    /// Processor time, whole seconds.
    pub seconds: u64,
    /// Whether faults are to name files and lines.
    pub lines: bool,
}

/// From now on components are compiled in children of this process. They run `program`, whose `main` has to answer
/// [`COMPILE_COMMAND`] with [`compile_here`]: for `wasmill` that is itself.
///
/// A program that embeds `wasmill` and does not say so compiles within its own process, behind the same bounds of what a
/// component may hold, but without limits of memory and time.
pub fn compile_in_children(program: PathBuf) {
    // The first one who says so decides.
    let _ = PROGRAM.set(program);
}

/// Compiles.
pub(super) fn compile(runtime: &Runtime, path: &Path, bytes: &[u8]) -> Result<Component, Error> {
    let Some(program) = PROGRAM.get() else {
        return Component::from_binary(runtime.engine(), bytes)
            .map_err(|source| Error::Invalid { path: path.to_owned(), source });
    };
    let limits = runtime.limits();
    let told = in_child(program, limits, runtime.lines(), bytes);
    let given_up = |why: String| Error::NotCompiled { path: path.to_owned(), why };
    let told = told.map_err(|error| given_up(format!("the compiler cannot be started: {error}")))?;
    match told.ending {
        Ending::Done => cache::deserialize(runtime.engine(), &told.code)
            .map_err(|source| Error::Invalid { path: path.to_owned(), source }),
        Ending::Refused => {
            Err(Error::Invalid { path: path.to_owned(), source: wasmtime::format_err!("{}", told.words) })
        }
        Ending::Died(why) => Err(given_up(format!("{why}{}", told.words))),
    }
}

/// What a child left.
struct Told {
    code: Vec<u8>,
    /// What it had to say, on one line.
    words: String,
    ending: Ending,
}

enum Ending {
    Done,
    Refused,
    /// Why, up to what it had to say itself.
    Died(String),
}

fn in_child(program: &Path, limits: &Limits, lines: bool, bytes: &[u8]) -> io::Result<Told> {
    let seconds = limits.compile_time.as_secs().max(1);
    let mut command = Command::new(program);
    command.arg(COMPILE_COMMAND).arg(limits.compile_bytes.to_string()).arg(seconds.to_string());
    if lines {
        command.arg("--lines");
    }
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn()?;
    let talked = talk(&mut child, limits, bytes, Duration::from_secs(seconds) * PATIENCE);
    // Whatever became of it, it is not left behind.
    let _ = child.kill();
    let status = child.wait()?;
    let (code, words) = talked?;
    let words = String::from_utf8_lossy(&words);
    let words = log::printable(&words.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let Some(code) = code else {
        let why = format!("compiling took more than {:?}, and was ended; ", Duration::from_secs(seconds) * PATIENCE);
        return Ok(Told { code: Vec::new(), words, ending: Ending::Died(why) });
    };
    let ending = if code.len() as u64 > limits.version_bytes {
        Ending::Died("its code has more bytes than limits.version_memory; ".to_owned())
    } else {
        ending(status, limits, seconds)
    };
    Ok(Told { code, words, ending })
}

/// Gives a child its component, and takes its code, `None` where that takes too long, and its words.
fn talk(child: &mut Child, limits: &Limits, bytes: &[u8], most: Duration) -> io::Result<(Option<Vec<u8>>, Vec<u8>)> {
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let most_code = limits.version_bytes.saturating_add(1);
    std::thread::scope(|scope| {
        let thread = |name: &str| Builder::new().name(name.to_owned());
        // A child that ends before it has read all of it has its reasons.
        thread("compile-in").spawn_scoped(scope, move || {
            let _ = stdin.take().map(|mut stdin| stdin.write_all(bytes));
        })?;
        let words = thread("compile-words").spawn_scoped(scope, move || read(stderr, MAX_WORDS_BYTES))?;
        let (done, over) = bounded(1);
        thread("compile-out").spawn_scoped(scope, move || {
            let _ = done.send(read(stdout, most_code));
        })?;
        let code = over.recv_timeout(most);
        if code == Err(RecvTimeoutError::Timeout) {
            child.kill()?;
        }
        // It cannot have panicked; and if it had, there are no words.
        Ok((code.ok(), words.join().unwrap_or_default()))
    })
}

fn read(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What there is until it breaks is all there is: the child's end says whether that is enough.
    let _ = from.map(|from| from.take(most).read_to_end(&mut bytes));
    bytes
}

fn ending(status: ExitStatus, limits: &Limits, seconds: u64) -> Ending {
    let memory =
        format!("compiling needs more memory than {} MB (limits.compile_memory); ", limits.compile_bytes / 1_000_000);
    match (status.code(), status.signal()) {
        (Some(0), _) => Ending::Done,
        (Some(code), _) if code == i32::from(REFUSED) => Ending::Refused,
        (Some(code), _) if code == i32::from(NO_MEMORY) => Ending::Died(memory),
        (Some(code), _) => Ending::Died(format!("the compiler ended with exit code {code}: ")),
        (None, Some(signal)) if signal == Signal::XCPU.as_raw() => {
            Ending::Died(format!("compiling takes more than {seconds} s of processor time (limits.compile_time); "))
        }
        // What Rust's allocator does where there is no memory.
        (None, Some(signal)) if signal == Signal::ABORT.as_raw() => Ending::Died(memory),
        (None, Some(signal)) if signal == Signal::KILL.as_raw() => {
            Ending::Died("the compiler was killed, as the system does where memory runs out; ".to_owned())
        }
        (None, signal) => Ending::Died(format!("the compiler crashed (signal {}); ", signal.unwrap_or_default())),
    }
}

/// What a child does: it takes its limits, compiles what is on its standard input, and gives the code on its standard
/// output. Gives its exit code.
pub fn compile_here(allowed: Allowed) -> u8 {
    let compiled = restrict(allowed).map_err(|error| format!("the limits cannot be set: {error}")).and_then(|()| {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let engine = compiler(allowed.lines).map_err(|error| format!("{error:#}"))?;
        let code = engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?;
        io::stdout().write_all(&code).map_err(|error| error.to_string())
    });
    match compiled {
        Ok(()) => 0,
        Err(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            if why.ends_with("out of memory") { NO_MEMORY } else { REFUSED }
        }
    }
}

/// Takes away from this process what a compiler does not need: memory, time, and life after the one that started it.
fn restrict(allowed: Allowed) -> io::Result<()> {
    let limit = |resource, most: u64| {
        let before = getrlimit(resource);
        let most = before.maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    limit(Resource::As, allowed.memory_bytes)?;
    limit(Resource::Core, 0)?;
    let seconds = Rlimit { current: Some(allowed.seconds), maximum: Some(allowed.seconds + 1) };
    setrlimit(Resource::Cpu, seconds)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Where memory runs out all the same, this is the one to go. Not every system has that.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}
