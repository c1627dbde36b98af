//! The other end: asks a running process for its status, or for a change, with no more HTTP than that takes.

use crate::shown::shown;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::control::{ANSWER_WITHIN, Ask, Reply, ShadowReport};
use super::query::encode;
use super::{Status, api};

/// How long each step of a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much longer than the server the client waits, so that it hears why there is no answer.
const LONGER: Duration = Duration::from_secs(10);

/// The largest answer that is read: a status with thousands of partitions is far below.
const ANSWER_BYTES: u64 = 8 << 20;

/// The largest head of an answer.
const HEAD_BYTES: u64 = 64 << 10;

/// Why there is no answer.
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
    /// It does not take the request as it is, and says what would be right.
    #[error("{said}, url={url}")]
    Request {
        /// The address.
        url: String,
        /// The code: 400, 401, 403, 413, 503 or 504.
        code: u16,
        /// What it says.
        said: String,
    },
}

/// Asks the process at `url`, such as `http://localhost:8080`, for its status.
///
/// # Errors
/// [`Error`].
pub fn fetch_status(url: &str) -> Result<Status, Error> {
    Client::new(url)?.status()
}

/// Whoever asks a running process.
pub struct Client {
    url: String,
    address: String,
    token: Option<String>,
}

impl Client {
    /// A client of the process at `url`, such as `http://localhost:8080`.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn new(url: &str) -> Result<Self, Error> {
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_[]".contains(c);
        if authority.is_empty() || !authority.chars().all(is_plain) {
            return Err(Error::Url(url.to_owned()));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { url: url.to_owned(), address, token: None })
    }

    /// The same with the token that changes need. One that no header can carry is left out.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        self
    }

    /// The addresses that the process may have; none where its name is not known.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.address.to_socket_addrs().into_iter().flatten().collect()
    }

    /// Its status.
    ///
    /// # Errors
    /// [`Error`].
    pub fn status(&self) -> Result<Status, Error> {
        let answer = self.request("GET", "/api/v1/status", &[], TIMEOUT)?;
        read_status(&answer).map_err(|reason| self.strange(reason))
    }

    /// How the shadow of a plugin compares; `Err` inside where none runs, with what it says of that.
    ///
    /// # Errors
    /// [`Error`].
    pub fn shadow(&self, plugin: &str) -> Result<Result<ShadowReport, super::control::Refusal>, Error> {
        let answer = self.request("GET", &format!("/api/v1/plugins/{}/shadow", encode(plugin)), &[], TIMEOUT)?;
        if answer.code == 200 {
            let report = serde_json::from_slice(&answer.body);
            return report.map(Ok).map_err(|error| self.strange(format!("not a report: {error}")));
        }
        match api::reply_of(answer.code, &answer.body) {
            Some(Err(refusal)) => Ok(Err(refusal)),
            _ => Err(self.refused(answer)),
        }
    }

    /// Asks for a change, and waits until it is made or refused.
    ///
    /// # Errors
    /// [`Error`], where there is no reply.
    pub fn ask(&self, ask: &Ask) -> Result<Reply, Error> {
        let (method, target, body) = api::request_of(ask);
        let answer = self.request(method, &target, body, ANSWER_WITHIN + LONGER)?;
        api::reply_of(answer.code, &answer.body).ok_or_else(|| self.refused(answer))
    }

    /// Sends a request, and gives the whole answer.
    fn request(&self, method: &str, target: &str, body: &[u8], patience: Duration) -> Result<Answer, Error> {
        let io = |source| Error::Io { url: self.url.clone(), source };
        let stream = self.connect().map_err(io)?;
        stream.set_read_timeout(Some(patience)).map_err(io)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(io)?;
        self.exchange(&stream, method, target, body).map_err(io)?.map_err(|reason| self.strange(reason))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for candidate in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&candidate, TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// One request and its answer. The connection ends with it.
    fn exchange(
        &self,
        stream: &TcpStream,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> io::Result<Result<Answer, String>> {
        // Of HTTP/1.0, so that the answer comes as it is. A body is sent when the server has said that it wants it,
        // which only HTTP/1.1 has: one that is refused unread could take the answer away with the connection.
        let version = if body.is_empty() { "1.0" } else { "1.1" };
        let mut head = vec![
            format!("{method} {target} HTTP/{version}"),
            format!("Host: {}", self.address),
            "Accept: application/json".to_owned(),
        ];
        head.extend(self.token.as_ref().map(|token| format!("Authorization: Bearer {token}")));
        if !body.is_empty() {
            head.extend(["Expect: 100-continue".to_owned(), "Connection: close".to_owned()]);
        }
        if method != "GET" {
            head.push(format!("Content-Length: {}", body.len()));
        }
        let mut writer = stream;
        writer.write_all((head.join("\r\n") + "\r\n\r\n").as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut answer = read_head(&mut reader)?;
        if matches!(&answer, Ok(head) if head.code == 100) {
            writer.write_all(body)?;
            answer = read_head(&mut reader)?;
        }
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(reason) => return Ok(Err(reason)),
        };
        reader.take(ANSWER_BYTES).read_to_end(&mut answer.body)?;
        Ok(Ok(answer))
    }

    fn strange(&self, reason: String) -> Error {
        Error::Answer { url: self.url.clone(), reason }
    }

    /// An answer that is no reply.
    fn refused(&self, answer: Answer) -> Error {
        let said = printable(&answer.body);
        if [400, 401, 403, 413, 503, 504].contains(&answer.code) && !said.is_empty() {
            Error::Request { url: self.url.clone(), code: answer.code, said }
        } else {
            self.strange(answer.first_line)
        }
    }
}

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    code: u16,
    first_line: String,
    body: Vec<u8>,
}

