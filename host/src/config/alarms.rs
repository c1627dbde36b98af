//! The section `[alarms]`: from which share on something is so wrong with the input that it is said.

use std::time::Duration;

use toml::{Table, Value};
use wasmill_pipeline::alarm::{AlarmRules, Kind};

use super::duration::{format_us, us};
use super::section::Section;
use super::value;

/// The section as it is written.
pub(super) fn read(root: &mut Section<'_>) -> AlarmRules {
    let mut section = root.section("alarms");
    let defaults = AlarmRules::default();
    let share = |kind| {
        let default = defaults.shares.get(&kind).copied();
        Some((kind, section.or(kind.as_str(), default, value::share_or_off)?))
    };
    let shares = Kind::ALL.into_iter().filter(|&kind| kind != Kind::Unread).filter_map(share).collect();
    let rules = AlarmRules {
        interval_us: us(section.or("interval", micros(defaults.interval_us), value::positive)),
        least: section.or("least", defaults.least, value::count_in(1, i64::MAX as u64)),
        shares,
        unread_us: section.or("unread", defaults.unread_us.map(micros), value::positive_or_off).map(us),
        unready: section.or("unready", defaults.unready, value::switch),
    };
    section.finish();
    rules
}

/// The rules as a section.
pub(super) fn show(rules: &AlarmRules) -> Table {
    let share = |kind: Kind| rules.shares.get(&kind).map_or("off".into(), |&share| Value::from(share));
    let shares = Kind::ALL.into_iter().filter(|&kind| kind != Kind::Unread);
    let mut shown: Table = shares.map(|kind| (kind.as_str().to_owned(), share(kind))).collect();
    let span = |us| Value::from(format_us(us));
    shown.extend([
        ("interval".to_owned(), span(rules.interval_us)),
        ("least".to_owned(), (rules.least as i64).into()),
        ("unread".to_owned(), rules.unread_us.map_or("off".into(), span)),
        ("unready".to_owned(), rules.unready.into()),
    ]);
    shown
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Loader, Mistakes, Overrides};
    use super::*;

    fn load(text: &str) -> Result<Config, Mistakes> {
        let (env, overrides) = (|_: &str| None, Overrides::default());
        Loader { env: &env, overrides: &overrides, check_files: false }.pipeline_text("p.toml", text)
    }

    fn with(alarms: &str) -> Result<Config, Mistakes> {
        let rest = "[pipeline]\nname = \"small\"\n[source]\ntopic = \"t\"\n[parser]\nplugin = \"p.wasm\"\n";
        load(&format!("{rest}[alarms]\n{alarms}"))
    }

    #[test]
    fn alarms_are_as_the_file_says_and_careful_where_it_says_nothing() {
        assert_eq!(with("").unwrap().alarms, AlarmRules::default());
        let text = "interval = \"10s\"\nleast = 3\ndead_letters = \"2.5%\"\nlate = \"off\"\nunread = \"off\"\nunready = true\n";
        let config = with(text).unwrap();
        let rules = &config.alarms;
        assert_eq!((rules.interval_us, rules.least, rules.unread_us, rules.unready), (10_000_000, 3, None, true));
        assert_eq!(rules.shares.get(&Kind::DeadLetters), Some(&0.025));
        assert_eq!(rules.shares.get(&Kind::Late), None);
        assert_eq!(load(&config.redacted()).unwrap().alarms, *rules);
    }

    #[test]
    fn what_is_no_share_or_time_says_what_would_be_right() {
        let wrong = with("dead_letters = \"many\"\ninterval = 0\nleast = 0\nlat = \"1%\"\n").unwrap_err().to_string();
        for part in [
            "p.toml:8: alarms.dead_letters: \"many\" is not a share; write 0% to 100%, such as \"1%\", or \"off\"",
            "p.toml:9: alarms.interval: 0 is no time at all",
            "p.toml:10: alarms.least: 0 is out of range",
            "p.toml:11: alarms.lat: unknown key; did you mean late?",
        ] {
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}
