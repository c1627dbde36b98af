//! What the component does: words with commas between, some with an argument after a colon, in 128 bytes of its file.
//!
//! | word | what it does |
//! |---|---|
//! | `none` | nothing: the component is honest |
//! | `tag:TEXT` | nothing either, under another digest |
//! | `version:N` | one more output column; an aggregate's state has version N, which reads version 1 if N is 2 |
//! | `other-schema` | an output column has another type: an aggregate's `events`, a parser's `revenue` |
//! | `without:COLUMN` | the parser does not make that column |
//! | `unfit-input` | it wants the column `wealth` |
//! | `refuse-init`, `refuse-restore` | `init`, `restore` says no |
//! | `trap-in-CALL:K` | the K-th (first) call of that name traps: `trap-in-finish`, `trap-in-snapshot`, … |
//! | `trap-at-once`, `trap-after:K` | the first, the K-th call of `update` or `parse` traps |
//! | `trap-on:ID`, `loop-on:ID` | the event with this id makes it trap, run for ever |
//! | `loop:K` | the K-th (first) call of `update` or `parse` runs for ever |
//! | `slow:N` | a row takes about N µs more |
//! | `memory:N` | each call of `update` or `parse` keeps N (1) MiB more |
//! | `wrong-schema:K` | from the K-th (first) call on, `finish` or `parse` answers a column less than it said |
//! | `random` | what `finish` or `parse` answers depends on how many calls there were before |
//! | `cuts-matter` | so it does on where batches begin |
//! | `merge-not-commutative`, `merge-not-associative`, `restore-forgets` | laws that an aggregate breaks |
//! | `off-by-one:N` | one event of N, chosen by its id's hash, adds 1 too much (`amount`, `revenue`) |
//! | `wrong-on:ID` | so does the event with this id |
//!
//! A call is counted within an instance: one that takes the place of another begins anew.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use wasmill_sdk::input::Hash64;

/// How many bytes there are to patch.
const MARK_BYTES: usize = 128;
/// What they begin with. Nothing else in the file may say this, so it is left after the static is made.
const MARK: &[u8] = b"wasmill-behaviour:none";
/// How many of them stay as they are: up to the colon.
const HEAD_BYTES: usize = 18;

/// How often it turns in a microsecond, on a machine of 3 GHz.
const TURNS_PER_MICRO: u64 = 500;

#[used]
static BEHAVIOUR: [u8; MARK_BYTES] = marked();

const fn marked() -> [u8; MARK_BYTES] {
    let mut bytes = [b' '; MARK_BYTES];
    let mut at = 0;
    while at < MARK.len() {
        bytes[at] = MARK[at];
        at += 1;
    }
    bytes
}

/// The words, and what their argument is: nothing, a number (1 where there is none), or a text.
const WORDS: [(&str, Argument); 26] = [
    ("none", Argument::Nothing),
    ("tag", Argument::Text),
    ("version", Argument::Number),
    ("other-schema", Argument::Nothing),
    ("without", Argument::Text),
    ("unfit-input", Argument::Nothing),
    ("refuse-init", Argument::Nothing),
    ("refuse-restore", Argument::Nothing),
    ("trap-at-once", Argument::Nothing),
    ("trap-after", Argument::Number),
    ("trap-on", Argument::Text),
    ("loop", Argument::Number),
    ("loop-on", Argument::Text),
    ("slow", Argument::Number),
    ("memory", Argument::Number),
    ("wrong-schema", Argument::Number),
    ("random", Argument::Nothing),
    ("cuts-matter", Argument::Nothing),
    ("merge-not-commutative", Argument::Nothing),
    ("merge-not-associative", Argument::Nothing),
    ("restore-forgets", Argument::Nothing),
    ("off-by-one", Argument::Number),
    ("wrong-on", Argument::Text),
    ("trap-in-init", Argument::Number),
    ("trap-in-parse", Argument::Number),
    ("trap-in-project", Argument::Number),
];
/// The calls of an aggregate, which `trap-in-` may name besides.
const CALLS: [&str; 6] = ["update", "merge", "finish", "snapshot", "restore", "release"];

#[derive(Clone, Copy, PartialEq)]
enum Argument {
    Nothing,
    Number,
    Text,
}

/// What the component was told to do, and how often it was called.
#[derive(Debug, Default)]
pub struct Behaviour {
    words: Vec<(&'static str, &'static str)>,
    calls: BTreeMap<&'static str, u64>,
    hoard: Vec<Vec<u8>>,
}

