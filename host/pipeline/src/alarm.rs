//! Alarms: when so much of the input is wrong that somebody should look.
//!
//! A machine that is shown counts that grow and the time, and says when an alarm begins, goes on and is over. Shares are
//! judged over intervals, each of at least so many records or rows: a share of few says nothing.

use std::collections::BTreeMap;
use std::fmt;

/// An alarm begins before its interval is over, where the share of what came so far says it: after this part of the
/// interval, so that a default of a minute gives a word within 5 s, and a burst at its very beginning is no alarm.
const EARLY: i64 = 12;

/// An alarm that goes on is told again after so many intervals: often enough to be found near the end of a log, with the
/// default of a minute four times an hour.
const AGAIN: i64 = 15;

/// A partition of which this share is wrong is broken, however little it is of the whole: more is wrong than right.
const BROKEN: f64 = 0.5;

/// What can be wrong with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Records are set aside as dead letters.
    DeadLetters,
    /// Records are no events: tombstones, and what the parser filters.
    Filtered,
    /// Rows take the broker's time, as they have none of their own that can be read.
    BrokerTime,
    /// Rows have a time of their own that cannot be read.
    Unreadable,
    /// Rows claimed to be far ahead of all before them, and the next rows refuted that.
    Suspects,
    /// Rows come too late for an aggregate.
    Late,
    /// Rows are kept from an aggregate whose plugin fails.
    SetAside,
    /// Records are there, but none is read.
    Unread,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::DeadLetters,
        Self::Filtered,
        Self::BrokerTime,
        Self::Unreadable,
        Self::Suspects,
        Self::Late,
        Self::SetAside,
        Self::Unread,
    ];

    /// The word used in settings, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetters => "dead_letters",
            Self::Filtered => "filtered",
            Self::BrokerTime => "broker_time",
            Self::Unreadable => "unreadable",
            Self::Suspects => "suspects",
            Self::Late => "late",
            Self::SetAside => "set_aside",
            Self::Unread => "unread",
        }
    }
}

/// What an alarm is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// What is wrong.
    pub kind: Kind,
    /// For which aggregate, where it is not wrong for all.
    pub aggregate: Option<String>,
}

impl Subject {
    /// Wrong for all.
    pub fn of_all(kind: Kind) -> Self {
        Self { kind, aggregate: None }
    }

    /// Wrong for one aggregate.
    pub fn of(kind: Kind, aggregate: &str) -> Self {
        Self { kind, aggregate: Some(aggregate.to_owned()) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        self.aggregate.iter().try_for_each(|aggregate| write!(f, " {aggregate}"))
    }
}

/// When there is an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmRules {
    /// The time over which a share is judged, µs, above 0.
    pub interval_us: i64,
    /// The least number of records or rows that a share is judged of.
    pub least: u64,
    /// The share, 0 to 1, from which on there is an alarm; 0 = at the first. No alarm of a kind that is not here.
    pub shares: BTreeMap<Kind, f64>,
    /// For how long no record may be read while there are some, µs; `None` = for any time.
    pub unread_us: Option<i64>,
    /// Whether a pipeline with an alarm is not ready.
    pub unready: bool,
}

impl Default for AlarmRules {
    /// One in a hundred in a minute; every record where it is no event; none read for five minutes.
    fn default() -> Self {
        let share = |kind| (kind, if kind == Kind::Filtered { 1.0 } else { 0.01 });
        let shares = Kind::ALL.into_iter().filter(|&kind| kind != Kind::Unread).map(share).collect();
        Self { interval_us: 60_000_000, least: 10, shares, unread_us: Some(300_000_000), unready: false }
    }
}

/// How many are wrong, of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Wrong ones.
    pub wrong: u64,
    /// All of them.
    pub all: u64,
}

impl Tally {
    /// The share that is wrong, 0 to 1.
    pub fn share(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.wrong as f64 / self.all as f64 }
    }

    fn reaches(self, share: f64) -> bool {
        // As a quotient: 7 of 100 is the very number that "7%" is read as, while 0.07 * 100 is more than 7.
        self.wrong > 0 && self.share() >= share
    }

    fn since(self, before: Self) -> Self {
        Self { wrong: self.wrong.saturating_sub(before.wrong), all: self.all.saturating_sub(before.all) }
    }
}

