//! What hostile plugins get, as parsers and as aggregates: whatever they do, the host stays up, says who it was and why,
//! sets aside what they fail on, and counts everything else exactly once.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Finished, Job, plugin, until, write};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use wasmill::kafka::EmbeddedBroker;

/// Settings under which crimes are found out soon.
const TIGHT: [&str; 4] = ["--set", "limits.deadline=300ms", "--set", "limits.memory=32MB"];

/// What a fault of the hostile plugin says, by the letter of its crime, where it never comes back.
const ENDS: [(char, &str); 5] =
    [('T', "unreachable"), ('P', "the panic that was asked for"), ('L', "deadline"), ('M', "memory"), ('S', "stack")];

/// The same for answers that are lies, whoever gives them.
const LIES: [(char, &str); 10] = [
    ('C', "rows"),
    ('0', "column"),
    ('K', "int64"),
    ('U', "not valid"),
    ('D', "offset"),
    ('E', "last offset"),
    ('V', "validity"),
    ('N', "nulls"),
    ('O', "comes from"),
    ('H', "columns"),
];

/// The same for rejects, which only parsers give.
const REJECTS: [(char, &str); 2] = [('R', "rejects record"), ('B', "rejects record 0")];

fn words(words: impl IntoIterator<Item = String>) -> Vec<Option<Vec<u8>>> {
    words.into_iter().map(|word| Some(word.into_bytes())).collect()
}

/// Each crime of these, with four good words after each.
fn among_good(crimes: impl Iterator<Item = String>) -> Vec<Option<Vec<u8>>> {
    words(crimes.flat_map(|crime| std::iter::once(crime).chain((0..4).map(|n| format!("word {n}")))))
}

/// The hostile parser, whose words an honest aggregate counts, `counts`, and others that are hostile: by name, each with
/// its setting.
fn job(broker: &EmbeddedBroker, hostile: &[(&str, &str)]) -> Job {
    let job = Job::of(broker.bootstrap(), "words", "hostile", "word");
    let mut file = std::fs::File::options().append(true).open(job.file()).unwrap();
    for (name, crime) in hostile {
        writeln!(
            file,
            "[[aggregate]]\nname = \"{name}\"\nplugin = \"{}\"\nwindow = {{ tumbling = \"10s\" }}\nkeys = [\"word\"]\n\
             config = {{ input = \"word\", crime = \"{crime}\" }}",
            plugin("hostile").display()
        )
        .unwrap();
    }
    job
}

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    TIGHT.iter().chain(more).copied().collect()
}

/// The sum of an output's `events`.
fn events(job: &Job, output: &str) -> u64 {
    job.column(output, "events").iter().map(|events| events.parse::<u64>().unwrap()).sum()
}

/// The dead letters of an aggregate (of the parser where it is empty): message, digest and payload of each.
fn letters(job: &Job, aggregate: &str) -> Vec<(String, String, String)> {
    let columns = ["aggregate", "reason", "message", "plugin_digest"].map(|name| job.column("_dead_letters", name));
    let values = job.bytes("_dead_letters", "value");
    let [aggregates, reasons, messages, digests] = columns;
    let mut letters = Vec::new();
    for (row, of) in aggregates.iter().enumerate().filter(|(_, of)| *of == aggregate) {
        assert_eq!((reasons[row].as_str(), digests[row].len()), ("plugin_fault", 64), "{of}");
        let value = String::from_utf8(values[row].clone().unwrap()).unwrap();
        letters.push((messages[row].clone(), digests[row].clone(), value));
    }
    letters
}

/// Asserts that a line of the log has all of these.
fn says_in_a_line(end: &Finished, texts: &[&str]) {
    let found = end.stderr.lines().any(|line| texts.iter().all(|text| line.contains(text)));
    assert!(found, "no line has {texts:?} in\n{}", end.stderr);
}

