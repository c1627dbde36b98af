//! The books: what came in, what became of it, and whether it adds up.

use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::dead_letter::Reason;
use wasmill_pipeline::lane::{LaneCounts, PartitionCounts};

/// Totals since the first checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Records read.
    pub records: u64,
    /// Records the parser made nothing of: tombstones and what it filters.
    pub filtered: u64,
    /// Records that became rows.
    pub parsed: u64,
    /// Rows: those of `events_raw`.
    pub rows: u64,
    /// Rows that took the broker's time, as they had none or a bad one.
    pub broker_time_rows: u64,
    /// Records that the broker had removed before they were read.
    pub lost_records: u64,
    /// Dead letters, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// By aggregate.
    pub aggregates: BTreeMap<String, AggregateTotals>,
    /// What of it each partition gave, by its number.
    pub partitions: BTreeMap<i32, PartitionCounts>,
}

/// One aggregate's totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AggregateTotals {
    /// Rows counted.
    pub counted: u64,
    /// Rows too late.
    pub late: u64,
    /// Rows set aside: its plugin failed on them, or was out of service.
    pub set_aside: u64,
    /// Sliding windows missed by rows that count in others.
    pub late_windows: u64,
    /// Rows given out.
    pub closed: u64,
}

impl Totals {
    /// Adds what workers saw since they started.
    pub fn add(&mut self, names: &[String], cuts: &[Cut], lost_records: u64) {
        self.lost_records += lost_records;
        for cut in cuts {
            self.add_lanes(names, &cut.counts);
            self.add_shards(names, &cut.counted, &cut.set_aside, &cut.closed);
        }
    }

    /// Adds what a worker's lanes saw.
    pub fn add_lanes(&mut self, names: &[String], counts: &LaneCounts) {
        self.records += counts.records;
        self.filtered += counts.filtered;
        self.parsed += counts.parsed;
        self.rows += counts.rows;
        self.broker_time_rows += counts.broker_time;
        for (reason, count) in Reason::ALL.iter().zip(counts.dead_letters) {
            *self.dead_letters.entry(reason.as_str().to_owned()).or_default() += count;
        }
        for ((name, late), late_windows) in names.iter().zip(&counts.late).zip(&counts.late_windows) {
            let totals = self.aggregates.entry(name.clone()).or_default();
            totals.late += late;
            totals.late_windows += late_windows;
        }
        for (name, set_aside) in names.iter().zip(&counts.set_aside) {
            self.aggregates.entry(name.clone()).or_default().set_aside += set_aside;
        }
        for (&partition, counts) in &counts.partitions {
            self.partitions.entry(partition).or_default().add(counts);
        }
    }

    /// Adds what a worker's shards took in, set aside and gave out.
    pub fn add_shards(&mut self, names: &[String], counted: &[u64], set_aside: &[u64], closed: &[u64]) {
        for (((name, counted), set_aside), closed) in names.iter().zip(counted).zip(set_aside).zip(closed) {
            let totals = self.aggregates.entry(name.clone()).or_default();
            totals.counted += counted;
            totals.set_aside += set_aside;
            totals.closed += closed;
        }
    }

    /// All dead letters.
    pub fn all_dead_letters(&self) -> u64 {
        self.dead_letters.values().sum()
    }

