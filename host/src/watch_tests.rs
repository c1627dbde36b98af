//! Facts about watched files: what is a new version, what is none, and what becomes of it.

use super::*;
use crate::admin::control::{Answer, Outcome, Refusal};
use std::io::Write;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes in place.
    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// A watcher of one file whose content is known.
    fn watcher(&self, name: &str) -> Watcher {
        let known = [("pages".to_owned(), plugin::digest(&fs::read(self.path(name)).unwrap()))].into();
        Watcher::new(vec![("pages".into(), self.path(name))], &known)
    }
}

/// A component with a section of these bytes.
fn version(contents: &[u8]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0\0", &[contents.len() as u8 + 2, 1, b'v'][..], contents].concat()
}

fn changed(bytes: &[u8]) -> Vec<Changed> {
    vec![Changed { plugin: "pages".into(), bytes: bytes.to_vec(), digest: plugin::digest(bytes) }]
}

/// What the next looks find.
fn looks<const N: usize>(watcher: &mut Watcher) -> [usize; N] {
    std::array::from_fn(|_| watcher.look().len())
}

#[test]
fn a_file_that_stays_as_it_is_is_no_new_version() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    assert_eq!(looks(&mut folder.watcher("a.wasm")), [0, 0, 0]);
}

#[test]
fn a_new_content_is_found_once_when_two_looks_see_the_same() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let mut watcher = folder.watcher("a.wasm");
    assert_eq!(looks(&mut watcher), [0, 0]);
    folder.write("a.wasm", &version(b"22"));
    assert_eq!(watcher.look(), []);
    assert_eq!(watcher.look(), changed(&version(b"22")));
    assert_eq!(looks(&mut watcher), [0, 0, 0]);
}

#[test]
fn a_file_renamed_over_it_is_found_even_with_the_same_length_and_time() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let mut watcher = folder.watcher("a.wasm");
    assert_eq!(looks(&mut watcher), [0, 0]);
    folder.write("new", &version(b"2"));
    let time = fs::metadata(folder.path("a.wasm")).unwrap().modified().unwrap();
    fs::File::options().write(true).open(folder.path("new")).unwrap().set_modified(time).unwrap();
    fs::rename(folder.path("new"), folder.path("a.wasm")).unwrap();
    assert_eq!(watcher.look(), []);
    assert_eq!(watcher.look(), changed(&version(b"2")));
}

#[test]
fn a_file_that_is_written_bit_by_bit_is_taken_when_it_is_whole() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let mut watcher = folder.watcher("a.wasm");
    let next = version(b"a new one");
    let mut file = fs::File::create(folder.path("a.wasm")).unwrap();
    for byte in &next {
        assert_eq!(looks(&mut watcher), [0, 0, 0]);
        file.write_all(&[*byte]).unwrap();
    }
    assert_eq!(watcher.look(), []);
    assert_eq!(watcher.look(), changed(&next));
}

#[test]
fn a_file_that_keeps_changing_is_not_read() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let mut watcher = folder.watcher("a.wasm");
    for length in 1..20 {
        folder.write("a.wasm", &version(&vec![b'x'; length]));
        assert_eq!(watcher.look(), []);
    }
    assert_eq!(watcher.look(), changed(&version(&[b'x'; 19])));
}

#[test]
fn a_file_that_changed_since_the_look_is_not_taken() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let stamp = Stamp::from(&fs::metadata(folder.path("a.wasm")).unwrap());
    assert_eq!(read(&folder.path("a.wasm"), stamp).unwrap(), Some(version(b"1")));
    folder.write("a.wasm", &version(b"22"));
    assert_eq!(read(&folder.path("a.wasm"), stamp).unwrap(), None);
}

