//! Facts about pipeline files: what is read from them, and what each mistake says.

use std::path::Path;

use proptest::prelude::*;
use wasmill_pipeline::fault::{FaultPolicy, FaultRules};
use wasmill_pipeline::spec::{TrustRule, Unreadable};

use super::*;

const SMALL: &str = r#"
[pipeline]
name = "small"
[source]
topic = "events"
[parser]
plugin = "parser.wasm"
[[aggregate]]
name = "pages"
plugin = "pages.wasm"
window = { tumbling = "30s" }
keys = ["page"]
"#;

fn nothing(_: &str) -> Option<String> {
    None
}

fn load_with(text: &str, env: &dyn Fn(&str) -> Option<String>, overrides: &Overrides) -> Result<Config, Mistakes> {
    Loader { env, overrides, check_files: false }.pipeline_text("p.toml", text)
}

fn load(text: &str) -> Result<Config, Mistakes> {
    load_with(text, &nothing, &Overrides::default())
}

fn with(flags: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let mut overrides = Overrides::default();
    for (key, value) in flags {
        overrides.set("--set", *key, *value);
    }
    load_with(SMALL, &nothing, &overrides)
}

/// What loading `SMALL` with `from` replaced by `to` says.
fn wrong(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from} is not in the file");
    load(&SMALL.replacen(from, to, 1)).unwrap_err().to_string()
}

pub(super) fn window(window: &str) -> Result<wasmill_pipeline::spec::Window, String> {
    let config = load(&SMALL.replace(r#"{ tumbling = "30s" }"#, window)).map_err(|wrong| wrong.to_string())?;
    Ok(config.aggregates[0].spec.window)
}

#[test]
fn the_reference_job_loads_with_the_shipped_env() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let env = DotEnv::load(&root.join("../.env")).unwrap();
    let (get, overrides) = (|name: &str| env.get(name), Overrides::default());
    let loader = Loader { env: &get, overrides: &overrides, check_files: false };
    let config = loader.pipeline(&root.join("pipelines/clickstream.toml")).unwrap();
    let names: Vec<_> = config.aggregates.iter().map(|a| a.output.folder.as_str()).collect();
    assert_eq!(names, ["page_metrics", "geo_metrics", "sessions"]);
    assert_eq!(config.source.bootstrap_servers, None);
    assert_eq!(config.raw.unwrap().formats, [Format::Parquet]);
    assert_eq!(config.checkpoint.interval, Duration::from_secs(10));
}

#[test]
fn the_reference_job_is_what_generate_uses_when_no_file_is_named() {
    let env = |name: &str| (name == "MSGS_PER_SEC").then(|| "250".to_owned());
    let mut overrides = Overrides::default();
    overrides.set("--seed", "generator.seed", "7");
    let config = Loader { env: &env, overrides: &overrides, check_files: false }.generator(None).unwrap();
    assert_eq!((config.generator.rate, config.generator.seed), (250.0, 7));
    assert_eq!(config.source.topic, "events");
}

#[test]
fn a_small_file_is_filled_with_defaults() {
    let config = load(SMALL).unwrap();
    assert_eq!(config.source.start, Start::Earliest);
    assert_eq!(config.source.group_id, "wasmill-small");
    assert_eq!(config.listen, Some(([127, 0, 0, 1], 8080).into()));
    assert_eq!(config.checkpoint.path, Path::new("data/output/_checkpoints"));
    assert_eq!(config.raw.unwrap().folder, "events_raw");
    assert_eq!(config.generator, None);
    let capsules = Capsules { enabled: true, capsule_bytes: 4 << 20, capsules_bytes: 64 << 20, redact: false };
    assert_eq!(config.capsules, capsules);
}

#[test]
fn all_mistakes_are_said_at_once_in_the_order_of_their_lines() {
    let text =
        "[pipeline]\nname = \"9\"\n[source]\ntopik = \"x\"\n[parser]\nplugin = 5\n[time]\nidle_timeout = \"30x\"\n";
    assert_eq!(
        load(text).unwrap_err().to_string(),
        "p.toml:2: pipeline.name: \"9\" is not a name; write lower-case letters, digits and _, a letter first, such as page_metrics\n\
         p.toml:3: source.topic: missing; write topic = \"events\"\n\
         p.toml:4: source.topik: unknown key; did you mean topic?\n\
         p.toml:6: parser.plugin: 5 is not text; write it in quotes\n\
         p.toml:8: time.idle_timeout: \"30x\" is not a duration; write 500ms, 30s, 2m, 1h or \"30 seconds\", or \"off\""
    );
}

#[test]
fn what_is_not_toml_is_said_with_its_line() {
    let wrong = load("[pipeline]\nname = \n").unwrap_err().to_string();
    assert!(wrong.starts_with("p.toml:2: this is not TOML: "), "{wrong}");
    assert!(wrong.lines().count() == 1, "{wrong}");
    assert!(load("a = 1\na = 2").unwrap_err().to_string().starts_with("p.toml:2: this is not TOML: "));
}

#[test]
fn a_file_that_is_missing_or_not_text_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    let load = || Config::load(&file, &nothing, &Overrides::default()).unwrap_err().to_string();
    assert!(load().ends_with("p.toml: there is no such file; name a pipeline file"));
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(load().ends_with("p.toml: it is not UTF-8 text; name a pipeline file in TOML"));
    std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
    assert!(load().ends_with("it has 2097152 bytes; at most 1048576 are taken"));
}

