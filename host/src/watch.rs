//! Plugin files that change while the pipeline runs: each new version is asked for as a swap.
//!
//! A file is looked at twice a second by its length, times and number (inode). It is read when two looks in a row have
//! found the same, and taken when nothing changed while it was read and it is there to its end. So it does not matter
//! whether a build writes it in place, bit by bit, or renames another one over it.

use crate::files;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};

use crate::admin::control::{Ask, Candidate, MAX_COMPONENT_BYTES, Refusal, RefusalKind, Reply, Request};
use crate::plugin;

/// How often files are looked at: a person does not notice half a second, and a handful of files costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After how many looks a change is asked for again that could not be made just then: five seconds.
const AGAIN_AFTER_LOOKS: u32 = 10;

/// A plugin whose file has another content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The plugin's name in the pipeline file.
    pub plugin: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: String,
}

/// What of a file tells that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    number: u64,
    length: u64,
    modified: (i64, i64),
    /// The time of the file's entry: it changes even where the time of its content is set back.
    changed: (i64, i64),
}

impl From<&fs::Metadata> for Stamp {
    fn from(of: &fs::Metadata) -> Self {
        Self {
            device: of.dev(),
            number: of.ino(),
            length: of.len(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}

/// One file.
#[derive(Debug)]
struct Watched {
    plugin: String,
    path: PathBuf,
    /// What the last look found.
    last: Option<Stamp>,
    /// What was dealt with.
    done: Option<Stamp>,
    /// The content that was dealt with; `None` = none yet.
    digest: Option<String>,
}

/// Looks at files. It knows neither threads nor time: whoever calls [`Watcher::look`] decides how often.
#[derive(Debug)]
pub struct Watcher {
    files: Vec<Watched>,
}

impl Watcher {
    /// A watcher of these files, by the names of their plugins.
    ///
    /// `known` are the digests that are no change, by plugin. With the digests in force, a file that is another one from
    /// the first look on is a change; for a plugin that is not in `known`, the first content that is found is none.
    pub fn new(files: Vec<(String, PathBuf)>, known: &BTreeMap<String, String>) -> Self {
        let watched = |(plugin, path): (String, PathBuf)| {
            let digest = known.get(&plugin).cloned();
            Watched { plugin, path, last: None, done: None, digest }
        };
        Self { files: files.into_iter().map(watched).collect() }
    }

    /// Looks at each file, and gives those that have another content since, are whole, and have stopped changing.
    pub fn look(&mut self) -> Vec<Changed> {
        self.files.iter_mut().filter_map(Watched::look).collect()
    }
}

impl Watched {
    fn look(&mut self) -> Option<Changed> {
        // A file that is away for a moment, or for good, is not another version.
        let stamp = fs::metadata(&self.path).ok().filter(fs::Metadata::is_file).map(|of| Stamp::from(&of));
        let settled = stamp.is_some() && stamp == self.last;
        self.last = stamp;
        if !settled || stamp == self.done {
            return None;
        }
        let bytes = match read(&self.path, stamp?) {
            Ok(Some(bytes)) => bytes,
            // It changed meanwhile: the next looks see.
            Ok(None) => return None,
            Err(error) => {
                self.done = stamp;
                self.tell(&format!("it cannot be read: {error}"));
                return None;
            }
        };
        self.done = stamp;
        if !plugin::is_whole(&bytes) {
            self.tell("it is no component, or not all of one yet");
            return None;
        }
        let digest = plugin::digest(&bytes);
        let before = self.digest.replace(digest.clone());
        (before.is_some_and(|before| before != digest)).then(|| Changed { plugin: self.plugin.clone(), bytes, digest })
    }

    /// Says, once for each state of the file, why it is not taken.
    fn tell(&self, why: &str) {
        tracing::info!(
            plugin = self.plugin,
            path = %self.path.display(),
            "the changed file is not taken, and is looked at again when it changes: {why}"
        );
    }
}

/// The bytes of a file, if it was this one before and after they were read.
fn read(path: &Path, stamp: Stamp) -> io::Result<Option<Vec<u8>>> {
    let mut file = files::open(path, u64::MAX)?;
    if Stamp::from(&file.metadata()?) != stamp {
        return Ok(None);
    }
    if stamp.length > MAX_COMPONENT_BYTES as u64 {
        return Err(io::Error::other("it is larger than 128 MiB, the most that a component may have"));
    }
    let mut bytes = Vec::new();
    (&mut file).take(stamp.length + 1).read_to_end(&mut bytes)?;
    let same = Stamp::from(&file.metadata()?) == stamp && Stamp::from(&fs::metadata(path)?) == stamp;
    Ok((same && bytes.len() as u64 == stamp.length).then_some(bytes))
}

/// The versions that were found and are not answered yet.
#[derive(Debug)]
struct Door {
    watcher: Watcher,
    pending: BTreeMap<String, Pending>,
}

#[derive(Debug)]
struct Pending {
    changed: Changed,
    /// After how many looks it is asked for.
    wait: u32,
    told: bool,
    /// Where the reply comes, once it was asked for: nobody else's file waits for that.
    asked: Option<Receiver<Reply>>,
}

impl Door {
    fn new(watcher: Watcher) -> Self {
        Self { watcher, pending: BTreeMap::new() }
    }

    /// Looks once, asks for what is due, and hears what was replied; `None` of `ask` ends it.
    fn turn(&mut self, ask: &mut dyn FnMut(&Changed) -> Option<Receiver<Reply>>) -> Option<()> {
        for changed in self.watcher.look() {
            // A newer version takes the place of one that waits.
            self.pending.insert(changed.plugin.clone(), Pending { changed, wait: 0, told: false, asked: None });
        }
        let mut answered = Vec::new();
        for (name, pending) in &mut self.pending {
            if pending.wait > 0 {
                pending.wait -= 1;
                continue;
            }
            let replies = match pending.asked.take() {
                Some(replies) => replies,
                None => ask(&pending.changed)?,
            };
            let reply = match replies.try_recv() {
                Ok(reply) => reply,
                Err(TryRecvError::Empty) => {
                    pending.asked = Some(replies);
                    continue;
                }
                // Whoever had it has gone, as when the pipeline begins again from its last checkpoint.
                Err(TryRecvError::Disconnected) => {
                    let message = "the pipeline ended before it answered".into();
                    Err(Refusal { kind: RefusalKind::Conflict, message })
                }
            };
            match reply {
                Err(refusal) if refusal.kind == RefusalKind::Conflict => {
                    if !pending.told {
                        tracing::info!(plugin = name, "the changed file waits: {}", refusal.message);
                    }
                    pending.told = true;
                    pending.wait = AGAIN_AFTER_LOOKS;
                }
                reply => {
                    tell(&pending.changed, &reply);
                    answered.push(name.clone());
                }
            }
        }
        self.pending.retain(|name, _| !answered.contains(name));
        Some(())
    }
}

fn tell(changed: &Changed, reply: &Reply) {
    let (plugin, digest) = (&changed.plugin, &changed.digest);
    match reply {
        Ok(answer) => tracing::info!(plugin, digest, "the changed file is {}: {}", answer.outcome, answer.message),
        Err(refusal) => tracing::warn!(
            plugin,
            digest,
            "the changed file is refused, and is looked at again when it changes: {}",
            refusal.message
        ),
    }
}

/// Watches until `stop` is closed, or nobody takes requests any more. A change that cannot be made just then is asked
/// for again; one that is refused for another reason is not, until the file changes again.
pub fn watch(watcher: Watcher, requests: &Sender<Request>, stop: &Receiver<()>) {
    let mut door = Door::new(watcher);
    while stop.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        if door.turn(&mut |changed| ask(changed, requests, stop)).is_none() {
            return;
        }
    }
}

/// Asks for a swap, and gives where the reply comes; `None` when nobody takes requests any more.
fn ask(changed: &Changed, requests: &Sender<Request>, stop: &Receiver<()>) -> Option<Receiver<Reply>> {
    let (reply, replies) = bounded(1);
    let component = Candidate::Bytes(changed.bytes.clone());
    let ask = Ask::Swap { plugin: changed.plugin.clone(), component, policy: None, dry_run: false };
    let request = Request { ask, who: "file".into(), reply };
    select! {
        send(requests, request) -> sent => sent.ok().map(|()| replies),
        recv(stop) -> _ => None,
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