#[test]
fn a_hostile_parser_loses_its_poison_records_and_nothing_else() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let faults: BTreeMap<char, &str> = ENDS.into_iter().chain(LIES).chain(REJECTS).collect();
    // A nuisance, not a fault: the one is a good record all the same, the other a reject with a message cut short. The
    // latter comes first, as it makes a new answer, without the lies before it.
    let mut records = words(["Quite long".to_owned(), "Flood".to_owned()]);
    records.extend(among_good(faults.keys().map(|crime| format!("{crime} is poison"))));
    write(broker.bootstrap(), "words", 0, &records);
    let job = job(&broker, &[]);
    let end = job.run(&arguments(&["--set", "faults.breaker=100%", "--drain"])).expect(0);

    let letters: Vec<(String, String, String)> = {
        let reasons = job.column("_dead_letters", "reason");
        assert_eq!(reasons.iter().filter(|reason| *reason == "invalid").count(), 1, "the long reject");
        let messages = job.column("_dead_letters", "message");
        let digests = job.column("_dead_letters", "plugin_digest");
        let values = job.bytes("_dead_letters", "value").into_iter().flatten();
        let values = values.map(|value| String::from_utf8(value).unwrap());
        messages.into_iter().zip(digests).zip(values).map(|((m, d), v)| (m, d, v)).collect()
    };
    for (crime, says) in &faults {
        let letter = letters.iter().find(|(_, _, value)| value.starts_with(*crime));
        let (message, digest, _) = letter.unwrap_or_else(|| panic!("{crime} is no dead letter\n{}", end.stderr));
        assert!(message.contains(says), "{crime}: {message}");
        says_in_a_line(&end, &["a record makes a plugin fail", digest, says]);
    }
    let good = faults.len() * 4 + 1;
    assert_eq!((job.count("events_raw"), job.counted()), (good, good as u64));
    end.says(&["dropped", "log lines", "the accounting closes"]);
}

#[test]
fn a_record_that_hangs_the_parser_holds_up_its_partition_and_nothing_else() {
    let broker = EmbeddedBroker::start("words", 2).unwrap();
    let hang = words(["good".to_owned(), "Loop".to_owned(), "better".to_owned()]);
    write(broker.bootstrap(), "words", 0, &hang);
    let job = job(&broker, &[]);
    // One worker for both partitions, and a deadline that none of this waits for.
    let patient = ["--workers", "1", "--set", "limits.deadline=40s", "--set", "time.idle_timeout=1s"];
    let running = job.start(&patient);
    running.wait_for("some of these records take the parser too long");
    write(broker.bootstrap(), "words", 1, &words((0..500).map(|n| format!("word {}", n % 4))));
    until("the other partition is read, and committed", || job::reads_to(&job.checkpoints(), &[500]));
    let status = job::run(&["status", "--json", "--url", &running.url()]).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let stuck = &status["partitions"][0];
    assert_eq!((&stuck["idle"], &stuck["lag"]), (&false.into(), &3.into()), "{status}");
    running.stop().expect(0).says(&["500 records, 500 rows", "the accounting closes"]);
    // Whoever ends the run does not wait for the parser; the next one finds the record.
    let end = job.run(&arguments(&["--drain"])).expect(0);
    end.says(&["503 records, 502 rows", "plugin_fault 1", "the accounting closes"]);
    assert_eq!((job.count("events_raw"), job.counted()), (502, 502));
}

#[test]
fn a_parser_that_fails_on_too_many_records_ends_the_run() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    write(broker.bootstrap(), "words", 0, &words((0..40).map(|n| format!("T{n}"))));
    let job = job(&broker, &[]);
    let end = job.run(&arguments(&["--drain"])).expect(1);
    says_in_a_line(&end, &["parser: trapped", "on too many records faults=10 records=40", "digest="]);
    assert_eq!(job.count("_dead_letters"), 0, "nothing of the interval is committed");
}