#[test]
fn a_plugin_that_is_not_there_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, SMALL.replace("parser.wasm", &folder.path().display().to_string())).unwrap();
    let wrong = Config::load(&file, &nothing, &Overrides::default()).unwrap_err().to_string();
    assert!(
        wrong.contains(":7: parser.plugin: ") && wrong.contains("is a folder; write the path of a component"),
        "{wrong}"
    );
    assert!(
        wrong.contains(":10: aggregate.plugin: there is no file \"pages.wasm\"; build it with `make plugins`"),
        "{wrong}"
    );
}

#[test]
fn unknown_keys_are_said_with_what_was_meant() {
    assert_eq!(
        wrong("[source]", "[sorce]"),
        "p.toml: source.topic: missing; write topic = \"events\"\np.toml:4: sorce: unknown key; did you mean source?"
    );
    assert_eq!(wrong("tumbling", "tumblin").lines().count(), 1);
    assert_eq!(wrong("[source]", "[source]\nspeed = 1").split("; there are topic,").count(), 2);
}

#[test]
fn two_aggregates_with_one_name_are_a_mistake() {
    let twice =
        format!("{SMALL}[[aggregate]]\nname = \"pages\"\nplugin = \"x.wasm\"\nwindow = {{ session = \"1m\" }}\n");
    let wrong = load(&twice).unwrap_err().to_string();
    assert_eq!(wrong, "p.toml:14: aggregate.name: there is an aggregate named \"pages\" already; write another name");
}

#[test]
fn two_sinks_with_one_path_are_a_mistake() {
    let folder = |name| wrong("keys =", &format!("output = {{ folder = {name:?} }}\nkeys ="));
    assert_eq!(
        folder("events_raw"),
        "p.toml:12: aggregate.output.folder: \"events_raw\" is the folder of [raw] already; write another one"
    );
    assert!(folder("_late").contains("\"_late\" is reserved"));
    assert!(folder("../x").contains("\"../x\" is not a file name; write letters, digits"));
}

#[test]
fn a_checkpoint_in_an_outputs_folder_is_a_mistake() {
    let wrong = with(&[("checkpoint.path", "data/output/pages/x")]).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "--set: checkpoint.path: \"data/output/pages/x\" is an output's folder; write a folder of its own"
    );
}

#[test]
fn a_missing_window_says_what_to_write() {
    let wrong = wrong("window = { tumbling = \"30s\" }\n", "");
    assert!(
        wrong.starts_with("p.toml:8: aggregate.window: missing; write window = { tumbling = \"30s\" }, "),
        "{wrong}"
    );
}

