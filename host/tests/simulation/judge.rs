//! Whether what readers find is what the topic says.

use crate::disk::SimDisk;
use crate::world::{CHECKPOINTS, Fresh, OUTPUT, World};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use wasmill::sink::{Committed, LEDGER, REPLACED};
use wasmill::store::latest_in;
use wasmill_pipeline::spec::Window;
use wasmill_pipeline::testing::{Expected, Row, expected, expected_but_for, expected_rows_from, untagged};

/// A row without its tag, behind that.
type Tagged = (i64, Row);

/// Compares all committed rows with the oracle.
///
/// # Errors
/// What differs.
pub(crate) fn judge(world: &World, disk: &SimDisk) -> Result<(), String> {
    let (found, tags) = committed(world)?;
    let (time, aggregates) = (&world.spec.time, &world.spec.aggregates);
    let mut wanted = expected(&world.committed, time, aggregates);
    if world.rules.timed {
        // What is too late depends on when partitions were idle; the rest follows from what was.
        wanted = expected_but_for(&world.committed, time, aggregates, &found.late);
    }
    same("events", &wanted.raw, &found.raw)?;
    same("dead letters", &wanted.dead_letters, &found.dead_letters)?;
    for (index, aggregate) in aggregates.iter().enumerate() {
        let name = &aggregate.name;
        same(&format!("late rows of {name}"), &wanted.late[index], &found.late[index])?;
        if world.rules.timed
            && let Window::Grid(grid) = aggregate.window
            && grid.windows_per_event() > 1
        {
            let missed = late_windows(disk, name)?;
            let rows = wanted.raw.len() - wanted.late[index].len();
            sliding(&wanted.rows[index], &found.rows[index], rows as i64 * grid.windows_per_event() - missed)?;
        } else if let fresh = fresh(world, index)
            && !fresh.is_empty()
        {
            since_fresh(world, index, &fresh, &tags[index])?;
        } else {
            same(&format!("rows of {name}"), &wanted.rows[index], &found.rows[index])?;
        }
    }
    Ok(())
}

/// Where versions of an aggregate began without state that are in force, or were until another was, with their tags.
fn fresh(world: &World, of: usize) -> Vec<(i64, Fresh)> {
    let all = world.now().fresh.clone();
    let mut in_force: Vec<(i64, Fresh)> = Vec::new();
    let mut seen = BTreeSet::new();
    for setup in world.log().checkpoints().into_values().filter_map(|files| files.setup) {
        let tag = setup.entries[of].version.tag;
        // A version that was taken back has gone with all after it.
        in_force.retain(|(begun, _)| *begun <= tag);
        if seen.insert(tag)
            && let Some(fresh) = all.get(&tag).filter(|fresh| fresh.of == of)
        {
            in_force.push((tag, fresh.clone()));
        }
    }
    in_force
}

/// Rows count what came since the last version without state began, before that since the one before, and so on.
fn since_fresh(world: &World, of: usize, fresh: &[(i64, Fresh)], rows: &[Tagged]) -> Result<(), String> {
    let (spec, begin) = (&world.spec.aggregates[of], BTreeMap::new());
    let begins: Vec<_> =
        std::iter::once((i64::MIN, &begin)).chain(fresh.iter().map(|(t, f)| (*t, &f.offsets))).collect();
    for (index, &(tag, offsets)) in begins.iter().enumerate() {
        let wanted = expected_rows_from(&world.committed, &world.spec.time, spec, offsets);
        let until = begins.get(index + 1).map_or(i64::MAX, |next| next.0);
        let mut found: Vec<Row> =
            rows.iter().filter(|(of, _)| (tag..until).contains(of)).map(|(_, row)| row.clone()).collect();
        found.sort();
        // What was still open when the next began is lost, as is in the nature of it.
        let lost = |row: &&Row| {
            let floor = fresh.get(index)?.1.floor;
            let last = row.1 + spec.allowed_lateness_us;
            let open = if matches!(spec.window, Window::Session { .. }) { last >= floor } else { last > floor };
            (open && found.binary_search(row).is_err()).then_some(())
        };
        let wanted: Vec<Row> = wanted.iter().filter(|row| lost(row).is_none()).cloned().collect();
        same(&format!("rows of {} by versions from {tag} on", spec.name), &wanted, &found)?;
    }
    Ok(())
}

/// Windows of which rows may have missed some: none is there twice, none has more than all rows, and the books close.
fn sliding(most: &[Row], found: &[Row], counted: i64) -> Result<(), String> {
    let most: BTreeMap<_, _> = most.iter().map(|row| ((row.0, &row.2), row.3)).collect();
    let mut seen = BTreeSet::new();
    for row in found {
        let group = (row.0, &row.2);
        if !seen.insert(group) || most.get(&group).is_none_or(|&most| row.3 > most) {
            return Err(format!("a sliding window is there twice, or with rows of no record: {row:?}"));
        }
    }
    same("sliding counts", &[counted], &[found.iter().map(|row| row.3).sum()])
}

fn late_windows(disk: &SimDisk, name: &str) -> Result<i64, String> {
    let manifest = latest_in(disk, Path::new(CHECKPOINTS)).map_err(|error| error.to_string())?;
    let counters = manifest.ok_or("there is no checkpoint at the end")?.counters;
    Ok(counters.get(&format!("late_windows.{name}")).copied().unwrap_or(0) as i64)
}

fn same<T: PartialEq + std::fmt::Debug + Ord>(what: &str, wanted: &[T], found: &[T]) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    let missing = difference(wanted, found);
    let added = difference(found, wanted);
    Err(format!("{what}: missing {missing:?}, too many {added:?}"))
}

