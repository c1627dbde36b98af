//! wasmill in a mount namespace of its own: its disks can be small, full, read-only or forbidden to it.

use super::job::{self, Job, Running};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A run that sees the disks a test gives it. What they held at the end is where it would be without them.
pub(crate) struct Jail {
    running: Running,
}

/// Whether there are mount namespaces; says so where not.
///
/// # Panics
/// Where there are none although `CI` is set: there it must.
pub(crate) fn are_allowed() -> bool {
    let allowed = job::succeeds("unshare", &["--map-root-user", "--mount", "true"]);
    assert!(allowed || std::env::var_os("CI").is_none(), "disk faults need mount namespaces, and there are none");
    if !allowed {
        println!("left out, disk faults: this machine gives no mount namespaces");
    }
    allowed
}

impl Jail {
    /// Starts a run whose folder `disk` is a tmpfs with these mount options.
    pub(crate) fn start(job: &Job, disk: &Path, options: &str, args: &[&str]) -> Self {
        std::fs::create_dir_all(disk).unwrap();
        // Copied, not moved, to the real folder, which the namespace hides behind the disk.
        let script = "mount -t tmpfs -o \"$1\" tmpfs \"$0\" && shift && \"$@\"; \
             code=$?; rm -rf \"$0/ballast\"; cp -r \"$0\" \"$0.kept\"; exit $code";
        let wasmill = job.command(args);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(disk).arg(options);
        command.arg(wasmill.get_program()).args(wasmill.get_args());
        command.envs(wasmill.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self { running: Running::start(command) }
    }

    /// Waits until the run has said this so many times.
    pub(crate) fn wait_for(&self, text: &str, times: usize) {
        self.running.wait_for_many(text, times);
    }

    /// Where the run sees a path.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root{}", self.running.id(), path.display())).to_owned()
    }

    /// Runs a command on what the run sees.
    pub(crate) fn inside(&self, script: &str, path: &Path) {
        let id = self.running.id().to_string();
        let args = ["--target", &id, "--user", "--preserve-credentials", "--mount", "sh", "-c", script];
        assert!(job::succeeds("nsenter", &[&args[..], &[path.to_str().unwrap()]].concat()), "{script}");
    }

    /// Fills a disk to its last byte and its last file.
    pub(crate) fn fill(&self, disk: &Path) {
        let ballast = self.path(disk).join("ballast");
        std::fs::create_dir(&ballast).unwrap();
        let mut file = std::fs::File::create(ballast.join("bytes")).unwrap();
        while file.write(&[0; 4096]).is_ok() {}
        for number in 0.. {
            if std::fs::File::create(ballast.join(number.to_string())).is_err() {
                break;
            }
        }
    }

    /// Makes room on it again.
    pub(crate) fn make_room(&self, disk: &Path) {
        std::fs::remove_dir_all(self.path(disk).join("ballast")).unwrap();
    }

    /// Asks wasmill, not the shell around it, to stop.
    pub(crate) fn stop(&self, checkpoints: &Path) {
        let holder = std::fs::read_to_string(self.path(checkpoints).join("LOCK")).unwrap();
        assert!(job::succeeds("kill", &["-TERM", holder.split(' ').nth(1).unwrap()]));
    }

    /// Waits for the end, which must be a good one, and puts what the disk held into the real folder.
    pub(crate) fn finish(self, disk: &Path) -> job::Finished {
        let end = self.running.finish().expect(0);
        std::fs::remove_dir_all(disk).unwrap();
        std::fs::rename(disk.with_extension("kept"), disk).unwrap();
        end
    }
}