    /// Where the books do not close; a sentence each.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let dead = self.all_dead_letters();
        if self.records != self.parsed + self.filtered + dead {
            let (records, parsed, filtered) = (self.records, self.parsed, self.filtered);
            mistakes.push(format!(
                "records read {records} are not parsed {parsed} + filtered {filtered} + dead letters {dead}"
            ));
        }
        for (name, totals) in &self.aggregates {
            let AggregateTotals { counted, late, set_aside, .. } = *totals;
            if self.rows != counted + late + set_aside {
                let rows = self.rows;
                mistakes.push(format!(
                    "{name}: rows {rows} are not counted {counted} + late {late} + set aside {set_aside}"
                ));
            }
        }
        mistakes
    }

    /// As a manifest holds them.
    pub fn to_counters(&self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::from([
            ("records".to_owned(), self.records),
            ("filtered".to_owned(), self.filtered),
            ("parsed".to_owned(), self.parsed),
            ("rows".to_owned(), self.rows),
            ("broker_time_rows".to_owned(), self.broker_time_rows),
            ("lost_records".to_owned(), self.lost_records),
        ]);
        counters.extend(self.dead_letters.iter().map(|(reason, &count)| (format!("dead_letters.{reason}"), count)));
        for (name, totals) in &self.aggregates {
            for (what, count) in totals.clone().parts() {
                counters.insert(format!("{what}.{name}"), *count);
            }
        }
        for (partition, counts) in &self.partitions {
            for (what, count) in parts_of(&mut counts.clone()).filter(|(_, count)| **count > 0) {
                counters.insert(format!("partition.{partition}.{what}"), *count);
            }
        }
        counters
    }

    /// From a manifest.
    pub fn from_counters(counters: &BTreeMap<String, u64>) -> Self {
        let get = |name: &str| counters.get(name).copied().unwrap_or(0);
        let mut totals = Self {
            records: get("records"),
            filtered: get("filtered"),
            parsed: get("parsed"),
            rows: get("rows"),
            broker_time_rows: get("broker_time_rows"),
            lost_records: get("lost_records"),
            ..Self::default()
        };
        for (name, &count) in counters {
            let Some((what, of)) = name.split_once('.') else { continue };
            if what == "dead_letters" {
                totals.dead_letters.insert(of.to_owned(), count);
                continue;
            }
            if what == "partition" {
                totals.add_part(of, count);
                continue;
            }
            let aggregate = totals.aggregates.entry(of.to_owned()).or_default();
            if let Some((_, place)) = aggregate.parts().into_iter().find(|(name, _)| *name == what) {
                *place = count;
            }
        }
        totals
    }

    /// Takes in a number of a partition: `3.suspects`.
    fn add_part(&mut self, of: &str, count: u64) {
        let Some((partition, what)) = of.split_once('.') else { return };
        let Ok(partition) = partition.parse() else { return };
        let counts = self.partitions.entry(partition).or_default();
        if let Some((_, place)) = parts_of(counts).find(|(name, _)| name == what) {
            *place = count;
        }
    }
}

/// The numbers of a partition by the names that manifests have for them.
fn parts_of(counts: &mut PartitionCounts) -> impl Iterator<Item = (Cow<'static, str>, &mut u64)> {
    let PartitionCounts { records, rows, broker_time, unreadable, suspects, behind, dead_letters } = counts;
    let named = [
        ("records", records),
        ("rows", rows),
        ("broker_time", broker_time),
        ("unreadable", unreadable),
        ("suspects", suspects),
        ("behind", behind),
    ];
    let reason = |(reason, count)| (format!("dead_letters.{}", Reason::as_str(reason)).into(), count);
    named
        .into_iter()
        .map(|(name, count)| (name.into(), count))
        .chain(Reason::ALL.into_iter().zip(dead_letters).map(reason))
}

impl AggregateTotals {
    /// Its numbers by the names that manifests have for them.
    fn parts(&mut self) -> [(&'static str, &mut u64); 5] {
        let Self { counted, late, set_aside, late_windows, closed } = self;
        [
            ("counted", counted),
            ("late", late),
            ("set_aside", set_aside),
            ("late_windows", late_windows),
            ("closed", closed),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals() -> Totals {
        let aggregate = AggregateTotals { counted: 4, late: 1, set_aside: 2, late_windows: 2, closed: 3 };
        let mut partition =
            PartitionCounts { records: 10, rows: 7, suspects: 4, unreadable: 1, ..PartitionCounts::default() };
        partition.dead_letters[Reason::NoTime as usize] = 2;
        Totals {
            records: 10,
            filtered: 1,
            parsed: 7,
            rows: 7,
            dead_letters: BTreeMap::from([("malformed".into(), 2)]),
            aggregates: BTreeMap::from([("pages".into(), aggregate)]),
            partitions: BTreeMap::from([(3, partition)]),
            ..Totals::default()
        }
    }

    #[test]
    fn totals_survive_a_manifest() {
        assert_eq!(Totals::from_counters(&totals().to_counters()), totals());
    }

    #[test]
    fn books_that_close_have_no_mistakes() {
        assert_eq!(totals().mistakes(), Vec::<String>::new());
    }

    #[test]
    fn a_lost_record_and_a_row_counted_twice_are_both_told() {
        let mut wrong = totals();
        wrong.records += 1;
        wrong.aggregates.get_mut("pages").unwrap().counted += 1;
        assert_eq!(wrong.mistakes().len(), 2);
    }
}
