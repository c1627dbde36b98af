//! Compiled components on disk, keyed by the source's digest and the engine, trusted only when whole.

use super::component::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::{DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// The first bytes of a cache file; the number is the layout's version.
const MAGIC: &[u8; 16] = b"wasmill cwasm 1\n";
const CHECKSUM_BYTES: usize = 32;
/// Who may read or write the folder and its files: the user alone.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// All files together, and how many: a cache is not for ever. The oldest make room.
const MAX_BYTES: u64 = 2 << 30;
const MAX_FILES: usize = 256;
/// The bits by which others could put code into the folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A folder of compiled components.
///
/// A file is the magic, the SHA-256 of (magic, source digest, engine, code), and the code. Compiled code is as powerful
/// as the host itself, so a file is used only from a folder that nobody else can write to, and only when the checksum
/// shows it to be what this program once wrote for this very source and engine. Anything else is compiled again.
pub(super) struct Cache {
    dir: PathBuf,
    engine: Digest,
}

impl Cache {
    /// The cache in `dir`, made if absent; `None`, with a warning, if it cannot be used safely.
    pub(super) fn open(dir: &Path, engine: &Engine) -> Option<Self> {
        match prepare(dir) {
            Ok(()) => Some(Self { dir: dir.to_owned(), engine: engine_digest(engine) }),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "going without the compiled plugin cache");
                None
            }
        }
    }

    /// The compiled form of the source with this digest, if a sound one is kept.
    pub(super) fn get(&self, engine: &Engine, source: &Digest) -> Option<Component> {
        let path = self.path(source);
        let file = match std::fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot read a compiled plugin");
                return None;
            }
        };
        let Some(code) = self.verified(source, &file) else {
            tracing::warn!(file = %path.display(), "compiled plugin is damaged or foreign; compiling again");
            return None;
        };
        match deserialize(engine, code) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "compiled plugin does not load; compiling again");
                None
            }
        }
    }

    /// Keeps the compiled form of the source with this digest. A failure costs time at the next start, so it is
    /// warned about and nothing more.
    pub(super) fn put(&self, source: &Digest, component: &Component) {
        let path = self.path(source);
        let written = match component.serialize() {
            Ok(code) => self
                .make_room(code.len() as u64)
                .and_then(|()| self.write(source, &path, &code))
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "cannot keep a compiled plugin");
        }
    }

    /// Removes the oldest files until one more of so many bytes has room.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let ours = entry.path().extension().is_some_and(|end| end == "cwasm" || end == "tmp");
            // Another process may be making room, too.
            if let Some(known) = entry.metadata().ok().filter(|_| ours) {
                files.push((known.modified()?, entry.path(), known.len()));
            }
        }
        files.sort();
        let mut sum = files.iter().map(|(_, _, length)| length).sum::<u64>().saturating_add(bytes);
        let mut left = files.len() + 1;
        for (_, path, length) in files {
            if sum <= MAX_BYTES && left <= MAX_FILES {
                break;
            }
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => (sum, left) = (sum - length, left - 1),
            }
        }
        Ok(())
    }

    /// Under the final name there is a whole file or none, whatever other processes do: the temporary name is unique
    /// and renaming is atomic. It need not survive a power cut, the checksum tells.
    fn write(&self, source: &Digest, path: &Path, code: &[u8]) -> io::Result<()> {
        static UNIQUE: AtomicU64 = AtomicU64::new(0);
        let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{unique}.tmp", std::process::id()));
        let written =
            File::options().write(true).create_new(true).mode(FILE_MODE).open(&temporary).and_then(|mut file| {
                file.write_all(MAGIC)?;
                file.write_all(&self.checksum(source, code))?;
                file.write_all(code)?;
                std::fs::rename(&temporary, path)
            });
        if written.is_err() {
            // The first failure is the one to report.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    fn verified<'a>(&self, source: &Digest, file: &'a [u8]) -> Option<&'a [u8]> {
        let (checksum, code) = file.strip_prefix(MAGIC)?.split_at_checked(CHECKSUM_BYTES)?;
        (checksum == self.checksum(source, code)).then_some(code)
    }

    fn checksum(&self, source: &Digest, code: &[u8]) -> [u8; CHECKSUM_BYTES] {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(source.as_bytes());
        hash.update(self.engine.as_bytes());
        hash.update(code);
        hash.finalize().into()
    }

    fn path(&self, source: &Digest) -> PathBuf {
        self.dir.join(format!("{source}-{}.cwasm", self.engine))
    }
}

#[expect(unsafe_code, reason = "wasmtime maps compiled code as it is; the one site, guarded as said below")]
pub(super) fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` came out of wasmtime's compiler in this program. Either a child of this process has just made it, and
    // nobody else can write to the pipe that it came through. Or it lay in the cache: `Cache::verified` has just checked
    // its SHA-256, which covers the source and the engine's settings too, and only this user can write to the folder.
    // wasmtime itself refuses code of another version of it.
    unsafe { Component::deserialize(engine, code) }
}

fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    if std::fs::metadata(dir)?.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "other users may write to the folder"));
    }
    Ok(())
}

/// Everything about the engine that compiled code depends on: wasmtime's version, settings, the CPU's features.
fn engine_digest(engine: &Engine) -> Digest {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Digest::of(hasher.0)
}

/// Lets what implements `Hash` be hashed by something stable across Rust releases.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_le_bytes(first)
    }
}