/// What was counted of a subject: growing numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Over all partitions.
    pub total: Tally,
    /// By partition, as far as that is known.
    pub partitions: BTreeMap<i32, Tally>,
    /// The wrong ones by reason, where there are several.
    pub reasons: BTreeMap<String, u64>,
}

impl Counts {
    /// What was counted since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let of = |partition: &i32| before.partitions.get(partition).copied().unwrap_or_default();
        let partitions = self.partitions.iter().map(|(partition, tally)| (*partition, tally.since(of(partition))));
        let reason = |(reason, count): (&String, &u64)| {
            let before = before.reasons.get(reason).copied().unwrap_or_default();
            (reason.clone(), count.saturating_sub(before))
        };
        Self {
            total: self.total.since(before.total),
            partitions: partitions.collect(),
            reasons: self.reasons.iter().map(reason).collect(),
        }
    }

    /// Whether numbers went back, as when a run goes on from a checkpoint.
    fn went_back(&self, before: &Self) -> bool {
        self.total.all < before.total.all || self.total.wrong < before.total.wrong
    }

    /// Whether it is enough to be an alarm: in all, or in a partition of its own.
    fn is_wrong(&self, share: f64, least: u64) -> bool {
        let broken = |tally: &Tally| tally.all >= least && tally.reaches(share.max(BROKEN));
        self.total.reaches(share) || self.partitions.values().any(broken)
    }
}

/// What has become of an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// What it is about.
    pub subject: Subject,
    /// What is new.
    pub change: Change,
    /// What was counted.
    pub counts: Counts,
    /// In which time, µs; `None` = in the whole run.
    pub within_us: Option<i64>,
}

/// What is new of an alarm.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It has begun.
    Begun,
    /// It goes on.
    GoesOn {
        /// For how long, µs.
        for_us: i64,
        /// What was told of it last.
        before: Tally,
    },
    /// It is over.
    Over,
}

/// An alarm that is on.
#[derive(Clone, Debug, PartialEq)]
pub struct Ongoing {
    /// Since when, in the time that the machine is shown, µs.
    pub since_us: i64,
    /// What was counted when it was judged last.
    pub counts: Counts,
    /// In which time, µs.
    pub within_us: i64,
    told_us: i64,
    told: Tally,
}

#[derive(Debug, Default)]
struct Watch {
    /// The interval's beginning, and what had been counted by then.
    since_us: i64,
    before: Counts,
    on: Option<Ongoing>,
}

/// The alarms of a pipeline.
#[derive(Debug)]
pub struct Alarms {
    rules: AlarmRules,
    watches: BTreeMap<Subject, Watch>,
    /// How many records had been read when it was looked at last, and since when that is so while there are some.
    read: u64,
    silent_since_us: Option<i64>,
}

impl Alarms {
    /// None yet.
    pub fn new(rules: AlarmRules) -> Self {
        Self { rules, watches: BTreeMap::new(), read: 0, silent_since_us: None }
    }

    /// When there is an alarm.
    pub fn rules(&self) -> &AlarmRules {
        &self.rules
    }

    /// Begins intervals here: what was counted before is not of them. Alarms stay on until an interval says otherwise.
    pub fn begin(&mut self, now_us: i64, counts: &BTreeMap<Subject, Counts>) {
        for (subject, counts) in counts {
            let watch = self.watches.entry(subject.clone()).or_default();
            (watch.since_us, watch.before) = (now_us, counts.clone());
        }
    }

    /// Looks at what has been counted by now, and says what is new. Call it a few times in a second or so.
    pub fn look(&mut self, now_us: i64, counts: &BTreeMap<Subject, Counts>) -> Vec<Word> {
        let rules = &self.rules;
        let mut words = Vec::new();
        for (subject, counts) in counts {
            let Some(&share) = rules.shares.get(&subject.kind) else { continue };
            let watch = self.watches.entry(subject.clone()).or_insert_with(|| Watch {
                since_us: now_us,
                before: counts.clone(),
                on: None,
            });
            if counts.went_back(&watch.before) {
                (watch.since_us, watch.before) = (now_us, counts.clone());
                continue;
            }
            let (found, within_us) = (counts.since(&watch.before), now_us - watch.since_us);
            if found.total.all < rules.least || within_us < rules.interval_us / EARLY {
                continue;
            }
            let (wrong, is_over) = (found.is_wrong(share, rules.least), within_us >= rules.interval_us);
            let begins = wrong && watch.on.is_none() && (is_over || found.total.wrong >= rules.least);
            if begins || is_over {
                words.extend(watch.judge(subject, wrong, found, now_us, rules.interval_us));
            }
            if is_over {
                (watch.since_us, watch.before) = (now_us, counts.clone());
            }
        }
        words
    }

