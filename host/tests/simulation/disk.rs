//! A process's way to the disk: any operation may be its last, and others may run before it.

use crate::platter::{Inode, Node, Platter, Seen, State, What};
use crate::random::Random;
use crate::turns::Turns;
use std::fmt;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use wasmill::disk::{Disk, DiskFile, Entry, Lock};

/// How a process ends at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Everything written survives.
    Kill,
    /// What was not synced may not.
    PowerLoss,
}

/// One process's way to the disk, which dies with it.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Process>);

struct Process {
    platter: Arc<Platter>,
    turns: Arc<Turns>,
    /// Which of the processes that run at a time.
    seat: usize,
    /// Which of all processes that ever ran.
    number: u64,
    /// How often power had been lost when it began.
    power_losses: u64,
    dead: AtomicBool,
    fate: Mutex<Fate>,
}

/// When a process ends, if it ends at an operation.
#[derive(Debug)]
struct Fate {
    random: Random,
    /// Operations left before it.
    left: Option<usize>,
    death: Death,
    /// In how many of a hundred operations another process takes its turn.
    passes: usize,
}

impl SimDisk {
    /// For a new process, which ends after so many operations, if that is set.
    pub(crate) fn new(
        platter: &Arc<Platter>,
        turns: &Arc<Turns>,
        seat: usize,
        mut random: Random,
        end: Option<(usize, Death)>,
    ) -> Self {
        let mut state = platter.state();
        state.processes += 1;
        let passes = [0, 1, 5, 25][random.below(4)];
        let (left, death) = end.map_or((None, Death::Kill), |(left, death)| (Some(left), death));
        Self(Arc::new(Process {
            platter: platter.clone(),
            turns: turns.clone(),
            seat,
            number: state.processes,
            power_losses: state.power_losses,
            dead: AtomicBool::new(false),
            fate: Mutex::new(Fate { random, left, death, passes }),
        }))
    }

    /// Whether the process has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.is_dead(&self.0.platter.state())
    }

    /// Ends the process.
    pub(crate) fn die(&self, death: Death) {
        self.0.die(&mut self.0.platter.state(), death);
    }

    /// Its number among all processes that ever ran.
    pub(crate) fn process(&self) -> u64 {
        self.0.number
    }

    fn writer(&self, path: &Path, inode: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { process: self.0.clone(), path: path.to_owned(), inode })
    }
}

impl Process {
    fn is_dead(&self, state: &State) -> bool {
        self.dead.load(Ordering::SeqCst) || state.power_losses != self.power_losses
    }

    fn die(&self, state: &mut State, death: Death) {
        self.dead.store(true, Ordering::SeqCst);
        state.locks.retain(|_, holder| *holder != self.number);
        match death {
            Death::Kill => (self.platter.watch)(Seen::Done(&format_args!("process {} is killed", self.number))),
            Death::PowerLoss => self.platter.lose_power(state),
        }
    }

    /// One operation: the process may end before it and after it, and others may run before it.
    fn operate<T>(
        &self,
        what: What,
        told: fmt::Arguments<'_>,
        action: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut fate = self.fate.lock().expect("no operation panics");
        let passes = fate.passes;
        if fate.random.percent(passes) {
            self.turns.pass(self.seat);
        }
        let mut state = self.platter.state();
        if self.is_dead(&state) {
            return Err(ended());
        }
        if what == What::Look {
            return action(&mut state);
        }
        let last = fate.left == Some(0);
        fate.left = fate.left.map(|left| left.saturating_sub(1));
        if last && fate.random.percent(50) {
            self.die(&mut state, fate.death);
            return Err(ended());
        }
        let result = action(&mut state);
        let outcome = if result.is_ok() { "" } else { ": fails" };
        (self.platter.watch)(Seen::Done(&format_args!("  {} {told}{outcome}", self.number)));
        if last {
            self.die(&mut state, fate.death);
            // A lock that was just taken is given back on dropping the result, which asks for the state.
            drop(state);
            return Err(ended());
        }
        result
    }

    /// Lets others run right before a checkpoint exists, which is where fencing is decided.
    fn stall_before(&self, path: &Path) {
        let decisive = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"manifest-"));
        if decisive && self.fate.lock().expect("no operation panics").random.percent(30) {
            self.turns.pass(self.seat);
        }
    }

    /// Gives a file a name and tells the watch of it.
    fn name(&self, state: &mut State, inode: u64, change: Vec<(PathBuf, Option<Node>)>) {
        let to = change.last().expect("a change has a name").0.clone();
        state.change(change);
        (self.platter.watch)(Seen::Named(&to, &state.inodes[&inode].bytes));
    }
}

