//! The identity of a checkpoint folder: a random number that is made with it and stays with it wherever it is moved, copied or
//! restored. The names of its output files have it, so nobody takes another folder's files for its own.

use std::io::ErrorKind;
use std::path::Path;

use super::durable;
use super::error::Error;
use crate::disk::Disk;

/// The file's name.
pub(super) const NAME: &str = "identity";

/// How many hexadecimal digits it has: of 2^32 folders that share an output, two have one identity in half of all cases.
const DIGITS: usize = 16;

/// Whether this is an identity as it is written.
pub fn is_identity(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// That of a folder, if it has one.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join(NAME);
    let bytes = match disk.read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(Error::io("read", &path))?,
    };
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim_end();
    if is_identity(text) {
        return Ok(Some(text.to_owned()));
    }
    Err(Error::corrupt(&path, format!("it does not hold {DIGITS} hexadecimal digits")))
}

/// Gives a folder this identity, unless it has one by now. Answers which it has.
pub(super) fn make(disk: &dyn Disk, dir: &Path, id: &str, generation: u64) -> Result<String, Error> {
    durable::create(disk, dir, NAME, generation, |out| writeln!(out, "{id}"))?;
    durable::sync_folder(disk, dir)?;
    // Another process may have been faster, where locks do not work.
    read(disk, dir)?.ok_or_else(|| Error::corrupt(&dir.join(NAME), "it is missing"))
}

/// An identity, made of 64 random bits.
pub(super) fn of_bits(bits: u64) -> String {
    format!("{bits:0DIGITS$x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    #[test]
    fn a_folder_keeps_the_identity_that_it_got_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&RealDisk, dir.path()).unwrap(), None);
        for bits in [7, 8] {
            assert_eq!(make(&RealDisk, dir.path(), &of_bits(bits), 1).unwrap(), "0000000000000007");
        }
    }

    #[test]
    fn an_identity_that_is_none_stops_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "7", "000000000000000G", "00000000000000070", "../../../../etc/x", "\u{ff}"] {
            fs::write(dir.path().join(NAME), text).unwrap();
            let error = read(&RealDisk, dir.path()).unwrap_err();
            assert!(error.to_string().contains(NAME), "{error}");
        }
    }
}
