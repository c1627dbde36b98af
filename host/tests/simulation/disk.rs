//! A disk that forgets: what was not synced is lost, torn or out of order after a power loss, and any operation may
//! be the last of a process.

use crate::random::Random;
use crate::turns::Turns;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use wasmill::disk::{Disk, DiskFile, Entry, Lock};

/// `EIO`, which `std` has no `ErrorKind` for.
const EIO: i32 = 5;

/// What the disk itself can and cannot do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Whether a file may have two names.
    pub(crate) links: bool,
    /// Whether locks keep anybody out.
    pub(crate) locks: bool,
}

/// What is wrong with it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There is no room.
    Full,
    /// Nothing may be changed.
    ReadOnly,
    /// Syncs fail, and what was to be synced may never be.
    SyncFails,
}

/// How a process ends at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Everything written survives.
    Kill,
    /// What was not synced may not.
    PowerLoss,
}

/// The disk that all processes share.
pub(crate) struct Platter {
    state: Mutex<State>,
    watch: Watch,
}

/// Sees every name that a file gets, with the file's bytes, and every power loss.
pub(crate) type Watch = Box<dyn Fn(Seen<'_>) + Send + Sync>;

/// What a watch sees.
pub(crate) enum Seen<'a> {
    /// A file got a name.
    Named(&'a Path, &'a [u8]),
    /// These names are left after a power loss.
    Left(&'a BTreeSet<PathBuf>),
    /// Something was done.
    Done(&'a dyn fmt::Display),
}

struct State {
    kind: Kind,
    random: Random,
    inodes: HashMap<u64, Inode>,
    next: u64,
    /// As processes see it.
    names: BTreeMap<PathBuf, Node>,
    /// As it would be after a power loss that loses all it can.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names that no sync has made durable yet; each happens as a whole.
    pending: Vec<Vec<(PathBuf, Option<Node>)>>,
    /// Who holds which lock: the number of the process.
    locks: BTreeMap<PathBuf, u64>,
    processes: u64,
    power_losses: u64,
    trouble: Option<(Trouble, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(u64),
    Folder,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// So many of them are durable,
    synced: usize,
    /// but for these: a sync of them failed.
    holes: Vec<(usize, usize)>,
}

impl Platter {
    pub(crate) fn new(kind: Kind, random: Random, watch: Watch) -> Arc<Self> {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Folder)]);
        let state = State {
            kind,
            random,
            inodes: HashMap::new(),
            next: 0,
            names: root.clone(),
            durable: root,
            pending: Vec::new(),
            locks: BTreeMap::new(),
            processes: 0,
            power_losses: 0,
            trouble: None,
        };
        Arc::new(Self { state: Mutex::new(state), watch })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no operation panics")
    }

    /// All processes end.
    fn lose_power(&self, state: &mut State) {
        state.lose_power();
        (self.watch)(Seen::Done(&"the power is lost"));
        (self.watch)(Seen::Left(&state.names.keys().cloned().collect()));
    }

    /// Goes wrong for so many operations.
    pub(crate) fn trouble(&self, trouble: Trouble, operations: usize) {
        self.state().trouble = Some((trouble, operations));
    }

    /// All is well from here on.
    pub(crate) fn mend(&self) {
        self.state().trouble = None;
    }

    /// All files' names and bytes below a folder.
    pub(crate) fn files(&self, below: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        let files = state.names.iter().filter(|(path, _)| path.starts_with(below));
        files
            .filter_map(|(path, node)| match node {
                Node::File(inode) => Some((path.clone(), state.inodes[inode].bytes.clone())),
                Node::Folder => None,
            })
            .collect()
    }

    /// Takes a file away for good, as its owner may.
    pub(crate) fn take(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.names.remove(path) else { return None };
        state.durable.remove(path);
        for change in &mut state.pending {
            change.retain(|(changed, _)| changed != path);
        }
        Some(state.inodes[&inode].bytes.clone())
    }
}

