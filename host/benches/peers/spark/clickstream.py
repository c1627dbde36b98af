"""The events of the topic, as both jobs read them."""

from pyspark.sql import functions as f

SCHEMA = (
    "event_id string, event_time string, user_id string, session_id string, event_type string, page string, "
    "referrer string, device string, browser string, country string, campaign string, revenue double"
)
# What wasmill's parser asks for. Spark's reader is laxer with types and keys told twice: that event_id is there, too,
# sets aside just the records that the generator made malformed.
NEEDED = "event_id is not null and user_id is not null and event_type is not null and page is not null"


def events(spark, bootstrap, topic):
    """The topic as a stream of parsed events with their origin."""
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "false")
        .load()
    )
    parsed = records.select(
        f.from_json(f.col("value").cast("string"), SCHEMA).alias("event"), "topic", "partition", "offset", "timestamp"
    )
    return (
        parsed.select("event.*", "topic", "partition", "offset", "timestamp")
        .where(NEEDED)
        # A cast is far cheaper than a pattern, and as tolerant: what is no time is null.
        .withColumn("event_time", f.col("event_time").cast("timestamp"))
        .withColumn("event_ts", f.coalesce("event_time", "timestamp"))
        .drop("timestamp")
    )