    /// Looks at whether records are read, while there are some (`unread`), and says what is new.
    pub fn look_at_reading(&mut self, now_us: i64, read: u64, unread: u64) -> Option<Word> {
        let most = self.rules.unread_us?;
        if std::mem::replace(&mut self.read, read) != read || unread == 0 {
            self.silent_since_us = None;
        } else {
            self.silent_since_us.get_or_insert(now_us);
        }
        let since = self.silent_since_us.unwrap_or(now_us);
        let subject = Subject::of_all(Kind::Unread);
        let watch =
            self.watches.entry(subject.clone()).or_insert_with(|| Watch { since_us: since, ..Watch::default() });
        watch.since_us = since;
        let is_wrong = now_us - since >= most;
        if !is_wrong && self.silent_since_us.is_some() {
            return None;
        }
        let counts = Counts { total: Tally { wrong: unread, all: unread }, ..Counts::default() };
        watch.judge(&subject, is_wrong, counts, now_us, most)
    }

    /// The alarms that are on.
    pub fn on(&self) -> impl Iterator<Item = (&Subject, &Ongoing)> {
        self.watches.iter().filter_map(|(subject, watch)| Some((subject, watch.on.as_ref()?)))
    }

    /// What is to be said at the end of a run in which this was counted, however long it took. A share of few counts
    /// here where it is all there was.
    pub fn verdict(&self, counts: &BTreeMap<Subject, Counts>) -> Vec<Word> {
        let is_wrong = |subject: &Subject, counts: &Counts| {
            let Tally { wrong, all } = counts.total;
            let enough = all >= self.rules.least || wrong == all;
            self.rules
                .shares
                .get(&subject.kind)
                .is_some_and(|&share| enough && counts.is_wrong(share, self.rules.least))
        };
        let found = counts.iter().filter(|(subject, counts)| is_wrong(subject, counts));
        let word = |(subject, counts): (&Subject, &Counts)| Word {
            subject: subject.clone(),
            change: Change::Begun,
            counts: counts.clone(),
            within_us: None,
        };
        found.map(word).collect()
    }
}