#[test]
fn a_file_that_vanishes_is_no_new_version_and_neither_is_its_return() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let mut watcher = folder.watcher("a.wasm");
    assert_eq!(looks(&mut watcher), [0, 0]);
    fs::rename(folder.path("a.wasm"), folder.path("away")).unwrap();
    assert_eq!(looks(&mut watcher), [0, 0, 0]);
    fs::rename(folder.path("away"), folder.path("a.wasm")).unwrap();
    assert_eq!(looks(&mut watcher), [0, 0, 0]);
    fs::remove_file(folder.path("a.wasm")).unwrap();
    fs::create_dir(folder.path("a.wasm")).unwrap();
    assert_eq!(looks(&mut watcher), [0, 0, 0]);
    fs::remove_dir(folder.path("a.wasm")).unwrap();
    folder.write("a.wasm", &version(b"22"));
    assert_eq!(looks(&mut watcher), [0, 1, 0]);
}

#[test]
fn a_file_that_is_touched_is_no_new_version() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let mut watcher = folder.watcher("a.wasm");
    assert_eq!(looks(&mut watcher), [0, 0]);
    folder.write("a.wasm", &version(b"1"));
    assert_eq!(looks(&mut watcher), [0, 0, 0]);
}

#[test]
fn a_file_that_is_another_one_from_the_start_is_a_new_version_where_the_one_in_force_is_known() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"2"));
    let known = [("pages".to_owned(), plugin::digest(&version(b"1")))].into();
    let files = vec![("pages".to_owned(), folder.path("a.wasm"))];
    assert_eq!(looks(&mut Watcher::new(files.clone(), &known)), [0, 1, 0]);
    assert_eq!(looks(&mut Watcher::new(files, &BTreeMap::new())), [0, 0, 0]);
}

#[test]
fn two_plugins_of_one_file_both_get_the_new_version() {
    let folder = Folder::new();
    folder.write("a.wasm", &version(b"1"));
    let files = ["pages", "geo"].map(|name| (name.to_owned(), folder.path("a.wasm")));
    let mut watcher = Watcher::new(files.into(), &BTreeMap::new());
    assert_eq!(looks(&mut watcher), [0, 0]);
    folder.write("a.wasm", &version(b"22"));
    assert_eq!(looks(&mut watcher), [0, 2, 0]);
}

fn conflict() -> Reply {
    Err(Refusal { kind: RefusalKind::Conflict, message: "another swap is on probation".into() })
}

fn in_force() -> Answer {
    Answer {
        outcome: Outcome::InForce,
        plugin: "pages".into(),
        from: "1".into(),
        to: "2".into(),
        policy: None,
        message: "it is in force".into(),
        difference: Vec::new(),
        boundary: None,
    }
}

/// A door whose watcher has seen version 1 of a file that is version 2 now.
fn door(folder: &Folder) -> Door {
    folder.write("a.wasm", &version(b"1"));
    let watcher = folder.watcher("a.wasm");
    folder.write("a.wasm", &version(b"22"));
    Door::new(watcher)
}

/// Which digests are asked for in so many turns, each answered with `reply`.
fn turns(door: &mut Door, count: u32, reply: &Reply) -> Vec<String> {
    let mut asked = Vec::new();
    for _ in 0..count {
        let ended = door.turn(&mut |changed| {
            asked.push(changed.digest.clone());
            let (answer, replies) = bounded(1);
            answer.send(reply.clone()).unwrap();
            Some(replies)
        });
        assert_eq!(ended, Some(()));
    }
    asked
}

#[test]
fn a_change_that_cannot_be_made_just_then_is_asked_for_again() {
    let folder = Folder::new();
    let mut door = door(&folder);
    let digest = plugin::digest(&version(b"22"));
    assert_eq!(turns(&mut door, 2, &conflict()), [digest.as_str()]);
    assert_eq!(turns(&mut door, AGAIN_AFTER_LOOKS, &conflict()), Vec::<String>::new());
    assert_eq!(turns(&mut door, 1, &Ok(in_force())), [digest]);
    assert_eq!(turns(&mut door, 3 * AGAIN_AFTER_LOOKS, &Ok(in_force())), Vec::<String>::new());
}