/// The head of an answer, up to its empty line; or why it is none.
fn read_head(reader: &mut impl BufRead) -> io::Result<Result<Answer, String>> {
    let mut head = reader.take(HEAD_BYTES);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        head.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(Err("not HTTP".into()));
        }
        if line == b"\r\n" || line == b"\n" {
            break;
        }
        lines.push(line);
    }
    let first_line = lines.first().map(|line| printable(line)).unwrap_or_default();
    let code = first_line.strip_prefix("HTTP/1.").and_then(|line| line.split(' ').nth(1)?.parse().ok());
    Ok(code.map(|code| Answer { code, first_line, body: Vec::new() }).ok_or_else(|| "not HTTP".into()))
}

/// Text that came over the network, for a terminal: a line of some words.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    shown(text.trim()).chars().take(400).collect()
}

fn read_status(answer: &Answer) -> Result<Status, String> {
    if answer.code != 200 {
        return Err(answer.first_line.clone());
    }
    let status: Status = serde_json::from_slice(&answer.body).map_err(|error| format!("not a status: {error}"))?;
    // Numbers that an older or newer release does not know may be missing; the version is in every status.
    if status.version.is_empty() { Err("not a status: it has no version".into()) } else { Ok(status) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_that_is_none_is_refused_before_the_network() {
        for url in ["", "http://", "https://localhost", "http://a b", "http://a\r\nX: y", "http://localhost/x"] {
            assert!(matches!(fetch_status(url), Err(Error::Url(_))), "{url:?}");
        }
    }

    /// What comes of these bytes in place of a status.
    fn status(answer: &[u8]) -> Result<Status, String> {
        let mut answer = answer;
        let mut head = read_head(&mut answer).unwrap()?;
        head.body = answer.to_vec();
        read_status(&head)
    }

    #[test]
    fn what_is_no_status_is_told() {
        assert_eq!(status(b"SSH-2.0"), Err("not HTTP".into()));
        assert_eq!(status(b"SSH-2.0\r\n\r\n"), Err("not HTTP".into()));
        assert_eq!(status(b"HTTP/1.0 403 Forbidden\r\n\r\nno"), Err("HTTP/1.0 403 Forbidden".into()));
        assert!(status(b"HTTP/1.0 200 OK\r\n\r\n[]").unwrap_err().starts_with("not a status"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_are_told(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let with_head = [b"HTTP/1.0 200 OK\r\n", &bytes[..]].concat();
            prop_assert!(status(&bytes).is_err() && status(&with_head).is_err());
        }
    }

    #[test]
    fn a_head_without_end_is_not_read_to_its_end() {
        let endless = b"HTTP/1.0 200 OK\r\n".iter().copied().chain(std::iter::repeat_n(b'x', 1 << 20));
        assert_eq!(status(&endless.collect::<Vec<u8>>()), Err("not HTTP".into()));
    }

    #[test]
    fn what_came_over_the_network_cannot_write_to_the_terminal() {
        let client = Client::new("localhost").unwrap();
        let answer = Answer { code: 401, first_line: String::new(), body: b"\x1b[31mno\n".to_vec() };
        assert_eq!(client.refused(answer).to_string(), "\\u{1b}[31mno, url=localhost");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_not_sent() {
        let client = Client::new("localhost").unwrap().with_token(Some("a\r\nHost: b".into()));
        assert_eq!(client.token, None);
    }
}