impl Watch {
    /// Takes the verdict of an interval, and says what is new.
    fn judge(
        &mut self,
        subject: &Subject,
        is_wrong: bool,
        counts: Counts,
        now_us: i64,
        interval_us: i64,
    ) -> Option<Word> {
        let within_us = now_us - self.since_us;
        let tally = counts.total;
        let change = match &mut self.on {
            None if !is_wrong => return None,
            Some(_) if !is_wrong => {
                self.on = None;
                Change::Over
            }
            None => {
                let (since_us, counts) = (now_us, counts.clone());
                self.on = Some(Ongoing { since_us, counts, within_us, told_us: now_us, told: tally });
                Change::Begun
            }
            Some(on) => {
                (on.counts, on.within_us) = (counts.clone(), within_us);
                if now_us - on.told_us < interval_us.saturating_mul(AGAIN) {
                    return None;
                }
                on.told_us = now_us;
                let before = std::mem::replace(&mut on.told, tally);
                Change::GoesOn { for_us: now_us - on.since_us, before }
            }
        };
        Some(Word { subject: subject.clone(), change, counts, within_us: Some(within_us) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;

    fn dead(wrong: u64, all: u64) -> BTreeMap<Subject, Counts> {
        [(Subject::of_all(Kind::DeadLetters), Counts { total: Tally { wrong, all }, ..Counts::default() })].into()
    }

    /// Dead letters of partitions: how many of how many.
    fn of_partitions(tallies: &[(u64, u64)]) -> BTreeMap<Subject, Counts> {
        let partitions = tallies.iter().zip(0..).map(|(&(wrong, all), partition)| (partition, Tally { wrong, all }));
        let mut counts = dead(tallies.iter().map(|of| of.0).sum(), tallies.iter().map(|of| of.1).sum());
        for counts in counts.values_mut() {
            counts.partitions = partitions.clone().collect();
        }
        counts
    }

    fn alarms() -> Alarms {
        let mut alarms = Alarms::new(AlarmRules::default());
        alarms.begin(0, &dead(0, 0));
        alarms
    }

    /// What is said at these times of these numbers of dead letters and records: `b`egun, `g`oes on, `o`ver, `-` nothing.
    fn said(looks: &[(i64, u64, u64)]) -> String {
        let mut alarms = alarms();
        let word = |&(second, wrong, all): &(i64, u64, u64)| match alarms
            .look(second * SECOND, &dead(wrong, all))
            .as_slice()
        {
            [] => '-',
            [Word { change: Change::Begun, .. }] => 'b',
            [Word { change: Change::GoesOn { .. }, .. }] => 'g',
            [Word { change: Change::Over, .. }] => 'o',
            more => panic!("{more:?}"),
        };
        looks.iter().map(word).collect()
    }

    #[test]
    fn one_in_a_hundred_is_an_alarm_and_a_little_less_is_none() {
        assert_eq!(said(&[(60, 10, 1000), (120, 20, 2000)]), "b-");
        assert_eq!(said(&[(60, 9, 1000), (120, 19, 2001)]), "--");
    }

    #[test]
    fn what_is_plain_is_said_before_the_interval_is_over_but_not_in_its_first_moment() {
        assert_eq!(said(&[(1, 40, 60), (5, 40, 60), (60, 40, 60)]), "-b-");
    }

    #[test]
    fn a_share_of_few_records_says_nothing_until_there_are_more() {
        assert_eq!(said(&[(60, 9, 9), (120, 9, 9), (180, 10, 10), (240, 10, 10)]), "--b-");
    }

    #[test]
    fn an_alarm_is_said_once_again_after_fifteen_intervals_and_when_it_is_over() {
        let mut looks: Vec<_> = (1..=17).map(|n| (n * 60, n as u64 * 50, n as u64 * 100)).collect();
        looks.push((18 * 60, 850, 1900));
        assert_eq!(said(&looks), "b--------------g-o");
    }

    #[test]
    fn an_alarm_that_goes_on_says_for_how_long_and_what_it_was() {
        let mut alarms = alarms();
        alarms.look(MINUTE, &dead(50, 100));
        let words = alarms.look(16 * MINUTE, &dead(100, 200));
        let before = Tally { wrong: 50, all: 100 };
        assert_eq!(words[0].change, Change::GoesOn { for_us: 15 * MINUTE, before });
        assert_eq!((words[0].counts.total, words[0].within_us), (before, Some(15 * MINUTE)));
    }

    #[test]
    fn an_attempt_that_begins_anew_ends_no_alarm_and_counts_nothing_twice() {
        let mut alarms = alarms();
        alarms.look(MINUTE, &dead(50, 100));
        alarms.begin(MINUTE, &dead(0, 0));
        assert_eq!(alarms.look(2 * MINUTE, &dead(50, 100)), []);
        assert_eq!((alarms.on().count(), alarms.look(3 * MINUTE, &dead(0, 0))), (1, Vec::new()));
        assert_eq!(alarms.look(4 * MINUTE, &dead(0, 100))[0].change, Change::Over);
    }

    #[test]
    fn a_broken_partition_among_many_is_an_alarm_of_its_own() {
        let mut healthy = vec![(0, 100); 199];
        let share = |tallies: &[(u64, u64)]| alarms().look(MINUTE, &of_partitions(tallies)).len();
        assert_eq!(share(&healthy), 0);
        healthy.push((49, 100));
        assert_eq!(share(&healthy), 0);
        healthy[199] = (50, 100);
        assert_eq!(share(&healthy), 1);
        healthy[199] = (9, 9);
        assert_eq!(share(&healthy), 0);
    }

    #[test]
    fn each_aggregate_is_judged_for_itself() {
        let late = |name, wrong| {
            (Subject::of(Kind::Late, name), Counts { total: Tally { wrong, all: 1000 }, ..Counts::default() })
        };
        let mut alarms = Alarms::new(AlarmRules::default());
        alarms.begin(
            0,
            &BTreeMap::from(["pages", "sessions"].map(|name| (Subject::of(Kind::Late, name), Counts::default()))),
        );
        let words = alarms.look(MINUTE, &BTreeMap::from([late("pages", 9), late("sessions", 10)]));
        assert_eq!(words.iter().map(|word| word.subject.to_string()).collect::<Vec<_>>(), ["late sessions"]);
    }

    #[test]
    fn what_is_off_says_nothing_and_0_is_any_at_all() {
        let mut rules = AlarmRules::default();
        rules.shares.insert(Kind::DeadLetters, 0.0);
        let words = |rules: &AlarmRules, wrong| {
            let mut alarms = Alarms::new(rules.clone());
            alarms.begin(0, &dead(0, 0));
            alarms.look(MINUTE, &dead(wrong, 1_000_000)).len()
        };
        assert_eq!((words(&rules, 0), words(&rules, 1)), (0, 1));
        rules.shares.remove(&Kind::DeadLetters);
        assert_eq!(words(&rules, 1_000_000), 0);
    }

    #[test]
    fn a_run_that_ends_says_a_share_of_few_only_where_it_is_all() {
        let verdict = |wrong, all| alarms().verdict(&dead(wrong, all)).len();
        assert_eq!([verdict(0, 0), verdict(1, 1), verdict(5, 9), verdict(5, 10), verdict(40, 60)], [0, 1, 0, 1, 1]);
        assert_eq!([verdict(9, 1000), verdict(10, 1000)], [0, 1]);
    }

    #[test]
    fn records_that_are_there_but_not_read_are_an_alarm_after_a_while() {
        let mut alarms = alarms();
        let mut look =
            |minute: i64, read, unread| alarms.look_at_reading(minute * MINUTE, read, unread).map(|word| word.change);
        assert_eq!([look(0, 5, 0), look(1, 5, 9), look(5, 5, 9)], [None, None, None]);
        assert_eq!([look(6, 5, 9), look(7, 5, 9)], [Some(Change::Begun), None]);
        assert_eq!([look(8, 6, 8), look(12, 6, 8), look(12, 6, 0)], [Some(Change::Over), None, None]);
    }

    proptest! {
        /// Whatever is counted: words alternate between begun and over, and no share below the limit begins an alarm.
        #[test]
        fn an_alarm_begins_and_ends_in_turn_and_never_below_its_share(
            steps in proptest::collection::vec((1i64..90, 0u64..40, 0u64..400), 1..60)
        ) {
            let (mut alarms, mut on) = (alarms(), false);
            let (mut second, mut wrong, mut all) = (0, 0, 0);
            for (seconds, bad, good) in steps {
                (second, wrong, all) = (second + seconds, wrong + bad, all + bad + good);
                for word in alarms.look(second * SECOND, &dead(wrong, all)) {
                    let share = word.counts.total.share();
                    match word.change {
                        Change::Begun => prop_assert!(!on && share >= 0.01, "{word:?}"),
                        Change::GoesOn { .. } => prop_assert!(on && share >= 0.01, "{word:?}"),
                        Change::Over => prop_assert!(on && share < 0.01, "{word:?}"),
                    }
                    on = word.change != Change::Over;
                }
                prop_assert_eq!(alarms.on().count(), usize::from(on));
            }
        }

        /// Looks in between change nothing that is said of an interval: only how early it is said.
        #[test]
        fn however_often_it_is_looked_a_bad_interval_is_told(wrong in 10u64..100, looks in 1i64..50) {
            let mut alarms = alarms();
            let mut begun = 0;
            for look in 1..=looks {
                let part = |count: u64| count * look as u64 / looks as u64;
                let words = alarms.look(look * MINUTE / looks, &dead(part(wrong), part(1000)));
                begun += words.iter().filter(|word| word.change == Change::Begun).count();
            }
            prop_assert_eq!(begun, 1);
        }
    }
}
