//! What the terminal shows: logs, and a status that is one refreshed line or, in a pipe, a log line now and then.

mod answer;
mod line;
mod logging;
mod rate;
mod text;

pub use answer::{render_answer, render_report};
pub use line::{StatusReporter, status_line};
pub use logging::{LevelError, Screen, init_logging};
pub use rate::Rate;
pub use text::render_status;
