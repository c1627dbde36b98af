//! What an operator does to the checkpoint folder: it is lost, or an older copy takes its place; and what another pipeline
//! has in the same output.

use crate::random::Random;
use crate::world::{CHECKPOINTS, Files, OUTPUT, World};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wasmill::sink::{Committed, Format, LEDGER, Origin};
use wasmill_pipeline::checkpoint::Boundary;

/// What is in a folder.
type Contents = Vec<(PathBuf, Vec<u8>)>;

/// The identity of another pipeline's checkpoint folder.
const STRANGER: &str = "00000000deadbeef";

/// What was done to the checkpoint folder.
#[derive(Debug, Default)]
pub(crate) struct Meddling {
    /// Copies of it.
    copies: Vec<Contents>,
    /// What it had before it was lost, or a copy took its place, and the checkpoints that existed then.
    newest: Option<(Contents, BTreeMap<u64, Files>)>,
    /// Whether it was decided to begin anew.
    pub(crate) anew: bool,
}

impl Meddling {
    /// Whether the folder is not the newest.
    pub(crate) fn is_under_way(&self) -> bool {
        self.newest.is_some()
    }

    /// Whether the newest folder may still be put back.
    pub(crate) fn can_be_undone(&self) -> bool {
        self.newest.is_some() && !self.anew
    }
}

impl World {
    /// Now and then, while no process runs: the folder is copied, is lost, or a copy takes its place.
    pub(crate) fn meddle(&self, random: &mut Random) {
        if !self.rules.meddled || self.now().meddling.is_under_way() {
            return;
        }
        let there = self.platter.files(Path::new(CHECKPOINTS));
        let mut now = self.now();
        let put = match random.below(6) {
            0 | 1 => {
                now.meddling.copies.push(there);
                return;
            }
            2 => Contents::new(),
            3 | 4 => match random.pick(&now.meddling.copies) {
                Some(copy) => copy.clone(),
                None => return,
            },
            _ => return,
        };
        self.tell(format_args!("the checkpoint folder is lost, with {} of {} files back", put.len(), there.len()));
        now.meddling.newest = Some((there, self.log().checkpoints()));
        drop(now);
        self.platter.replace(Path::new(CHECKPOINTS), &put);
        self.log().only_of(&put);
    }

    /// The newest folder takes its place again.
    pub(crate) fn put_back(&self) {
        let Some((there, checkpoints)) = self.now().meddling.newest.take() else { return };
        self.tell(format_args!("the newest checkpoint folder is put back"));
        self.platter.replace(Path::new(CHECKPOINTS), &there);
        self.log().put_back(checkpoints);
    }

    /// It is decided that all is read again: what there was counts for nothing.
    pub(crate) fn decide_to_begin_anew(&self) {
        let mut now = self.now();
        now.meddling.anew = true;
        now.taken.clear();
        now.fresh.clear();
        drop(now);
        self.log().only_of(&Contents::new());
    }

    /// A process goes on from what there is: from now on that is the newest.
    pub(crate) fn accept(&self) {
        let mut now = self.now();
        if now.meddling.is_under_way() || now.meddling.anew {
            now.meddling = Meddling::default();
        }
    }

    /// Puts into the output what a pipeline of the same name has there, which reads another topic from another folder.
    pub(crate) fn share_output(&self) {
        let path = format!("events_raw/part-simulated-{STRANGER}-1-w0-0.csv");
        let line = Committed {
            path: path.clone(),
            output: "events_raw".into(),
            format: Format::Csv,
            rows: 1,
            bytes: 1,
            origin: Origin::from_iter([("wasmill.topic".to_owned(), "another".to_owned())]),
            until: Boundary { checkpoint: 1_000_000, offsets: BTreeMap::new(), watermark_us: None },
            committed_us: i64::MAX,
        };
        let mut noted = serde_json::to_vec(&line).expect("a line has a form in JSON");
        noted.push(b'\n');
        let ledger = Path::new(OUTPUT).join(LEDGER).join(format!("1970-01-01/simulated-{STRANGER}-1000000.jsonl"));
        self.platter.replace(&ledger, &[(ledger.clone(), noted)]);
        self.platter.replace(&staged_of_stranger(), &[(staged_of_stranger(), b"n\n1\n".to_vec())]);
    }

    /// Whether the other pipeline's staged file is there, if it has one.
    pub(crate) fn strangers_file_is_there(&self) -> bool {
        !self.rules.shared || !self.platter.files(&staged_of_stranger()).is_empty()
    }
}

/// Its checkpoint's file, which is to be committed one day.
fn staged_of_stranger() -> PathBuf {
    Path::new(OUTPUT).join(format!("_staging/events_raw/part-simulated-{STRANGER}-1-w0-1.csv.tmp"))
}
