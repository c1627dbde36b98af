//! The other end: asks a running process for its status, with no more HTTP than that takes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Status;

/// How long each step of a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read: a status with thousands of partitions is far below.
const ANSWER_BYTES: u64 = 8 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("the address must look like http://localhost:8080, url={0}")]
    Url(String),
    /// Nothing answers there.
    #[error("nothing answers, url={url}")]
    Io {
        /// The address.
        url: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something answers that is no wasmill, or refuses.
    #[error("it does not answer as wasmill does: {reason}, url={url}")]
    Answer {
        /// The address.
        url: String,
        /// What it answers, or what is wrong with that.
        reason: String,
    },
}

/// Asks the process at `url`, such as `http://localhost:8080`, for its status.
///
/// # Errors
/// [`Error`].
pub fn fetch_status(url: &str) -> Result<Status, Error> {
    let bad = || Error::Url(url.to_owned());
    let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_[]".contains(c);
    if authority.is_empty() || !authority.chars().all(is_plain) {
        return Err(bad());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let answer = request(&address).map_err(|source| Error::Io { url: url.to_owned(), source })?;
    read_status(&answer).map_err(|reason| Error::Answer { url: url.to_owned(), reason })
}

/// The whole answer, headers and body. HTTP/1.0, so that the body comes as it is and the connection ends with it.
fn request(address: &str) -> io::Result<Vec<u8>> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, TIMEOUT) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                write!(stream, "GET /api/v1/status HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n")?;
                let mut answer = Vec::new();
                stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
                return Ok(answer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read_status(answer: &[u8]) -> Result<Status, String> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("not HTTP")?;
    let first = answer[..end].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let first: String = String::from_utf8_lossy(first).chars().filter(|c| !c.is_control()).take(80).collect();
    if first.split(' ').nth(1) != Some("200") {
        return Err(first);
    }
    let status: Status =
        serde_json::from_slice(&answer[end + 4..]).map_err(|error| format!("not a status: {error}"))?;
    // Numbers that an older or newer release does not know may be missing; the version is in every status.
    if status.version.is_empty() { Err("not a status: it has no version".into()) } else { Ok(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_before_the_network() {
        for url in ["", "http://", "https://localhost", "http://a b", "http://a\r\nX: y", "http://localhost/x"] {
            assert!(matches!(fetch_status(url), Err(Error::Url(_))), "{url:?}");
        }
    }

    #[test]
    fn what_is_no_status_is_told() {
        assert_eq!(read_status(b"SSH-2.0"), Err("not HTTP".into()));
        assert_eq!(read_status(b"HTTP/1.0 403 Forbidden\r\n\r\nno"), Err("HTTP/1.0 403 Forbidden".into()));
        assert!(read_status(b"HTTP/1.0 200 OK\r\n\r\n[]").unwrap_err().starts_with("not a status"));
    }
}