impl State {
    fn lose_power(&mut self) {
        // All that can be lost, nothing, or as chance has it.
        let kept = [0, 100, 50][self.random.below(3)];
        for change in std::mem::take(&mut self.pending) {
            if self.random.percent(kept) {
                apply(&mut self.durable, change);
            }
        }
        let folders: BTreeSet<PathBuf> =
            self.durable.iter().filter(|(_, node)| **node == Node::Folder).map(|(path, _)| path.clone()).collect();
        // A name is found when every folder on the way to it is.
        self.durable.retain(|path, _| path.ancestors().skip(1).all(|folder| folders.contains(folder)));
        self.names.clone_from(&self.durable);
        let left: BTreeSet<u64> =
            self.names.values().filter_map(|n| if let Node::File(inode) = n { Some(*inode) } else { None }).collect();
        let mut inodes: Vec<u64> = left.into_iter().collect();
        inodes.sort_unstable();
        let mut kept_inodes = HashMap::new();
        for number in inodes {
            let mut inode = self.inodes.remove(&number).expect("every name has an inode");
            inode.tear(kept, &mut self.random);
            kept_inodes.insert(number, inode);
        }
        self.inodes = kept_inodes;
        self.locks.clear();
        self.power_losses += 1;
        self.trouble = None;
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Vec<(PathBuf, Option<Node>)>) {
        apply(&mut self.names, change.clone());
        self.pending.push(change);
    }

    /// A new, empty file.
    fn make(&mut self, path: &Path) -> io::Result<u64> {
        self.folder_of(path)?;
        let inode = self.next;
        self.next += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(vec![(path.to_owned(), Some(Node::File(inode)))]);
        Ok(inode)
    }

    fn folder_of(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().and_then(|folder| self.names.get(folder));
        if folder == Some(&Node::Folder) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// Makes the names in a folder durable.
    fn sync_folder(&mut self, folder: &Path) {
        for change in std::mem::take(&mut self.pending) {
            if change.iter().any(|(path, _)| path.parent() == Some(folder)) {
                apply(&mut self.durable, change);
            } else {
                self.pending.push(change);
            }
        }
    }

    fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("an inode stays while power does")
    }

    /// Makes a file's bytes durable.
    fn sync_file(&mut self, number: u64) -> io::Result<()> {
        if let Err(error) = self.trouble_with(What::Sync) {
            // What a sync failed to write may be lost, whatever later syncs say.
            if self.random.percent(50) {
                let inode = self.inode(number);
                let unsynced = (inode.synced, inode.bytes.len());
                inode.holes.push(unsynced);
            }
            return Err(error);
        }
        let inode = self.inode(number);
        inode.synced = inode.bytes.len();
        Ok(())
    }

    /// What is wrong with an operation, if anything is.
    fn trouble_with(&mut self, what: What) -> io::Result<()> {
        let Some((trouble, left)) = &mut self.trouble else { return Ok(()) };
        let hit = match trouble {
            Trouble::Full => matches!(what, What::Write | What::Name),
            Trouble::ReadOnly => what != What::Look,
            Trouble::SyncFails => what == What::Sync,
        };
        let error = match trouble {
            Trouble::Full => ErrorKind::StorageFull.into(),
            Trouble::ReadOnly => ErrorKind::ReadOnlyFilesystem.into(),
            Trouble::SyncFails => io::Error::from_raw_os_error(EIO),
        };
        if !hit {
            return Ok(());
        }
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.trouble = None;
        }
        Err(error)
    }
}

impl Inode {
    fn tear(&mut self, kept: usize, random: &mut Random) {
        let unsynced = self.bytes.len() - self.synced;
        let keep = match kept {
            0 => 0,
            100 => unsynced,
            _ => random.between(0, unsynced),
        };
        self.bytes.truncate(self.synced + keep);
        let mut from = self.synced;
        while from < self.bytes.len() && kept < 100 {
            let to = self.bytes.len().min(from + random.between(1, 512));
            if random.percent(30) {
                self.bytes[from..to].fill(0);
            }
            from = to;
        }
        let length = self.bytes.len();
        for (from, to) in std::mem::take(&mut self.holes) {
            self.bytes[from.min(length)..to.min(length)].fill(0);
        }
        self.synced = length;
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: Vec<(PathBuf, Option<Node>)>) {
    for (path, node) in change {
        match node {
            Some(node) => names.insert(path, node),
            None => names.remove(&path),
        };
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Look,
    Write,
    Name,
    Remove,
    Sync,
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