#[test]
fn the_policy_stop_ends_the_run_at_the_first_record_that_makes_a_plugin_fail() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    write(broker.bootstrap(), "words", 0, &among_good(["!Trap".to_owned()].into_iter()));
    let stopping = job(&broker, &[("hostile", "")]);
    let end = stopping.run(&arguments(&["--set", "faults.policy=stop", "--drain"])).expect(1);
    says_in_a_line(&end, &["hostile: trapped", "on a record partition=0 offset=0", "digest="]);
    assert_eq!((stopping.count("events_raw"), stopping.count("_dead_letters")), (0, 0), "nothing is committed");

    write(broker.bootstrap(), "words", 0, &words(["Trap".to_owned()]));
    let parser = job(&broker, &[]);
    let end = parser.run(&arguments(&["--set", "faults.policy=stop", "--drain"])).expect(1);
    says_in_a_line(&end, &["parser: trapped", "on a record partition=0 offset=5", "digest="]);
}

#[test]
fn a_hostile_aggregate_loses_the_rows_it_fails_on_and_nothing_else() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let mut records = among_good(ENDS.iter().map(|(crime, _)| format!("!{crime} is poison")));
    records.extend(words(["!Flood".to_owned()]));
    write(broker.bootstrap(), "words", 0, &records);
    let job = job(&broker, &[("hostile", ""), ("fickle", "fickle")]);
    let end = job.run(&arguments(&["--drain", "--set", "aggregate.fickle.config.mended=true"])).expect(0);

    let letters = letters(&job, "hostile");
    assert_eq!(letters.len(), ENDS.len(), "{letters:#?}\n{}", end.stderr);
    for (crime, says) in ENDS {
        let (message, digest, _) =
            letters.iter().find(|(_, _, value)| value.starts_with(&format!("!{crime}"))).unwrap();
        assert!(message.contains(says), "{crime}: {message}");
        says_in_a_line(&end, &["a record makes a plugin fail", digest, says]);
    }
    let all = records.len();
    assert_eq!((job.count("events_raw"), job.counted()), (all, all as u64));
    assert_eq!(events(&job, "hostile"), (all - ENDS.len()) as u64);
    assert_eq!(job.column("hostile", "nan").iter().filter(|nan| *nan == "NaN").count(), job.count("hostile"));
    // What answers differently each time is right by its own account: nothing but its results is wrong.
    assert!(events(&job, "fickle") > all as u64);
    end.says(&["dropped", "log lines", "5 rows set aside (hostile 5)", "the accounting closes"]);
    // Each fault left a capsule, of which it happens again.
    let capsules = job::files(&job.output().join("_faults"));
    assert_eq!(capsules.len(), ENDS.len(), "{capsules:?}");
    for capsule in capsules {
        let mut replay = job::wasmill(&["replay"]);
        replay.arg(capsule).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        let again = job::Running::start(replay).finish().expect(1);
        assert!(again.stdout.contains("now            the same fault"), "{again:#?}");
    }
}

#[test]
fn an_aggregate_that_lies_is_out_of_service_and_the_others_go_on() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let records = words((0..40).map(|n| format!("word {}", n % 4)));
    write(broker.bootstrap(), "words", 0, &records);
    let finish = |(crime, says): (char, &'static str)| {
        (format!("finish_{}", crime.to_ascii_lowercase()), format!("finish {crime}"), says)
    };
    let mut crimes: Vec<(String, String, &str)> = LIES.into_iter().chain(ENDS).map(finish).collect();
    for (crime, says) in
        [("snapshot trap", "unreachable"), ("snapshot short", "snapshot"), ("release trap", "unreachable")]
    {
        crimes.push((crime.replace(' ', "_"), crime.to_owned(), says));
    }
    let hostile: Vec<(&str, &str)> = crimes.iter().map(|(name, crime, _)| (name.as_str(), crime.as_str())).collect();
    let job = job(&broker, &hostile);
    let end = job.run(&arguments(&["--drain", "--set", "checkpoint.interval=1m"])).expect(0);

    assert_eq!((job.count("events_raw"), job.counted()), (40, 40), "{}", end.stderr);
    for (name, crime, says) in &crimes {
        let said = format!("aggregate={name:?}");
        let in_call = format!(" in {}", crime.split(' ').next().unwrap());
        says_in_a_line(
            &end,
            &[
                said.trim_matches('"'),
                "digest=",
                says,
                &in_call,
                "out of service until it is swapped or the next start",
            ],
        );
        end.says(&["OUT OF SERVICE", &format!("{name} (")]);
        assert_eq!(job.count(name), 0, "{name} gave no result");
    }
    end.says(&["the accounting closes"]);
}

