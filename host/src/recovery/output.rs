//! The checkpoint held against the output: whether to go on would write rows a second time, and how to begin anew.
//!
//! The ledger and the names of files tell which checkpoint folder committed what, whatever became of it since: it may have
//! been lost, or be an older copy.

use crate::disk::Disk;
use crate::failure::Failure;
use crate::mutation::{self, Mutation};
use crate::sink::{self, Committed, REPLACED, Work};
use crate::store::{LocalStore, Manifest, is_identity};
use std::fmt;
use std::path::{Path, PathBuf};
use wasmill_pipeline::time::text::instant;

/// Whose output it is.
#[derive(Clone, Debug)]
pub struct Job {
    /// The pipeline's name.
    pub pipeline: String,
    /// The isolated run, if it is one.
    pub run: Option<String>,
    /// The topic read.
    pub topic: String,
    /// The folders of its outputs.
    pub folders: Vec<PathBuf>,
}

impl Job {
    /// By what files are told from those of others that share the output.
    fn name(&self) -> &str {
        self.run.as_deref().unwrap_or(&self.pipeline)
    }

    /// Whether a work is this job's, as far as its name, and a file that was committed with it, can tell.
    fn did(&self, work: &Work, file: Option<&Committed>) -> bool {
        let same_name = sink::run_of(self.name(), &work.id) == sink::run_of(&work.name, &work.id);
        let Some(origin) = file.map(|file| &file.origin) else { return same_name };
        let same = |key: &str, own: Option<&str>| origin.get(key).is_none_or(|other| Some(other) == own);
        same_name && same("topic", Some(&self.topic)) && same("pipeline", Some(&self.pipeline)) && {
            // Only files that say nothing at all say nothing of their run.
            origin.is_empty() || origin.get("run") == self.run.as_deref()
        }
    }
}

/// Why to go on from the checkpoint would write rows a second time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// The identities of the checkpoint folders whose files are there.
    pub ids: Vec<String>,
    what: String,
}

impl fmt::Display for Repetition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        write!(
            f,
            "{what}; going on would write rows a second time that are committed. Put the checkpoint folder back as it was, or \
             write to a new place (OUTPUT_PATH), or start once with --begin-anew: it puts the files of this pipeline aside, \
             below {REPLACED} in the output, and reads everything again that the topic still has"
        )
    }
}

/// Holds the newest checkpoint against what was committed: `None` where it may be gone on from.
///
/// To be called before the checkpoint is taken over.
///
/// # Errors
/// What the file system and the store say; `Corrupt` where the ledger is damaged; `Fenced` where the checkpoint is another
/// process's by now.
pub fn compare(disk: &dyn Disk, root: &Path, job: &Job, store: &LocalStore) -> Result<Option<Repetition>, Failure> {
    let mut newest = store.latest()?;
    loop {
        let Some(found) = against(disk, root, job, store, newest.as_ref())? else { return Ok(None) };
        // Where locks do not work, another process may have made a checkpoint meanwhile and committed its files.
        store.check_newest()?;
        let now = store.latest()?;
        if now.as_ref().map(|now| now.checkpoint) == newest.map(|before| before.checkpoint) {
            return Ok(Some(found));
        }
        newest = now;
    }
}

/// Holds this checkpoint against what was committed.
fn against(
    disk: &dyn Disk,
    root: &Path,
    job: &Job,
    store: &LocalStore,
    newest: Option<&Manifest>,
) -> Result<Option<Repetition>, Failure> {
    let works = sink::works(disk, root)?;
    let repetition = match by_checkpoints(disk, root, &works, store, newest)? {
        None => by_other_folders(disk, &works, job, store, newest)?,
        found => found,
    };
    let repetition = match repetition {
        // Without the ledger the files themselves must do.
        None if !works.iter().any(|work| work.id == store.id() || job.did(work, None)) => {
            by_names(disk, job, store, newest)?
        }
        found => found,
    };
    Ok(repetition.map(|Repetition { ids, what }| {
        let stands = match newest {
            Some(newest) => format!("ends with checkpoint {} of {}", newest.checkpoint, instant(newest.created_at_us)),
            None => "has no checkpoint".to_owned(),
        };
        Repetition { ids, what: format!("the checkpoint folder {} {stands}, but {what}", store.dir().display()) }
    }))
}