/// What a process that has ended hears from the disk.
fn ended() -> io::Error {
    io::Error::other("the process has ended")
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk of process {}", self.0.number)
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.0.operate(What::Name, format_args!("creates {}", path.display()), |state| {
            state.trouble_with(What::Name)?;
            match state.file(path) {
                Ok(inode) => {
                    state.inodes.insert(inode, Inode::default());
                    Ok(inode)
                }
                Err(error) if error.kind() == ErrorKind::NotFound => state.make(path),
                Err(error) => Err(error),
            }
        })?;
        Ok(self.writer(path, inode))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.0.operate(What::Name, format_args!("creates {}", path.display()), |state| {
            state.trouble_with(What::Name)?;
            if state.names.contains_key(path) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            state.make(path)
        })?;
        Ok(self.writer(path, inode))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.0.operate(What::Name, format_args!("appends to {}", path.display()), |state| {
            state.trouble_with(What::Name)?;
            match state.file(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => state.make(path),
                found => found,
            }
        })?;
        Ok(self.writer(path, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(Cursor::new(self.read(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.operate(What::Look, format_args!(""), |state| Ok(state.inodes[&state.file(path)?].bytes.clone()))
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        self.0.operate(What::Look, format_args!(""), |state| {
            let length = |node: &Node| match node {
                Node::File(inode) => state.inodes[inode].bytes.len() as u64,
                Node::Folder => 0,
            };
            Ok(state.names.get(path).map(length))
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.stall_before(to);
        self.0.operate(What::Name, format_args!("links {}", to.display()), |state| {
            state.trouble_with(What::Name)?;
            let inode = state.file(from)?;
            state.folder_of(to)?;
            if !state.kind.links {
                return Err(ErrorKind::PermissionDenied.into());
            }
            if state.names.contains_key(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            self.0.name(state, inode, vec![(to.to_owned(), Some(Node::File(inode)))]);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.operate(What::Name, format_args!("renames to {}", to.display()), |state| {
            state.trouble_with(What::Name)?;
            let inode = state.file(from)?;
            state.folder_of(to)?;
            self.0.name(state, inode, vec![(from.to_owned(), None), (to.to_owned(), Some(Node::File(inode)))]);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.operate(What::Remove, format_args!("removes {}", path.display()), |state| {
            state.trouble_with(What::Remove)?;
            state.file(path)?;
            state.change(vec![(path.to_owned(), None)]);
            Ok(())
        })
    }

    fn make_folders(&self, path: &Path) -> io::Result<()> {
        self.0.operate(What::Name, format_args!("makes {}", path.display()), |state| {
            let mut missing: Vec<&Path> =
                path.ancestors().take_while(|folder| !state.names.contains_key(*folder)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            state.trouble_with(What::Name)?;
            while let Some(folder) = missing.pop() {
                state.change(vec![(folder.to_owned(), Some(Node::Folder))]);
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.0.operate(What::Look, format_args!(""), |state| {
            if state.names.get(path) != Some(&Node::Folder) {
                return Err(ErrorKind::NotFound.into());
            }
            let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
            let entry = |(name, node): (&PathBuf, &Node)| Entry {
                name: name.file_name().expect("it is in a folder").to_owned(),
                is_folder: *node == Node::Folder,
            };
            Ok(inside.map(entry).collect())
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.0.operate(What::Sync, format_args!("syncs {}", path.display()), |state| match state.names.get(path) {
            None => Err(ErrorKind::NotFound.into()),
            Some(Node::File(inode)) => {
                let inode = *inode;
                state.sync_file(inode)
            }
            Some(Node::Folder) => {
                state.trouble_with(What::Sync)?;
                state.sync_folder(path);
                Ok(())
            }
        })
    }

    fn lock(&self, path: &Path, _holder: &str) -> io::Result<Option<Lock>> {
        self.0.operate(What::Name, format_args!("locks {}", path.display()), |state| {
            state.trouble_with(What::Name)?;
            if !state.names.contains_key(path) {
                state.make(path)?;
            }
            if state.kind.locks && state.locks.contains_key(path) {
                return Ok(None);
            }
            state.locks.insert(path.to_owned(), self.0.number);
            Ok(Some(Box::new(Held { process: self.0.clone(), path: path.to_owned() }) as Lock))
        })
    }
}

/// A lock that is given back when this is dropped.
struct Held {
    process: Arc<Process>,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.process.platter.state();
        // A dead process's lock was given back when it died, and may be another's since.
        if state.locks.get(&self.path) == Some(&self.process.number) {
            state.locks.remove(&self.path);
        }
    }
}

/// A file that a process is writing.
struct SimFile {
    process: Arc<Process>,
    path: PathBuf,
    inode: u64,
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let told = format_args!("writes {} bytes to {}", bytes.len(), self.path.display());
        self.process.operate(What::Write, told, |state| {
            state.trouble_with(What::Write)?;
            state.inode(self.inode).bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        let told = format_args!("syncs {}", self.path.display());
        self.process.operate(What::Sync, told, |state| state.sync_file(self.inode))
    }
}