#[test]
fn an_aggregate_that_refuses_its_state_is_out_of_service_until_it_is_mended() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let some = words((0..8).map(|n| format!("word {}", n % 4)));
    write(broker.bootstrap(), "words", 0, &some);
    let job = job(&broker, &[("hostile", "restore refuse")]);
    job.run(&arguments(&["--until-caught-up"])).expect(0);
    write(broker.bootstrap(), "words", 0, &some);
    let end = job.run(&arguments(&["--until-caught-up"])).expect(0);
    says_in_a_line(&end, &["hostile: refused: it remembers nothing of the kind in restore", "out of service"]);
    end.says(&["8 rows set aside (hostile 8)", "the accounting closes"]);
    assert_eq!(letters(&job, "hostile").len(), 8);

    write(broker.bootstrap(), "words", 0, &some);
    let mended = job.run(&arguments(&["--drain", "--set", "aggregate.hostile.config.crime=none"])).expect(0);
    assert_eq!((events(&job, "hostile"), job.counted()), (16, 24), "the state is as it was: {}", mended.stderr);
    mended.says(&["8 rows set aside (hostile 8)", "the accounting closes"]);
}

#[test]
fn a_state_that_grows_without_end_meets_its_limit_and_harms_nobody_else() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let records = words((0..200).map(|n| format!("word {}", n % 4)));
    write(broker.bootstrap(), "words", 0, &records);
    let job = job(&broker, &[("hostile", "grow")]);
    let end = job.run(&arguments(&["--drain"])).expect(0);
    assert_eq!((job.count("events_raw"), job.counted()), (200, 200));
    let (aside, counted) = (letters(&job, "hostile").len() as u64, events(&job, "hostile"));
    assert!(aside > 100 && aside + counted <= 200, "{aside} set aside, {counted} counted\n{}", end.stderr);
    says_in_a_line(&end, &["hostile", "digest=", "exceeded its memory limit"]);
    end.says(&[&format!("{aside} rows set aside (hostile {aside})"), "the accounting closes"]);
}

#[test]
fn too_many_faults_take_an_aggregate_out_of_service_and_a_restart_takes_it_back() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let good = words((0..20).map(|n| format!("word {}", n % 4)));
    write(broker.bootstrap(), "words", 0, &good);
    let job = job(&broker, &[("hostile", "")]);
    job.run(&arguments(&["--until-caught-up"])).expect(0);

    write(broker.bootstrap(), "words", 0, &words((0..40).map(|n| format!("!T {n}"))));
    let running = job.start(&arguments(&[]));
    let url = running.url();
    let mut status = serde_json::Value::Null;
    until("the aggregate is out of service and all rows are accounted for", || {
        let answer = job::run(&["status", "--json", "--url", &url]);
        status = serde_json::from_str(&answer.stdout).unwrap_or_default();
        status["aggregates"][1]["set_aside"] == 40 && !status["checkpoint"].is_null()
    });
    let hostile = &status["aggregates"][1];
    let why = "hostile: trapped: wasm trap: wasm `unreachable` instruction executed";
    assert!(hostile["out_of_service"].as_str().unwrap().starts_with(why), "{hostile}");
    assert_eq!((&hostile["counted"], &status["aggregates"][0]["counted"]), (&20.into(), &60.into()));
    let (ready, metrics) = (get(&url, "/readyz"), get(&url, "/metrics"));
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("aggregate hostile is out of service"), "{ready}");
    assert!(get(&url, "/healthz").starts_with("HTTP/1.1 200"), "a restart would not mend the plugin");
    assert!(metrics.contains("wasmill_aggregate_out_of_service{aggregate=\"hostile\"} 1\n"), "{metrics}");
    assert!(metrics.contains("wasmill_set_aside_rows_total{aggregate=\"hostile\"} 40\n"), "{metrics}");
    let shown = job::run(&["status", "--url", &url]);
    assert!(shown.stdout.contains("OUT OF SERVICE"), "{shown:?}");
    let end = running.stop().expect(0);
    says_in_a_line(&end, &["aggregate=\"hostile\"", "digest=", "on too many records faults=10 records="]);

    write(broker.bootstrap(), "words", 0, &good);
    let mended = job.run(&arguments(&["--drain", "--set", "aggregate.hostile.config.mended=true"])).expect(0);
    assert_eq!((events(&job, "hostile"), job.counted(), letters(&job, "hostile").len()), (40, 80, 40));
    mended.says(&["40 rows set aside (hostile 40)", "the accounting closes"]);
}

