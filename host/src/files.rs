//! Files that people name: taken only where they are files, and not read further than such a file is long.

use rustix::fs::OFlags;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file of at most `most` bytes. Nothing else is opened: a pipe would wait for its writer, a device may be
/// without end.
///
/// # Errors
/// What the system says; or what it is instead, or how long (`InvalidInput`).
pub fn open(path: &Path, most: u64) -> io::Result<File> {
    check(&fs::metadata(path)?, most)?;
    // It may have become another since; nobody waits for a pipe's writer then, and no terminal is this process's own.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    check(&file.metadata()?, most)?;
    Ok(file)
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As for [`open`], also where it grows while it is read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Some that the system makes up are longer than it says.
    open(path, most)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long("more bytes than that", most)) } else { Ok(bytes) }
}

fn check(of: &fs::Metadata, most: u64) -> io::Result<()> {
    if !of.is_file() {
        let what = format!("it is {}, not a file", kind(of.file_type()));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    if of.len() > most { Err(too_long(&format!("{} bytes", of.len()), most)) } else { Ok(()) }
}

fn too_long(has: &str, most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it has {has}; at most {most} are taken"))
}

fn kind(of: FileType) -> &'static str {
    match () {
        () if of.is_dir() => "a folder",
        () if of.is_fifo() => "a pipe",
        () if of.is_socket() => "a socket",
        () if of.is_char_device() || of.is_block_device() => "a device",
        () => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_files_of_a_size_are_taken_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "12345").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("link")).unwrap();
        File::create(path("hole")).unwrap().set_len(1 << 40).unwrap();
        let refused = |path: &Path| read(path, 5).unwrap_err().to_string();
        assert_eq!(read(&path("file"), 5).unwrap(), b"12345");
        assert_eq!(read(&path("file"), 4).unwrap_err().to_string(), "it has 5 bytes; at most 4 are taken");
        assert_eq!(refused(&path("pipe")), "it is a pipe, not a file");
        assert_eq!(refused(&path("socket")), "it is a socket, not a file");
        assert_eq!(refused(&path("link")), "it is a device, not a file");
        assert_eq!(refused(folder.path()), "it is a folder, not a file");
        assert_eq!(refused(&path("hole")), "it has 1099511627776 bytes; at most 5 are taken");
        // The system says that it has none.
        assert_eq!(refused(Path::new("/proc/self/status")), "it has more bytes than that; at most 5 are taken");
        assert_eq!(open(&path("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