/// What this folder, or a copy of it, has committed after its newest checkpoint.
fn by_checkpoints(
    disk: &dyn Disk,
    root: &Path,
    works: &[Work],
    store: &LocalStore,
    newest: Option<&Manifest>,
) -> Result<Option<Repetition>, Failure> {
    if mutation::on(Mutation::OlderCheckpointTaken) {
        return Ok(None);
    }
    let ids = vec![store.id().to_owned()];
    let checkpoint = newest.map_or(0, |manifest| manifest.checkpoint);
    if let Some(work) = works.iter().find(|work| work.id == store.id() && work.checkpoint > checkpoint) {
        let what = told(work, work.a_file(disk)?.as_ref());
        return Ok(Some(Repetition { ids, what }));
    }
    // They may be of a checkpoint that only the copy knows.
    let ahead = sink::newest_staged(disk, root, store.id())?.is_some_and(|generation| generation >= store.generation());
    Ok(ahead.then(|| {
        let what = "`_staging` has files of a process that began later, from another copy of this folder".to_owned();
        Repetition { ids, what }
    }))
}

/// What this job has committed from other folders after the newest checkpoint of this one.
fn by_other_folders(
    disk: &dyn Disk,
    works: &[Work],
    job: &Job,
    store: &LocalStore,
    newest: Option<&Manifest>,
) -> Result<Option<Repetition>, Failure> {
    let (mut ids, mut last) = (Vec::new(), None);
    for work in works.iter().filter(|work| work.id != store.id()) {
        let file = work.a_file(disk)?;
        let committed_us = file.as_ref().map(|file| file.committed_us);
        let later = match newest {
            None => true,
            // Releases before there were identities took the path of the folder for one, which may be this folder's.
            Some(newest) => is_identity(&work.id) && committed_us >= Some(newest.created_at_us),
        };
        if later && job.did(work, file.as_ref()) {
            ids.push(work.id.clone());
            last = last.max(Some((committed_us, told(work, file.as_ref()))));
        }
    }
    let last = last.filter(|_| !mutation::on(Mutation::LostCheckpointIgnored));
    // What is committed from this folder is of no more use then.
    ids.extend(newest.map(|_| store.id().to_owned()));
    Ok(last.map(|(_, committed)| Repetition { ids, what: format!("from another folder {committed}") }))
}

/// Files of this job that no checkpoint here can have made, by their names alone.
fn by_names(
    disk: &dyn Disk,
    job: &Job,
    store: &LocalStore,
    newest: Option<&Manifest>,
) -> Result<Option<Repetition>, Failure> {
    let found = sink::names_of(disk, &job.folders)?;
    let mut others = found.into_iter().filter(|(id, (name, generation, _))| {
        if id == store.id() {
            return newest.is_none() || *generation >= store.generation();
        }
        newest.is_none() && sink::run_of(job.name(), id) == sink::run_of(name, id)
    });
    Ok(others.next().map(|(id, (_, _, path))| {
        let what = format!("there are files such as {}", path.display());
        Repetition { ids: vec![id], what }
    }))
}

/// What was committed last.
fn told(work: &Work, file: Option<&Committed>) -> String {
    let Work { name, checkpoint, noted, .. } = work;
    let at = file.map(|file| format!(" of {}", instant(file.committed_us))).unwrap_or_default();
    format!("files of {name} were committed with checkpoint {checkpoint}{at}, as {} says", noted.display())
}

/// Others that have read the same topic into this output, a sentence each: this pipeline by another name, perhaps.
///
/// # Errors
/// As [`compare`].
pub fn others(disk: &dyn Disk, root: &Path, job: &Job, newest: Option<&Manifest>) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    for work in sink::works(disk, root)?.iter().filter(|work| is_identity(&work.id)) {
        let Some(file) = work.a_file(disk)? else { continue };
        let origin = &file.origin;
        // Dead letters and late rows of all are in the same folders.
        let data = job.folders.iter().filter(|folder| !folder.strip_prefix(root).is_ok_and(is_side));
        let same_place = data.into_iter().any(|folder| root.join(&file.path).starts_with(folder));
        let newer = newest.is_none_or(|own| own.created_at_us < file.committed_us);
        // An isolated run is meant to write everything again.
        let alike = origin.get("topic") == Some(job.topic.as_str()) && job.run.is_none() && origin.get("run").is_none();
        if newer && alike && same_place && origin.get("pipeline") != Some(job.pipeline.as_str()) {
            let (name, at, path) = (&work.name, instant(file.committed_us), &file.path);
            said.push(format!(
                "pipeline {name} has read the same topic into this output, up to {at}: what both have read is there \
                 twice. If it is this one by an older name, put its checkpoint folder back, path={path}"
            ));
        }
    }
    Ok(said)
}