#[test]
fn the_memory_of_a_glutton_comes_back() {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    write(broker.bootstrap(), "words", 0, &words((0..20).map(|n| format!("word {n}"))));
    let job = job(&broker, &[("hostile", "")]);
    let running = job.start(&["--set", "limits.memory=256MB", "--set", "limits.deadline=10s"]);
    let url = running.url();
    let set_aside = || {
        let answer = job::run(&["status", "--json", "--url", &url]);
        let status: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        (
            status["records"].as_u64(),
            status["aggregates"][1]["set_aside"].as_u64(),
            status["dead_letters"]["plugin_fault"].as_u64(),
        )
    };
    until("the good rows are counted", || set_aside() == (Some(20), Some(0), Some(0)));
    let before = resident_bytes(running.id());
    let gluttons = ["!M 1", "!M 2", "!M 3", "M 1", "M 2", "M 3"].map(str::to_owned);
    write(broker.bootstrap(), "words", 0, &words(gluttons));
    until("the gluttons are set aside", || set_aside() == (Some(26), Some(3), Some(3)));
    let after = resident_bytes(running.id());
    // Six of them took 256 MB each; one that was not given back would show.
    assert!(after < before + 128_000_000, "{before} bytes before, {after} after");
    running.stop().expect(0).says(&["the accounting closes"]);
}

/// A component that says it is a parser, with more in it, in the binary form.
fn parser_with(more: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {more} (instance $i) (export \"wasmill:plugin/parser@0.1.0\" (instance $i)))"))
        .unwrap()
}

/// Within the bounds of what is compiled, and the compiler takes 600 MB: all locals live through all branches of a loop.
fn takes_memory() -> Vec<u8> {
    let branch = |n: usize| {
        let (a, b, c) = (n % 5000, (n * 7 + 1) % 5000, (n * 13 + 5) % 5000);
        let set = format!("(local.set {c} (i64.add (local.get {b}) (i64.const 1)))");
        format!("(if (i64.eqz (local.get {a})) (then {set}))")
    };
    let (locals, branches) = ("i64 ".repeat(5000), (0..6000).map(branch).collect::<String>());
    parser_with(&format!("(core module (func (local {locals}) (loop $again {branches} (br $again))))"))
}

/// The same, and the compiler takes long: functions of 900 KB.
fn takes_time() -> Vec<u8> {
    let steps = "(local.set 0 (i64.mul (local.get 0) (i64.add (local.get 0) (i64.const 7))))".repeat(80_000);
    parser_with(&format!(
        "(core module {})",
        format!("(func (param i64) (result i64) {steps} (local.get 0))").repeat(8)
    ))
}

/// Beyond the bounds: each component makes two instances of the one before.
fn bomb() -> Vec<u8> {
    let first = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    let next = |n: usize| {
        let twice = format!("(instance (instantiate $c{n}))").repeat(2);
        format!("(component $c{} (alias outer $all $c{n} (component $c{n})) {twice})", n + 1)
    };
    let text: String = std::iter::once(first).chain((0..20).map(next)).collect();
    wat::parse_str(format!("(component $all {text} (instance (instantiate $c20)))")).unwrap()
}

/// The same plugin under another digest: a custom section is added, which nobody reads.
fn twin(name: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(plugin(name)).unwrap();
    bytes.extend([0, 5, 4]);
    bytes.extend(b"twin");
    bytes
}