/// What is more often in one than in the other; both are sorted.
fn difference<'a, T: PartialEq + Ord>(one: &'a [T], other: &[T]) -> Vec<&'a T> {
    let mut other = other.iter().peekable();
    let mut more = Vec::new();
    for item in one {
        while other.next_if(|next| *next < item).is_some() {}
        if other.next_if(|next| *next == item).is_none() {
            more.push(item);
        }
    }
    more
}

/// All rows that readers found, sorted; and those of aggregates with the tags of the versions that made them.
fn committed(world: &World) -> Result<(Expected, Vec<Vec<Tagged>>), String> {
    let checkpoints = world.log().checkpoints();
    let mut tagged = vec![vec![]; world.spec.aggregates.len()];
    let aggregates = &world.spec.aggregates;
    let count = aggregates.len();
    let mut found = Expected { rows: vec![vec![]; count], late: vec![vec![]; count], ..Expected::default() };
    let mut files = world.platter.files(Path::new(OUTPUT));
    let noted = noted(&files)?;
    files.extend(world.now().taken.iter().cloned());
    for (path, bytes) in files {
        let below = path.strip_prefix(OUTPUT).expect("it is an output");
        if ["_staging", LEDGER, REPLACED].iter().any(|own| below.starts_with(own)) {
            continue;
        }
        let name = below.to_str().expect("its name is text");
        if noted.get(name) != Some(&(bytes.len() as u64)) {
            return Err(format!("the ledger does not have {name} with {} bytes: {:?}", bytes.len(), noted.get(name)));
        }
        let origins = || {
            Ok::<_, String>(
                table(&path, &bytes, &["partition", "offset"])?
                    .into_iter()
                    .map(|row| (row.number(0) as i32, row.number(1))),
            )
        };
        if below.starts_with("events_raw") {
            let rows = table(&path, &bytes, &["partition", "offset", "event_ts"])?;
            found.raw.extend(rows.iter().map(|row| (row.number(0) as i32, row.number(1), row.number(2))));
        } else if below.starts_with("_dead_letters") {
            found.dead_letters.extend(origins()?);
        } else if let Some(index) = aggregates.iter().position(|a| below.starts_with(Path::new("_late").join(&a.name)))
        {
            found.late[index].extend(origins()?);
        } else if let Some(index) = aggregates.iter().position(|a| below.starts_with(&a.name)) {
            let [start, end] = aggregates[index].window.columns();
            let rows = table(&path, &bytes, &[start, end, "user", "events", "total"])?;
            let named = checkpoints.values().filter(|files| files.name(&path)).filter_map(|files| files.setup.as_ref());
            let named: Vec<_> = named.collect();
            for row in rows {
                let row = (row.number(0), row.number(1), row.0[2].clone(), row.number(3), row.number(4));
                let (tag, row) = untagged(&row);
                if let Some(setup) = named.iter().find(|setup| setup.tag(index, row.0) != tag) {
                    let wanted = setup.tag(index, row.0);
                    return Err(format!("{row:?} of {index} is of version {tag}; its checkpoint says {wanted}"));
                }
                found.rows[index].push(row.clone());
                tagged[index].push((tag, row));
            }
        } else {
            return Err(format!("a file of no output: {}", path.display()));
        }
    }
    found.raw.sort_unstable();
    found.dead_letters.sort_unstable();
    found.rows.iter_mut().for_each(|rows| rows.sort());
    found.late.iter_mut().for_each(|late| late.sort_unstable());
    Ok((found, tagged))
}

/// What the ledger has: the lengths of files by their paths.
fn noted(files: &[(PathBuf, Vec<u8>)]) -> Result<BTreeMap<String, u64>, String> {
    let mut noted = BTreeMap::new();
    let ledger = Path::new(OUTPUT).join(LEDGER);
    let is_one = |path: &Path| path.starts_with(&ledger) && path.extension().is_some_and(|end| end == "jsonl");
    for (path, bytes) in files.iter().filter(|(path, _)| is_one(path)) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let line: Committed =
                serde_json::from_slice(line).map_err(|error| format!("{} is damaged: {error}", path.display()))?;
            noted.insert(line.path, line.bytes);
        }
    }
    Ok(noted)
}

/// Some cells of a row as text; times are µs since the Unix epoch.
struct Cells(Vec<String>);

impl Cells {
    fn number(&self, column: usize) -> i64 {
        self.0[column].parse().expect("the column holds numbers")
    }
}

/// These columns of a file.
fn table(path: &Path, bytes: &[u8], columns: &[&str]) -> Result<Vec<Cells>, String> {
    let broken = |error: &dyn std::fmt::Display| format!("a reader cannot read {}: {error}", path.display());
    if path.extension().is_some_and(|extension| extension == "parquet") {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
        let batches = reader.map_err(|error| broken(&error))?;
        let mut rows = Vec::new();
        for batch in batches {
            let batch = batch.map_err(|error| broken(&error))?;
            rows.extend((0..batch.num_rows()).map(|row| Cells(columns.iter().map(|c| cell(&batch, c, row)).collect())));
        }
        return Ok(rows);
    }
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(|error| broken(&error))?.clone();
    let at = |name: &&str| header.iter().position(|column| column == *name).ok_or_else(|| broken(name));
    let places: Vec<usize> = columns.iter().map(at).collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| broken(&error))?;
        rows.push(Cells(places.iter().map(|&place| plain(&record[place])).collect()));
    }
    Ok(rows)
}

/// A time as µs since the Unix epoch, anything else as it is.
fn plain(cell: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(cell) {
        Ok(time) => time.timestamp_micros().to_string(),
        Err(_) => cell.to_owned(),
    }
}

fn cell(batch: &RecordBatch, column: &str, row: usize) -> String {
    let column = &batch[column];
    match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        _ => column.as_string::<i32>().value(row).to_owned(),
    }
}