impl Behaviour {
    /// What is written in the component's file.
    ///
    /// # Errors
    /// A word that there is not, or without the argument that it needs.
    pub fn of_this_file() -> Result<Self, String> {
        // Opaque, so that what was patched is read, not what was compiled.
        let bytes: &'static [u8; MARK_BYTES] = black_box(&BEHAVIOUR);
        let text = core::str::from_utf8(&bytes[HEAD_BYTES..]).map_err(|_| "the behaviour is no text")?;
        Self::of(text.trim_ascii_end())
    }

    /// What a text says.
    ///
    /// # Errors
    /// A word that there is not, or without the argument that it needs.
    pub fn of(text: &'static str) -> Result<Self, String> {
        let mut words = Vec::new();
        for word in text.split(',') {
            let (name, argument) = word.split_once(':').unwrap_or((word, ""));
            let call = name.strip_prefix("trap-in-").is_some_and(|call| CALLS.contains(&call));
            let known = WORDS.iter().find(|(known, _)| *known == name).map(|(_, argument)| *argument);
            let wants =
                known.or(call.then_some(Argument::Number)).ok_or_else(|| format!("no such behaviour: {name}"))?;
            let fits = match wants {
                Argument::Nothing => argument.is_empty(),
                Argument::Number => argument.is_empty() || argument.parse::<u64>().is_ok(),
                Argument::Text => !argument.is_empty(),
            };
            if !fits {
                return Err(format!("not an argument of {name}: {argument:?}"));
            }
            words.push((name, argument));
        }
        Ok(Self { words, ..Self::default() })
    }

    /// Whether this word is said.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// Its argument.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'static str> {
        self.words.iter().find(|(word, _)| *word == name).map(|(_, argument)| *argument)
    }

    /// Its argument as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).map(|argument| argument.parse().unwrap_or(1))
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.number("version").unwrap_or(1) as u32
    }

    /// How often this was called, the present call included.
    #[must_use]
    pub fn calls(&self, call: &str) -> u64 {
        self.calls.get(call).copied().unwrap_or(0)
    }

    /// Counts a call, and fails where it was told to.
    pub fn called(&mut self, call: &'static str) {
        let calls = self.calls.entry(call).or_default();
        *calls += 1;
        let calls = *calls;
        if self.number(&["trap-in-", call].concat()).is_some_and(|at| calls == at) {
            trap();
        }
        if call != "update" && call != "parse" {
            return;
        }
        if self.is("trap-at-once") || self.number("trap-after").is_some_and(|at| calls >= at) {
            trap();
        }
        if self.number("loop").is_some_and(|at| calls >= at) {
            endless();
        }
        for _ in 0..self.number("memory").unwrap_or(0) {
            self.hoard.push(black_box(vec![1; 1 << 20]));
        }
    }

    /// Fails on an event, or takes its time, where it was told to. What is wrong with the event otherwise.
    #[must_use]
    pub fn error_on(&self, event_id: Option<Hash64>) -> i64 {
        if let Some(micros) = self.number("slow") {
            busy(micros * TURNS_PER_MICRO);
        }
        let Some(id) = event_id else { return 0 };
        let is = |word: &str| self.text(word).is_some_and(|named| Hash64::of(named) == id);
        if is("trap-on") {
            trap();
        }
        if is("loop-on") {
            endless();
        }
        i64::from(is("wrong-on") || self.number("off-by-one").is_some_and(|one_in| id.0.is_multiple_of(one_in)))
    }

    /// Whether `finish` or `parse`, which is under way, answers a column less than it said.
    #[must_use]
    pub fn withholds_a_column(&self, call: &str) -> bool {
        self.number("wrong-schema").is_some_and(|from| self.calls(call) >= from)
    }

    /// Says no to `init`, if it was told to.
    ///
    /// # Errors
    /// It was.
    pub fn init(&mut self) -> Result<(), String> {
        self.called("init");
        if self.is("refuse-init") { Err("it was told to refuse".to_string()) } else { Ok(()) }
    }
}

/// Each turn waits for the one before: about 2 ns.
fn busy(turns: u64) {
    // The multiplier of Steele, Lea and Flood's `SplitMix64`, 2014: any odd number would do.
    let turn = |state: u64, turn: u64| (state ^ (state >> 27) ^ turn).wrapping_mul(0x94D0_49BB_1331_11EB);
    black_box((0..turns).fold(1, turn));
}

fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

fn endless() {
    loop {
        black_box(());
    }
}
