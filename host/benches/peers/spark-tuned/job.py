"""The reference job in Spark with its queries merged by hand: one query that reads and parses each record once.

Each batch is written as raw events first; the aggregates read back the columns that they need, which is far cheaper
than to keep the batch in memory or to parse it again. What windows hold that are still open is kept by hand, too: as
a table per batch that the next batch begins with. All that a batch writes lies in folders of its number and replaces
what is there, so that a batch that is done again after a crash counts once.

job.py BOOTSTRAP TOPIC OUTPUT WORK: reads what is in the topic now, and ends.
"""

import datetime
import functools
import pathlib
import sys
from concurrent import futures

from clickstream import events
from pyspark.sql import SparkSession
from pyspark.sql import functions as f

DELAY = datetime.timedelta(seconds=10)


def union(frames):
    return functools.reduce(lambda one, other: one.unionByName(other), frames)


def page_parts(rows):
    return rows.groupBy(f.window("event_ts", "1 minute").alias("w"), "page").agg(
        f.count("*").alias("events"),
        f.hll_sketch_agg("user_id").alias("users"),
        f.hll_sketch_agg("session_id").alias("sessions"),
        f.sum((f.col("event_type") == "purchase").cast("long")).alias("purchases"),
        f.sum("revenue").alias("revenue"),
    )


def merged_pages(parts):
    return parts.groupBy("w", "page").agg(
        f.sum("events").alias("events"),
        f.hll_union_agg("users").alias("users"),
        f.hll_union_agg("sessions").alias("sessions"),
        f.sum("purchases").alias("purchases"),
        f.sum("revenue").alias("revenue"),
    )


def page_rows(parts):
    estimates = {name: f.hll_sketch_estimate(name) for name in ("users", "sessions")}
    return parts.withColumns({"window_start": f.col("w.start"), "window_end": f.col("w.end"), **estimates}).select(
        "window_start", "window_end", "page", "events", "users", "sessions", "purchases", "revenue"
    )


def geo_parts(rows):
    return rows.groupBy(f.window("event_ts", "1 minute").alias("w"), "country", "browser").agg(
        f.count("*").alias("events")
    )


def merged_geo(parts):
    return parts.groupBy("w", "country", "browser").agg(f.sum("events").alias("events"))


def geo_rows(parts):
    return parts.select(
        f.col("w.start").alias("window_start"), f.col("w.end").alias("window_end"), "country", "browser", "events"
    )


def session_parts(rows):
    return rows.groupBy(f.session_window("event_ts", "30 seconds").alias("w"), "user_id").agg(
        f.count("*").alias("events"), f.collect_set("page").alias("pages"), f.sum("revenue").alias("revenue")
    )


def merged_sessions(parts):
    """Sessions that touch are one: each part is an event whose gap is as long as the part."""
    length = (f.unix_micros("w.end") - f.unix_micros("w.start")).cast("string")
    window = f.session_window(f.col("w.start"), f.concat(length, f.lit(" microseconds")))
    return (
        parts.groupBy(window.alias("w"), "user_id")
        .agg(
            f.sum("events").alias("events"),
            f.array_distinct(f.flatten(f.collect_list("pages"))).alias("pages"),
            f.sum("revenue").alias("revenue"),
        )
    )


def session_rows(parts):
    return parts.select(
        f.col("w.start").alias("session_start"),
        f.col("w.end").alias("session_end"),
        "user_id",
        "events",
        f.size("pages").alias("pages"),
        "revenue",
    )


# Per output: the parts that a batch makes, how parts are merged, and the rows that come of them.
AGGREGATES = {
    "page_metrics": (page_parts, merged_pages, page_rows),
    "geo_metrics": (geo_parts, merged_geo, geo_rows),
    "sessions": (session_parts, merged_sessions, session_rows),
}


def aggregate(spark, name, rows, number, watermarks, output, work):
    """Merges a batch into what is open, writes what closes, and keeps the rest for the next batch."""
    parts, merged, results = AGGREGATES[name]
    before, watermark = watermarks
    made = parts(rows)
    if before is not None:
        # What is too late, by the watermark that the batch began with.
        made = made.where(f.col("w.end") > f.lit(before))
    kept = f"{work}/state/{name}"
    if number > 0:
        made = merged(union([made, spark.read.parquet(f"{kept}/batch={number - 1}")]))
    made = made.persist()
    closes = f.col("w.end") <= f.lit(watermark)
    closed = results(made.where(closes)).persist()
    for form, options in (("parquet", {}), ("csv", {"header": True})):
        closed.write.mode("overwrite").options(**options).format(form).save(f"{output}/{name}/{form}/batch={number}")
    made.where(~closes).write.mode("overwrite").parquet(f"{kept}/batch={number}")
    closed.unpersist()
    made.unpersist()


def watermark_after(work, number):
    """The file that says how far the watermark was after a batch."""
    return pathlib.Path(work) / "watermarks" / str(number)


def batch(frame, number, output, work):
    """All of a batch: raw events, then the three aggregates side by side."""
    spark, raw = frame.sparkSession, f"{output}/events_raw/parquet/batch={number}"
    frame.write.mode("overwrite").parquet(raw)
    rows = spark.read.schema(frame.schema).parquet(raw)
    latest = rows.agg(f.max("event_ts")).first()[0]
    before = datetime.datetime.fromisoformat(watermark_after(work, number - 1).read_text()) if number > 0 else None
    watermark = max(one for one in (before, latest and latest - DELAY) if one is not None)
    with futures.ThreadPoolExecutor(len(AGGREGATES)) as pool:
        started = [
            pool.submit(aggregate, spark, name, rows, number, (before, watermark), output, work) for name in AGGREGATES
        ]
        for one in started:
            one.result()
    watermark_after(work, number).parent.mkdir(exist_ok=True)
    watermark_after(work, number).write_text(watermark.isoformat())


def main(bootstrap, topic, output, work):
    spark = SparkSession.builder.appName("clickstream").getOrCreate()
    query = (
        events(spark, bootstrap, topic)
        .writeStream.foreachBatch(lambda frame, number: batch(frame, number, output, work))
        .option("checkpointLocation", f"{work}/checkpoints")
        # All there is in one batch: the fastest that Spark has for a backlog.
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
