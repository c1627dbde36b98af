//! What people write: the pipeline file, `.env`, durations and sizes.

use std::time::{Duration, Instant};
use wasmill::config::{DotEnv, Loader, Overrides, format_duration, format_size, parse_duration, parse_size};

/// The longest that reading may take for each byte, with room for a machine under load: a file that takes twice as
/// long when it is twice as large stays far below, one that takes four times as long does not for long.
const PATIENCE_PER_BYTE: Duration = Duration::from_micros(100);

/// A pipeline file, some variables of which are set. It is a configuration, which can be shown, or has mistakes, each
/// of which says something; and it takes time in proportion to its size.
pub fn pipeline_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let env = |name: &str| match name {
        "KAFKA_TOPIC" => Some("clicks".to_owned()),
        "RUN_ID" => Some(String::new()),
        "A" => Some("${A} \" [x]\n$$".to_owned()),
        _ => None,
    };
    let overrides = Overrides::default();
    let began = Instant::now();
    let read = Loader { env: &env, overrides: &overrides, check_files: false }.pipeline_text("p.toml", text);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1) + PATIENCE_PER_BYTE * text.len() as u32, "{took:?} for {} bytes", text.len());
    match read {
        Ok(config) => {
            let shown = config.redacted();
            assert!(!shown.starts_with("# it cannot be shown"), "{shown}");
            assert_eq!(config.spec().aggregates.len(), config.aggregates.len());
        }
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty() && mistakes.0.iter().all(|mistake| !mistake.text.is_empty()), "{mistakes}");
        }
    }
}

/// A `.env` file, whose lines are durations and sizes, too. What is read is written so that it is read as the same.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(wrong) = DotEnv::parse(text) {
        assert!(wrong.starts_with("line "), "{wrong}");
    }
    for line in text.lines() {
        match parse_duration(line) {
            Ok(duration) => assert_eq!(parse_duration(&format_duration(duration)), Ok(duration)),
            Err(wrong) => assert!(wrong.contains("; write "), "{wrong}"),
        }
        match parse_size(line) {
            Ok(bytes) => assert_eq!(parse_size(&format_size(bytes)), Ok(bytes)),
            Err(wrong) => assert!(wrong.contains("; write "), "{wrong}"),
        }
    }
}
