//! Logs to standard error, and the one line below them that is always rewritten.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shown::{shown, shown_in_colour};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// To the first column, and clear what stands there.
const CLEAR: &str = "\r\x1b[K";
/// Stop and resume wrapping: between them the terminal itself cuts a line to its width.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// A log level that is none.
#[derive(Debug, thiserror::Error)]
#[error("the log level must be error, warn, info, debug, trace, or such a filter as info,wasmill=debug, level={0}")]
pub struct LevelError(String);

/// Standard error, shared by the logs and the status line. Clones are the same screen.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Mutex<Inner>>,
    is_terminal: bool,
}

struct Inner {
    out: Box<dyn Write + Send>,
    /// What stands in the last line; empty for nothing.
    line: String,
}

/// Starts logging to standard error: with colours on a terminal, plain in a pipe. Once per process; a second call
/// leaves the first one's logging in place.
///
/// # Errors
/// [`LevelError`].
pub fn init_logging(level: &str) -> Result<Screen, LevelError> {
    // Python's word for it, which the reference's .env files have.
    let directives = if level.eq_ignore_ascii_case("warning") { "warn" } else { level };
    let filter = EnvFilter::builder().parse(directives).map_err(|_| LevelError(level.to_owned()))?;
    let screen = Screen::new(Box::new(io::stderr()), io::stderr().is_terminal());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(screen.is_terminal && std::env::var_os("NO_COLOR").is_none())
        .with_writer(screen.clone())
        .try_init();
    Ok(screen)
}

impl Screen {
    fn new(out: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { out, line: String::new() })), is_terminal }
    }

    /// Whether a person watches.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Replaces the line at the bottom; an empty one takes it away. In a pipe there is no such line.
    pub fn show(&self, line: &str) {
        if !self.is_terminal {
            return;
        }
        let mut inner = self.lock();
        inner.line = shown(line);
        // A terminal that went away is no reason to stop.
        let _ = inner.draw();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

impl Inner {
    fn draw(&mut self) -> io::Result<()> {
        let Self { out, line } = self;
        write!(out, "{CLEAR}{NO_WRAP}{line}{WRAP}")?;
        out.flush()
    }

    /// Writes above the line at the bottom.
    fn above(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.line.is_empty() {
            return self.out.write_all(bytes);
        }
        self.out.write_all(CLEAR.as_bytes())?;
        self.out.write_all(bytes)?;
        self.draw()
    }
}

/// Writes whole log lines to a [`Screen`]; the subscriber gives one per call.
#[derive(Debug)]
pub struct LogWriter(Screen);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Colours are the subscriber's own, and it escapes other control characters itself.
        let text = shown_in_colour(&String::from_utf8_lossy(bytes));
        self.0.lock().above(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().out.flush()
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = LogWriter;

    fn make_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A screen that writes to memory.
    pub(in crate::telemetry) fn screen(is_terminal: bool) -> (Screen, Arc<Mutex<Vec<u8>>>) {
        struct Memory(Arc<Mutex<Vec<u8>>>);
        impl Write for Memory {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let memory = Arc::new(Mutex::new(Vec::new()));
        (Screen::new(Box::new(Memory(memory.clone())), is_terminal), memory)
    }

    fn text(memory: &Arc<Mutex<Vec<u8>>>) -> String {
        String::from_utf8(memory.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_log_line_goes_above_the_status_line() {
        let (screen, memory) = screen(true);
        screen.show("status");
        screen.make_writer().write_all(b"log\n").unwrap();
        let status = "\r\x1b[K\x1b[?7lstatus\x1b[?7h";
        assert_eq!(text(&memory), format!("{status}\r\x1b[Klog\n{status}"));
    }

    #[test]
    fn a_pipe_gets_logs_only_and_no_control_characters() {
        let (screen, memory) = screen(false);
        screen.show("status");
        screen.make_writer().write_all(b"log\n").unwrap();
        assert_eq!(text(&memory), "log\n");
    }

    #[test]
    fn a_log_line_keeps_its_colours_and_turns_no_text_around() {
        let (screen, memory) = screen(false);
        screen.make_writer().write_all("\x1b[31mname=a\u{202E}b ü\x1b[0m\n".as_bytes()).unwrap();
        assert_eq!(text(&memory), "\x1b[31mname=a\\u{202e}b ü\x1b[0m\n");
    }

    #[test]
    fn a_status_cannot_break_the_line() {
        let (screen, memory) = screen(true);
        screen.show("a\nb\x1b[2J");
        assert!(text(&memory).contains("la\\nb\\u{1b}[2J\x1b[?7h"));
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(init_logging("wasmill=shout").unwrap_err().to_string().contains("level=wasmill=shout"));
    }
}
