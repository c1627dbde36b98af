//! The token of the user who runs the process: a file that nobody else can read, made anew at each start.

use crate::random;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many random bytes a token has: more than anybody can try.
const TOKEN_BYTES: usize = 32;

/// What others have of a file's mode.
const OTHERS: u32 = 0o077;

/// How much of a token file is read: an honest one is far shorter.
const MAX_TOKEN_FILE_BYTES: u64 = 200;

/// Why there is no such token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder to put it into is known.
    #[error("there is no folder for it; set XDG_RUNTIME_DIR, XDG_CACHE_HOME or HOME")]
    NoFolder,
    /// The folder is another's, or others can look into it.
    #[error("its folder must be this user's alone; chmod 700 it, or remove it folder={}", .0.display())]
    Open(PathBuf),
    /// The system refused.
    #[error("it cannot be written path={}", path.display())]
    Io {
        /// What could not be made, written or read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A token in a file, which goes away with it.
pub struct LocalToken {
    path: PathBuf,
    token: String,
    user: String,
}

impl LocalToken {
    /// Makes a token for the server at `address`, in the first of `folders` where that goes. What an earlier process
    /// left there is overwritten.
    ///
    /// # Errors
    /// Why it goes in none: that of the last one.
    pub fn create(folders: &[PathBuf], address: SocketAddr) -> Result<Self, Error> {
        let mut last = Error::NoFolder;
        for folder in folders {
            match Self::create_in(folder, address) {
                Ok(made) => return Ok(made),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn create_in(folder: &Path, address: SocketAddr) -> Result<Self, Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io(folder))?;
        let path = folder.join(file_name(address));
        let fresh = folder.join(format!("{}.{}", file_name(address), std::process::id()));
        let token = random().map_err(io(Path::new(random::RANDOM)))?;
        // Removed first, so that the file is one that this process has made, with the mode given here.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(&fresh)(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(io(&fresh))?;
        // A file's owner is the user of the process that made it.
        let uid = file.metadata().map_err(io(&fresh))?.uid();
        let of = fs::symlink_metadata(folder).map_err(io(folder))?;
        if !of.is_dir() || of.uid() != uid || of.mode() & OTHERS != 0 {
            fs::remove_file(&fresh).map_err(io(&fresh))?;
            return Err(Error::Open(folder.to_owned()));
        }
        file.write_all(token.as_bytes()).map_err(io(&fresh))?;
        fs::rename(&fresh, &path).map_err(io(&path))?;
        Ok(Self { path, token, user: user_name(uid) })
    }

    /// The token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The name of the user who runs this process, or else the number.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LocalToken {
    fn drop(&mut self) {
        // Another process may have put its own there; and a file that stays behind opens nothing any more.
        if read_token(&self.path).is_some_and(|found| found == self.token)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!("the token of this process stays behind path={}: {error}", self.path.display());
        }
    }
}

impl std::fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalToken({})", self.path.display())
    }
}

/// The token of a process of this user that listens at one of `addresses`, if its file is in one of `folders`.
pub fn find(folders: &[PathBuf], addresses: &[SocketAddr]) -> Option<String> {
    let names: Vec<String> = addresses.iter().copied().flat_map(listeners).map(file_name).collect();
    folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name))).find_map(|path| read_token(&path))
}

/// The addresses a process may listen on that answers at this one. What listens on all addresses is found at the
/// loopback only: elsewhere the same port may be another machine's, which is not to get the token.
fn listeners(address: SocketAddr) -> Vec<SocketAddr> {
    let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let all = all.map(|ip| SocketAddr::new(ip, address.port()));
    std::iter::once(address).chain(all.into_iter().filter(|_| address.ip().is_loopback())).collect()
}

fn file_name(address: SocketAddr) -> String {
    format!("{}_{}.token", address.ip().to_string().replace(':', "-"), address.port())
}

fn read_token(path: &Path) -> Option<String> {
    let mut text = String::new();
    // A file that is not there, or not to be read, is no token.
    File::open(path).ok()?.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).ok()?;
    let token = text.trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then(|| token.to_owned())
}

fn random() -> io::Result<String> {
    let bytes = random::bytes::<TOKEN_BYTES>()?;
    let mut digits = String::with_capacity(2 * TOKEN_BYTES);
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("a string takes everything");
    }
    Ok(digits)
}

/// The name of a user, or else the number.
fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.filter(|name| !name.is_empty()).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("wasmill");
        (dir, folder)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_token_is_for_its_user_alone_and_goes_away_with_the_process() {
        let (_dir, folder) = folder();
        let token = LocalToken::create(std::slice::from_ref(&folder), HERE).unwrap();
        assert_eq!((mode(&folder), mode(token.path())), (0o700, 0o600));
        assert_eq!(find(std::slice::from_ref(&folder), &[HERE]).as_deref(), Some(token.token()));
        assert_eq!(token.token().len(), 2 * TOKEN_BYTES);
        assert!(!token.user().is_empty() && !format!("{token:?}").contains(token.token()));
        let path = token.path().to_owned();
        drop(token);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_overwritten_whatever_its_mode() {
        let (_dir, folder) = folder();
        let dead = LocalToken::create(std::slice::from_ref(&folder), HERE).unwrap();
        let path = dead.path().to_owned();
        std::mem::forget(dead);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let stale = fs::read_to_string(&path).unwrap();
        let token = LocalToken::create(&[folder], HERE).unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), stale);
        assert_eq!(mode(token.path()), 0o600);
    }

    #[test]
    fn a_token_of_another_process_is_not_removed() {
        let (_dir, folder) = folder();
        let first = LocalToken::create(std::slice::from_ref(&folder), HERE).unwrap();
        let second = LocalToken::create(&[folder], HERE).unwrap();
        drop(first);
        assert_eq!(read_token(second.path()).as_deref(), Some(second.token()));
    }

    #[test]
    fn a_folder_that_is_open_to_others_gets_none_and_the_next_one_is_taken() {
        let (_dir, open) = folder();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        let refused = LocalToken::create(std::slice::from_ref(&open), HERE).unwrap_err();
        assert!(refused.to_string().contains("chmod 700"), "{refused}");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
        let (_other, folder) = folder();
        let token = LocalToken::create(&[open, folder.clone()], HERE).unwrap();
        assert!(token.path().starts_with(folder));
        assert!(matches!(LocalToken::create(&[], HERE), Err(Error::NoFolder)));
    }

    #[test]
    fn what_listens_on_all_addresses_is_found_at_the_loopback_only() {
        let (_dir, folder) = folder();
        let token = LocalToken::create(std::slice::from_ref(&folder), "0.0.0.0:8080".parse().unwrap()).unwrap();
        let found = |address: &str| find(std::slice::from_ref(&folder), &[address.parse().unwrap()]);
        assert_eq!(found("127.0.0.1:8080").as_deref(), Some(token.token()));
        assert_eq!(found("[::1]:8080").as_deref(), Some(token.token()));
        assert_eq!((found("192.0.2.7:8080"), found("127.0.0.1:8081")), (None, None));
    }

    #[test]
    fn users_have_the_names_of_the_system() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
    }
}
