//! What is on the disk that all processes share: bytes and names, and which of them a power loss leaves.

use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

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

/// The disk that all processes share.
pub(crate) struct Platter {
    state: Mutex<State>,
    pub(crate) watch: Watch,
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

pub(crate) struct State {
    pub(crate) kind: Kind,
    random: Random,
    pub(crate) inodes: HashMap<u64, Inode>,
    next: u64,
    /// As processes see it.
    pub(crate) names: BTreeMap<PathBuf, Node>,
    /// As it would be after a power loss that loses all it can.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names that no sync has made durable yet; each happens as a whole.
    pending: Vec<Vec<(PathBuf, Option<Node>)>>,
    /// Who holds which lock: the number of the process.
    pub(crate) locks: BTreeMap<PathBuf, u64>,
    pub(crate) processes: u64,
    pub(crate) power_losses: u64,
    trouble: Option<(Trouble, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(u64),
    Folder,
}

#[derive(Debug, Default)]
pub(crate) struct Inode {
    pub(crate) bytes: Vec<u8>,
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

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no operation panics")
    }

    /// All processes end.
    pub(crate) fn lose_power(&self, state: &mut State) {
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

    /// Puts these files in the place of all that is below a path, for good, as an operator may.
    pub(crate) fn replace(&self, below: &Path, files: &[(PathBuf, Vec<u8>)]) {
        let mut state = self.state();
        let is_replaced = |path: &Path, node: &Node| path.starts_with(below) && *node != Node::Folder;
        state.names.retain(|path, node| !is_replaced(path, node));
        state.durable.retain(|path, node| !is_replaced(path, node));
        for change in &mut state.pending {
            change.retain(|(changed, node)| !changed.starts_with(below) || *node == Some(Node::Folder));
        }
        for (path, bytes) in files {
            let inode = state.next;
            state.next += 1;
            state.inodes.insert(inode, Inode { bytes: bytes.clone(), synced: bytes.len(), holes: Vec::new() });
            let folders = path.ancestors().skip(1).map(|folder| (folder.to_owned(), Node::Folder));
            for (path, node) in folders.chain([(path.clone(), Node::File(inode))]) {
                state.names.insert(path.clone(), node);
                state.durable.insert(path, node);
            }
        }
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

    pub(crate) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn change(&mut self, change: Vec<(PathBuf, Option<Node>)>) {
        apply(&mut self.names, change.clone());
        self.pending.push(change);
    }

    /// A new, empty file.
    pub(crate) fn make(&mut self, path: &Path) -> io::Result<u64> {
        self.folder_of(path)?;
        let inode = self.next;
        self.next += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(vec![(path.to_owned(), Some(Node::File(inode)))]);
        Ok(inode)
    }

    pub(crate) fn folder_of(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().and_then(|folder| self.names.get(folder));
        if folder == Some(&Node::Folder) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_folder(&mut self, folder: &Path) {
        for change in std::mem::take(&mut self.pending) {
            if change.iter().any(|(path, _)| path.parent() == Some(folder)) {
                apply(&mut self.durable, change);
            } else {
                self.pending.push(change);
            }
        }
    }

    pub(crate) fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("an inode stays while power does")
    }

    /// Makes a file's bytes durable.
    pub(crate) fn sync_file(&mut self, number: u64) -> io::Result<()> {
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
    pub(crate) fn trouble_with(&mut self, what: What) -> io::Result<()> {
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
pub(crate) enum What {
    Look,
    Write,
    Name,
    Remove,
    Sync,
}
