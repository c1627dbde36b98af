//! The failpoints that a process comes to only where plugins are replaced: `swap_table` dies at each of them, and
//! `crashes` at all others.

/// In the order in which a swap comes to them, then those of taking one back, and of swaps when a process starts.
pub(crate) const OF_SWAPS: [&str; 12] = [
    "all-stand-still",
    "upgrades-sent",
    "gone-on",
    "boundary-published",
    "versions-changed",
    "versions-in-force",
    "confirmation-published",
    "swap-confirmed",
    "going-back",
    "went-back",
    "open-file-held",
    "files-swapped-in",
];
