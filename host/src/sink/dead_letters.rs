//! The files of the records that were set aside: their columns, and rows of them.

use arrow_array::builder::{LargeBinaryBuilder, StringDictionaryBuilder};
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::{Arc, LazyLock};
use wasmill_pipeline::dead_letter::DeadLetter;
use wasmill_pipeline::plugin::timestamp_type;
use wasmill_pipeline::record::NO_TIMESTAMP;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let word = || DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("topic", word(), false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("broker_time", timestamp_type(), true),
        Field::new("reason", word(), false),
        Field::new("message", DataType::Utf8, false),
        Field::new("aggregate", word(), true),
        Field::new("plugin_digest", word(), false),
        Field::new("key", DataType::LargeBinary, true),
        Field::new("value", DataType::LargeBinary, true),
    ]))
});

/// The columns of `_dead_letters`: where the record came from, why it was set aside, from which aggregate (null: from all)
/// and because of which plugin, its bytes.
///
/// Keys and values are large binaries in memory, for their sum may pass 2 GiB; in the file they are plain ones.
pub fn dead_letter_schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Rows of `_dead_letters`, one per letter. `plugin` gives an aggregate's name and its plugin's digest; `None` asks for
/// the parser, which has no name.
pub fn dead_letter_batch<'a>(
    topic: &str,
    plugin: impl Fn(Option<usize>) -> (Option<&'a str>, &'a str),
    letters: &[DeadLetter],
) -> RecordBatch {
    let bytes = |of: fn(&DeadLetter) -> Option<&[u8]>| -> ArrayRef {
        let size = letters.iter().filter_map(of).map(<[u8]>::len).sum();
        let mut values = LargeBinaryBuilder::with_capacity(letters.len(), size);
        for letter in letters {
            values.append_option(of(letter));
        }
        Arc::new(values.finish())
    };
    let times: TimestampMicrosecondArray =
        letters.iter().map(|letter| Some(letter.broker_time_us).filter(|&us| us != NO_TIMESTAMP)).collect();
    let columns: Vec<ArrayRef> = vec![
        word(letters.iter().map(|_| Some(topic))),
        Arc::new(letters.iter().map(|letter| letter.partition).collect::<Int32Array>()),
        Arc::new(letters.iter().map(|letter| letter.offset).collect::<Int64Array>()),
        Arc::new(times.with_timezone("UTC")),
        word(letters.iter().map(|letter| Some(letter.reason.as_str()))),
        Arc::new(letters.iter().map(|letter| Some(letter.message.as_str())).collect::<StringArray>()),
        word(letters.iter().map(|letter| plugin(letter.aggregate).0)),
        word(letters.iter().map(|letter| Some(plugin(letter.aggregate).1))),
        bytes(|letter| letter.key.as_deref()),
        bytes(|letter| letter.value.as_deref()),
    ];
    RecordBatch::try_new(dead_letter_schema(), columns).expect("the columns are built to this schema")
}

fn word<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut words = StringDictionaryBuilder::<UInt32Type>::new();
    texts.for_each(|text| words.append_option(text));
    Arc::new(words.finish())
}