#[test]
fn values_of_the_wrong_kind_say_what_would_be_right() {
    let at = |key: &str, value: &str, says: &str| {
        assert_eq!(with(&[(key, value)]).unwrap_err().to_string(), format!("--set: {key}: {says}"));
    };
    at("source.max_offsets_per_trigger", "-5", "-5 is negative; write a whole number, 0 or more");
    at(
        "source.max_offsets_per_trigger",
        "many",
        "\"many\" is not a whole number; write 0 or more, without quotes or unit",
    );
    at("source.on_data_loss", "ignore", "\"ignore\" is not known here; write \"skip\" or \"fail\"");
    at(
        "source.topic",
        "a b",
        "\"a b\" is not a topic's name; write letters, digits, '.', '_' and '-' only, 249 at most",
    );
    at(
        "source.bootstrap_servers",
        "kafka",
        "\"kafka\" has no port; write kafka:9092, if its brokers listen on kafka's usual one",
    );
    at("source.start", "newest", &format!("\"newest\" is not a start; write {}", start::EXAMPLES));
    at(
        "pipeline.run",
        "../x",
        "\"../x\" is not a file name; write letters, digits, '.', '_' and '-' only, and no '.' first",
    );
    at("pipeline.workers", "0", "0 is out of range; write 1 to 1024");
    at("limits.memory", "12 parsecs", "\"12 parsecs\" is not a size; write 128MB, 64MiB or 1GB");
    at("faults.breaker", "101%", "\"101%\" is not a share; write 0% to 100%, such as \"1%\"");
    at("faults.policy", "ignore", "\"ignore\" is not known here; write \"dead-letter\" or \"stop\"");
    at("limits.memory", "0", "0 is no size at all; write 128MB, 64MiB or 1GB");
    at("faults.capsule_bytes", "0", "0 is no size at all; write 128MB, 64MiB or 1GB");
    at("faults.redact", "some", "\"some\" is not a switch; write true or false");
    at("limits.state", "much", "\"much\" is not a size; write 128MB, 64MiB or 1GB, or \"off\"");
    at("http.listen", "8080", "8080 is not text; write it in quotes");
    at(
        "http.listen",
        "here:80",
        "\"here:80\" is not an address; write 127.0.0.1:8080, 0.0.0.0:8080 for all networks, or \"off\"",
    );
    at("log.level", "loud", "\"loud\" is not a level; write error, warn, info, debug or trace");
    at("raw.enabled", "maybe", "\"maybe\" is not a switch; write true or false");
    at("output.formats", "parquet,orc", "\"orc\" is not known here; write \"parquet\" or \"csv\"");
    at("output.formats", "[]", "there is none; write [\"parquet\"], [\"csv\"] or both");
}

#[test]
fn a_variable_without_value_or_default_is_a_mistake_of_its_own_only() {
    let wrong = wrong("\"events\"", "\"${KAFKA_TOPIC}\"");
    assert_eq!(
        wrong,
        "p.toml:5: source.topic: the environment variable KAFKA_TOPIC is not set; set it or write ${KAFKA_TOPIC:-default}"
    );
}

#[test]
fn a_mistake_in_a_variable_names_it() {
    let env = |name: &str| (name == "PAGE_WINDOW").then(|| "30".to_owned());
    let text = SMALL.replace("\"30s\"", "\"${PAGE_WINDOW:-30s}\"");
    let wrong = load_with(&text, &env, &Overrides::default()).unwrap_err().to_string();
    assert!(wrong.ends_with("\"30 seconds\" (it comes from PAGE_WINDOW)"), "{wrong}");
}