#[test]
fn a_compiler_that_takes_too_much_memory_or_time_ends_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let job = job(&broker, &[]);
    let (file, cache) = (job.file(), format!("cache.path={}/cache", dir.path().display()));
    let check = |parser: &std::path::Path, more: &[&str]| {
        let parser = format!("parser={}", parser.display());
        let args = ["check", file.to_str().unwrap(), "--set", &cache, "--plugin", &parser];
        job::run(&[&args, more].concat())
    };
    let path = dir.path().join("parser.wasm");
    for (bytes, limit, says) in [
        (
            takes_memory(),
            "limits.compile_memory=120MB",
            "compiling needs more memory than 120 MB (limits.compile_memory)",
        ),
        (
            takes_time(),
            "limits.compile_time=1s",
            "compiling takes more than 1 s of processor time (limits.compile_time)",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        check(&path, &["--set", limit]).expect(2).says(&["parser: cannot be compiled", says]);
    }
    // What people write is compiled within much less.
    check(
        &plugin("clickstream_parser"),
        &["--set", "limits.compile_memory=120MB", "--set", "aggregate.counts.keys=[\"page\"]"],
    )
    .expect(0);
}

#[test]
fn hostile_candidates_are_refused_nothing_of_them_stays_and_the_next_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    write(broker.bootstrap(), "words", 0, &words((0..20).map(|n| format!("word {n}"))));
    let job = job(&broker, &[]);
    let running = job.start(&arguments(&["--set", "limits.compile_memory=120MB", "--set", "swap.probation=0"]));
    let url = running.url();
    until("all is counted", || job::run(&["status", "--url", &url]).stdout.contains("20 records"));
    let kept = || job::files(&job.checkpoints().join("plugins"));
    let before = kept();
    let path = dir.path().join("candidate.wasm");
    let swap = |plugin: &str, bytes: &[u8], more: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        job::run(&[&["swap", plugin, path.to_str().unwrap(), "--url", &url], more].concat())
    };
    for (bytes, says) in [
        (bomb(), "instances of modules, and at most 64 are taken"),
        (takes_memory(), "limits.compile_memory"),
        (parser_with(""), "does not have the contract's types"),
        (b"\0asm\x0d\0\x01\0 and more".to_vec(), "is not a valid component"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let refused = swap("parser", &bytes, more).expect(1);
            assert!(format!("{}{}", refused.stdout, refused.stderr).contains(says), "{says}: {refused:#?}");
        }
    }
    swap("counts", &twin("geo_metrics"), &["--dry-run"]).expect(0);
    assert_eq!(kept(), before, "neither what is refused nor what is only tried is kept");
    assert!(get(&url, "/healthz").starts_with("HTTP/1.1 200"));
    swap("counts", &twin("geo_metrics"), &[]).expect(0);
    assert_eq!(kept().len(), before.len() + 1);
    let end = running.stop().expect(0);
    end.says(&["the accounting closes", "compiling", "compiled in"]);
}

#[test]
fn a_file_that_cannot_be_taken_leaves_the_version_in_force_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let some = words((0..20).map(|n| format!("word {n}")));
    let job = job(&broker, &[]);
    let path = dir.path().join("counts.wasm");
    let counts = format!("counts={}", path.display());
    let run = |how: &str| {
        write(broker.bootstrap(), "words", 0, &some);
        job.run(&arguments(&["--plugin", &counts, "--set", "limits.compile_memory=120MB", how]))
    };
    std::fs::write(&path, bomb()).unwrap();
    run("--until-caught-up").expect(2).says(&["counts: is not compiled"]);
    std::fs::copy(plugin("geo_metrics"), &path).unwrap();
    run("--until-caught-up").expect(0);
    for bytes in [bomb(), takes_memory(), b"not even WebAssembly".to_vec()] {
        std::fs::write(&path, bytes).unwrap();
        run("--until-caught-up").expect(0).says(&["counts", "its file is not taken", "the accounting closes"]);
    }
    std::fs::write(&path, twin("geo_metrics")).unwrap();
    run("--drain").expect(0).says(&["its file has changed: swapped", "the accounting closes"]);
    assert_eq!(job.counted(), 6 * 20);
}

/// What the web page's server answers, with its headers.
fn get(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