/// Puts aside what these identities and the checkpoint folder have, so that everything is read again. Answers how many
/// files it were.
///
/// # Errors
/// What the file system says: to be called again, by whatever process comes next.
pub fn begin_anew(
    disk: &dyn Disk,
    root: &Path,
    job: &Job,
    store: &mut LocalStore,
    ids: &[String],
    random_bits: u64,
) -> Result<u64, Failure> {
    store.note_beginning_anew(ids)?;
    let moved = sink::move_aside(disk, root, &job.folders, ids)?;
    store.begin_anew(random_bits)?;
    Ok(moved)
}

/// Whether an output's folder is of what was set aside.
fn is_side(folder: &Path) -> bool {
    folder.to_string_lossy().starts_with('_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::sink::{Format, REPLACED, StagedFile, note_files};
    use std::collections::BTreeMap;
    use std::fs;
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use tempfile::TempDir;
    use wasmill_pipeline::checkpoint::Boundary;

    /// An output, and a checkpoint folder beside it.
    struct Place {
        dir: TempDir,
        store: LocalStore,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = open(&dir.path().join("checkpoints"), 7);
            Self { dir, store }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("output")
        }

        /// Commits a file of the folder with this identity, as the job `origin` says.
        fn commit(&self, name: &str, id: &str, checkpoint: u64, origin: &[(&str, &str)]) -> PathBuf {
            let path = format!("pages/part-{}-{checkpoint}-w0-0.csv", sink::run_of(name, id));
            let origin = origin.iter().map(|(key, value)| (format!("wasmill.{key}"), (*value).to_owned()));
            let file = StagedFile {
                output: "pages".into(),
                format: Format::Csv,
                staged: format!("_staging/{path}.tmp"),
                path: path.clone(),
                rows: 1,
                bytes: 1,
                origin: origin.collect(),
            };
            let until = Boundary { checkpoint, offsets: BTreeMap::new(), watermark_us: None };
            note_files(&RealDisk, &self.root(), [&file], &until, i64::try_from(checkpoint).unwrap()).unwrap();
            put(&self.root().join(path))
        }

        fn compare(&self, job: &Job, checkpoint: u64) -> Option<Repetition> {
            let newest =
                (checkpoint > 0).then(|| crate::store::a_manifest(checkpoint, i64::try_from(checkpoint).unwrap()));
            against(&RealDisk, &self.root(), job, &self.store, newest.as_ref()).unwrap()
        }

        fn job(&self) -> Job {
            let (pipeline, topic) = ("clicks".into(), "events".into());
            Job { pipeline, run: None, topic, folders: vec![self.root().join("pages")] }
        }
    }

    fn open(dir: &Path, bits: u64) -> LocalStore {
        LocalStore::open(Arc::new(RealDisk), dir, bits, &mut |_| ControlFlow::Break(())).unwrap()
    }

    fn put(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1").unwrap();
        path.to_owned()
    }

    const OWN: &str = "0000000000000007";
    const OTHER: &str = "000000000000000a";
    const ORIGIN: [(&str, &str); 2] = [("pipeline", "clicks"), ("topic", "events")];

    #[test]
    fn a_checkpoint_that_is_as_new_as_its_output_is_gone_on_from() {
        let place = Place::new();
        assert_eq!(place.compare(&place.job(), 0), None, "nothing is there");
        place.commit("clicks", OWN, 3, &ORIGIN);
        assert_eq!(place.compare(&place.job(), 3), None);
        assert_eq!(place.compare(&place.job(), 9), None);
    }

    #[test]
    fn a_checkpoint_that_is_older_than_its_output_is_not_whatever_the_pipeline_is_called_now() {
        let place = Place::new();
        let file = place.commit("clicks", OWN, 3, &ORIGIN);
        let renamed = Job { pipeline: "renamed".into(), topic: "another".into(), ..place.job() };
        for job in [place.job(), renamed] {
            for checkpoint in [0, 2] {
                let found = place.compare(&job, checkpoint).unwrap();
                assert_eq!(found.ids, [OWN]);
                assert!(found.to_string().contains("committed with checkpoint 3"), "{found}");
            }
        }
        // A reader's since.
        fs::remove_file(file).unwrap();
        assert!(place.compare(&place.job(), 2).is_some());
    }

    #[test]
    fn what_the_same_pipeline_committed_from_a_folder_that_is_gone_is_not_committed_again() {
        for old in [OTHER, "0badcafe"] {
            let place = Place::new();
            place.commit("clicks", old, 5, &ORIGIN);
            let found = place.compare(&place.job(), 0).unwrap();
            assert_eq!(found.ids, [old], "{found}");
            // By a release that did not say more.
            place.commit("clicks", old, 6, &[]);
            assert!(place.compare(&place.job(), 0).is_some());
        }
    }

    #[test]
    fn an_older_folder_of_the_same_pipeline_is_refused_and_a_newer_one_is_not() {
        let place = Place::new();
        place.commit("clicks", OTHER, 5, &ORIGIN);
        assert_eq!(place.compare(&place.job(), 4).unwrap().ids, [OTHER, OWN]);
        assert_eq!(place.compare(&place.job(), 6), None);
    }

    #[test]
    fn other_pipelines_topics_and_runs_may_share_an_output() {
        let place = Place::new();
        place.commit("clicks-too", OTHER, 5, &[("pipeline", "clicks-too"), ("topic", "events")]);
        place.commit("clicks", "000000000000000b", 5, &[("pipeline", "clicks"), ("topic", "others")]);
        place.commit("now", "000000000000000c", 5, &[("pipeline", "clicks"), ("topic", "events"), ("run", "now")]);
        assert_eq!(place.compare(&place.job(), 0), None);
        let another = Job { run: Some("then".into()), ..place.job() };
        assert_eq!(place.compare(&another, 0), None);
        let again = Job { run: Some("now".into()), ..place.job() };
        assert!(place.compare(&again, 0).is_some(), "a run by its name has one checkpoint");
    }

    #[test]
    fn a_pipeline_that_may_be_this_one_by_an_older_name_is_told() {
        let place = Place::new();
        place.commit("old", OTHER, 5, &[("pipeline", "old"), ("topic", "events")]);
        let said = |job: &Job| others(&RealDisk, &place.root(), job, None).unwrap();
        assert!(said(&place.job())[0].contains("pipeline old has read the same topic"), "{:?}", said(&place.job()));
        assert!(said(&Job { topic: "others".into(), ..place.job() }).is_empty());
        assert!(said(&Job { folders: vec![place.root().join("others")], ..place.job() }).is_empty());
        assert!(said(&Job { run: Some("isolated".into()), ..place.job() }).is_empty());
    }

    #[test]
    fn without_the_ledger_the_names_of_files_tell() {
        let place = Place::new();
        place.commit("clicks", OTHER, 5, &ORIGIN);
        fs::remove_dir_all(place.root().join(sink::LEDGER)).unwrap();
        assert_eq!(place.compare(&place.job(), 0).unwrap().ids, [OTHER]);
        assert_eq!(place.compare(&Job { pipeline: "others".into(), ..place.job() }, 0), None);
        assert_eq!(place.compare(&place.job(), 1), None, "it is another folder's, and this one has checkpoints");
        place.commit("clicks", OWN, 5, &ORIGIN);
        fs::remove_dir_all(place.root().join(sink::LEDGER)).unwrap();
        assert_eq!(place.compare(&place.job(), 1).unwrap().ids, [OWN], "its generation is later than this one");
    }

    #[test]
    fn a_copy_that_staged_files_since_stops_the_other_copy() {
        let place = Place::new();
        put(&place.root().join(format!("_staging/pages/part-clicks-{OWN}-1-w0-0.csv.tmp")));
        assert!(place.compare(&place.job(), 4).is_some());
        drop(place.store);
        let next = open(&place.dir.path().join("checkpoints"), 8);
        let place = Place { store: next, ..place };
        assert_eq!(place.compare(&place.job(), 4), None, "they are of the process before");
    }

    #[test]
    fn what_was_begun_to_be_put_aside_is_by_whoever_comes_next() {
        let mut place = Place::new();
        place.commit("clicks", OTHER, 5, &ORIGIN);
        let file = place.commit("clicks", OWN, 3, &ORIGIN);
        let (root, job) = (place.root(), place.job());
        let ids = place.compare(&job, 2).unwrap().ids;
        assert_eq!(place.store.is_beginning_anew().unwrap(), None);
        place.store.note_beginning_anew(&ids).unwrap();
        assert_eq!(place.store.is_beginning_anew().unwrap().as_ref(), Some(&ids));
        assert_eq!(begin_anew(&RealDisk, &root, &job, &mut place.store, &ids, 9).unwrap(), 2);
        assert_eq!(place.store.is_beginning_anew().unwrap(), None);
        assert_eq!(place.store.id(), "0000000000000009");
        assert!(!file.exists() && root.join(REPLACED).exists());
        assert_eq!(place.compare(&job, 0).unwrap().ids, [OTHER], "that is another folder's");
    }
}
