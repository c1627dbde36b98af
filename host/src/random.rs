//! Randomness: what the system gives.

use std::fs::File;
use std::io::{self, Read};

/// Where it gives random bytes.
pub const RANDOM: &str = "/dev/urandom";

/// Random bytes that nobody can guess.
///
/// # Errors
/// What the file system says of [`RANDOM`].
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(bytes)
}