#[test]
fn a_variable_cannot_change_the_structure_of_the_file() {
    let env = |name: &str| (name == "X").then(|| "a\"\n[http]\nlisten = \"0.0.0.0:1".to_owned());
    let text = format!("{SMALL}[aggregate.config]\nx = \"${{X}}\"\n");
    let config = load_with(&text, &env, &Overrides::default()).unwrap();
    assert_eq!(config.listen, Some(([127, 0, 0, 1], 8080).into()));
    assert_eq!(config.aggregates[0].plugin.config_json(), r#"{"x":"a\"\n[http]\nlisten = \"0.0.0.0:1"}"#);
}

#[test]
fn an_empty_value_counts_as_not_given() {
    let config = with(&[("source.max_offsets_per_trigger", ""), ("pipeline.run", ""), ("http.listen", "")]).unwrap();
    assert_eq!((config.source.max_offsets_per_trigger, config.run), (None, None));
    assert!(config.listen.is_some());
}

#[test]
fn a_run_has_a_checkpoint_folder_of_its_own() {
    let config = with(&[("pipeline.run", "2026-01-01_a.b"), ("checkpoint.path", "chk")]).unwrap();
    assert_eq!(config.checkpoint.path, Path::new("chk/2026-01-01_a.b"));
}

#[test]
fn flags_beat_the_file_and_later_flags_earlier_ones() {
    let config =
        with(&[("source.topic", "a"), ("source.topic", "b"), ("aggregate.pages.keys", "[\"x\", \"y\"]")]).unwrap();
    assert_eq!(config.source.topic, "b");
    assert_eq!(config.aggregates[0].spec.keys, ["x", "y"]);
}

#[test]
fn flags_with_wrong_keys_say_so() {
    let wrong = |key, value| with(&[(key, value)]).unwrap_err().to_string();
    assert_eq!(wrong("aggregate.page.keys", "x"), "--set: there is no aggregate named \"page\"; did you mean pages?");
    assert_eq!(
        wrong("aggregate", "x"),
        "--set: \"aggregate\" is not a key; write section.key=value or aggregate.NAME.key=value"
    );
    assert_eq!(wrong("source.topic.x", "x"), "--set: \"topic\" is not a section");
    assert!(wrong("htp.listen", "x").contains("unknown key; did you mean http?"));
}

#[test]
fn an_aggregate_may_have_fault_rules_of_its_own() {
    let text = format!("{SMALL}[aggregate.faults]\nbreaker = \"20%\"\n[faults]\npolicy = \"stop\"\nbreaker = 0.5\n");
    let config = load(&text).unwrap();
    let shared = FaultRules { policy: FaultPolicy::Stop, breaker: 0.5, ..FaultRules::default() };
    assert_eq!(config.faults, shared);
    assert_eq!(config.aggregates[0].faults, FaultRules { breaker: 0.2, ..shared });
    assert_eq!(load(SMALL).unwrap().faults, FaultRules::default());
}

#[test]
fn plugins_are_replaced_by_name() {
    let mut overrides = Overrides::default();
    overrides.plugin("parser", Path::new("1.5"));
    overrides.plugin("pages", Path::new("$HOME/a \"b\".wasm"));
    let config = load_with(SMALL, &nothing, &overrides).unwrap();
    assert_eq!(config.parser.path, Path::new("1.5"));
    assert_eq!(config.aggregates[0].plugin.path, Path::new("$HOME/a \"b\".wasm"));
    overrides.plugin("geo", Path::new("x"));
    let wrong = load_with(SMALL, &nothing, &overrides).unwrap_err().to_string();
    assert_eq!(wrong, "--plugin geo: there is no aggregate named \"geo\"; there are: pages");
}

#[test]
fn settings_of_librdkafka_pass_through_and_empty_ones_do_not() {
    let text = format!(
        "{SMALL}[source.kafka]\n\"security.protocol\" = \"ssl\"\n\"fetch.min.bytes\" = 5\n\"check.crcs\" = true\nx = \"\"\n"
    );
    let kafka = load(&text).unwrap().source.kafka;
    let kafka: Vec<_> = kafka.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(kafka, ["check.crcs=true", "fetch.min.bytes=5", "security.protocol=ssl"]);
}

#[test]
fn secrets_are_never_shown() {
    let text = format!("{SMALL}[aggregate.config]\napi_token = \"geheim\"\ninner = {{ Password = \"geheim\" }}\n");
    let flags = [
        ("source.kafka.sasl.password", "geheim"),
        ("source.kafka.ssl.key.pem", "geheim"),
        ("source.kafka.sasl.jaas.config", "geheim"),
    ];
    let mut overrides = Overrides::default();
    for (key, value) in flags {
        overrides.set("--set", key, value);
    }
    let config = load_with(&text, &nothing, &overrides).unwrap();
    for shown in [config.to_string(), format!("{config:?}"), format!("{:?}{:?}", config.source, config.aggregates)] {
        assert!(!shown.contains("geheim") && shown.contains("********"), "{shown}");
    }
    assert_eq!(config.source.kafka.len(), 3);
}

#[test]
fn swaps_are_as_the_file_says_and_careful_where_it_says_nothing() {
    assert_eq!(load(SMALL).unwrap().swap, Swap::default());
    let text = format!(
        "{SMALL}[swap]\nwatch = \"false\"\nprobation = 0\nstate = \"Pin\"\nmost_time = \"1.5\"\nmost_memory = \"off\"\n"
    );
    let swap = load(&text).unwrap().swap;
    let policy = Some(SwapPolicy::Pin);
    let expected =
        Swap { watch: false, probation: 0, policy, most_time: Some(1.5), most_memory: None, ..Swap::default() };
    assert_eq!(swap, expected);
    let shown = load(&load(&text).unwrap().redacted()).unwrap();
    assert_eq!(shown.swap, swap);
}

#[test]
fn swaps_that_cannot_be_say_what_would_be_right() {
    let at = |key: &str, value: &str, says: &str| {
        assert_eq!(with(&[(key, value)]).unwrap_err().to_string(), format!("--set: {key}: {says}"));
    };
    at("swap.state", "keep", "\"keep\" is not known here; write \"migrate\" or \"pin\" or \"fresh\"");
    at("swap.probation", "1001", "1001 is out of range; write 0 to 1000");
    let factor = "is not a factor; write how many times as much, 1 or more, such as 10, or \"off\"";
    at("swap.most_time", "0.5", &format!("0.5 {factor}"));
    at("swap.most_memory", "twice", &format!("\"twice\" {factor}"));
    at("swap.wach", "true", "unknown key; did you mean watch?");
}

#[test]
fn the_state_of_a_swap_is_automatic_where_the_variable_is_empty() {
    assert_eq!(with(&[("swap.state", "")]).unwrap().swap.policy, None);
}

#[test]
fn an_aggregate_cannot_be_called_as_other_plugins_are() {
    for name in ["parser", "generator"] {
        let wrong = wrong("name = \"pages\"", &format!("name = {name:?}"));
        assert!(wrong.contains(&format!("{name:?} is a word of wasmill's own; write another name")), "{wrong}");
    }
}

/// A file with these lines below `[http.tokens]`.
fn with_tokens(lines: &str) -> Result<Config, Mistakes> {
    load(&format!("{SMALL}[http.tokens]\n{lines}"))
}

#[test]
fn tokens_have_names_and_empty_ones_are_left_out() {
    let config = with_tokens("ci = \"0123456789abcdef\"\nops = \"\"\n").unwrap();
    assert_eq!(config.tokens, [("ci".to_owned(), "0123456789abcdef".to_owned())].into());
}

#[test]
fn a_token_is_never_shown_and_what_is_shown_for_it_is_none() {
    let config = with_tokens("ci = \"0123456789abcdef\"\n").unwrap();
    for shown in [config.redacted(), format!("{config:?}")] {
        assert!(!shown.contains("0123456789") && shown.contains("ci = \"********\""), "{shown}");
    }
    assert!(load(&config.redacted()).unwrap_err().to_string().contains("http.tokens.ci: the token has 8 characters"));
}

#[test]
fn a_token_that_is_weak_or_shared_is_a_mistake_that_does_not_show_it() {
    let at = |lines: &str, says: &str| {
        let wrong = with_tokens(lines).unwrap_err().to_string();
        assert!(wrong.contains(says) && !wrong.contains("abc"), "{wrong}");
    };
    at("ci = \"abcabcabcabcabc\"", "http.tokens.ci: the token has 15 characters; write 16 to 1000");
    at("ci = \"abcabcabc abcabcabc\"", "a character that a header cannot carry");
    at("ci = 1234567890123456", "http.tokens.ci: a token is text; write it in quotes");
    at("\"c i\" = \"abcabcabcabcabcabc\"", "\"c i\" is not a token's name");
    at("a = \"abcabcabcabcabcabc\"\nb = \"abcabcabcabcabcabc\"", "b and a are the same token");
}

#[test]
fn times_are_trusted_as_the_file_says_and_else_as_the_design_does() {
    let time = load(&format!("{SMALL}[time]\nwatermark_delay = \"10s\"\n")).unwrap().time;
    assert_eq!(time, TimeSpec::default());
    let lines = "min = \"2020-01-01\"\nclock_skew = \"0s\"\nmax_jump = \"1h\"\nconfirm = \"3\"\ntrust = \"Any\"\n\
                 unreadable = \"dead-letter\"\n";
    let time = load(&format!("{SMALL}[time]\n{lines}")).unwrap().time;
    assert_eq!((time.min_us, time.clock_skew_us), (Some(1_577_836_800_000_000), 0));
    assert_eq!((time.max_jump_us, time.confirm), (3_600_000_000, 3));
    assert_eq!((time.trust, time.unreadable), (TrustRule::Any, Unreadable::DeadLetter));
    assert_eq!(with(&[("time.min", "off")]).unwrap().time.min_us, None);
}

#[test]
fn times_that_cannot_be_trusted_so_are_mistakes() {
    let at = |key: &str, value: &str, says: &str| {
        let wrong = with(&[(key, value)]).unwrap_err().to_string();
        assert!(wrong.contains(&format!("{key}: {says}")), "{wrong}");
    };
    at("time.min", "yesterday", "\"yesterday\" is not a time; write 2026-01-31T12:00:00Z");
    at("time.confirm", "0", "0 is out of range; write 1 to 10000");
    at("time.max_jump", "0s", "\"0s\" is no time at all");
    at("time.trust", "all", "\"all\" is not known here; write \"claims\" or \"any\"");
    at("time.unreadable", "drop", "\"drop\" is not known here; write \"broker\" or \"dead-letter\"");
}

#[test]
fn what_is_shown_loads_to_the_same() {
    let config = with(&[
        ("output.roll.age", "90s"),
        ("source.start", "{\"0\": 5}"),
        ("time.max_ahead", "off"),
        ("time.trust", "any"),
    ])
    .unwrap();
    assert_eq!(load(&config.redacted()).unwrap().redacted(), config.redacted());
}

proptest! {
    #[test]
    fn no_change_of_the_reference_job_makes_loading_panic(at in 0.0..1.0_f64, remove in 0..40_usize, insert in "\\PC{0,8}") {
        let text = include_str!("../../pipelines/clickstream.toml");
        let boundary = |from: usize| (from..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
        let start = boundary((text.len() as f64 * at) as usize);
        let end = boundary((start + remove).min(text.len()));
        let changed = format!("{}{insert}{}", &text[..start], &text[end..]);
        if let Err(wrong) = load(&changed) {
            prop_assert_eq!(wrong.to_string().lines().count(), wrong.0.len());
        }
    }
}

/// Files as large as they may be. A person's machine reads each in well under a second, this test's in a few; what takes
/// quadratic time takes minutes.
#[test]
fn the_largest_files_take_time_in_proportion_to_their_size() {
    let many = |one: &dyn Fn(usize) -> String, count| (0..count).map(one).collect::<String>();
    let keys = format!("keys = [{}]", many(&|n| format!("\"k{n}\", "), 100_000));
    let aggregates = many(&|n| format!("[[aggregate]]\nname = \"a{n}\"\n"), 35_000);
    let unknown = many(&|n| format!("unknown_key_{n} = 1\n"), 45_000);
    for text in [
        SMALL.replace("keys = [\"page\"]", &keys),
        SMALL.to_owned() + &aggregates,
        unknown,
        format!("{}x = 1", "a.".repeat(500_000)),
        format!("x = {}", "[".repeat(1_000_000)),
        format!("x = \"{}\"", "${A".repeat(300_000)),
    ] {
        let began = std::time::Instant::now();
        let wrong = load(&text).err().map_or(0, |wrong| wrong.0.len());
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?} for {} bytes, {wrong} mistakes", text.len());
    }
}
