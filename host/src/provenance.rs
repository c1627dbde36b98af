//! What every output file of a run says of its origin besides plugins and offsets.

use std::path::{Component, Path, PathBuf};
use wasmill_pipeline::window::DATA_VERSION;

/// Keys and values of the files' [`Origin`](crate::sink::Origin).
///
/// `wasmill.version`, `wasmill.pipeline`, `wasmill.run` (of an isolated run), `wasmill.topic`, `wasmill.config` (the SHA-256
/// of the configuration in effect), `wasmill.time-zones` (the version of the IANA database, where windows or folders go by a
/// time zone's calendar) and `wasmill.checkpoints`: the checkpoint folder, relative to the output root, so that both may be
/// moved together.
pub fn of(
    pipeline: &str,
    run: Option<&str>,
    topic: &str,
    config_digest: &str,
    output_root: &Path,
    checkpoints: &Path,
    by_calendar: bool,
) -> Vec<(String, String)> {
    let mut entries = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("pipeline", pipeline.to_owned()),
        ("topic", topic.to_owned()),
        ("config", config_digest.to_owned()),
        ("checkpoints", relative(output_root, checkpoints).display().to_string()),
    ];
    entries.extend(run.map(|run| ("run", run.to_owned())));
    entries.extend(by_calendar.then(|| ("time-zones", DATA_VERSION.to_owned())));
    entries.into_iter().map(|(name, value)| (format!("wasmill.{name}"), value)).collect()
}

/// The way from one folder to another; the other's absolute path where there is none.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let absolute = |path: &Path| std::path::absolute(path).map(|path| tidy(&path));
    let (Ok(from), Ok(to)) = (absolute(from), absolute(to)) else { return to.to_owned() };
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// The path without the names that `..` takes back.
pub fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(tidy.pop()),
            part => tidy.push(part),
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_from_one_folder_to_another() {
        for (from, to, way) in [
            ("/data/out", "/data/out/_checkpoints", "_checkpoints"),
            ("/data/out", "/data/state", "../state"),
            ("/data/out", "/state", "../../state"),
            ("out/x/..", "out/state", "state"),
            ("./out", "state/run", "../state/run"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way), "{from} to {to}");
        }
    }
}