#[test]
fn a_change_that_is_refused_is_not_asked_for_until_the_file_changes_again() {
    let folder = Folder::new();
    let mut door = door(&folder);
    for kind in [RefusalKind::Unacceptable, RefusalKind::Failed, RefusalKind::NotFound] {
        let refusal = Err(Refusal { kind, message: "the law is broken".into() });
        assert_eq!(turns(&mut door, 3 * AGAIN_AFTER_LOOKS, &refusal).len(), 1);
        folder.write("a.wasm", &version(format!("{kind:?}").as_bytes()));
    }
}

#[test]
fn a_newer_version_takes_the_place_of_one_that_waits() {
    let folder = Folder::new();
    let mut door = door(&folder);
    assert_eq!(turns(&mut door, 2, &conflict()).len(), 1);
    folder.write("a.wasm", &version(b"333"));
    assert_eq!(turns(&mut door, 2, &Ok(in_force())), [plugin::digest(&version(b"333"))]);
    assert_eq!(turns(&mut door, 3 * AGAIN_AFTER_LOOKS, &Ok(in_force())), Vec::<String>::new());
}

#[test]
fn a_file_whose_trial_lasts_keeps_no_other_file_waiting() {
    let folder = Folder::new();
    for name in ["a.wasm", "b.wasm"] {
        folder.write(name, &version(b"1"));
    }
    let file = |name: &str| (name.to_owned(), folder.path(name));
    let files = vec![file("a.wasm"), file("b.wasm")];
    let mut door = Door::new(Watcher::new(files, &BTreeMap::new()));
    let (_trying, slow) = bounded::<Reply>(1);
    let mut asked = Vec::new();
    let mut turns = |door: &mut Door, count: u32| {
        for _ in 0..count {
            let turned = door.turn(&mut |changed| {
                asked.push(changed.plugin.clone());
                let (answer, replies) = bounded(1);
                answer.send(Ok(in_force())).unwrap();
                Some(if changed.plugin == "a.wasm" { slow.clone() } else { replies })
            });
            assert_eq!(turned, Some(()));
        }
        std::mem::take(&mut asked)
    };
    turns(&mut door, 2);
    folder.write("a.wasm", &version(b"22"));
    assert_eq!(turns(&mut door, 2), ["a.wasm"]);
    folder.write("b.wasm", &version(b"22"));
    assert_eq!(turns(&mut door, 2 * AGAIN_AFTER_LOOKS), ["b.wasm"], "and the other is not asked for twice");
}

#[test]
fn the_request_says_that_it_was_a_file_and_a_pipeline_that_ends_ends_the_watch() {
    let change = changed(&version(b"2")).remove(0);
    let (requests, asked) = bounded(1);
    let (_running, stop) = bounded(0);
    let answering = std::thread::spawn(move || {
        let request: Request = asked.recv().unwrap();
        request.reply.send(Ok(in_force())).unwrap();
        (request.who, format!("{:?}", request.ask), asked)
    });
    assert_eq!(ask(&change, &requests, &stop).unwrap().recv(), Ok(Ok(in_force())));
    let (who, what, asked) = answering.join().unwrap();
    assert_eq!(who, "file");
    assert!(what.starts_with("Swap { plugin: \"pages\"") && what.ends_with("policy: None, dry_run: false }"), "{what}");
    drop(asked);
    assert!(ask(&change, &requests, &stop).is_none());
}

#[test]
fn a_request_that_is_not_answered_is_made_again() {
    let folder = Folder::new();
    let mut door = door(&folder);
    let mut asked = 0;
    for _ in 0..AGAIN_AFTER_LOOKS + 3 {
        let turned = door.turn(&mut |_| {
            asked += 1;
            Some(bounded(1).1)
        });
        assert_eq!(turned, Some(()));
    }
    assert_eq!(asked, 2);
}

#[test]
fn a_stop_ends_the_watch_while_nobody_takes_its_request() {
    let change = changed(&version(b"2")).remove(0);
    let (requests, _nobody) = bounded(0);
    let (running, stop) = bounded(0);
    drop(running);
    assert!(ask(&change, &requests, &stop).is_none());
    watch(Watcher::new(Vec::new(), &BTreeMap::new()), &requests, &stop);
}
